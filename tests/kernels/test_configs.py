"""The table of configurations: what may vary is only what keeps the order of sums."""

from __future__ import annotations

import pytest

import fusec.kernels.configs as module
from fusec.ir.errors import ConfigError, VerifyError
from fusec.kernels.configs import ARCHITECTURES, Family, Mma, configs_of

FAMILIES = {name: f for name, f in vars(module).items() if isinstance(f, Family)}
DTYPES = ("float32", "float16", "bfloat16", "float64")


def product(a: str, b: str, channels: int = 64) -> dict[str, int | str]:
    return {"A_DTYPE": a, "B_DTYPE": b, "C_MULTIPLE": channels, "NEAR": 1, "X_DTYPE": a}


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("kernel", ["gemm", "matmul", "conv", "attention"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_configurations_of_a_stage_cut_sums_alike(kernel: str, dtype: str, arch: int) -> None:
    found = configs_of(kernel, arch, product(dtype, dtype))
    fixed = [tuple((n, v) for n, v in c.blocks if n not in ("BLOCK_M", "BLOCK_N")) for c in found]
    assert len(set(fixed)) == 1
    assert len({c.blocks for c in found}) == len(found)
    if kernel != "attention":
        (step,) = {dict(c.blocks)["BLOCK_K"] for c in found}
        assert 256 % step == 0


@pytest.mark.parametrize("width", ["narrow", "wide", "columns"])
def test_rows_have_one_way_of_joining_lanes(width: str) -> None:
    assert len(configs_of("norm", 90, {"WIDTH": width})) == 1


@pytest.mark.parametrize("kernel", ["gemm", "matmul", "conv"])
@pytest.mark.parametrize("channels", [1, 64])
def test_half_width_on_hopper_is_for_warpgroups(kernel: str, channels: int) -> None:
    half = configs_of(kernel, 90, product("float16", "float16", channels))
    assert all(dict(c.blocks)["BLOCK_M"] >= 64 and c.warps % 4 == 0 for c in half)
    # The super-kernel has four warps.
    assert any(c.warps == 4 for c in half)
    older = configs_of(kernel, 80, product("float16", "float16", channels))
    assert any(dict(c.blocks)["BLOCK_M"] == 16 for c in older)


def test_factors_of_two_widths_are_float32() -> None:
    assert configs_of("gemm", 90, product("float32", "bfloat16")) == configs_of(
        "gemm", 90, product("float32", "float32")
    )


@pytest.mark.parametrize(
    "block_k, tiles, text",
    [
        (48, ((64, 64, 4, 2),), "divide"),
        (8, ((64, 64, 4, 2),), "16 or more"),
        (512, ((64, 64, 4, 2),), "divide"),
        (64, ((64, 64, 4, 2), (64, 64, 8, 2)), "by blocks"),
        (64, ((32, 64, 4, 2),), "would not take wgmma"),
        (64, ((64, 64, 2, 2),), "would not take wgmma"),
        (64, ((96, 64, 4, 2),), "a tile of 96"),
        (64, ((64, 8, 4, 2),), "a tile of 64 x 8"),
    ],
)
def test_tiles_that_break_a_family_are_refused(
    block_k: int, tiles: tuple[tuple[int, int, int, int], ...], text: str
) -> None:
    with pytest.raises(VerifyError, match=text):
        Family(mma=Mma.WARPGROUP, block_k=block_k, tiles=tiles)


def test_unknown_cards_are_refused() -> None:
    with pytest.raises(ConfigError, match="sm_75"):
        configs_of("gemm", 75, product("float32", "float32"))
