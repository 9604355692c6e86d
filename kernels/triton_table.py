"""The table of grouped kernels: operation -> function, signature, constants. Imports no Triton.

A kernel is compiled for the constants of a stage, those of a configuration, and the modes:

    constants      what `grouped(stage, buffers)` of the operation's folder fixes, in order
    configuration  sizes of blocks, see `configs`
    PRECISION      of float32 products: "ieee", or "tf32" for who asks for it
    WIDEN          0; 1 in the interpreter, which multiplies bfloat16 wrongly

The order of `parameters` is the function's own. Addresses of a launch are multiples of 16.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module

from fusec.ir.frozen import dataclass
from fusec.ir.stage import Buffer, Stage, TileOp
from fusec.kernels.configs import Config, configs_of
from fusec.kernels.grouped.stage import Constants, Grouped
from fusec.kernels.table import TILE_OPS

__all__ = ["ARGUMENTS", "GROUPED_OPS", "KERNELS", "GroupedKernel", "Special", "grouped", "specials"]

ARGUMENTS: tuple[tuple[str, str], ...] = (
    ("table", "*i64"),
    ("tiles", "*i32"),
    ("count", "*i32"),
    ("status", "*i32"),
)
"""What every launch passes; all are multiples of 16."""

_MODES: Constants = (("PRECISION", "ieee"), ("WIDEN", 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedKernel:
    """One kernel."""

    module: str
    function: str
    parameters: tuple[str, ...]
    """Constants, in the function's order; `ARGUMENTS` are before them."""
    fp_fusion: bool = False
    """Whether the compiler may join products and sums: what is to be joined is written so."""

    @property
    def signature(self) -> tuple[tuple[str, str], ...]:
        """Every parameter with its type, in order."""
        return (*ARGUMENTS, *((name, "constexpr") for name in self.parameters))


KERNELS: Mapping[str, GroupedKernel] = {
    "gemm": GroupedKernel(
        module="fusec.kernels.gemm.triton",
        function="gemm",
        parameters=(
            *("WORDS", "A_DTYPE", "A_ALIGNED", "B_DTYPE", "K_MULTIPLE", "N_MULTIPLE", "BIAS"),
            *("POINT", "PRECISION", "WIDEN", "BLOCK_M", "BLOCK_N", "BLOCK_K"),
        ),
    ),
    "pointwise": GroupedKernel(
        module="fusec.kernels.pointwise.triton",
        function="pointwise",
        parameters=("WORDS", "AXES", "N_MULTIPLE", "POINT", "BLOCK_M", "BLOCK_N"),
    ),
    "softmax": GroupedKernel(
        module="fusec.kernels.softmax.triton",
        function="softmax",
        parameters=(
            *("WORDS", "X_DTYPE", "X_ALIGNED", "N_MULTIPLE", "LOG", "POINT"),
            *("BLOCK_M", "BLOCK_R"),
        ),
    ),
    "norm": GroupedKernel(
        module="fusec.kernels.norm.triton",
        function="norm",
        parameters=(
            *("WORDS", "AXES", "KIND", "X_DTYPE", "X_ALIGNED", "N_MULTIPLE", "WEIGHT", "BIAS"),
            *("POINT", "BLOCK_M", "BLOCK_R"),
        ),
    ),
    "reduce": GroupedKernel(
        module="fusec.kernels.reduce.triton",
        function="reduce",
        parameters=(
            *("WORDS", "KIND", "COLUMNS", "FLAT", "NEAR", "X_DTYPE", "X_ALIGNED"),
            *("POINT", "SECOND", "SECOND_AT", "BLOCK_M", "BLOCK_R"),
        ),
    ),
    "scan": GroupedKernel(
        module="fusec.kernels.reduce.triton",
        function="scan",
        parameters=("WORDS", "X_DTYPE", "POINT", "BLOCK_M"),
    ),
    "matmul": GroupedKernel(
        module="fusec.kernels.matmul.triton",
        function="matmul",
        parameters=(
            *("WORDS", "A_DTYPE", "A_ALIGNED", "B_DTYPE", "B_ALIGNED", "B_NEAR", "K_MULTIPLE"),
            *("N_MULTIPLE", "BIAS", "POINT", "PRECISION", "WIDEN"),
            *("BLOCK_M", "BLOCK_N", "BLOCK_K"),
        ),
    ),
    "attention": GroupedKernel(
        module="fusec.kernels.attention.triton",
        function="attention",
        parameters=(
            *("WORDS", "X_DTYPE", "Q_ALIGNED", "K_ALIGNED", "V_ALIGNED", "MASK", "CAUSAL"),
            *("POINT", "BLOCK_D", "BLOCK_E", "PRECISION", "WIDEN", "BLOCK_M", "BLOCK_T"),
        ),
    ),
    "conv": GroupedKernel(
        module="fusec.kernels.conv.triton",
        function="conv",
        parameters=(
            *("WORDS", "A_DTYPE", "A_ALIGNED", "B_DTYPE", "B_COLUMNS", "C_MULTIPLE", "NEAR"),
            *("N_MULTIPLE", "TRANSPOSED", "BIAS", "POINT", "PRECISION", "WIDEN"),
            *("BLOCK_M", "BLOCK_N", "BLOCK_K"),
        ),
    ),
    "depthwise": GroupedKernel(
        module="fusec.kernels.conv.triton",
        function="depthwise",
        parameters=(
            *("WORDS", "A_DTYPE", "A_ALIGNED", "B_DTYPE", "B_COLUMNS", "NEAR", "N_MULTIPLE"),
            *("TRANSPOSED", "BIAS", "POINT", "BLOCK_M", "BLOCK_N"),
        ),
    ),
    "gather": GroupedKernel(
        module="fusec.kernels.gather.triton",
        function="gather",
        parameters=(
            *("WORDS", "FORM", "X_DTYPE", "X_ALIGNED", "INDEX", "WRAP", "N_MULTIPLE", "POINT"),
            *("BLOCK_M", "BLOCK_N"),
        ),
    ),
    "pool": GroupedKernel(
        module="fusec.kernels.pool.triton",
        function="pool",
        parameters=(
            *("WORDS", "MODE", "X_DTYPE", "NEAR", "N_MULTIPLE", "INCLUDE_PAD", "CORNERS"),
            *("POINT", "BLOCK_M", "BLOCK_N"),
        ),
    ),
    "rnn": GroupedKernel(
        module="fusec.kernels.rnn.triton",
        function="rnn",
        parameters=(
            *("WORDS", "MODE", "X_DTYPE", "Y_ALIGNED", "R_DTYPE", "R_COLUMNS", "REVERSE", "GATES"),
            *("CLIP", "RESET_AFTER", "INPUT_FORGET", "BIAS", "PEEPHOLE", "LENGTHS"),
            *("PRECISION", "WIDEN", "BLOCK_M", "BLOCK_N", "BLOCK_K"),
        ),
    ),
}
"""By name."""

GROUPED_OPS: Mapping[TileOp, str] = {
    op: f"{TILE_OPS[op].package}.grouped"
    for op in (
        *(TileOp.GEMM, TileOp.POINTWISE, TileOp.COPY),
        *(TileOp.SOFTMAX, TileOp.NORM, TileOp.REDUCE, TileOp.MATMUL, TileOp.ATTENTION),
        *(TileOp.CONV, TileOp.GATHER, TileOp.POOL),
    )
} | {TileOp.RNN: "fusec.kernels.rnn.triton_stage"}
"""Operation -> the module whose `grouped` spells its stages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Special:
    """A kernel with all its constants: what is compiled."""

    kernel: GroupedKernel
    config: Config
    constants: Constants
    """Of all parameters, in order."""


def grouped(stage: Stage, buffers: Sequence[Buffer]) -> Grouped | None:
    """Spell a stage for its grouped kernel; None if there is none for it.

    Args:
        stage: of any op.
        buffers: of the lowered template.
    """
    if stage.op not in GROUPED_OPS:
        return None
    module = import_module(GROUPED_OPS[stage.op])
    result: Grouped | None = module.grouped(stage, buffers)
    return result


def specials(stage: Grouped, arch: int, modes: Constants = ()) -> tuple[Special, ...]:
    """Give what to compile for a stage, the preferred configuration first.

    Args:
        stage: spelled.
        arch: such as 90.
        modes: in place of the usual ones.
    """
    kernel = KERNELS[stage.kernel]
    found = []
    for config in configs_of(stage.kernel, arch, dict(stage.constants)):
        given = dict((*_MODES, *modes, *stage.constants, *config.blocks))
        constants = tuple((name, given[name]) for name in kernel.parameters)
        found.append(Special(kernel=kernel, config=config, constants=constants))
    return tuple(found)
