"""What tiles are said to read and write is all that they do: other memory may hold anything."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from fusec_testing.fences import fenced
from fusec_testing.grouped import interpreter, patched_once_a_module
from fusec_testing.lowered import lowered_module
from fusec_testing.persistent_models import ENCODER, HEAD, PIXELS, RECURRENT
from torch import nn

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.errors import UnsupportedError
from fusec.ir.extents import value
from fusec.ir.stage import BufferKind, Lowered, Stage, View
from fusec.kernels.persistent.footprint import Access
from fusec.runtime.persistent.needs import needs_of
from fusec.runtime.persistent.stages import SLOT_BITS, Laid, group_at, groups_of, lay, slot_of

interpreter()

from fusec_testing.persistent import pick_small  # noqa: E402


class Mixed(nn.Module):
    """What the other models have not: products of activations, all kinds of sums."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, groups=2)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.norm = nn.RMSNorm(5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.pool(self.conv(x))
        z = torch.matmul(x, x.transpose(-1, -2) * 0.1)
        return y, self.norm(x).var(-1), z.argmax(dim=-1), x.amax(dim=1), x.max(dim=-1).values


def memory(lowered: Lowered, symbols: Mapping[str, int], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    flats = []
    for buffer in lowered.buffers:
        n, kind = value(buffer.elements, symbols), numpy_dtype(buffer.dtype)
        if kind.kind == "f":
            flats.append(fenced(rng.standard_normal(n).astype(kind)))
        else:
            flats.append(fenced(rng.integers(0, 2 if kind.kind == "b" else 5, n).astype(kind)))
    return flats


def touched(
    laid: Laid, accesses: tuple[Access, ...], tile: int, *, writes: bool
) -> dict[int, np.ndarray]:
    """Give the elements of each buffer that a tile touches."""
    numbers = np.arange(len(laid.tiles)).reshape(laid.shape)[0]
    found: dict[int, list[np.ndarray]] = {}
    for access in accesses:
        if access.writes != writes or not access.addresses.size:
            continue
        where, who = np.broadcast_arrays(access.addresses, groups_of(laid, access))
        mine = [g for g in np.unique(who) if tile in numbers[group_at(laid, int(g))]]
        slot = slot_of(int(where.flat[0]))
        places = where[np.isin(who, mine)] - (slot << SLOT_BITS)
        found.setdefault(slot, []).append(places // access.size_bytes)
    return {slot: np.unique(np.concatenate(parts)) for slot, parts in found.items()}


def run_tile(laid: Laid, tile: int, flats: list[np.ndarray]) -> None:
    words = laid.words[0].copy()
    places = np.flatnonzero(laid.addresses)
    for place in places:
        slot = slot_of(int(words[place]))
        words[place] += flats[slot].ctypes.data - (slot << SLOT_BITS)
    arrays = (words, laid.tiles[tile].copy(), np.ones(1, np.int32), np.zeros(1, np.int32))
    kernel = laid.special.kernel
    function: Any = getattr(import_module(kernel.module), kernel.function)
    with np.errstate(all="ignore"), warnings.catch_warnings(), patched_once_a_module():
        warnings.simplefilter("ignore", RuntimeWarning)
        function[(1,)](*map(torch.from_numpy, arrays), **dict(laid.special.constants))


def check_tile(lowered: Lowered, symbols: Mapping[str, int], laid: Laid, tile: int) -> None:
    assert laid.accesses is not None
    reads = touched(laid, laid.accesses[0], tile, writes=False)
    writes = touched(laid, laid.accesses[0], tile, writes=True)
    flats, others = memory(lowered, symbols, 1), memory(lowered, symbols, 2)
    for slot, buffer in enumerate(lowered.buffers):
        if buffer.kind is BufferKind.WEIGHT:
            others[slot][:] = flats[slot]
        elif slot in reads:
            others[slot][reads[slot]] = flats[slot][reads[slot]]
    before = [other.copy() for other in others]
    run_tile(laid, tile, flats)
    run_tile(laid, tile, others)
    for slot, other in enumerate(others):
        places = writes.get(slot, np.zeros(0, np.int64))
        assert other[places].tobytes() == flats[slot][places].tobytes(), "reads something else"
        other[places] = before[slot][places]
        assert other.tobytes() == before[slot].tobytes(), "writes something else"


def check_all(lowered: Lowered, symbols: Mapping[str, int]) -> set[str]:
    rng = np.random.default_rng(3)
    seen = set()
    for laid in lay(lowered, symbols, 1, pick_small):
        if laid.accesses is None:
            continue
        function = laid.special.kernel.function
        for tile in rng.permutation(len(laid.tiles))[:2].tolist():
            check_tile(lowered, symbols, laid, tile)
            seen.add(function)
    return seen


def test_tiles_of_models_touch_what_is_said() -> None:
    seen = check_all(PIXELS.build().lowered, {}) | check_all(ENCODER.build().lowered, {})
    model = HEAD.build()
    seen |= check_all(model.lowered, model.symbols(21))
    assert seen >= {"conv", "depthwise", "pool", "norm", "gather", "gemm", "attention", "softmax"}


def test_tiles_of_sums_and_products_touch_what_is_said() -> None:
    made = lowered_module(Mixed().eval(), torch.randn(3, 2, 7, 5), n_outputs=5)
    assert check_all(made.lowered, {}) >= {"matmul", "reduce", "conv", "pool", "norm", "pointwise"}


def test_stages_that_run_through_time_tell_nothing() -> None:
    laid = lay(RECURRENT.build().lowered, {}, 1, pick_small)
    quiet = {one.special.kernel.function for one in laid if one.accesses is None}
    assert quiet == {"rnn"}


def test_instances_with_equal_weights_are_rows_of_one_table_or_several() -> None:
    model = HEAD.build()
    one, three = (lay(model.lowered, model.symbols(5), n, pick_small) for n in (1, 3))
    for alone, together in zip(one, three, strict=True):
        assert alone.shape[0] == 1
        assert together.shape[0] in (1, 3)
        assert together.flops == 3 * alone.flops


def test_a_stage_without_a_kernel_is_told() -> None:
    model = HEAD.build()
    with pytest.raises(UnsupportedError, match=r"stage 0 \(gemm\) has no kernel"):
        lay(model.lowered, model.symbols(5), 1, lambda spelled: None)


def test_who_writes_a_buffer_again_waits_for_all_that_used_it() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
    lowered = lowered_module(model.eval(), torch.randn(40, 16)).lowered
    first, third = (lowered.stages[n].writes[0].slot for n in (0, 2))

    def again(view: View) -> View:
        return replace(view, slot=first) if view.slot == third else view

    def moved(stage: Stage) -> Stage:
        point = stage.point
        if point is not None:
            operands = tuple(None if v is None else again(v) for v in point.operands)
            point = replace(point, operands=operands)
        reads, writes = (tuple(map(again, views)) for views in (stage.reads, stage.writes))
        return replace(stage, reads=reads, writes=writes, point=point)

    twice = replace(lowered, stages=tuple(map(moved, lowered.stages)))
    laid = lay(twice, {}, 1, pick_small)
    plain = needs_of(lowered, {}, 1, lay(lowered, {}, 1, pick_small))
    needs = needs_of(twice, {}, 1, laid)
    assert plain[2].keys() == {1}
    assert not plain[2][1].all()
    assert needs[2].keys() == {0, 1}
    assert needs[2][0].all()
    assert needs[2][1].all()
    assert needs[3].keys() == plain[3].keys() == {2}
