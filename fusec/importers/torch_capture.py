"""Trace an nn.Module over plain tensors into a graph of the fusec operator set.

nn.Module --torch.export, recurrent layers kept whole--> ATen --lower--> operator set
          --weights become placeholders after the inputs--> Captured --program_of--> Program
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, export
from torch.export.graph_signature import InputKind

from fusec.importers.torch_constraints import Symbols, read_symbols
from fusec.importers.torch_lower import lower
from fusec.importers.torch_patches import tracing
from fusec.importers.torch_place import place_of_error
from fusec.importers.torch_refuse import (
    refuse_assignments,
    refuse_graph,
    refuse_module,
    refuse_mutation,
    refuse_statistics,
    written_state,
)
from fusec.ir.errors import FusecError, ImportFailed
from fusec.ir.template import RowsKind, Symbol
from fusec.passes.program import Program

__all__ = ["Captured", "Dynamic", "capture", "program_of"]

Dynamic = Mapping[int, Mapping[int, Symbol]]
"""Input index -> axis -> name and range of an extent that varies between requests."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Captured:
    """One traced module.

    Attributes:
        graph: placeholders are inputs, then weights; one output node with a tuple.
        input_names: one per input placeholder.
        output_names: one per result.
        weights: raw weights in placeholder order, the module's own memory.
        aliases: (other name, name in `weights`) of tied weights.
        unused: names of weights that the module holds and does not use.
        symbols: extents that vary, and what the model relies on.
        notes: what the caller should tell the user, in words.
    """

    graph: fx.GraphModule
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    weights: Mapping[str, Tensor]
    aliases: tuple[tuple[str, str], ...]
    unused: tuple[str, ...]
    symbols: Symbols
    notes: tuple[str, ...]


def capture(
    module: nn.Module,
    args: Sequence[Tensor],
    *,
    dynamic: Dynamic | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Captured:
    """Trace a module that maps tensors to a tensor or a tuple of tensors.

    Args:
        module: takes `len(args)` positional tensors; see `fusec.importers.source` for others.
        args: examples. Axes that are not dynamic keep exactly these extents.
        dynamic: axes that vary; the example's extent there is replaced if it is 0 or 1.
        input_names: names, default input_0, ...
        output_names: names, default output_0, ...

    Raises:
        ImportFailed: what cannot be imported, with module and line.
    Cost: a trace, 30 ms and up; 130 to 250 ms more if operators must be decomposed.
    """
    refuse_module(module)
    dynamic = dynamic or {}
    examples = tuple(_example(a, dynamic.get(i, {})) for i, a in enumerate(args))
    exported = _export(module, examples, dynamic)
    refuse_statistics(exported.graph_module)
    exported = _lower(exported)
    refuse_mutation(exported)
    refuse_graph(exported.graph_module)
    return _captured(exported, dynamic, input_names, output_names)


def program_of(
    captured: Captured,
    *,
    input_axes: Sequence[int | None],
    output_axes: Sequence[int | None],
    rows: RowsKind,
    bound: Sequence[tuple[str, str]] = (),
) -> Program:
    """Join a traced module and what is known about its rows into a program."""
    return Program(
        graph=captured.graph,
        input_names=captured.input_names,
        output_names=captured.output_names,
        weights=captured.weights,
        aliases=captured.aliases,
        unused=captured.unused,
        symbols=captured.symbols.symbols,
        symbol_names=captured.symbols.names,
        constraints=captured.symbols.constraints,
        input_axes=tuple(input_axes),
        output_axes=tuple(output_axes),
        rows=rows,
        bound=tuple(bound),
        guards=(),
    )


def _example(arg: Tensor, dynamic: Mapping[int, Symbol]) -> Tensor:
    """Make an example contiguous, and larger where an extent of 0 or 1 would be taken as fixed."""
    value = arg.detach().contiguous()
    for axis, symbol in dynamic.items():
        if value.shape[axis] < 2:
            repeats = [1] * value.dim()
            repeats[axis] = max(2, symbol.min)
            shape = [*value.shape]
            shape[axis] = 1
            value = value if value.shape[axis] else value.new_zeros(shape)
            value = value.repeat(repeats)
    return value


def _export(module: nn.Module, args: tuple[Tensor, ...], dynamic: Dynamic) -> ExportedProgram:
    shapes: tuple[Any, ...] = tuple(
        {axis: _dim(s) for axis, s in dynamic.get(i, {}).items()} for i in range(len(args))
    )
    try:
        with tracing() as warned, _quiet():
            exported = export(module, args, dynamic_shapes=_nested(module, shapes), strict=False)
            refuse_assignments(module, [str(w.message) for w in warned])
            return exported
    except FusecError:
        raise
    except Exception as e:
        raise _import_failed(e) from e


def _nested(module: nn.Module, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Shape the specs like the signature: a *args parameter takes one tuple."""
    code = module.forward.__code__ if hasattr(module.forward, "__code__") else None
    if shapes and code is not None and code.co_flags & 0x04 and code.co_argcount == 1:
        return (shapes,)
    return shapes


def _dim(symbol: Symbol) -> object:
    return Dim.AUTO(min=max(2, symbol.min), max=symbol.max)


def _lower(exported: ExportedProgram) -> ExportedProgram:
    try:
        with tracing(), _quiet():
            return lower(exported)
    except FusecError:
        raise
    except Exception as e:
        raise _import_failed(e) from e


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's own logging of what we report ourselves off the terminal."""
    loggers = [logging.getLogger(n) for n in ("torch.fx.experimental.symbolic_shapes",)]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


_DATA = ("GuardOnDataDependent", "data-dependent", "Data-dependent", "unbacked symbol")


def _import_failed(error: Exception) -> ImportFailed:
    text = str(error).strip()
    first = text.splitlines()[0] if text else ""
    where = place_of_error(error)
    written = re.search(r"Constant (\S+) is mutated", text)
    if written is not None:
        return ImportFailed(written_state(written.group(1).removeprefix("inner.")))
    if any(mark in type(error).__name__ or mark in text for mark in _DATA):
        return ImportFailed(
            f"the model decides by the values of tensors at {where}; shapes and branches of a "
            f"program must not depend on data: use torch.where or masks ({first})"
        )
    return ImportFailed(f"cannot trace the model at {where}: {type(error).__name__}: {first}")


def _captured(
    exported: ExportedProgram,
    dynamic: Dynamic,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> Captured:
    graph = exported.graph
    inputs, weights, aliases = _placeholders(exported)
    limits: dict[str, Symbol] = {}
    for i, node in enumerate(inputs):
        for axis, symbol in dynamic.get(i, {}).items():
            dim = node.meta["val"].shape[axis]
            if isinstance(dim, torch.SymInt) and dim.node.expr.is_symbol:
                limits.setdefault(dim.node.expr.name, symbol)
    symbols = read_symbols(exported, inputs, limits)
    results = graph.output_node().args[0]
    assert isinstance(results, tuple | list)
    names = tuple(input_names or (f"input_{i}" for i in range(len(inputs))))
    return Captured(
        graph=_rebuild(graph, [*inputs, *(node for node, _ in weights.values())]),
        input_names=names,
        output_names=tuple(output_names or (f"output_{i}" for i in range(len(results)))),
        weights={name: tensor for name, (_, tensor) in weights.items()},
        aliases=aliases,
        unused=_unused(exported, {*weights, *(a for a, _ in aliases)}),
        symbols=symbols,
        notes=tuple(_fixed(inputs, names, dynamic)),
    )


def _fixed(inputs: Sequence[fx.Node], names: Sequence[str], dynamic: Dynamic) -> Iterator[str]:
    for i, node in enumerate(inputs):
        for axis, symbol in dynamic.get(i, {}).items():
            dim = node.meta["val"].shape[axis]
            fixed = dim.node.expr if isinstance(dim, torch.SymInt) else dim
            if isinstance(dim, int) or fixed.is_number:
                yield (
                    f"axis {axis} of input {names[i]} ({symbol.name}) was to vary, but the model "
                    f"works for {fixed} only"
                )


def _placeholders(
    exported: ExportedProgram,
) -> tuple[list[fx.Node], dict[str, tuple[fx.Node, Tensor]], tuple[tuple[str, str], ...]]:
    """Give input nodes, used weights by name with tied ones joined, and the names joined away."""
    nodes = {n.name: n for n in exported.graph.find_nodes(op="placeholder")}
    inputs: list[fx.Node] = []
    weights: dict[str, tuple[fx.Node, Tensor]] = {}
    aliases: list[tuple[str, str]] = []
    seen: dict[object, str] = {}
    for spec in exported.graph_signature.input_specs:
        node = nodes.get(getattr(spec.arg, "name", ""))
        if spec.kind == InputKind.USER_INPUT:
            assert node is not None
            inputs.append(node)
            continue
        if node is None or spec.target is None:
            raise ImportFailed(f"the trace has an input of kind {spec.kind.name}, not a tensor")
        name = spec.target.removeprefix("inner.")
        tensor = _tensor(exported, spec.target)
        first = seen.setdefault(_identity(tensor), name)
        if first != name:
            aliases.append((name, first))
            # A tied weight may be used under its second name only.
            node.replace_all_uses_with(weights[first][0])
        else:
            weights[name] = (node, tensor)
    used = {name: row for name, row in weights.items() if row[0].users}
    return inputs, used, tuple(a for a in aliases if a[1] in used)


def _unused(exported: ExportedProgram, used: set[str]) -> tuple[str, ...]:
    names = (str(n).removeprefix("inner.") for n in exported.state_dict)
    return tuple(n for n in names if n not in used)


def _tensor(exported: ExportedProgram, target: str) -> Tensor:
    found = exported.state_dict.get(target)
    found = exported.constants.get(target) if found is None else found
    if not isinstance(found, Tensor):
        raise ImportFailed(f"{target} is a {type(found).__name__}, not a tensor")
    if found.device.type == "meta":
        raise ImportFailed(f"{target} is on the meta device and holds no data; load the weights")
    return found.detach()


def _identity(tensor: Tensor) -> object:
    if tensor.numel() == 0:
        return id(tensor)
    return (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())


def _rebuild(graph: fx.Graph, placeholders: Sequence[fx.Node]) -> fx.GraphModule:
    """Copy a graph with its placeholders in a new order and no dead ones."""
    new = fx.Graph()
    values: dict[fx.Node, Any] = {}
    for old in placeholders:
        values[old] = new.placeholder(old.name)
        values[old].meta = dict(old.meta)
    root = nn.Module()
    for node in graph.nodes:
        if node.op == "placeholder":
            continue
        number = _settled(node.meta.get("val"))
        if number is not None:
            # A symbol that the trace found to be one number; users take the number.
            values[node] = number
            continue
        if node.op == "output":
            results = fx.map_arg(tuple(node.args[0]), values.__getitem__)
            new.output(results)
            continue
        if node.op == "get_attr":
            _adopt(root, graph.owning_module, str(node.target))
        values[node] = new.node_copy(node, values.__getitem__)
    return fx.GraphModule(root, new)


def _settled(value: object) -> int | None:
    """Give the value of a symbolic number that cannot vary any more."""
    if isinstance(value, torch.SymInt) and value.node.expr.is_number:
        return int(value.node.expr)
    return None


def _adopt(root: nn.Module, owner: nn.Module | None, path: str) -> None:
    assert owner is not None
    if "." in path or not isinstance(getattr(owner, path), nn.Module):
        raise ImportFailed(f"the trace refers to {path}, which is not a subgraph")
    if not hasattr(root, path):
        root.add_module(path, getattr(owner, path))
