"""Numbers values over all members: equal numbers are equal values, equal classes can be merged.

    number   what is computed: operator, attributes and the numbers of its operands; a weight by
             content, an input by member. What two members share has one number.
    class    how it is computed: the same with weights by shape and inputs by position. Values of
             one class run as one call.

A class contains the classes of its operands, so a call never depends on another call of its class,
and merging by class makes no cycle.
"""

import hashlib
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import torch
from torch import fx

from fusec.ir.errors import UnsupportedError
from fusec.kernels.operators import name_of
from fusec.kernels.torch_graph import dtype_name
from fusec.passes.merge.engine import is_host, is_random, operand_nodes
from fusec.passes.program import Program

__all__ = ["Numbers", "Source", "spec_text"]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where a value comes from, in the first member that has it.

    Attributes:
        member: number of the member.
        node: node of its graph.
        operands: numbers of the operands, one per occurrence.
        class_: the value's class.
    """

    member: int
    node: fx.Node
    operands: tuple[int, ...]
    class_: int


@dataclass(slots=True, eq=False)
class Numbers:
    """Numbers of all members' values; filled by `add`, one member after the other.

    Attributes:
        sources: by number.
        values: per member, node -> number.
        calls: per member, numbers of its calls in the order in which its outputs reach them.
        weights: number -> name and tensor in the first member that has it.
    """

    sources: list[Source] = field(default_factory=list)
    values: list[dict[fx.Node, int]] = field(default_factory=list)
    calls: list[list[int]] = field(default_factory=list)
    weights: dict[int, tuple[str, torch.Tensor]] = field(default_factory=dict)
    _numbers: dict[Hashable, int] = field(default_factory=dict)
    _classes: dict[Hashable, int] = field(default_factory=dict)

    def add(self, program: Program, *, shared_inputs: bool, symbols: Mapping[str, str]) -> None:
        """Number one member's values.

        Args:
            program: the member.
            shared_inputs: its inputs are those of all members.
            symbols: symbol in the graph -> name that means the same extent in all members.
        """
        member = len(self.values)
        known: dict[fx.Node, int] = {}
        self.values.append(known)
        for i, node in enumerate(program.inputs):
            spec = spec_text(node.meta["val"], symbols)
            owner = None if shared_inputs else member
            known[node] = self._enter(node, ("input", i, spec, owner), ("input", i, spec), ())
        for node, (name, tensor) in zip(program.weight_nodes, program.weights.items(), strict=True):
            key = ("weight", _digest(tensor))
            spec = spec_text(node.meta["val"], symbols)
            known[node] = self._enter(node, key, ("weight", spec), ())
            self.weights.setdefault(known[node], (name, tensor))
        calls: dict[int, None] = {}
        for node in _reached(program):
            known[node] = self._call(node, known, symbols)
            calls[known[node]] = None
        self.calls.append(list(calls))

    def _enter(
        self, node: fx.Node, key: Hashable, class_key: Hashable, operands: tuple[int, ...]
    ) -> int:
        number = self._numbers.setdefault(key, len(self.sources))
        if number == len(self.sources):
            class_ = self._classes.setdefault(class_key, len(self._classes))
            self.sources.append(Source(len(self.values) - 1, node, operands, class_))
        return number

    def _call(self, node: fx.Node, known: Mapping[fx.Node, int], symbols: Mapping[str, str]) -> int:
        if node.op == "get_attr":
            key = ("graph", _graph_text(node))
            return self._enter(node, key, key, ())
        operands = tuple(known[operand] for operand in operand_nodes(node))
        value = node.meta["val"]
        spec = spec_text(value, symbols)
        holes = iter(f"%{i}" for i in range(len(operands)))
        frame = (name_of(node.target), _frame((node.args, node.kwargs), holes), spec)
        if is_host(value) and not spec.startswith("u"):
            # Extents: what members have in common is the expression, not the tensor asked for it.
            return self._enter(node, ("extent", spec), ("extent", spec), operands)
        classes = tuple(self.sources[number].class_ for number in operands)
        owner = (len(self.values), node.name) if is_random(node.target) else None
        return self._enter(
            node, ("call", frame, operands, owner), ("call", frame, classes), operands
        )


def _reached(program: Program) -> list[fx.Node]:
    """List the calls that outputs need, operands first, depth first in operand order."""
    done: dict[fx.Node, None] = {}
    outputs = [output for output in program.outputs if isinstance(output, fx.Node)]
    stack = [(node, False) for node in reversed(outputs)]
    while stack:
        node, ready = stack.pop()
        if node in done or node.op == "placeholder":
            continue
        if ready:
            done[node] = None
            continue
        stack.append((node, True))
        stack.extend((operand, False) for operand in reversed(operand_nodes(node)))
    return list(done)


def _frame(value: object, holes: "object") -> Hashable:
    """Give arguments as a hashable with holes for nodes; 1, 1.0 and True stay apart."""
    if isinstance(value, fx.Node):
        return next(holes)  # type: ignore[call-overload, no-any-return]
    if isinstance(value, dict):
        return ("dict", *((k, _frame(v, holes)) for k, v in value.items()))
    if isinstance(value, tuple | list):
        return ("list", *(_frame(v, holes) for v in value))
    if isinstance(value, slice):
        return ("slice", *(_frame(v, holes) for v in (value.start, value.stop, value.step)))
    return (type(value).__name__, repr(value))


def spec_text(value: object, symbols: Mapping[str, str]) -> str:
    """Describe a traced value: dtype and shape, or the expression of an extent."""
    if isinstance(value, torch.Tensor):
        shape = ", ".join(_rename(str(extent), symbols) for extent in value.shape)
        return f"{dtype_name(value.dtype)}[{shape}]"
    if isinstance(value, tuple | list):
        return "(" + "; ".join(spec_text(item, symbols) for item in value) + ")"
    return _rename(str(value), symbols)


def _rename(text: str, symbols: Mapping[str, str]) -> str:
    return re.sub(r"[A-Za-z_]\w*", lambda found: symbols.get(found[0], found[0]), text)


def _digest(tensor: torch.Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    if plain.is_quantized or plain.layout is not torch.strided:
        raise UnsupportedError(f"a weight of layout {tensor.layout} cannot be merged")
    found = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)} ".encode())
    found.update(plain.view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _graph_text(node: fx.Node) -> str:
    owner = node.graph.owning_module
    assert owner is not None
    inner = owner.get_submodule(str(node.target))
    return "\n".join(
        f"{n.op} {n.target} {n.args} {n.kwargs}"
        for m in inner.modules()
        if isinstance(m, fx.GraphModule)
        for n in m.graph.nodes
    )
