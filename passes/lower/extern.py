"""Rows without a lowering: PyTorch runs them, one instance per call."""

from fusec.ir.extents import of
from fusec.ir.stage import ExternCall, TileOp, View
from fusec.ir.template import Arg, Body, Ref, Row, Spec, TensorSpec
from fusec.passes.lower.builder import Lowering, Refused, Value

__all__ = ["ReadsPlain", "extern"]


class ReadsPlain(Exception):
    """A row that PyTorch runs reads a packed weight: the template is lowered anew with it plain."""

    def __init__(self, weight: int) -> None:
        super().__init__(weight)
        self.weight = weight


def extern(low: Lowering, row: Row) -> Value:
    """Make a row an extern stage; its results are dense buffers.

    Raises:
        Refused: a result is a number that only running the row can tell.
        ReadsPlain: an operand is a packed weight.
    """
    operands = []
    reads: list[View] = []
    for number in sorted(_references((*row.args, *(v for _, v in row.kwargs)))):
        weight = low.weight(Ref(number))
        if weight is not None and low.packed(Ref(number)) is not None:
            raise ReadsPlain(weight)
        value = low.values[number]
        operands.append((number, value))
        reads += _views(value)
    results = _buffers(low, row.out)
    low.emit(
        TileOp.EXTERN,
        reads,
        _views(results),
        extern=ExternCall(row=row, operands=tuple(operands)),
    )
    return results


def _buffers(low: Lowering, spec: Spec) -> Value:
    if isinstance(spec, tuple):
        return tuple(_buffers(low, s) for s in spec)
    if isinstance(spec, TensorSpec):
        return low.new(spec.dtype, tuple(of(d) for d in spec.shape))
    if spec != "none":
        raise Refused(f"{low.template.body.rows[low.row].op} gives a number ({spec}) of the host")
    return None


def _views(value: Value) -> list[View]:
    if isinstance(value, tuple):
        return [v for item in value for v in _views(item)]
    return [value] if isinstance(value, View) else []


def _references(arg: "Arg | tuple[Arg, ...]") -> set[int]:
    if isinstance(arg, Ref):
        return {arg.index}
    if isinstance(arg, Body):
        return set()
    if isinstance(arg, tuple):
        return {n for a in arg for n in _references(a)}
    return set()
