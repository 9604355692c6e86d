"""Merges one operator call at a time: rule, then vmap, then one call per member."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from fusec.ir.errors import MergeError
from fusec.kernels.operators import name_of
from fusec.passes.merge.builder import Builder, Ground
from fusec.passes.merge.fallback import inline, trace
from fusec.passes.merge.gather import Gather
from fusec.passes.merge.operand import (
    Bundle,
    Call,
    Declined,
    Operand,
    PerMember,
    Place,
    Shared,
    Slot,
    Value,
)
from fusec.passes.merge.report import ALONE, PER_MEMBER, SHARED, VMAP, MergeUse
from fusec.passes.merge.rules import RULES

__all__ = ["Engine", "is_host", "is_random", "operand_nodes"]

aten = torch.ops.aten


def operand_nodes(node: fx.Node) -> list[fx.Node]:
    """List the nodes that a call reads, one per occurrence, in argument order."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), found.append)
    return found


def is_host(value: object) -> bool:
    """Tell whether a traced value is a number on the host: an extent or what follows from one."""
    return isinstance(value, int | float | bool | torch.SymInt | torch.SymFloat | torch.SymBool)


def _is_data_dependent(value: object) -> bool:
    return bool(free_unbacked_symbols(value))  # type: ignore[arg-type]


def is_random(target: object) -> bool:
    """Tell whether an operator may draw random numbers."""
    tags = target.tags if isinstance(target, torch._ops.OpOverload) else ()
    return torch.Tag.nondeterministic_seeded in tags


class Engine:
    """Builds the merged graph call by call and keeps the report's lines."""

    def __init__(self, ground: Ground, root: torch.nn.Module, gather: Gather) -> None:
        self.ground = ground
        self.root = root
        self.gather = gather
        self.uses: list[MergeUse] = []
        self._bodies: dict[torch.nn.Module, str] = {}
        self._elements: dict[tuple[Slot, int], Slot] = {}

    def run(
        self, node: fx.Node, bundles: Sequence[Bundle], rows: int, *, alone: bool = False
    ) -> Bundle:
        """Merge `rows` calls like `node`.

        Args:
            node: the call in one member; gives operator, attributes and fake values.
            bundles: one per operand occurrence, in the order of `operand_nodes`; each has one place
                per row, or one place for all.
            rows: how many different results there are.
            alone: only one member has this call.

        Returns:
            One place per row, or a single one where the result turns out to be shared.
        """
        if node.target is operator.getitem and not is_host(node.meta["val"]):
            return self._element(node, bundles[0])
        if is_host(node.meta["val"]) and not _is_data_dependent(node.meta["val"]):
            return self._host(node, bundles)
        if rows == 1:
            self._note(node, ALONE if alone else SHARED, 1, "")
            return (Place(self._single(node, bundles, 0), 0),)
        blocker = self._blocker(node)
        if blocker:
            return self._per_member(node, bundles, rows, blocker)
        return self._merge(node, bundles, rows)

    def _note(self, node: fx.Node, rule: str, rows: int, detail: str) -> None:
        use = MergeUse(node=node.name, op=name_of(node.target), rule=rule, rows=rows, detail=detail)
        self.uses.append(use)

    def _blocker(self, node: fx.Node) -> str:
        """Say why a call cannot be merged at all; empty if it can."""
        if not isinstance(node.target, torch._ops.OpOverload):
            return "control flow runs per member"
        if is_random(node.target) and str(node.target) not in RULES:
            return "random operators run per member"
        if node.target is aten.as_strided.default:
            return "reads memory by strides"
        values = [n.meta.get("val") for n in operand_nodes(node)] + [node.meta["val"]]
        if any(_is_data_dependent(value) for value in values):
            return "extents depend on data"
        return ""

    def _emit(self, target: object, args: Sequence[object], kwargs: dict[str, object]) -> fx.Node:
        return self.ground.graph.call_function(target, tuple(args), kwargs)  # type: ignore[arg-type]

    # One call.

    def _single(self, node: fx.Node, bundles: Sequence[Bundle], row: int) -> Slot:
        """Emit the call for one row, without leading axis."""
        sources = operand_nodes(node)
        values = iter(
            self._subgraph(source)
            if source.op == "get_attr"
            else self._row(node, bundle[row if len(bundle) > 1 else 0])
            for source, bundle in zip(sources, bundles, strict=True)
        )
        args, kwargs = _substitute(node, values)
        return Slot(self._emit(node.target, args, kwargs), 1, False)

    def _row(self, node: fx.Node, place: Place) -> fx.Node:
        value = self.gather.row(place)
        if node.target is aten.as_strided.default:
            # A row of a stack starts inside its storage, where the strides do not count from.
            layout = torch.contiguous_format
            value = self.ground.graph.call_function(
                aten.clone.default, (value,), {"memory_format": layout}
            )
        return value

    def _subgraph(self, source: fx.Node) -> fx.Node:
        owner = source.graph.owning_module
        assert owner is not None
        body = owner.get_submodule(str(source.target))
        name = self._bodies.setdefault(body, f"body{len(self._bodies)}")
        self.root.add_module(name, body)
        return self.ground.graph.get_attr(name)

    def _per_member(
        self, node: fx.Node, bundles: Sequence[Bundle], rows: int, reason: str
    ) -> Bundle:
        self._note(node, PER_MEMBER, rows, reason)
        return tuple(Place(self._single(node, bundles, row), 0) for row in range(rows))

    def _element(self, node: fx.Node, bundle: Bundle) -> Bundle:
        index = node.args[1]
        assert isinstance(index, int)
        return tuple(Place(self._element_slot(place.slot, index), place.row) for place in bundle)

    def _element_slot(self, slot: Slot, index: int) -> Slot:
        key = (slot, index)
        if key not in self._elements:
            value = slot.value
            picked = (
                value[index]
                if isinstance(value, tuple)
                else self.ground.graph.call_function(operator.getitem, (value, index))
            )
            self._elements[key] = replace(slot, value=picked)
        return self._elements[key]

    def _host(self, node: fx.Node, bundles: Sequence[Bundle]) -> Bundle:
        """Emit arithmetic on extents; all members have the same."""
        places = [bundle[0] for bundle in bundles]
        grouped = bool(places) and places[0].slot.grouped
        values = iter(place.slot.value for place in places)
        args, kwargs = _substitute(node, values)
        if grouped:
            if node.target in (aten.sym_size.int, aten.sym_stride.int):
                tensor = operand_nodes(node)[0].meta["val"]
                dim = node.args[1]
                assert isinstance(dim, int)
                args = (args[0], dim % tensor.dim() + 1)
            elif node.target is aten.sym_numel.default:
                row = self.gather.row(places[0])
                args = (row,)
            else:
                raise MergeError(
                    f"{node.name}: {node.target} asks for a number that differs per member"
                )
        return (Place(Slot(self._emit(node.target, args, kwargs), 1, False), 0),)

    # Many calls as one.

    def _merge(self, node: fx.Node, bundles: Sequence[Bundle], rows: int) -> Bundle:
        call = self._call(node, bundles)
        if not any(operand.grouped for operand in _operands(call.arguments)):
            return self._per_member(node, bundles, rows, "same operands, different results")
        self.ground.choices.clear()
        rule = RULES.get(str(call.target))
        result = (
            Declined("no rule") if rule is None else rule.build(Builder(self.ground, rows), call)
        )
        if isinstance(result, Declined):
            return self._vmap(node, call, bundles, rows, result.reason)
        if isinstance(result, PerMember):
            return self._per_member(node, bundles, rows, result.reason)
        assert rule is not None
        self._note(node, rule.name, rows, ", ".join(self.ground.choices))
        if isinstance(result, Shared):
            return (Place(Slot(result.node, 1, False), 0),)
        return _bundle(result, rows)

    def _vmap(
        self, node: fx.Node, call: Call, bundles: Sequence[Bundle], rows: int, reason: str
    ) -> Bundle:
        traced = trace(call, rows)
        if isinstance(traced, str):
            return self._per_member(node, bundles, rows, f"{reason}; vmap: {traced}")
        self._note(node, VMAP, rows, reason)
        return _bundle(inline(self.ground.graph, traced, list(_operands(call.arguments))), rows)

    def _call(self, node: fx.Node, bundles: Sequence[Bundle]) -> Call:
        def operand(source: fx.Node, bundle: Bundle) -> Operand | fx.Node:
            found, grouped = self.gather(bundle)
            value = source.meta["val"]
            return Operand(found, grouped, value) if isinstance(value, torch.Tensor) else found

        values = iter(map(operand, operand_nodes(node), bundles))
        args, kwargs = _substitute(node, values)
        target = node.target
        assert isinstance(target, torch._ops.OpOverload)
        names = [argument.name for argument in target._schema.arguments]
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        return Call(target, arguments, node.meta["val"])


def _bundle(value: Value, rows: int) -> Bundle:
    slot = Slot(value, rows, True)
    return tuple(Place(slot, row) for row in range(rows))


def _operands(arguments: Mapping[str, object]) -> Iterator[Operand]:
    for value in arguments.values():
        if isinstance(value, Operand):
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, Operand))


def _substitute(
    node: fx.Node, values: Iterator[object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Put values in the places of the nodes that a call reads, in argument order."""

    def take(_: fx.Node) -> object:
        return next(values)

    args, kwargs = fx.map_arg((node.args, node.kwargs), take)  # type: ignore[arg-type]
    return tuple(args), dict(kwargs)
