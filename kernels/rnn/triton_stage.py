"""A recurrent stage for its Triton kernel (`grouped` in this folder is native code).

 0  x, r, h0, c0, bias, peephole, lengths, y, h, c; 0 for none
10  rows of the batch, steps in time, hidden, columns of a panel
14  steps of x: time, row; of y: time, row
18  row steps of h0, c0, lengths, h, c
23  bits of the clip, then of alpha and beta of three activations
"""

from collections.abc import Sequence
from dataclasses import replace

from fusec.ir.extents import Extent
from fusec.ir.stage import Buffer, BufferKind, Stage, View
from fusec.kernels.encoded import is_flat
from fusec.kernels.grouped.stage import Grouped, Word, address, alignment
from fusec.kernels.pointwise.encode import float_bits
from fusec.kernels.rnn.encode import operands

__all__ = ["grouped"]

_ROWS = 10
_GATES = 3


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped:
    """Spell a recurrent stage for its Triton kernel.

    Args:
        stage: of op `rnn`.
        buffers: of the lowered template.
    """
    views: dict[str, View] = {**operands(stage)}
    views.update(zip(("y", "h", "c"), stage.writes, strict=False))
    hidden, nr, clip, gates = (stage.attr(name) for name in ("hidden", "nr", "clip", "gates"))
    assert isinstance(hidden, int) and isinstance(nr, int) and isinstance(gates, tuple)
    steps, rows, _ = views["x"].shape
    places = ("x", "r", "h0", "c0", "bias", "peephole", "lengths", "y", "h", "c")
    by_row = {
        name: _row_first(views[name], 1 if name in "xy" else 0, buffers)
        for name in ("x", "y", "h0", "c0", "lengths", "h", "c")
        if name in views
    }
    words: list[Word] = [address(views.get(name)) for name in places]
    words += (rows, steps, hidden, nr)
    for name in ("x", "y"):
        words += (views[name].strides[0], by_row[name].strides[0])
    words += (by_row[n].strides[0] if n in by_row else 0 for n in ("h0", "c0", "lengths", "h", "c"))
    words.append(float_bits(clip) if isinstance(clip, float) else 0)
    names = []
    for gate in gates:
        assert isinstance(gate, tuple)
        function, *numbers = gate
        names.append(str(function))
        words += (float_bits(float(str(number))) for number in numbers)
    words += [0] * (2 * (_GATES - len(names)))
    shared = [views[name] for name in ("r", "bias", "peephole") if name in views]
    flat = is_flat(tuple(by_row.values()), rows, buffers) and all(
        buffers[view.slot].kind is BufferKind.WEIGHT for view in shared
    )
    packed = nr % 16 == 0
    return Grouped(
        kernel="rnn",
        constants=(
            ("WORDS", len(words)),
            ("MODE", str(stage.attr("mode"))),
            ("X_DTYPE", views["x"].dtype),
            ("Y_ALIGNED", min(alignment(v, buffers) for v in (by_row["y"], by_row["h0"]))),
            ("R_DTYPE", views["r"].dtype),
            ("R_COLUMNS", 16 if packed else 1),
            ("REVERSE", int(bool(stage.attr("reverse")))),
            ("GATES", " ".join((*names, *["sigmoid"] * (_GATES - len(names))))),
            ("CLIP", int(isinstance(clip, float))),
            ("RESET_AFTER", int(bool(stage.attr("reset_after")))),
            ("INPUT_FORGET", int(bool(stage.attr("input_forget")))),
            *((name.upper(), int(name in views)) for name in ("bias", "peephole", "lengths")),
        ),
        words=tuple(words),
        rows=rows,
        columns=1,
        joins=_ROWS if flat else -1,
    )


def _row_first(view: View, axis: int, buffers: Sequence[Buffer]) -> View:
    """See the batch's axis first; a batch of one is followed by the next instance's."""
    order = (axis, *(i for i in range(len(view.shape)) if i != axis))
    strides: list[Extent] = [view.strides[i] for i in order]
    if view.shape[axis] == 1:
        buffer = buffers[view.slot]
        strides[0] = 0 if buffer.kind is BufferKind.WEIGHT else buffer.elements
    return replace(view, shape=tuple(view.shape[i] for i in order), strides=tuple(strides))
