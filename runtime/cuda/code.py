"""A template's stages for a card: kernels, words of tables, all but who runs.

TemplateOnCard   once per template: each stage spelled for its kernel, or for the host
StagesOnCard     and extents: words as integers, and which of them are addresses
"""

from collections.abc import Mapping

import numpy as np

from fusec.ir.errors import UnsupportedError
from fusec.ir.extents import value
from fusec.ir.frozen import dataclass
from fusec.ir.stage import Lowered, Stage, TileOp
from fusec.kernels.grouped.stage import Address, Constants, Grouped
from fusec.kernels.triton_table import Special, grouped, specials
from fusec.runtime.tile.bind import Binding
from fusec.runtime.tile.bounds import check_bounds
from fusec.runtime.tile.code import TemplateCode

__all__ = ["KernelKey", "StageOnCard", "StagesOnCard", "TemplateOnCard", "Words"]

KernelKey = tuple[str, Constants]
"""What a stage fixes of its kernel: stages of equal keys are one launch, whoever's they are."""


@dataclass(frozen=True, slots=True, eq=False)
class StageOnCard:
    """A stage, spelled."""

    stage: Stage
    weights: tuple[int, ...]
    """Numbers of the template's weights that it reads."""
    spelled: Grouped | None
    """None: it has no kernel and runs on the host."""
    kernels: tuple[Special, ...]
    """Its configurations, the preferred one first."""

    @property
    def key(self) -> KernelKey | None:
        """What it fixes of its kernel; None on the host."""
        return None if self.spelled is None else (self.spelled.kernel, self.spelled.constants)


class TemplateOnCard:
    """What is the same for all extents."""

    def __init__(self, lowered: Lowered, arch: int) -> None:
        """Spell all stages.

        Args:
            lowered: the template's stages.
            arch: that kernels are compiled for, such as 90.
        """
        self.code = TemplateCode(lowered)
        number = {slot: i for i, slot in enumerate(lowered.weights)}
        self.stages = tuple(
            _spelled(stage, lowered, tuple(number[slot] for slot in slots), arch)
            for stage, slots in zip(lowered.stages, self.code.weights, strict=True)
        )

        firsts = [len(self.stages)] * len(lowered.weights)
        for at, stage in reversed(list(enumerate(self.stages))):
            for weight in stage.weights:
                firsts[weight] = at
        self.first_reads = tuple(firsts)
        """Of each weight, the first stage that reads it."""

    @property
    def lowered(self) -> Lowered:
        """The stages and buffers."""
        return self.code.lowered


def _spelled(stage: Stage, lowered: Lowered, weights: tuple[int, ...], arch: int) -> StageOnCard:
    spelled = None
    if stage.op is not TileOp.EXTERN:
        try:
            spelled = grouped(stage, lowered.buffers)
        except UnsupportedError:
            spelled = None
    kernels = () if spelled is None else specials(spelled, arch)
    return StageOnCard(stage, weights, spelled, kernels)


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """A stage's row of a table for some extents."""

    values: np.ndarray
    """Of every word, int64; of an address, what is added to its buffer's."""
    slots: np.ndarray
    """Which buffer's address each of `places` wants."""
    places: np.ndarray
    """Numbers of the words that are addresses."""
    rows: int
    columns: int
    layers: int
    joins: int
    """Number of the word that counts rows where instances lie as one, or -1."""


class StagesOnCard:
    """A template's stages for one set of extents."""

    def __init__(self, template: TemplateOnCard, symbols: Mapping[str, int]) -> None:
        """Bind.

        Args:
            template: its stages.
            symbols: value of every symbol.

        Raises:
            VerifyError: a stage would reach outside its buffers.
        """
        check_bounds(template.lowered, symbols)
        self.template = template
        self.binding = Binding(template.code, symbols)
        self.words = tuple(
            None if stage.spelled is None else _words(stage.spelled, symbols)
            for stage in template.stages
        )


def _words(spelled: Grouped, symbols: Mapping[str, int]) -> Words:
    values, slots, places = [], [], []
    for place, word in enumerate(spelled.words):
        if isinstance(word, Address):
            values.append(value(word.offset_bytes, symbols))
            slots.append(word.slot)
            places.append(place)
        else:
            values.append(value(word, symbols))
    return Words(
        values=np.array(values, dtype=np.int64),
        slots=np.array(slots, dtype=np.int64),
        places=np.array(places, dtype=np.int64),
        rows=value(spelled.rows, symbols),
        columns=value(spelled.columns, symbols),
        layers=value(spelled.layers, symbols),
        joins=spelled.joins,
    )
