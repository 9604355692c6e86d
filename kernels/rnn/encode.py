"""Recurrent stages for the native executor: the steps in time, after a gemm did the inputs.

    reads   x [T, B, G * H]   products of all inputs, input bias added; last axis contiguous
            r                 recurrent weights as panels of [H, G * H]
            h0 [B, H]
            c0 [B, H]         of an lstm
            bias [G * H]      added to the recurrent product; where `bias` says so
            peephole [3 * H]  for i, o, f; where `peephole` says so
            lengths [B]       int64 valid steps; where `lengths` says so
    writes  y [T, B, H], h [B, H], and c [B, H] of an lstm; last axes contiguous
    attrs   mode              "lstm" (gates i, f, g, o), "gru" (r, z, n), "rnn"
            reverse           walk from the last step to the first
            gates             (name, alpha, beta) of each activation
            clip              bound on every activation's input, or None
            reset_after, input_forget, bias, peephole, lengths
            hidden, nr        H and the panels' columns

Items are rows of the batch, items2 steps in time, with one before them that sets the state: they
have to run in order, each behind the one before. The state lives in h and c.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fusec.ir.extents import Extent
from fusec.ir.stage import Buffer, BufferKind, Stage, View
from fusec.kernels.encoded import Encoded, is_flat, view_words, weights_of
from fusec.kernels.pointwise.encode import float_bits
from fusec.kernels.rnn.gates import ACTIVATIONS

__all__ = [
    "GROUP_ROWS",
    "MODES",
    "TABLE_BYTES",
    "WORDS",
    "encode",
    "operands",
]

WORDS = (
    "x_slot", "x_offset", "x_t", "x_row",
    "y_slot", "y_offset", "y_t", "y_row",
    "r_slot", "r_offset",
    "h0_slot", "h0_offset", "h0_row",
    "h_slot", "h_offset", "h_row",
    "c0_slot", "c0_offset", "c0_row",
    "c_slot", "c_offset", "c_row",
    "bias_slot", "bias_offset",
    "peephole_slot", "peephole_offset",
    "lengths_slot", "lengths_offset", "lengths_row",
    "steps", "hidden", "nr", "mode", "reverse", "reset_after", "input_forget", "clip",
    "act0", "alpha0", "beta0", "act1", "alpha1", "beta1", "act2", "alpha2", "beta2",
)  # fmt: skip
"""Strides in bytes, slots -1 for none, floats as bits; clip is -1 for none."""

MODES = ("lstm", "gru", "rnn")
GROUP_ROWS = 24
"""Rows that walk through time together, at most: they share each read of the weights."""

TABLE_BYTES = GROUP_ROWS * 8 + 64
"""Addresses of the rows' states, and one segment of the microkernel."""

_GRAIN = 8


def operands(stage: Stage) -> dict[str, View]:
    """Name what a stage reads."""
    names = ["x", "r", "h0"]
    names += ["c0"] if stage.attr("mode") == "lstm" else []
    names += [name for name in ("bias", "peephole", "lengths") if stage.attr(name)]
    return dict(zip(names, stage.reads, strict=True))


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Spell a recurrent stage for its kernel.

    Args:
        stage: of op `rnn`.
        buffers: of the lowered template.
    """
    views: dict[str, View] = {**operands(stage)}
    views.update(zip(("y", "h", "c"), stage.writes, strict=False))
    mode, hidden, nr = stage.attr("mode"), stage.attr("hidden"), stage.attr("nr")
    assert isinstance(mode, str) and isinstance(hidden, int) and isinstance(nr, int)
    steps, rows, columns = views["x"].shape
    assert isinstance(columns, int)
    by_row: dict[str, View] = {
        name: _row_first(views[name], 1 if name in "xy" else 0, buffers)
        for name in ("x", "y", "h0", "h", "c0", "c", "lengths")
        if name in views
    }
    words: list[Extent] = []
    for name in ("x", "y"):
        words += (*view_words(views[name])[:3], by_row[name].strides[0] * 4)
    words += view_words(views["r"])[:2]
    for name in ("h0", "h", "c0", "c"):
        words += view_words(by_row[name])[:3] if name in views else (-1, 0, 0)
    for name in ("bias", "peephole"):
        words += view_words(views[name])[:2] if name in views else (-1, 0)
    words += view_words(by_row["lengths"])[:3] if "lengths" in views else (-1, 0, 0)
    clip = stage.attr("clip")
    words += (steps, hidden, nr, MODES.index(mode), int(bool(stage.attr("reverse"))))
    words += (int(bool(stage.attr("reset_after"))), int(bool(stage.attr("input_forget"))))
    words.append(float_bits(clip) if isinstance(clip, float) else float_bits(-1.0))
    for name, alpha, beta in _gates(stage):
        words += (ACTIVATIONS.index(name), float_bits(alpha), float_bits(beta))
    shared = [views[name] for name in ("r", "bias", "peephole") if name in views]
    flat = is_flat(tuple(by_row.values()), rows, buffers) and all(
        buffers[view.slot].kind is BufferKind.WEIGHT for view in shared
    )
    flops = rows * steps * (2 * hidden * columns + 32 * columns)
    row_bytes = -(-columns // nr) * nr * 4
    weight_bytes = sum(
        buffers[slot].elements * 4 for slot in weights_of(stage, buffers) if slot == views["r"].slot
    )
    return Encoded(
        kernel="rnn_f32",
        words=tuple(words),
        items=rows,
        items2=steps + 1,
        grain=_GRAIN,
        grain2=1,
        flat=flat,
        flops=flops,
        read_bytes=steps * (rows * (4 * columns) + weight_bytes),
        written_bytes=steps * rows * (4 * hidden),
        scratch_bytes=TABLE_BYTES + GROUP_ROWS * (2 * row_bytes + 4 * (hidden + 16)),
        sequential=True,
    )


def _row_first(view: View, axis: int, buffers: Sequence[Buffer]) -> View:
    """See the batch's axis first; a batch of one is followed by the next instance's."""
    order = (axis, *(i for i in range(len(view.shape)) if i != axis))
    strides = [view.strides[i] for i in order]
    if view.shape[axis] == 1:
        buffer = buffers[view.slot]
        strides[0] = 0 if buffer.kind is BufferKind.WEIGHT else buffer.elements
    return replace(view, shape=tuple(view.shape[i] for i in order), strides=tuple(strides))


def _gates(stage: Stage) -> Iterator[tuple[str, float, float]]:
    """Give each activation with its two numbers, three in all."""
    gates = stage.attr("gates")
    assert isinstance(gates, tuple)
    for gate in gates:
        assert isinstance(gate, tuple)
        name, alpha, beta = gate
        assert isinstance(name, str) and isinstance(alpha, float) and isinstance(beta, float)
        yield name, alpha, beta
    for _ in range(3 - len(gates)):
        yield "sigmoid", 0.0, 0.0
