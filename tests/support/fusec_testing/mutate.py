"""Mutations of bytes by a seed: cuts, repeats, noise and pieces that parsers stumble over."""

import random
from collections.abc import Iterator, Sequence

PIECES = [b"[", b"]", b"{", b"}", b'"', b",", b":", b"null", b"-1", b"1e400", b"NaN", b"9" * 25]


def mutations(
    text: bytes, seed: int, count: int, pieces: Sequence[bytes] = tuple(PIECES)
) -> Iterator[bytes]:
    """Yield so many mutations of a text."""
    draw = random.Random(seed)
    for _ in range(count):
        changed = bytearray(text)
        for _ in range(draw.randint(1, 4)):
            at = draw.randint(0, len(changed))
            match draw.randint(0, 3):
                case 0:
                    changed[at : at + draw.randint(0, 3)] = draw.choice(pieces)
                case 1:
                    changed[at : at + 1] = draw.randbytes(draw.randint(0, 3))
                case 2:
                    del changed[at : at + draw.randint(1, 20)]
                case _:
                    changed[at:at] = changed[at : at + draw.randint(1, 20)]
        yield bytes(changed)
