"""Policies between stages: what is waited for, what it costs, what is chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.persistent_models import ENCODER, HEAD, PIXELS
from hypothesis import given
from hypothesis import strategies as st

from fusec.kernels.configs import Config
from fusec.kernels.grouped.stage import Grouped
from fusec.kernels.persistent.branches import branch_of
from fusec.kernels.triton_table import Special
from fusec.runtime.persistent.cost import RATES, StageCost, cheapest, choose, idle_ns
from fusec.runtime.persistent.estimate import estimate
from fusec.runtime.persistent.plan import Plan, Settings, plan
from fusec.runtime.persistent.policy import POLICIES, Policy, counters_of, waited, waited_part

ALL = (Policy.NONE, Policy.ROW, Policy.TILE)
BLOCKS = {"BLOCK_M": 8, "BLOCK_N": 16, "BLOCK_K": 16, "BLOCK_R": 32}


def small(spelled: Grouped) -> Special | None:
    special = branch_of(spelled, 90)
    if special is None:
        return None
    blocks = tuple((name, BLOCKS.get(name, size)) for name, size in special.config.blocks)
    return replace(special, config=Config(blocks=blocks, warps=4))


def settings(*policies: Policy, copies: int = 1) -> Settings:
    return Settings(rates=RATES[90], programs=8, copies=copies, policies=policies or ALL)


def head(*policies: Policy, rows: int = 40, copies: int = 1) -> Plan:
    model = HEAD.build()
    return plan(model.lowered, model.symbols(rows), 1, small, settings(*policies, copies=copies))


shapes = st.tuples(*[st.integers(1, 3)] * 4)


@given(shapes, st.sampled_from(ALL), st.data())
def test_every_tile_that_is_needed_is_waited_for(
    shape: tuple[int, int, int, int], policy: Policy, data: st.DataObject
) -> None:
    counters = counters_of(policy, shape)
    assert sorted(set(counters.tolist())) == list(range(int(counters.max()) + 1))
    tiles = int(np.prod(shape))
    rows = data.draw(st.lists(st.lists(st.booleans(), min_size=tiles, max_size=tiles), max_size=4))
    need = np.array(rows, np.bool_).reshape(-1, tiles)
    waits = waited(need, counters)
    assert waits.shape == (len(need), int(counters.max()) + 1)
    for tile in range(len(need)):
        assert set(np.flatnonzero(waits[tile])) == set(counters[need[tile]].tolist())
    part = waited_part(waits, np.bincount(counters))
    assert (need.mean() if len(need) else 0.0) <= part + 1e-9 <= 1.0 + 1e-6


def test_coarser_policies_come_first_and_none_is_one_counter() -> None:
    shape = (2, 3, 4, 5)
    counts = [int(counters_of(policy, shape).max()) + 1 for policy in POLICIES]
    assert counts == [1, 2 * 5, 2 * 3 * 4 * 5]
    np.testing.assert_array_equal(counters_of(Policy.WINDOW, shape), counters_of(Policy.ROW, shape))


def band(tiles: int) -> np.ndarray:
    return np.eye(tiles, dtype=np.bool_)


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 5),
    st.floats(1.0, 1e6),
    st.integers(1, 40),
)
def test_what_is_chosen_never_costs_more_than_none(
    rows: int, programs: int, copies: int, tile_ns: float, columns: int
) -> None:
    shape = (1, 1, columns, rows)
    tiles = rows * columns
    stage = StageCost(tiles=tiles, tile_ns=tile_ns)
    reader = StageCost(tiles=rows, tile_ns=tile_ns)
    need = np.tile(band(rows), (1, columns))
    common = {"copies": copies, "programs": programs, "rates": RATES[90]}
    none = cheapest(shape, stage, [(reader, need)], allowed=(Policy.NONE,), **common)  # type: ignore[arg-type]
    best = cheapest(shape, stage, [(reader, need)], allowed=ALL, **common)  # type: ignore[arg-type]
    assert none[0] is Policy.NONE
    assert best[1] <= none[1]


def test_a_last_wave_that_is_nearly_empty_is_worth_finer_waits() -> None:
    # 9 tiles of 8 programs: 7 of them have nothing to do for the time of a tile.
    rows = StageCost(tiles=9, tile_ns=50_000.0)
    common = {"programs": 8, "rates": RATES[90], "allowed": ALL}
    chosen, _ = cheapest((1, 1, 1, 9), rows, [(rows, band(9))], copies=1, **common)  # type: ignore[arg-type]
    assert chosen is Policy.ROW
    # With full waves, or the tiles of others to run meanwhile, nothing is to be gained.
    full = StageCost(tiles=8, tile_ns=50_000.0)
    chosen, _ = cheapest((1, 1, 1, 8), full, [(full, band(8))], copies=1, **common)  # type: ignore[arg-type]
    assert chosen is Policy.NONE
    chosen, _ = cheapest((1, 1, 1, 9), rows, [(rows, band(9))], copies=2, **common)  # type: ignore[arg-type]
    assert chosen is Policy.NONE
    assert idle_ns(rows, 1, 8) == pytest.approx(0.875 * 50_000)
    few = StageCost(tiles=5, tile_ns=50_000.0)
    assert idle_ns(full, 1, 8) == idle_ns(rows, 2, 8) == idle_ns(few, 1, 8) == 0.0


def test_pairs_of_models_are_named_as_they_are_tied() -> None:
    assert {pair.policy for pair in head(Policy.NONE).pairs} == {Policy.NONE}
    rows = {(p.before, p.after): p for p in head(Policy.ROW).pairs}
    assert rows[0, 1].policy is Policy.ROW
    assert rows[0, 1].part == pytest.approx(1 / 5)
    pixels = plan(PIXELS.build().lowered, {}, 1, small, settings(Policy.ROW))
    assert Policy.WINDOW in {pair.policy for pair in pixels.pairs}
    attention = plan(ENCODER.build().lowered, {}, 1, small, settings(Policy.ROW))
    # Every query reads all keys, so it waits for all blocks of rows.
    (whole,) = [
        p for p in attention.pairs if attention.laid[p.after].special.kernel.function == "attention"
    ]
    assert whole.part == 1.0


def test_what_other_waits_imply_is_not_waited_for_again() -> None:
    # The residual is read by the second product, whose own input came from it.
    needed = head(Policy.NONE)
    assert [(p.before, p.after) for p in needed.pairs] == [(0, 1), (1, 2)]
    encoder = plan(ENCODER.build().lowered, {}, 1, small, settings(Policy.NONE))
    assert any(pair.waits == 0 for pair in encoder.pairs)


def test_buffers_share_memory_only_behind_full_waits() -> None:
    sizes = [head(policy, rows=160).arena_bytes for policy in ALL]
    assert sizes[0] <= sizes[1] <= sizes[2]


def test_many_templates_are_one_kernel_and_full_cards_are_launches() -> None:
    # Each launch would have a few tiles only, one after another.
    mixed = [(head(Policy.NONE, rows=8), 1)]
    mixed += [(plan(r.build().lowered, {}, 1, small, settings()), 1) for r in (PIXELS, ENCODER)]
    found = estimate(mixed, RATES[90], 800)
    assert choose(found.persistent_ns, found.launches_ns).persistent
    # Tiles enough for all programs all the time, and something to do for each task.
    found = estimate([(head(Policy.NONE, rows=99), 500)], RATES[90], 8)
    assert not choose(found.persistent_ns, found.launches_ns).persistent
    found = estimate([], RATES[90], 8)
    assert found.launches_ns == 0.0


def test_what_was_measured_decides() -> None:
    way = choose(10.0, 100.0, measured=(30.0, 29.0))
    assert (way.persistent, way.measured, way.persistent_ns) == (False, True, 30.0)
    assert choose(10.0, 100.0, measured=(28.0, 29.0)).persistent
    assert not choose(99.0, 100.0).persistent
    assert choose(94.0, 100.0).persistent
