"""Convolutions over channels-last images, and those among them that are matrix products.

    [N, C, H, W] -> its view [N, H, W, C] -> stage -> [N, H', W', C'] seen as [N, C', H', W']

A result keeps channels next to each other in memory; whoever reads it in the template's order
finds strides that say so. One-dimensional data is an image of height 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fusec.ir.extents import Extent, of, product
from fusec.ir.frozen import dataclass
from fusec.ir.stage import Layout, LayoutKind, TileOp, View
from fusec.ir.template import Arg, Row, TensorSpec
from fusec.kernels.conv.encode import MOST_TAPS, MOST_TRANSPOSED
from fusec.passes.lower.builder import Lowering, Refused, Value, reshape_view
from fusec.passes.lower.panels import panel_width
from fusec.passes.lower.rule import Rule

__all__ = ["PACKERS", "RULES", "channels_last", "logical"]

_MANY_ROWS = 64
"""From here on a 1x1 convolution is one line of pixels: its weights are soon near, and bias, ReLU
and a last half vector of columns cost less there than in a gemm, which fetches weights ahead."""

_FEW_CHANNELS = 4
"""So many channels are read from planes where they lie; more are brought together first."""


@dataclass(frozen=True, slots=True)
class _Call:
    """The operands that are numbers, two per list: height comes first."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    transposed: bool
    groups: int
    channels: int
    columns: int
    """Output channels of all groups."""

    @property
    def depthwise(self) -> bool:
        alike = 1 < self.groups == self.channels == self.columns
        return alike and not self.transposed and self.kernel[0] * self.kernel[1] <= MOST_TAPS

    @property
    def parts(self) -> int:
        return 1 if self.depthwise else self.groups

    @property
    def k(self) -> int:
        return self.kernel[0] * self.kernel[1] * (self.channels // self.groups)

    @property
    def n(self) -> int:
        return self.columns // self.parts


def channels_last(view: View) -> View:
    """See [N, C, W] or [N, C, H, W] as [N, H, W, C]; height is 1 where there is none."""
    shape, strides = list(view.shape), list(view.strides)
    if len(shape) == 3:
        shape.insert(2, 1)
        strides.insert(2, shape[3] * strides[2])
    order = (0, 2, 3, 1)
    return View(
        view.slot,
        view.dtype,
        tuple(shape[i] for i in order),
        tuple(strides[i] for i in order),
        view.offset,
    )


def logical(view: View, rank: int) -> View:
    """See [N, H, W, C] as [N, C, H, W], or as [N, C, W] if the rank is 3."""
    order = (0, 3, 1, 2) if rank == 4 else (0, 3, 2)
    return View(
        view.slot,
        view.dtype,
        tuple(view.shape[i] for i in order),
        tuple(view.strides[i] for i in order),
        view.offset,
    )


def _out_shape(shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
    return (shape[0], *(shape[2:] if len(shape) == 4 else (1, shape[2])), shape[1])


def _pair(numbers: Sequence[int], missing: int) -> tuple[int, int]:
    if len(numbers) not in (1, 2):
        raise Refused(f"{len(numbers)} spatial axes")
    return (missing, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _static(arg: Arg) -> tuple[int, ...]:
    values = arg if isinstance(arg, tuple) else (arg,)
    if any(type(v) is not int for v in values):
        raise Refused(f"operand {arg!r} is no list of integers")
    return tuple(v for v in values if isinstance(v, int))


def _call(shape: Sequence[Extent | str], row: Row) -> _Call:
    """Read a call's numbers; `shape` is the weight's.

    Raises:
        Refused: three spatial axes, an extent that is no number, or nothing to sum.
    """
    extents = [e for e in map(of, shape) if isinstance(e, int)]
    stride, padding, dilation, transposed, _, groups = row.args[3:9]
    if len(extents) not in (3, 4) or len(extents) != len(shape):
        raise Refused(f"a kernel of shape {tuple(shape)}")
    if 0 in extents or not isinstance(transposed, bool) or type(groups) is not int:
        raise Refused("a kernel without elements, or an operand of another kind")
    own, other = extents[:2]
    return _Call(
        kernel=_pair(extents[2:], 1),
        stride=_pair(_static(stride), 1),
        padding=_pair(_static(padding), 0),
        dilation=_pair(_static(dilation), 1),
        transposed=transposed,
        groups=groups,
        channels=own if transposed else other * groups,
        columns=other * groups if transposed else own,
    )


def _order(call: _Call, spatial: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give (split, order): a kernel's axes as groups, taps, channels, columns."""
    taps = tuple(range(2, 2 + spatial))
    if call.parts == 1:
        return (), (*taps, 0, 1) if call.transposed else (*taps, 1, 0)
    c, n = call.channels // call.groups, call.columns // call.groups
    kernel = call.kernel[2 - spatial :]
    apart = tuple(t + 1 for t in taps)
    if call.transposed:
        return (call.groups, c, n, *kernel), (0, *apart, 1, 2)
    return (call.groups, n, c, *kernel), (0, *apart, 2, 1)


def _layout(spec: TensorSpec, row: Row) -> Layout | None:
    """Propose panels for a kernel."""
    if spec.dtype != "float32":
        return None
    try:
        call = _call(spec.shape, row)
    except Refused:
        return None
    split, order = _order(call, len(spec.shape) - 2)
    return Layout(
        kind=LayoutKind.PANELS, order=order, groups=call.parts, k=call.k, n=call.n,
        nr=panel_width(call.n), split=split,
    )  # fmt: skip


def _weight(low: Lowering, row: Row, call: _Call) -> tuple[View, int, bool]:
    """Give the kernel's flat view, the columns of a panel, and whether there are panels."""
    packed = low.packed(row.args[1])
    if packed is not None:
        return packed[0], packed[1].nr, True
    plain = low.view(row.args[1])
    if plain.dtype != "float32":
        raise Refused(f"a kernel of {plain.dtype}")
    split, order = _order(call, len(plain.shape) - 2)
    parted = reshape_view(plain, split) if split else plain
    if parted is None:
        raise Refused("a kernel whose groups no strides can say")
    nr = 16
    elements = call.parts * call.k * call.n
    # The last row is read to the end of its panel.
    slot = low.new_flat("float32", elements + nr)
    turned = View(
        parted.slot, parted.dtype, tuple(parted.shape[i] for i in order),
        tuple(parted.strides[i] for i in order), parted.offset,
    )  # fmt: skip
    strides = tuple(product(turned.shape[i + 1 :]) for i in range(len(order)))
    low.emit(TileOp.COPY, [turned], [View(slot, "float32", turned.shape, strides, 0)])
    return View(slot, "float32", (elements,), (1,), 0), nr, False


def _image(low: Lowering, view: View, call: _Call) -> View:
    """See the input as the kernels want it, copied where it must be."""
    x = channels_last(view)
    step = x.strides[3]
    if call.channels == 1 and step != 1:
        x = View(x.slot, x.dtype, x.shape, (*x.strides[:3], 1), x.offset)
    elif step != 1 and (call.depthwise or step == 0 or call.channels > _FEW_CHANNELS):
        copy = low.new(x.dtype, x.shape)
        low.emit(TileOp.COPY, [x], [copy])
        x = copy
    return x


def _rows_of(x: View, call: _Call, out: tuple[Extent, ...]) -> View | None:
    """See the input as the rows of a matrix product, one per output pixel; None if it is none."""
    if call.groups != 1 or call.padding != (0, 0) or (call.transposed and call.stride != (1, 1)):
        return None
    rows = product(out[:3])
    if call.kernel == (1, 1) and call.stride == (1, 1):
        return reshape_view(x, (rows, x.shape[3]))
    one_line = x.shape[:2] == (1, 1) and call.kernel[0] == 1 and not call.transposed
    if one_line and call.dilation[1] == 1 and x.strides[2] == x.shape[3]:
        # Windows of one line: rows that overlap.
        return View(x.slot, x.dtype, (rows, call.k), (call.stride[1] * x.strides[2], 1), x.offset)
    return None


def _line(rows: View) -> View:
    """See rows as the pixels of one line."""
    m, n = rows.shape
    step = rows.strides[0]
    return View(rows.slot, rows.dtype, (1, 1, m, n), (m * step, m * step, step, 1), rows.offset)


def _convolution(low: Lowering, row: Row) -> Value:
    view, spec = low.view(row.args[0]), low.out(row)
    kernel = low.value(row.args[1])
    if not isinstance(kernel, View) or {view.dtype, spec.dtype} != {"float32"}:
        raise Refused("a convolution of another dtype than float32")
    # A packed weight's value is still the view of its plain shape.
    shape = kernel.shape
    if len(view.shape) != len(shape):
        raise Refused("an input without a batch axis")
    call = _call(shape, row)
    if call.transposed and max(call.kernel) > MOST_TRANSPOSED:
        raise Refused(f"a transposed kernel of {call.kernel}")
    out = _out_shape(tuple(map(of, spec.shape)))
    x = _image(low, view, call)
    b, nr, packed = _weight(low, row, call)
    operands = [] if row.args[2] is None else [low.contiguous(low.view(row.args[2]))]
    if any(v.dtype != "float32" or v.shape != (call.columns,) for v in operands):
        raise Refused("a bias of another kind")
    y = low.new("float32", out)
    rows = _rows_of(x, call, out) if packed else None
    if rows is not None and rows.strides[1] == 1:
        flat = reshape_view(y, (rows.shape[0], call.columns))
        assert flat is not None
        if call.kernel != (1, 1) or (isinstance(rows.shape[0], int) and rows.shape[0] < _MANY_ROWS):
            low.emit(TileOp.GEMM, [rows, b, *operands], [flat], k=call.k, n=call.n, nr=nr)
            return logical(y, len(spec.shape))
        # The line's pixels are those that the kernel meets: it goes on by one.
        x, target, call = _line(rows), _line(flat), replace(call, stride=(1, 1))
    else:
        target = y
    low.emit(
        TileOp.CONV, [x, b, *operands], [target], kernel=call.kernel, stride=call.stride,
        padding=call.padding, dilation=call.dilation, groups=call.groups,
        transposed=call.transposed, depthwise=call.depthwise, nr=nr, packed=packed,
    )  # fmt: skip
    return logical(y, len(spec.shape))


RULES: Mapping[str, Rule] = {"aten.convolution.default": _convolution}

PACKERS = {"aten.convolution.default": (1, _layout)}
"""Where the kernel is among the operands, and what is proposed for it."""
