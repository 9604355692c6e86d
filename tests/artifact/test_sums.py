"""Checksums of sections: the same however bytes come, another after any damage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusec.artifact.sums import SECTION_BYTES, differing, section_sums

PAGE = 4096


@pytest.fixture(scope="module")
def data() -> bytes:
    """Give two sections and a bit, not a multiple of eight."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, 2 * SECTION_BYTES + 5 * PAGE + 13, dtype=np.uint8).tobytes()


def found(data: bytes, sums: list[str], threads: int = 2) -> list[int]:
    """Give the sections that differ."""
    return differing(memoryview(data), sums, threads)


@pytest.mark.parametrize("size", [0, 1, 7, 8, PAGE - 1, PAGE, PAGE + 1, SECTION_BYTES])
def test_every_size_has_sums_that_hold(data: bytes, size: int) -> None:
    sums = section_sums([data[:size]])
    assert len(sums) == -(-size // SECTION_BYTES)
    for threads in (1, 2, 5):
        assert found(data[:size], sums, threads) == []


@given(st.lists(st.integers(0, SECTION_BYTES // 2), max_size=8))
def test_pieces_do_not_matter(sizes: list[int]) -> None:
    data = np.arange(SECTION_BYTES // 2, dtype=np.uint32).view(np.uint8).tobytes()
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    assert section_sums([*pieces, b"", data[at:]]) == section_sums([data])


def flipped(data: bytearray, section: int) -> None:
    data[section * SECTION_BYTES + 12_345] ^= 64


def last_bit(data: bytearray, section: int) -> None:
    end = min((section + 1) * SECTION_BYTES, len(data))
    data[end - 1] ^= 1


def signs_of_a_row(data: bytearray, section: int) -> None:
    for word in (3, 9):
        data[section * SECTION_BYTES + 8 * word + 7] ^= 128


def signs_of_a_column(data: bytearray, section: int) -> None:
    for row in (0, 4):
        data[section * SECTION_BYTES + PAGE * row + 7] ^= 128


def pages_swapped(data: bytearray, section: int) -> None:
    at = section * SECTION_BYTES
    one, two = slice(at, at + PAGE), slice(at + 3 * PAGE, at + 4 * PAGE)
    data[one], data[two] = data[two], data[one]


def lines_swapped(data: bytearray, section: int) -> None:
    at = section * SECTION_BYTES
    one, two = slice(at, at + 64), slice(at + 640, at + 704)
    data[one], data[two] = data[two], data[one]


def page_lost(data: bytearray, section: int) -> None:
    at = section * SECTION_BYTES
    data[at + PAGE : at + 2 * PAGE] = bytes(PAGE)


def moved_by_one(data: bytearray, section: int) -> None:
    at = section * SECTION_BYTES
    data[at + 1 : at + 2 * PAGE] = data[at : at + 2 * PAGE - 1]


@pytest.mark.parametrize("section", [0, 1, 2])
@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        last_bit,
        signs_of_a_row,
        signs_of_a_column,
        pages_swapped,
        lines_swapped,
        page_lost,
        moved_by_one,
    ],
)
def test_damage_is_seen_where_it_is(
    data: bytes, damage: Callable[[bytearray, int], None], section: int
) -> None:
    sums = section_sums([data])
    damaged = bytearray(data)
    damage(damaged, section)
    assert found(bytes(damaged), sums) == [section]


@given(st.integers(0, 3 * PAGE + 4), st.binary(min_size=1, max_size=300))
def test_whatever_is_written_over_is_seen(at: int, over: bytes) -> None:
    data = np.arange(3 * PAGE + 5, dtype=np.uint32).astype(np.uint8).tobytes()
    damaged = (data[:at] + over + data[at + len(over) :])[: len(data)]
    assert (found(damaged, section_sums([data])) == []) == (damaged == data)


def test_sections_swapped_are_seen(data: bytes) -> None:
    swapped = data[SECTION_BYTES : 2 * SECTION_BYTES] + data[:SECTION_BYTES]
    assert found(swapped, section_sums([data])[:2]) == [0, 1]


def test_sums_of_another_type_do_not_hold(data: bytes) -> None:
    assert found(data, [None, 3, section_sums([data])[2]]) == [0, 1]  # type: ignore[list-item]
