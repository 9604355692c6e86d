"""Configurations of grouped kernels for each architecture: what may be tuned, and what may not.

All configurations of one kernel, architecture and pair of dtypes give the same bytes: they are a
`Family`, which fixes `BLOCK_K` and the kind of matrix instruction, whose sums inside are not the
same; rows and columns of a tile, warps and stages are a `Config`'s. Half-width products on sm_90
take `wgmma`, 64 rows at least; so do all their configurations, also for few rows, where weights
decide the time. What the compiler really took is stored with each kernel, and compared.
"""

from collections.abc import Mapping
from enum import StrEnum

from fusec.ir.errors import ConfigError, VerifyError
from fusec.ir.frozen import dataclass

__all__ = ["ARCHITECTURES", "Config", "Family", "Mma", "configs_of"]

ARCHITECTURES = (80, 86, 89, 90)

_WIDEST = 256
"""Steps of k that are added up by themselves; blocks of k divide it."""


class Mma(StrEnum):
    """What multiplies matrices: kinds differ in the order of the sums inside."""

    FMA = "fma"
    """One product after another."""
    SYNC = "mma.sync"
    """A warp's."""
    WARPGROUP = "wgmma"
    """Four warps', of 64 rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One configuration."""

    blocks: tuple[tuple[str, int], ...]
    """Constants of the kernel that are sizes of blocks."""
    warps: int
    stages: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Configurations of a product that give the same bytes, the preferred one first."""

    mma: Mma
    block_k: int
    tiles: tuple[tuple[int, int, int, int], ...]
    """Rows, columns, warps, stages."""

    def __post_init__(self) -> None:
        """Raise VerifyError over a tile that this kind of instruction cannot be taken for."""
        if self.block_k < 16 or _WIDEST % self.block_k:
            raise VerifyError(
                f"blocks of {self.block_k} steps of k: 16 or more that divide {_WIDEST}"
            )
        if len({tile[:2] for tile in self.tiles}) != len(self.tiles):
            raise VerifyError("two configurations of one tile: plans tell them apart by blocks")
        for rows, columns, warps, _ in self.tiles:
            if min(rows, columns) < 16 or any(x & (x - 1) for x in (rows, columns, warps)):
                raise VerifyError(f"a tile of {rows} x {columns} in {warps} warps")
            if self.mma is Mma.WARPGROUP and (rows < 64 or warps % 4):
                raise VerifyError(f"{rows} rows in {warps} warps would not take {self.mma}")

    @property
    def configs(self) -> tuple[Config, ...]:
        """Give them as what a kernel is compiled for."""
        return tuple(
            Config(
                blocks=(("BLOCK_M", rows), ("BLOCK_N", columns), ("BLOCK_K", self.block_k)),
                warps=warps,
                stages=stages,
            )
            for rows, columns, warps, stages in self.tiles
        )


_SINGLE = Family(
    mma=Mma.FMA,
    block_k=32,
    tiles=((64, 64, 8, 3), (16, 64, 4, 4), (32, 32, 4, 3), (128, 64, 16, 3)),
)
"""Float32; with half the warps the large ones spill on sm_80."""

_SINGLE_CONV = Family(
    mma=Mma.FMA, block_k=32, tiles=((64, 64, 8, 3), (16, 64, 4, 4), (32, 32, 4, 3))
)
"""Places of taps are in registers too: 128 rows spill."""

_SINGLE_TAPS = Family(mma=Mma.FMA, block_k=32, tiles=((64, 64, 8, 3), (32, 32, 4, 3)))
"""Convolutions of few channels: every element has a place of its own."""

_DOUBLE = Family(mma=Mma.FMA, block_k=16, tiles=((32, 32, 4, 2), (16, 16, 4, 2)))
"""Float64. The interpreter's; cards multiply it in matrices, too."""

_HALF = Family(
    mma=Mma.SYNC,
    block_k=64,
    tiles=((64, 64, 8, 3), (16, 64, 4, 4), (32, 32, 4, 3), (128, 64, 8, 3), (64, 128, 8, 3)),
)
"""Half width up to sm_89. A thread of 4 warps would hold 64 x 128 sums twice, and spill."""

_HALF_CONV = Family(
    mma=Mma.SYNC,
    block_k=64,
    tiles=((64, 64, 8, 3), (16, 64, 4, 4), (32, 32, 4, 3), (128, 64, 8, 3)),
)

_HALF_TAPS = Family(
    mma=Mma.SYNC, block_k=64, tiles=((64, 64, 8, 3), (16, 64, 4, 3), (32, 32, 4, 3))
)
_HALF_90 = Family(
    mma=Mma.WARPGROUP,
    block_k=64,
    tiles=((64, 64, 8, 4), (64, 32, 4, 4), (128, 64, 8, 3), (64, 128, 8, 3)),
)
"""Half width on sm_90."""

_HALF_CONV_90 = Family(
    mma=Mma.WARPGROUP, block_k=64, tiles=((64, 64, 8, 3), (64, 32, 4, 3), (128, 64, 8, 3))
)

_HALF_TAPS_90 = Family(mma=Mma.WARPGROUP, block_k=32, tiles=((64, 64, 8, 3), (64, 32, 4, 3)))


def _product(m: int, n: int, k: int, warps: int, stages: int) -> Config:
    return Config(
        blocks=(("BLOCK_M", m), ("BLOCK_N", n), ("BLOCK_K", k)), warps=warps, stages=stages
    )


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


def _attention(*tiles: tuple[int, int]) -> tuple[Config, ...]:
    return tuple(
        Config(blocks=(("BLOCK_M", rows), ("BLOCK_T", 32)), warps=warps, stages=2)
        for rows, warps in tiles
    )


_ATTENTION_SINGLE = _attention((64, 8), (16, 4))
_ATTENTION_HALF = _attention((64, 4), (16, 4))
_ATTENTION_HALF_90 = _attention((64, 4))
"""The block of keys decides where sums are rescaled. 16 rows would not take `wgmma`."""

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
        if constants["X_DTYPE"] == "float32":
            return _ATTENTION_SINGLE
        return _ATTENTION_HALF_90 if arch == 90 else _ATTENTION_HALF
    if kernel not in _PRODUCTS:
        return _KERNELS[kernel]
    return _family(kernel, arch, constants).configs


def _family(kernel: str, arch: int, constants: Mapping[str, int | str]) -> Family:
    dtypes = (constants["A_DTYPE"], constants["B_DTYPE"])
    if "float64" in dtypes:
        return _DOUBLE
    # Factors of two widths are multiplied as float32.
    single = dtypes[0] != dtypes[1] or dtypes[0] == "float32"
    if kernel != "conv":
        return _SINGLE if single else _HALF_90 if arch == 90 else _HALF
    if int(constants["C_MULTIPLE"]) < 8 or not constants["NEAR"]:
        return _SINGLE_TAPS if single else _HALF_TAPS_90 if arch == 90 else _HALF_TAPS
    return _SINGLE_CONV if single else _HALF_CONV_90 if arch == 90 else _HALF_CONV
