"""Run a body row by row: no code generation, for what runs once (recipes) or must be traced."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from torch import fx

from fusec.ir.template import Arg, Body, DType, Ref, Row
from fusec.kernels.operators import resolve
from fusec.kernels.torch_graph import to_graph, torch_dtype

__all__ = ["references", "run_body", "run_row"]


def run_body(body: Body, arguments: Sequence[object]) -> tuple[object, ...]:
    """Evaluate a body and return its results.

    Args:
        body: rows to run in order.
        arguments: one value per argument of the body.

    Raises:
        UnsupportedError: an operator name outside the operator set.
    """
    last_use = _last_uses(body)
    values: list[Any] = list(arguments)
    for i, row in enumerate(body.rows):
        args = [_value(a, values) for a in row.args]
        kwargs = {k: _value(v, values) for k, v in row.kwargs}
        values.append(resolve(row.op)(*args, **kwargs))
        for dead in last_use.get(i, ()):
            values[dead] = None
    return tuple(_value(r, values) for r in body.results)


def run_row(row: Row, values: Mapping[int, object]) -> object:
    """Evaluate one row.

    Args:
        row: of a body.
        values: number -> value, of all that the row refers to.

    Raises:
        UnsupportedError: an operator name outside the operator set.
    """
    args = [_value(a, values) for a in row.args]
    kwargs = {k: _value(v, values) for k, v in row.kwargs}
    return resolve(row.op)(*args, **kwargs)


@lru_cache(maxsize=256)
def _graph(body: Body) -> fx.GraphModule:
    return to_graph(body)


def _value(arg: Arg, values: Sequence[object] | Mapping[int, object]) -> object:
    if isinstance(arg, Ref):
        return values[arg.index]
    if isinstance(arg, DType):
        return torch_dtype(arg.name)
    if isinstance(arg, tuple):
        return [_value(a, values) for a in arg]
    if isinstance(arg, Body):
        return _graph(arg)
    return arg


def _last_uses(body: Body) -> dict[int, list[int]]:
    """Row -> values not needed after it, so that big intermediates are freed early."""
    last: dict[int, int] = {}
    for i, row in enumerate(body.rows):
        for index in references((row.args, tuple(v for _, v in row.kwargs))):
            last[index] = i
    kept = references(body.results)
    by_row: dict[int, list[int]] = {}
    for index, row_number in last.items():
        if index not in kept:
            by_row.setdefault(row_number, []).append(index)
    return by_row


def references(arg: object) -> set[int]:
    """Give the numbers of all values that an operand, or a nest of operands, refers to."""
    if isinstance(arg, Ref):
        return {arg.index}
    if isinstance(arg, tuple):
        return {index for a in arg for index in references(a)}
    return set()
