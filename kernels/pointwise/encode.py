"""A pointwise stage as words for its kernel.

    0  number of outer axes, rows, columns, where the program is
    4  extent of each outer axis
       for each operand, then each result: bytes along the outer axes
       the program (see `words`), in which d0 and d1 are not used

Items are rows, those of all outer axes one after another; items2 are columns.
"""

from collections.abc import Sequence

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.extents import Extent, product
from fusec.ir.stage import Buffer, Stage
from fusec.kernels.encoded import Encoded
from fusec.kernels.pointwise.frame import Frame, frame_of, guess
from fusec.kernels.pointwise.words import (
    POINT_SCRATCH_BYTES,
    double_bits,
    float_bits,
    point_words,
    program_words,
)

__all__ = [
    "POINT_SCRATCH_BYTES",
    "double_bits",
    "encode",
    "float_bits",
    "grains",
    "outer_words",
    "point_words",
]

_HEAVY = frozenset({
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "erf", "sin",
    "cos", "gelu", "gelu_tanh", "silu", "mish", "softplus", "selu", "elu", "celu",
})  # fmt: skip
_STEP_FLOPS, _HEAVY_FLOPS, _SLOW_FLOPS = 3, 20, 200
"""What a step costs per element, in operations of the machine that `flops` is about."""

_TASK_NS = 30_000
_FLOPS_PER_NS, _BYTES_PER_NS = 60, 15


def encode(stage: Stage, buffers: Sequence[Buffer]) -> Encoded:
    """Spell a pointwise stage for its kernel.

    Args:
        stage: of op `pointwise`; its views have the program's shape, whatever the rank.
        buffers: of the lowered template.
    """
    program = stage.point
    assert program is not None
    loads = [v for v in program.operands if v is not None]
    assert len(loads) == len(program.operands)
    views = [*stage.writes, *loads]
    frame = frame_of(program.shape, views, buffers)
    steps = [*frame.steps[len(stage.writes) :], *frame.steps[: len(stage.writes)]]
    code = program_words(program, loads, stage.writes, [(0, 0, *s[-2:]) for s in steps])
    head = outer_words(frame, steps)
    flops = sum((_flops(step.op) for step in program.steps), start=1)
    read = sum((itemsize_bytes(v.dtype) for v in loads), start=0)
    written = sum((itemsize_bytes(v.dtype) for v in stage.writes), start=0)
    element_ns = max(flops / _FLOPS_PER_NS, (read + written) / _BYTES_PER_NS)
    grain, grain2 = grains(frame, element_ns)
    elements = product(program.shape)
    return Encoded(
        kernel="pointwise_any",
        words=(*head, *code),
        items=product(frame.outer) * frame.rows,
        items2=frame.columns,
        grain=grain,
        grain2=grain2,
        flat=frame.flat,
        flops=elements * flops,
        read_bytes=elements * read,
        written_bytes=elements * written,
        scratch_bytes=POINT_SCRATCH_BYTES,
    )


def outer_words(frame: Frame, steps: Sequence[tuple[Extent, ...]]) -> tuple[Extent, ...]:
    """Spell a frame: the words that stand before a program."""
    outer = len(frame.outer)
    at = 4 + outer + outer * len(steps)
    moves = [step for s in steps for step in s[:outer]]
    return (outer, frame.rows, frame.columns, at, *frame.outer, *moves)


def grains(frame: Frame, element_ns: float) -> tuple[int, int]:
    """Choose rows and columns of a task: as many as take `_TASK_NS`, whole vectors of them."""
    elements = max(1024, int(_TASK_NS / element_ns) // 1024 * 1024)
    columns = max(1, guess(frame.columns))
    if columns > elements:
        return 1, elements
    return max(1, elements // columns), columns if isinstance(frame.columns, int) else 1 << 40


def _flops(op: str) -> int:
    name = op.rpartition("_")[0]
    if name in _HEAVY:
        return _HEAVY_FLOPS
    return _SLOW_FLOPS if name in ("pow", "remainder", "fmod", "floor_divide") else _STEP_FLOPS
