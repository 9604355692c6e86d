"""Check what a rule gives for a row against what the row's spec says."""

from fusec.ir.extents import Poly, of
from fusec.ir.stage import View
from fusec.ir.template import Row, Spec, TensorSpec
from fusec.passes.lower.builder import Refused, Value

__all__ = ["check_result"]


def check_result(row: Row, value: Value) -> None:
    """Refuse a value that is not of the dtype and shape that later rows rely on.

    Raises:
        Refused: it is not; PyTorch then runs the row and finds out who is wrong.
    """
    if not _fits(row.out, value):
        raise Refused(f"{row.op} gives {row.out!r} by the template, and was lowered to {value!r}")


def _fits(spec: Spec, value: Value) -> bool:
    if isinstance(spec, TensorSpec):
        if not isinstance(value, View) or value.dtype != spec.dtype:
            return False
        return value.shape == tuple(of(d) for d in spec.shape)
    if isinstance(spec, tuple):
        if not isinstance(value, tuple) or len(value) != len(spec):
            return False
        return all(map(_fits, spec, value))
    match spec:
        case "none":
            return value is None
        case "bool":
            return isinstance(value, bool)
        case "float":
            return isinstance(value, float)
    return isinstance(value, int | Poly)
