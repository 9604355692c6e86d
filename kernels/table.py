"""The table of tile operations: what each is called, where its parts are, what it can carry.

Nothing here imports a kernel: `encode` modules are light, `cpu` modules import numba and are only
read when object code has to be made.
"""

from collections.abc import Mapping

from fusec.ir.frozen import dataclass
from fusec.ir.stage import TileOp

__all__ = ["TILE_OPS", "TileFolder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFolder:
    """One folder of `fusec/kernels`: `<reference>.run`, `encode.encode`, `cpu.KERNELS`."""

    package: str
    reference: str = "reference"
    """Module of the package whose `run` is the plain implementation."""
    epilogue: bool
    """A pointwise program can be fused behind it, over `writes[0]`."""
    writes_strided: bool = False
    """It writes any rows: all axes of `writes[0]` but the last may step anyhow."""
    bare: tuple[tuple[str, str], ...] = ()
    """Attributes of stages that carry no program all the same."""


TILE_OPS: Mapping[TileOp, TileFolder] = {
    TileOp.GEMM: TileFolder(package="fusec.kernels.gemm", epilogue=True, writes_strided=True),
    TileOp.MATMUL: TileFolder(package="fusec.kernels.matmul", epilogue=True, writes_strided=True),
    TileOp.CONV: TileFolder(package="fusec.kernels.conv", epilogue=True, writes_strided=True),
    TileOp.POOL: TileFolder(package="fusec.kernels.pool", epilogue=False, writes_strided=True),
    TileOp.NORM: TileFolder(package="fusec.kernels.norm", epilogue=True, writes_strided=True),
    TileOp.SOFTMAX: TileFolder(
        package="fusec.kernels.softmax", epilogue=False, writes_strided=True
    ),
    TileOp.ATTENTION: TileFolder(
        package="fusec.kernels.attention", epilogue=False, writes_strided=True
    ),
    TileOp.REDUCE: TileFolder(
        package="fusec.kernels.reduce",
        epilogue=True,
        writes_strided=True,
        bare=(("form", "where"), ("form", "scan"), ("form", "sort")),
    ),
    TileOp.POINTWISE: TileFolder(
        package="fusec.kernels.pointwise", epilogue=False, writes_strided=True
    ),
    TileOp.GATHER: TileFolder(package="fusec.kernels.gather", epilogue=False, writes_strided=True),
    TileOp.COPY: TileFolder(package="fusec.kernels.copy", epilogue=False, writes_strided=True),
    TileOp.RNN: TileFolder(
        package="fusec.kernels.rnn",
        reference="native_reference",
        epilogue=False,
        writes_strided=True,
    ),
}
"""All but extern, which has no kernel."""
