"""Configurations of grouped kernels for each architecture: what may be tuned, and what may not.

All configurations of one kernel, architecture and pair of dtypes give the same bytes: they differ
in rows and columns of a tile, warps and stages, never in `BLOCK_K`, nor in the kind of matrix
instruction, whose sums inside are not the same. Half-width products on sm_90 take `wgmma`, 64
rows at least; so do all their configurations, also for few rows, where weights decide the time.
"""

from collections.abc import Mapping

from fusec.ir.errors import ConfigError
from fusec.ir.frozen import dataclass

__all__ = ["ARCHITECTURES", "Config", "configs_of"]

ARCHITECTURES = (80, 86, 89, 90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One configuration."""

    blocks: tuple[tuple[str, int], ...]
    """Constants of the kernel that are sizes of blocks."""
    warps: int
    stages: int = 1


def _product(m: int, n: int, k: int, warps: int, stages: int) -> Config:
    return Config(
        blocks=(("BLOCK_M", m), ("BLOCK_N", n), ("BLOCK_K", k)), warps=warps, stages=stages
    )


_PRODUCT_SINGLE = (
    _product(64, 64, 32, 8, 3),
    _product(16, 64, 32, 4, 4),
    _product(32, 32, 32, 4, 3),
    _product(128, 64, 32, 16, 3),
)
"""Float32: fused multiply-adds; with half the warps the large ones spill on sm_80."""

_PRODUCT_DOUBLE = (_product(32, 32, 16, 4, 2), _product(16, 16, 16, 4, 2))
"""Float64."""

_PRODUCT_HALF = (
    _product(64, 64, 64, 4, 3),
    _product(16, 64, 64, 4, 4),
    _product(32, 32, 64, 4, 3),
    _product(128, 64, 64, 4, 3),
    _product(128, 128, 64, 8, 3),
)
"""Half width up to sm_89: `mma.sync`."""

_PRODUCT_HALF_90 = (
    _product(64, 64, 64, 4, 4),
    _product(64, 128, 64, 4, 3),
    _product(128, 128, 64, 8, 3),
)
"""Half width on sm_90: `wgmma`."""


def _tile(m: int, n: int, warps: int) -> Config:
    return Config(blocks=(("BLOCK_M", m), ("BLOCK_N", n)), warps=warps)


def _rows(m: int, lanes: int, warps: int) -> Config:
    return Config(blocks=(("BLOCK_M", m), ("BLOCK_R", lanes)), warps=warps)


_ROWS: Mapping[str, tuple[Config, ...]] = {
    "narrow": (_rows(32, 32, 4),),
    "wide": (_rows(4, 256, 4),),
    "columns": (_rows(64, 16, 4),),
}
"""Kernels that add up rows, by the stage's `WIDTH`: how lanes are joined follows from all of it,
so there is one each."""


_KERNELS: Mapping[str, tuple[Config, ...]] = {
    "pointwise": (_tile(8, 128, 4), _tile(1, 1024, 4), _tile(64, 16, 4), _tile(256, 1, 4)),
    "depthwise": (_tile(32, 32, 4), _tile(16, 64, 4), _tile(128, 8, 4)),
    "gather": (_tile(8, 128, 4), _tile(64, 16, 4)),
    "pool": (_tile(32, 32, 4), _tile(16, 64, 4), _tile(128, 8, 4)),
    "rnn": (_product(16, 32, 32, 4, 1), _product(16, 64, 32, 8, 1)),
    "scan": (Config(blocks=(("BLOCK_M", 128),), warps=4),),
}
"""Kernels whose configurations depend on nothing."""

_ATTENTION = tuple(
    Config(blocks=(("BLOCK_M", m), ("BLOCK_T", 32)), warps=4, stages=2) for m in (64, 16)
)
"""The block of keys decides where sums are rescaled."""

_PRODUCTS = frozenset({"gemm", "matmul", "conv"})


def configs_of(kernel: str, arch: int, constants: Mapping[str, int | str]) -> tuple[Config, ...]:
    """Give the configurations of a kernel, the preferred one first.

    Args:
        kernel: name in the table of kernels.
        arch: such as 90.
        constants: what the stage fixes.

    Raises:
        ConfigError: the architecture is not in the table.
    """
    if arch not in ARCHITECTURES:
        known = ", ".join(f"sm_{a}" for a in ARCHITECTURES)
        raise ConfigError(f"grouped kernels have no configurations for sm_{arch}; known: {known}")
    if "WIDTH" in constants:
        return _ROWS[str(constants["WIDTH"])]
    if kernel == "attention":
        # 16 rows would not take `wgmma`.
        return _ATTENTION[:1] if arch == 90 and constants["X_DTYPE"] != "float32" else _ATTENTION
    if kernel not in _PRODUCTS:
        return _KERNELS[kernel]
    if constants["A_DTYPE"] == "float64":
        return _PRODUCT_DOUBLE
    single = "float32" in (constants["A_DTYPE"], constants["B_DTYPE"])
    if single:
        return _PRODUCT_SINGLE
    return _PRODUCT_HALF_90 if arch == 90 else _PRODUCT_HALF
