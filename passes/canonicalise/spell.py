"""Bring every call's arguments to one spelling, and symbolic extents to theirs."""

from typing import Any

import torch
from torch import fx

from fusec.passes.canonicalise.extents import extent
from fusec.passes.canonicalise.rewrite import Edit
from fusec.passes.canonicalise.schema import spell
from fusec.passes.program import Program, fork
from fusec.passes.report import PassReport, Rewrite

__all__ = ["spell_arguments"]


def spell_arguments(program: Program) -> tuple[Program, PassReport]:
    """Spell arguments by schema, extents by the first input that has them; drop dead nodes.

    Cost: linear in nodes.
    """
    program = fork(program)
    edit = Edit(program)
    rewrites = []
    for node in list(edit.graph.nodes):
        if node.op != "call_function" or isinstance(node.meta.get("val"), torch.SymInt | int):
            continue
        with edit.graph.inserting_before(node):
            args = fx.map_arg(node.args, lambda n: _host(edit, n))
            kwargs = fx.map_arg(node.kwargs, lambda n: _host(edit, n))
        assert callable(node.target)
        spelled, named = spell(node.target, args, kwargs, node.meta.get("val"))
        if (_text(spelled), _text(named)) != (_text(node.args), _text(node.kwargs)):
            rewrites.append(Rewrite("spell_arguments", node.name, node.name))
            node.args, node.kwargs = spelled, named
    _drop_dead(edit.graph)
    program.graph.recompile()
    return program, PassReport("spell_arguments", tuple(rewrites), ())


def _host(edit: Edit, node: fx.Node) -> Any:
    """Replace an extent by its one spelling, a known integer by itself."""
    value = node.meta.get("val")
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, torch.SymInt):
        return node
    spelled = extent(edit, value)
    return node if spelled is None else spelled


def _text(value: Any) -> str:
    """Tell apart what == does not: 1 and 1.0, list and tuple are alike to fx."""
    return repr(list(value.items()) if isinstance(value, dict) else list(value))


def _drop_dead(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if node.op in ("call_function", "get_attr") and not node.users:
            graph.erase_node(node)
