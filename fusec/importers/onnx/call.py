"""One node while it is evaluated: its attributes, version, wanted outputs and subgraphs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NoReturn

from fusec.importers.onnx.values import Value
from fusec.ir.errors import ImportFailed


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()

# A value from outside a subgraph: by its name, or by graph and name for a constant inside it.
Outer = str | tuple[Any, str]
Run = Callable[[Any, Sequence[Value], Mapping[Outer, Value]], list[Value]]


def _no_subgraphs(
    graph: Any, inputs: Sequence[Value], instead: Mapping[Outer, Value]
) -> list[Value]:
    raise ImportFailed("this node is evaluated outside a graph, so it cannot run a subgraph")


def _nothing_free(graph: Any) -> dict[Outer, Value]:
    return {}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One node being evaluated.

    Attributes:
        op: operator name, such as ``Conv``.
        domain: operator domain; the default domain is the empty string.
        name: node name as in the file (or its first output when it has none).
        opset: version of the node's domain.
        outputs: declared output names; an empty one is not wanted.
        attributes: parsed attributes by name.
        evaluate: runs a subgraph with the outer scope visible.
        free: gives the values from outside that a subgraph uses, constants included.
    """

    op: str
    domain: str
    name: str
    opset: int
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    evaluate: Run = _no_subgraphs
    free: Callable[[Any], dict[Outer, Value]] = _nothing_free

    @property
    def n_outputs(self) -> int:
        """Return how many outputs the node declares, unnamed ones included."""
        return len(self.outputs)

    def wants(self, index: int) -> bool:
        """Say whether output `index` is named in the node."""
        return index < len(self.outputs) and self.outputs[index] != ""

    def attr(self, name: str, default: Any = REQUIRED) -> Any:
        """Return an attribute as int, float, str, list of those, array or subgraph.

        Raises:
            ImportFailed: the attribute is absent and there is no default.
        """
        if name in self.attributes:
            return self.attributes[name]
        if default is REQUIRED:
            self.fail(f"attribute '{name}' is missing")
        return default

    def run(
        self,
        graph: Any,
        inputs: Sequence[Value],
        instead: Mapping[Outer, Value] = MappingProxyType({}),
    ) -> list[Value]:
        """Evaluate a subgraph attribute with the outer scope visible; return its outputs.

        Args:
            graph: the subgraph.
            inputs: one value per input of the subgraph.
            instead: values that stand for those that `free` gives, by the same keys.
        """
        return self.evaluate(graph, inputs, instead)

    def where(self) -> str:
        """Return the words that name this node in messages."""
        return f"{self.domain or 'ai.onnx'}::{self.op} (opset {self.opset}, node '{self.name}')"

    def fail(self, reason: str) -> NoReturn:
        """Raise the error that names this node."""
        raise ImportFailed(f"{self.where()}: {reason}")
