"""Matrix products: with a packed weight as gemm, of any two tensors as matmul.

linear(x, w, b)         gemm     leading extents of x are rows
linear(x, plain w, b)   matmul   B is a turned view of w
matmul, mm, bmm, mv, dot         a vector is a matrix of one row or column
addmm, baddbmm, addmv            a vector added to rows is the bias, the rest a pointwise stage
einsum of two operands           axes in both and in the result are batches, else summed over
"""

from collections.abc import Mapping
from dataclasses import replace

from fusec.ir.extents import Extent, product
from fusec.ir.stage import LayoutKind, PointProgram, PointStep, TileOp, View
from fusec.ir.template import Arg, Row
from fusec.passes.lower.arguments import given, moved, need, row_major, shape_of, unit
from fusec.passes.lower.builder import Lowering, Refused, Value, reshape_view
from fusec.passes.lower.rule import Rule
from fusec.passes.lower.views import broadcast

__all__ = ["RULES"]

_FLOATS = {"float32": "f32", "float64": "f64"}


def _linear(low: Lowering, row: Row) -> Value:
    x, shape = low.view(row.args[0]), shape_of(low, row)
    need(x.dtype == low.out(row).dtype and x.dtype in _FLOATS, f"linear of {x.dtype}")
    need(len(x.shape) > 0, "linear of a scalar")
    packed = low.packed(row.args[1])
    if packed is None:
        w = low.view(row.args[1])
        need(w.dtype == x.dtype and len(w.shape) == 2, "the weight is no matrix of this dtype")
        n, k = w.shape
    else:
        b, layout = packed
        fits = (layout.kind, layout.groups, layout.order) == (LayoutKind.PANELS, 1, (1, 0))
        need(fits and not layout.split, "another layout")
        need(x.dtype == "float32" and b.dtype in ("float32", "bfloat16"), f"weight of {b.dtype}")
        n, k = layout.n, layout.k
    m = product(shape[:-1])
    a = row_major(low, x, (product(x.shape[:-1]), x.shape[-1]))
    a = replace(a, shape=(m, k))
    bias = _bias(low, given(row, 2, "bias"), n, x.dtype)
    y = low.new(x.dtype, (*shape[:-1], n))
    c = _matrix(y, m, n)
    if packed is None:
        low.emit(TileOp.MATMUL, [a, moved(w, (1, 0)), *bias], [c])
    else:
        low.emit(TileOp.GEMM, [a, b, *bias], [c], k=layout.k, n=layout.n, nr=layout.nr)
    return y


def _bias(low: Lowering, arg: Arg, n: Extent, dtype: str) -> list[View]:
    if arg is None:
        return []
    bias = low.view(arg)
    need(bias.shape == (n,) and bias.dtype == dtype, "the bias is no vector of the columns")
    return [bias if unit(bias) else low.contiguous(bias)]


def _matrix(y: View, m: Extent, n: Extent) -> View:
    """See a dense result as rows."""
    return replace(y, shape=(m, n), strides=(n, 1))


def _matmul(low: Lowering, row: Row) -> Value:
    return _product(low, row, low.view(row.args[0]), low.view(row.args[1]), [])


def _product(low: Lowering, row: Row, a: View, b: View, bias: list[View]) -> View:
    """Emit a @ b; give it in the shape of the row's result."""
    outer = shape = shape_of(low, row)
    y = low.new(a.dtype, shape)
    need(a.dtype == b.dtype == low.out(row).dtype and a.dtype in _FLOATS, f"product of {a.dtype}")
    need(len(a.shape) > 0 and len(b.shape) > 0, "product of a scalar")
    m: Extent = 1
    n: Extent = 1
    k = a.shape[-1]
    if len(b.shape) == 1:
        b = replace(b, shape=(k, 1), strides=(*b.strides, 1))
    else:
        outer, n = outer[:-1], outer[-1]
    if len(a.shape) == 1:
        a = replace(a, shape=(1, k), strides=(0, *a.strides))
    else:
        outer, m = outer[:-1], outer[-1]
    # One extent may be spelled in several ways: those of the result are taken for all.
    a, b = replace(a, shape=(*a.shape[:-2], m, k)), replace(b, shape=(*b.shape[:-2], k, n))
    _emit(low, a if unit(a) else low.contiguous(a), b, bias, outer, y)
    return y


def _emit(
    low: Lowering, a: View, b: View, bias: list[View], batch: tuple[Extent, ...], y: View
) -> None:
    """Emit batch of a @ b to the dense y; the operands' leading axes broadcast to the batch."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    if all(extent == 1 for extent in b.shape[:-2]):
        # One B for all: their rows are rows of one matrix, if memory says so too.
        count = product(a.shape[:-1])
        rows = reshape_view(a, (count, k)) if product(batch) * m == count else None
        if rows is not None and unit(rows):
            single = replace(b, shape=b.shape[-2:], strides=b.strides[-2:])
            low.emit(TileOp.MATMUL, [_lined(rows), single, *bias], [_matrix(y, count, n)])
            return
    a, b = broadcast(a, (*batch, m, k)), broadcast(b, (*batch, k, n))
    if len(batch) > 2:
        count = product(batch)
        a, b = row_major(low, a, (count, m, k)), low.reshaped(b, (count, k, n))
        batch = (count,)
    target = reshape_view(y, (*batch, m, n))
    assert target is not None, "a dense view can be seen in any shape"
    low.emit(TileOp.MATMUL, [_lined(a), b, *bias], [_lined(target)])


def _lined(view: View) -> View:
    """Spell the step between columns, which says nothing where there is one column."""
    return replace(view, strides=(*view.strides[:-1], 1))


def _add_product(low: Lowering, row: Row) -> Value:
    """Lower beta * c + alpha * (a @ b); c is not looked at where beta is 0."""
    a, b = low.view(row.args[1]), low.view(row.args[2])
    alpha, beta = (_number(given(row, 4, "alpha", 1)), _number(given(row, 3, "beta", 1)))
    plain = alpha == beta == 1
    if beta == 0:
        result = _product(low, row, a, b, [])
        return result if alpha == 1 else _combined(low, result, None, alpha, beta)
    c = low.view(row.args[0])
    if plain and c.dtype == a.dtype and len(b.shape) > 1 and c.shape == b.shape[-1:]:
        return _product(low, row, a, b, [c if unit(c) else low.contiguous(c)])
    return _combined(low, _product(low, row, a, b, []), c, alpha, beta)


def _number(arg: Arg) -> float:
    if isinstance(arg, bool) or not isinstance(arg, int | float):
        raise Refused(f"a factor {arg!r}")
    return float(arg)


def _combined(low: Lowering, x: View, c: View | None, alpha: float, beta: float) -> View:
    """Emit alpha * x + beta * c."""
    kind = _FLOATS[x.dtype]
    operands = [x]
    if c is not None:
        need(c.dtype == x.dtype, f"a sum with {c.dtype}")
        operands.append(broadcast(c, x.shape))
    steps: list[PointStep] = []
    registers = list(range(len(operands)))
    for i, factor in enumerate((alpha, beta)[: len(operands)]):
        if factor != 1:
            registers[i] = len(operands) + len(steps)
            steps.append(PointStep(f"mul_{kind}", (i,), x.dtype, factor))
    if c is not None:
        steps.append(PointStep(f"add_{kind}", (registers[0], registers[1]), x.dtype, None))
    y = low.new(x.dtype, x.shape)
    program = PointProgram(
        shape=x.shape,
        operands=tuple(operands),
        steps=tuple(steps),
        results=(len(operands) + len(steps) - 1,),
    )
    low.emit(TileOp.POINTWISE, operands, [y], point=program)
    return y


def _einsum(low: Lowering, row: Row) -> Value:
    equation, operands = row.args[0], low.value(row.args[1])
    if not isinstance(equation, str) or not isinstance(operands, tuple) or len(operands) != 2:
        raise Refused("einsum of other than two operands")
    need("->" in equation and "." not in equation, f"einsum {equation}")
    sides, result = equation.replace(" ", "").split("->")
    (left, right), (a, b) = sides.split(","), operands
    if not isinstance(a, View) or not isinstance(b, View):
        raise Refused("einsum of a number")
    need(a.dtype == b.dtype == low.out(row).dtype and a.dtype in _FLOATS, f"einsum of {a.dtype}")
    extents = dict(zip(left, a.shape, strict=True))
    for letter, extent in zip(right, b.shape, strict=True):
        need(extents.setdefault(letter, extent) == extent, f"extents of {letter} differ")
    for letters in (left, right, result):
        need(len(set(letters)) == len(letters), "a letter twice")
    batch = [x for x in left if x in right and x in result]
    summed = [x for x in left if x in right and x not in result]
    rows = [x for x in left if x not in right]
    columns = [x for x in right if x not in left]
    need(set(rows + columns) <= set(result), "a sum over one operand")
    if len(batch) > 2:
        raise Refused("more than two batches")
    m, k, n = (product([extents[x] for x in part]) for part in (rows, summed, columns))
    heads = tuple(extents[x] for x in batch)
    ordered = moved(a, [left.index(x) for x in (*batch, *rows, *summed)])
    a = row_major(low, ordered, (*heads, m, k))
    ordered = moved(b, [right.index(x) for x in (*batch, *summed, *columns)])
    b = low.reshaped(ordered, (*heads, k, n))
    made = [*batch, *rows, *columns]
    y = low.new(a.dtype, [extents[x] for x in made])
    _emit(low, a, b, [], heads, y)
    return moved(y, [made.index(x) for x in result])


RULES: Mapping[str, Rule] = {
    "aten.linear.default": _linear,
    "aten.matmul.default": _matmul,
    "aten.mm.default": _matmul,
    "aten.bmm.default": _matmul,
    "aten.mv.default": _matmul,
    "aten.dot.default": _matmul,
    "aten.addmm.default": _add_product,
    "aten.baddbmm.default": _add_product,
    "aten.addmv.default": _add_product,
    "aten.einsum.default": _einsum,
}
