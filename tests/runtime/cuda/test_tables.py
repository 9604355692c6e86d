"""Pure parts of runs on a card: orders of stages, sizes of tiles, where buffers and tables are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import fusec
from fusec.kernels.grouped.bind import tiles_over
from fusec.runtime.cuda.choose import Shape, blocks_of, choose
from fusec.runtime.cuda.merge import merged
from fusec.runtime.cuda.places import place
from fusec.runtime.cuda.sheet import Room, Sheet, tile_count
from fusec.runtime.tile.bind import Binding
from fusec.runtime.tile.code import TemplateCode
from fusec.runtime.tile.layout import Class

KEYS = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=8)


@given(st.lists(KEYS, min_size=1, max_size=4))
def test_merged_stages_keep_each_ones_order_and_meet_equals_only(
    sequences: list[list[str | None]],
) -> None:
    steps = merged(sequences)
    for number, keys in enumerate(sequences):
        own = [at for step in steps for who, at in step if who == number]
        assert own == list(range(len(keys)))
    for step in steps:
        assert len({who for who, _ in step}) == len(step)
        found = {sequences[who][at] for who, at in step}
        assert len(found) == 1
        assert len(step) == 1 or found != {None}
    assert len(steps) >= max(map(len, sequences))


@given(KEYS.filter(lambda keys: None not in keys), st.integers(1, 4))
def test_equal_templates_run_as_one(keys: list[str], count: int) -> None:
    assert len(merged([keys] * count)) == len(keys)


EXTENTS = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 200), st.integers(1, 3)), min_size=1, max_size=6
).map(lambda rows: Shape(np.array(rows, dtype=np.int64)))
SIZES: Sequence[tuple[int, int]] = ((64, 64), (16, 64), (32, 32), (128, 64))


@given(EXTENTS, st.integers(1, 132))
def test_a_configuration_is_chosen_and_equals_take_the_first(shape: Shape, card: int) -> None:
    chosen = choose(shape, SIZES, card)
    assert 0 <= chosen < len(SIZES)
    assert choose(shape, [SIZES[chosen]] * 3, card) == 0


def test_few_rows_take_low_tiles_and_many_take_high_ones() -> None:
    few = Shape(np.array([[1, 256, 1]] * 122))
    many = Shape(np.array([[4096, 1024, 1]]))
    assert SIZES[choose(few, SIZES, 132)][0] == 16
    assert SIZES[choose(many, SIZES, 132)] == (128, 64)
    assert blocks_of((("BLOCK_M", 4), ("BLOCK_R", 256))) == (4, 1)


@given(EXTENTS, st.sampled_from(SIZES))
def test_tiles_cover_every_block_once(shape: Shape, size: tuple[int, int]) -> None:
    tiles = tiles_over(shape.blocks(*size))
    assert len(tiles) == tile_count(shape, *size)
    wanted = {
        (row, m, n, layer)
        for row, (high, wide, layers) in enumerate(shape.blocks(*size).tolist())
        for m in range(high)
        for n in range(wide)
        for layer in range(layers)
    }
    assert {tuple(tile) for tile in tiles.tolist()} == wanted
    assert len(tiles) == len(wanted)


ROOMS = st.lists(
    st.builds(
        Room, st.integers(1, 9), st.integers(1, 50), st.integers(1, 40), st.just(16), st.just(16)
    ),
    min_size=1,
    max_size=5,
)


@given(ROOMS)
def test_tables_do_not_overlap_and_are_aligned(rooms: list[Room]) -> None:
    sheet = Sheet(rooms)
    spans = [(at, at + 4) for at in sheet.counts]
    spans += [
        (at, at + room.rows * room.width * 8) for at, room in zip(sheet.tables, rooms, strict=True)
    ]
    spans += [(at, at + room.tiles * 16) for at, room in zip(sheet.tiles, rooms, strict=True)]
    for number, room in enumerate(rooms):
        first, end = sheet.span(number)
        assert first == sheet.tables[number]
        assert sheet.tiles[number] + room.tiles * 16 <= end <= sheet.n_bytes
    spans.sort()
    assert all(at % 16 == 0 for at, _ in spans)
    assert all(end <= at for (_, end), (at, _) in itertools.pairwise(spans))
    assert spans[-1][1] <= sheet.n_bytes


def binding() -> Binding:
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3), nn.Softmax(-1)).eval()
    plan = fusec.compile({"a": model}, examples={"a": torch.zeros(1, 5)})
    registry, stages, _ = plan.inside()
    (template,) = registry.data().templates.values()
    return Binding(TemplateCode(stages.of(template)), {})


BINDING = binding()


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=3))
def test_buffers_that_live_at_a_time_do_not_overlap(counts: list[list[int]]) -> None:
    classes = []
    for own in counts:
        starts = (0, *np.cumsum(own).tolist())
        weights = len(BINDING.code.lowered.weights)
        classes.append(Class(BINDING, starts, np.zeros((len(own) - 1, weights), dtype=bool)))
    places = place(classes)
    lives = {life.slot: (life.first, life.last) for life in BINDING.code.lifetimes}
    spans = []
    for number, cls in enumerate(classes):
        for slot in (*BINDING.code.lowered.inputs, *BINDING.code.lowered.outputs, *lives):
            first = places.offsets[number][:, slot]
            size = int(BINDING.sizes[slot])
            assert places.of(number, slot).start == first[0]
            assert (np.diff(first) == size).all()
            assert first[0] % 64 == 0
            life = lives.get(slot, (0, 99))
            spans.append((int(first[0]), int(first[-1]) + size, life, number))
        weight = BINDING.code.lowered.weights[0]
        assert not places.moving[number][weight]
        assert not places.offsets[number][:, weight].any()
        assert len(first) == cls.instances
    for i, (start, end, life, own) in enumerate(spans):
        assert end <= places.n_bytes
        for other_start, other_end, other_life, other in spans[:i]:
            together = own != other or (life[0] <= other_life[1] and other_life[0] <= life[1])
            assert not together or end <= other_start or other_end <= start
