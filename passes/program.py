"""A program: one captured model, as an fx graph whose weights are arguments.

placeholders   inputs in signature order, then raw weights in order
call nodes     the fusec operator set, each with its fake value in meta["val"]
output         results in signature order, then guard operands
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.fx._lazy_graph_module import _LazyGraphModule

from fusec.ir.errors import VerifyError
from fusec.ir.template import Guard, RowsKind, Symbol

__all__ = ["Program", "emit", "fake_mode", "fork", "on_fakes"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """One captured model: graph, raw weights, signature.

    Symbols are named s0, s1, ... as in the text of extents; a graph's own names may differ, see
    `symbol_names`.
    """

    graph: fx.GraphModule
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    weights: Mapping[str, torch.Tensor]
    """Raw weights by fully qualified name, in the order of their placeholders."""
    aliases: tuple[tuple[str, str], ...]
    """Other names of tied weights: (alias, name in `weights`)."""
    unused: tuple[str, ...]
    """Names of weights that the source holds and does not use."""
    symbols: tuple[Symbol, ...]
    symbol_names: Mapping[str, str]
    """Symbol in the traced graph -> name in `symbols`."""
    constraints: tuple[str, ...]
    """Relations that a request's extents must satisfy, over the names in `symbols`."""
    input_axes: tuple[int | None, ...]
    output_axes: tuple[int | None, ...]
    rows: RowsKind
    bound: tuple[tuple[str, str], ...]
    guards: tuple[Guard, ...]
    is_scratch: bool = False
    """Nobody else looks at the graph: passes edit it where it is."""

    @property
    def placeholders(self) -> list[fx.Node]:
        """All placeholders: inputs, then weights."""
        return self.graph.graph.find_nodes(op="placeholder")

    @property
    def inputs(self) -> list[fx.Node]:
        """Placeholders of the inputs."""
        return self.placeholders[: len(self.input_names)]

    @property
    def weight_nodes(self) -> list[fx.Node]:
        """Placeholders of the raw weights."""
        return self.placeholders[len(self.input_names) :]

    @property
    def results(self) -> tuple[object, ...]:
        """What the output node returns: outputs, then guard operands."""
        returned = self.graph.graph.output_node().args[0]
        assert isinstance(returned, tuple | list)
        return tuple(returned)

    @property
    def outputs(self) -> tuple[object, ...]:
        """Nodes of the outputs, without guard operands."""
        return self.results[: len(self.output_names)]


def fork(program: Program) -> Program:
    """Give an equal program whose graph can be edited; weights and meta are shared.

    The copy generates its code when it is first run; doing it after each pass doubles their cost.
    A scratch program is given back as it is.
    """
    if program.is_scratch:
        return program
    graph = _LazyGraphModule(program.graph, copy.deepcopy(program.graph.graph))
    return replace(program, graph=graph)


def fake_mode(graph: fx.Graph) -> FakeTensorMode:
    """Give the fake tensor mode that a graph's values live in.

    Raises:
        VerifyError: no node carries a fake tensor.
    """
    for node in graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, FakeTensor):
            return value.fake_mode
    raise VerifyError("no node of the graph carries a fake tensor (a bug in fusec)")


@contextmanager
def on_fakes(graph: fx.Graph) -> Iterator[FakeTensorMode]:
    """Run operators on a graph's fake values; nothing is learnt about extents that vary.

    Torch's fake operators may decide on a symbolic extent by its example, such as whether it is 4,
    and keep the decision for good.
    """
    mode = fake_mode(graph)
    quiet = nullcontext() if mode.shape_env is None else mode.shape_env.suppress_guards()
    with torch.no_grad(), mode, quiet:
        yield mode


def _fake(node: fx.Node) -> Any:
    return node.meta["val"]


def emit(
    graph: fx.Graph, target: Callable[..., object], /, *args: object, **kwargs: object
) -> fx.Node:
    """Add a call at the graph's insertion point, its fake value computed by running it.

    Args:
        graph: the graph to add to; set the point with `graph.inserting_before(node)`.
        target: an operator of the operator set.
        args: nodes and literals.
        kwargs: nodes and literals.
    """
    node = graph.call_function(target, args, dict(kwargs))  # type: ignore[arg-type]
    with on_fakes(graph):
        fakes = fx.map_arg(node.args, _fake)
        named = fx.map_arg(node.kwargs, _fake)
        node.meta["val"] = _fake_result(target, fakes, named)
    return node


def _fake_result(target: Callable[..., object], args: Any, kwargs: Any) -> object:
    """Compute a call's fake value.

    A reshape to known sizes is answered from the sizes: proving that a symbolic view is possible
    takes sympy seconds on extents behind many strided convolutions. A padding is answered from its
    numbers: torch's fake one takes all extents for those of the example.
    """
    if target is torch.ops.aten.constant_pad_nd.default:
        return args[0].new_empty(_padded(args[0].shape, args[1]))
    if target in _RESHAPES and not kwargs and all(_is_size(d) for d in args[1]):
        return args[0].new_empty(args[1])
    return target(*args, **kwargs)


def _padded(shape: Sequence[Any], pads: Sequence[Any]) -> list[Any]:
    """Give a shape with what is put before and behind its last axes, the last one first."""
    padded = list(shape)
    for i in range(len(pads) // 2):
        padded[-1 - i] = padded[-1 - i] + pads[2 * i] + pads[2 * i + 1]
    return padded


_RESHAPES = (torch.ops.aten.reshape.default, torch.ops.aten.view.default)


def _is_size(extent: object) -> bool:
    return isinstance(extent, torch.SymInt) or (isinstance(extent, int) and extent >= 0)
