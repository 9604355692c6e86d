"""Cuts inside stages, where stages are too long for even blocks: each counts as several parts.

stages    2045         143  2042            part_ns 1000: the middle one is not worth a cut
parts     1023  1022   143  1021  1021
cuts          a      b    c     d           b, c between stages; a, d inside
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from fusec.ir.errors import VerifyError
from fusec.ir.split import Split
from fusec.passes.split.even import Cuts

__all__ = ["Parted", "in_stages", "parted"]

_MOST_PARTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """Stages cut into parts, as `even_split` takes them, and how to get back."""

    part_ns: tuple[int, ...]
    """Cost of each part."""
    cut_ns: tuple[int | None, ...]
    """Of each cut between two parts."""
    parts: tuple[int, ...]
    """How many each stage has."""


def parted(
    stage_ns: Sequence[int],
    cut_ns: Cuts,
    inside_ns: Cuts,
    part_ns: int,
    *,
    most: Sequence[int] | None = None,
) -> Parted:
    """Cut stages into parts of equal cost.

    Args:
        stage_ns: of each stage.
        cut_ns: of each cut between stages i and i + 1, None where it is forbidden.
        inside_ns: of a cut inside each stage, None where it is forbidden.
        part_ns: what a part costs at most, as far as there can be so many.
        most: parts that each stage can be cut into; None is 64.

    Raises:
        VerifyError: the lengths do not fit.
    """
    if len(cut_ns) != len(stage_ns) - 1 or len(inside_ns) != len(stage_ns) or part_ns < 1:
        raise VerifyError(
            f"{len(stage_ns)} stages with {len(cut_ns)} cuts between and {len(inside_ns)} inside, "
            f"in parts of {part_ns} ns"
        )
    counts, parts, cuts = [], [], []
    limits = (_MOST_PARTS,) * len(stage_ns) if most is None else most
    for cost, between, inside, limit in zip(
        stage_ns, (*cut_ns, None), inside_ns, limits, strict=True
    ):
        n = 1 if inside is None else max(1, min(limit, -(-cost // part_ns)))
        counts.append(n)
        parts += [cost * (i + 1) // n - cost * i // n for i in range(n)]
        cuts += [inside] * (n - 1) + [between]
    return Parted(part_ns=tuple(parts), cut_ns=tuple(cuts[:-1]), parts=tuple(counts))


def in_stages(split: Split, parts: Sequence[int]) -> Split:
    """Read a split of parts as one of stages.

    Args:
        split: of `Parted.part_ns`.
        parts: how many each stage has.
    """
    before = list(accumulate(parts, initial=0))
    places = {}
    for stage, (start, n) in enumerate(zip(before[:-1], parts, strict=True)):
        places.update({start + part: (stage, part) for part in range(n)})
    places[before[-1]] = (len(parts), 0)
    blocks = []
    for block in split.blocks:
        first, stop = places[block.first_stage], places[block.stop_stage]
        blocks.append(
            replace(
                block,
                first_stage=first[0],
                first_part=first[1],
                stop_stage=stop[0],
                stop_part=stop[1],
            )
        )
    return Split(blocks=tuple(blocks), parts=tuple(parts), note=split.note)
