"""Checksums of the weights' bytes, taken as fast as memory is read.

A section of 4 MiB is a table of 64-bit words, 512 in a row, little-endian:

    w w w ... w    sum of the row
    w w w ... w    sum of the row
    ...
    sums of the columns

The sums, modulo 2^64, are hashed, and with them a last part that fills no row. Whatever changes
within one row or one column only is seen for certain; other damage gets through only if all its
differences cancel in each row and in each column at once, as those of lost or mixed-up blocks and
flipped bits do not. It is no proof against somebody who makes a file on purpose, who could seal
anything anyway.

SHA-256 of everything would take most of a plan's start: 1.6 GB/s where this does 7.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from threading import Thread

import numpy as np

__all__ = ["SECTION_BYTES", "differing", "section_sums"]

_ROW_WORDS = 512
_ROW_BYTES = 8 * _ROW_WORDS
"""A page: what is lost or mixed up together."""
_BLOCK_ROWS = 64
"""Rows that stay in the fastest caches between their two sums."""
SECTION_BYTES = 1024 * _ROW_BYTES
"""What has a checksum of its own."""


def section_sums(pieces: Iterable[memoryview | bytes]) -> list[str]:
    """Give the checksum of each section of some bytes that come in pieces.

    Cost: a copy, and 0.15 ns a byte.
    """
    return [_sum(section) for section in _sections(pieces)]


def differing(data: memoryview, sums: Sequence[object], threads: int) -> list[int]:
    """Give the numbers of the sections of `data` that do not have these checksums.

    Args:
        data: all the bytes.
        sums: as many as there are sections.
        threads: to use; sums leave the interpreter free.
    """
    found: list[int] = []

    def check(first: int) -> None:
        for number in range(first, len(sums), threads):
            start = number * SECTION_BYTES
            if _sum(data[start : start + SECTION_BYTES]) != sums[number]:
                found.append(number)

    # A pool of concurrent.futures costs more to import than a small plan to check.
    others = [Thread(target=check, args=(i,)) for i in range(1, threads)]
    for thread in others:
        thread.start()
    check(0)
    for thread in others:
        thread.join()
    return sorted(found)


def _sum(section: memoryview | bytearray) -> str:
    whole = len(section) // _ROW_BYTES
    rows = np.frombuffer(section, dtype="<u8", count=whole * _ROW_WORDS).reshape(-1, _ROW_WORDS)
    columns = np.zeros(_ROW_WORDS, dtype="<u8")
    digest = hashlib.blake2b(len(section).to_bytes(8, "little"), digest_size=16)
    for start in range(0, whole, _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        digest.update(block.sum(axis=1, dtype="<u8").data)
        columns += block.sum(axis=0, dtype="<u8")
    # Less than a page: hashed as it is.
    digest.update(section[whole * _ROW_BYTES :])
    digest.update(columns.data)
    return digest.hexdigest()


def _sections(pieces: Iterable[memoryview | bytes]) -> Iterator[bytearray]:
    section = bytearray()
    for piece in pieces:
        rest = memoryview(piece)
        while len(rest):
            room = SECTION_BYTES - len(section)
            section += rest[:room]
            rest = rest[room:]
            if len(section) == SECTION_BYTES:
                yield section
                section = bytearray()
    if section:
        yield section
