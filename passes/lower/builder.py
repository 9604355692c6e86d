"""The state of one lowering: values as views, buffers and stages so far."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from fusec.ir.extents import Extent, of, product
from fusec.ir.stage import (
    Attr,
    Buffer,
    BufferKind,
    ExternCall,
    Layout,
    LayoutKind,
    Operand,
    PointProgram,
    Stage,
    TileOp,
    View,
    dense,
    packed_elements,
    stored_dtype,
)
from fusec.ir.template import Arg, Ref, Row, Template, TensorSpec
from fusec.kernels.pointwise.frame import guess

__all__ = ["HALVES", "Lowering", "Refused", "Value"]

HALVES = ("float16", "bfloat16")
"""Half-width dtypes: in memory only, registers hold float32."""

Value: TypeAlias = Operand
"""What a number of the template's body stands for."""


class Refused(Exception):
    """A lowering cannot take this call; the row becomes an extern stage. Never leaves the pass."""


class Lowering:
    """Grows buffers and stages while rows are lowered in order."""

    def __init__(self, template: Template, layouts: Sequence[Layout]) -> None:
        """Make a buffer of every input and weight, weights in their layouts."""
        self.template = template
        self.layouts = tuple(layouts)
        self.buffers: list[Buffer] = []
        self.stages: list[Stage] = []
        self.values: dict[int, Value] = {}
        self.row = -1
        """Number of the row being lowered."""
        self.widens = False
        """Whether rules are shown half-width numbers as float32, see `half`."""
        n = template.n_inputs
        for number, spec in enumerate(template.body.arguments):
            assert isinstance(spec, TensorSpec)
            kind = BufferKind.INPUT if number < n else BufferKind.WEIGHT
            index = number if number < n else number - n
            self.values[number] = self._buffer(kind, spec.dtype, spec.shape, index)
            if kind is BufferKind.WEIGHT:
                layout = self.layouts[index]
                self.buffers[-1] = replace(
                    self.buffers[-1],
                    dtype=stored_dtype(layout, spec.dtype),
                    elements=packed_elements(layout),
                )

    # Reading operands.

    def value(self, arg: Arg) -> Value:
        """Give what an operand stands for: literals are themselves."""
        if isinstance(arg, Ref):
            return _wide(self.values[arg.index]) if self.widens else self.values[arg.index]
        if isinstance(arg, tuple):
            return tuple(self.value(a) for a in arg)
        if isinstance(arg, int | float | bool) or arg is None:
            return arg
        raise Refused(f"operand {arg!r}")

    def view(self, arg: Arg) -> View:
        """Give a tensor operand.

        Raises:
            Refused: it is a host number.
        """
        value = self.value(arg)
        if not isinstance(value, View):
            raise Refused(f"operand {arg!r} is no tensor")
        if self.packed(arg) is not None:
            raise Refused(f"operand {arg!r} is packed, which this operator cannot read")
        return value

    def extent(self, arg: Arg) -> Extent:
        """Give a host integer.

        Raises:
            Refused: it is something else.
        """
        value = self.value(arg)
        if isinstance(value, View | float | tuple) or value is None:
            raise Refused(f"operand {arg!r} is no integer")
        return int(value) if isinstance(value, bool) else value

    def ints(self, arg: Arg) -> tuple[int, ...]:
        """Give a list of plain integers.

        Raises:
            Refused: an element depends on a symbol, or is no integer.
        """
        value = self.value(arg)
        items = value if isinstance(value, tuple) else (value,)
        if any(type(i) is not int for i in items):
            raise Refused(f"operand {arg!r} is no list of integers")
        return tuple(i for i in items if isinstance(i, int))

    def weight(self, arg: Arg) -> int | None:
        """Give the number of the template weight that an operand is, None if it is no weight."""
        if not isinstance(arg, Ref):
            return None
        number = arg.index - self.template.n_inputs
        return number if 0 <= number < len(self.template.weights) else None

    def packed(self, arg: Arg) -> tuple[View, Layout] | None:
        """Give the flat view and layout of an operand that is a packed weight, else None."""
        number = self.weight(arg)
        if number is None or self.layouts[number].kind is LayoutKind.PLAIN:
            return None
        slot = self.template.n_inputs + number
        buffer = self.buffers[slot]
        view = dense(slot, buffer.dtype, (buffer.elements,))
        spec = self.template.weights[number]
        # Float32 that is stored narrower is known to rules.
        half = isinstance(spec, TensorSpec) and spec.dtype in HALVES
        return replace(view, dtype="float32") if self.widens and half else view, self.layouts[
            number
        ]

    # Making values.

    def out(self, row: Row, number: int = 0) -> TensorSpec:
        """Give the spec of a row's result (of its `number`-th one).

        Raises:
            Refused: the result is no tensor.
        """
        spec = row.out[number] if isinstance(row.out, tuple) else row.out
        if not isinstance(spec, TensorSpec):
            raise Refused(f"{row.op} gives {spec!r}")
        return spec

    def new(self, dtype: str, shape: Sequence[Extent | str]) -> View:
        """Make a dense buffer in the arena."""
        return self._buffer(BufferKind.ARENA, dtype, tuple(shape), -1)

    def new_like(self, views: Sequence[View], dtype: str, shape: Sequence[Extent | str]) -> View:
        """Make a buffer in the arena whose axes lie in memory as an operand's do.

        So the result can become one stage with what made the operand, or with what reads both.

        Args:
            views: operands of as many axes; the first whose axes are not in C order counts.
            dtype: of the elements.
            shape: of the result.
        """
        extents = tuple(of(d) for d in shape)
        plain = tuple(range(len(extents)))
        orders = (memory_order(v) for v in views if len(v.shape) == len(extents))
        order = next((o for o in orders if o not in (None, plain)), None) or plain
        turned = self.new(dtype, tuple(extents[axis] for axis in order))
        strides = tuple(turned.strides[order.index(axis)] for axis in plain)
        return View(turned.slot, dtype, extents, strides, 0)

    def new_flat(self, dtype: str, elements: Extent) -> int:
        """Make a buffer in the arena for views that the caller lays out; give its slot."""
        self.buffers.append(Buffer(kind=BufferKind.ARENA, dtype=dtype, elements=elements, index=-1))
        return len(self.buffers) - 1

    def emit(
        self,
        op: TileOp,
        reads: Sequence[View],
        writes: Sequence[View],
        *,
        point: PointProgram | None = None,
        extern: ExternCall | None = None,
        **attrs: Attr,
    ) -> None:
        """Append a stage."""
        self.stages.append(
            Stage(
                op=op,
                reads=tuple(reads),
                writes=tuple(writes),
                attrs=tuple(sorted(attrs.items())),
                point=point,
                extern=extern,
                rows=(self.row,),
            )
        )

    def contiguous(self, view: View) -> View:
        """Give the view itself if it is dense in its buffer order, else a dense copy."""
        if is_dense(view):
            return view
        copy = self.new(view.dtype, view.shape)
        self.emit(TileOp.COPY, [view], [copy])
        return copy

    def reshaped(self, view: View, shape: Sequence[Extent]) -> View:
        """View in another shape of as many elements, copied if no strides can say it."""
        seen = reshape_view(view, shape)
        if seen is None:
            seen = reshape_view(self.contiguous(view), shape)
        if seen is None:
            raise Refused(f"{view.shape} cannot be seen as {tuple(shape)}")
        return seen

    def _buffer(
        self, kind: BufferKind, dtype: str, shape: tuple[Extent | str, ...], index: int
    ) -> View:
        extents = tuple(of(d) for d in shape)
        self.buffers.append(Buffer(kind=kind, dtype=dtype, elements=product(extents), index=index))
        return dense(len(self.buffers) - 1, dtype, extents)


def _wide(value: Value) -> Value:
    if isinstance(value, tuple):
        return tuple(map(_wide, value))
    if isinstance(value, View) and value.dtype in HALVES:
        return replace(value, dtype="float32")
    return value


def is_dense(view: View) -> bool:
    """Tell whether elements lie one after another in C order, whatever the offset."""
    step: Extent = 1
    for extent, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if extent != 1 and stride != step:
            return False
        step = step * extent
    return True


def memory_order(view: View) -> tuple[int, ...] | None:
    """List the axes from the one with the longest steps to that with the shortest.

    None if the view repeats elements. Axes of extent 1 stay before the axes that follow them.
    Symbols are taken for usual numbers: this says what is likely to be fast, and no more.
    """
    steps = [0] * len(view.shape)
    longest = 0
    for axis in reversed(range(len(view.shape))):
        steps[axis] = longest
        if view.shape[axis] != 1:
            if view.strides[axis] == 0:
                return None
            steps[axis] = abs(guess(view.strides[axis]))
            longest = max(longest, steps[axis])
    return tuple(sorted(range(len(steps)), key=lambda axis: -steps[axis]))


def reshape_view(view: View, shape: Sequence[Extent]) -> View | None:
    """See a view in another shape of as many elements; None if strides cannot say it."""
    wanted = tuple(shape)
    if 0 in view.shape:
        return replace(dense(view.slot, view.dtype, wanted), offset=view.offset)
    # Axes of extent 1 say nothing; runs of axes that lie as one are one.
    runs: list[tuple[Extent, Extent]] = []
    for extent, stride in zip(view.shape, view.strides, strict=True):
        if extent == 1:
            continue
        if runs and runs[-1][1] == extent * stride:
            runs[-1] = (runs[-1][0] * extent, stride)
        else:
            runs.append((extent, stride))
    strides: list[Extent] = [0] * len(wanted)
    position = len(wanted)
    for run, stride in reversed(runs):
        covered: Extent = 1
        step = stride
        while covered != run:
            position -= 1
            if position < 0:
                return None
            if wanted[position] == 1:
                continue
            strides[position] = step
            step = step * wanted[position]
            covered = covered * wanted[position]
            if isinstance(covered, int) and isinstance(run, int) and covered > run:
                return None
    if any(extent != 1 for extent in wanted[:position]):
        return None
    return View(view.slot, view.dtype, wanted, tuple(strides), view.offset)
