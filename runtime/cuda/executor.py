"""The executor for cards: requests in, answers out, one launch per stage for any mix.

An instance list is planned once: its requests by class, the launches of all classes in one order,
where buffers are. Running it again enters addresses only where something moved.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from fusec.ir.device import DeviceCode
from fusec.ir.stage import Lowered
from fusec.ir.template import Template
from fusec.kernels.cuda.compile import compile_jobs
from fusec.runtime.cache import LockedCache
from fusec.runtime.cuda.card import Card, open_card
from fusec.runtime.cuda.code import KernelKey, StageOnCard, StagesOnCard, TemplateOnCard
from fusec.runtime.cuda.flight import Flight
from fusec.runtime.cuda.kernels import Build
from fusec.runtime.cuda.library import Driver, load_driver
from fusec.runtime.cuda.listed import Listed
from fusec.runtime.cuda.merge import Step
from fusec.runtime.cuda.program import program_of, steps_of
from fusec.runtime.cuda.settings import CudaSettings, CudaStats
from fusec.runtime.request import Choice
from fusec.runtime.tile.executor import Wanted
from fusec.runtime.tile.externs import RunExtern
from fusec.runtime.tile.layout import Part, arrange

__all__ = ["CudaExecutor", "Prepared"]

Answers = list[tuple[np.ndarray, ...]]


class Prepared:
    """An instance list that was planned. Safe from many threads."""

    def __init__(
        self, card: Card, listed: Listed, run_extern: RunExtern, again: "Callable[[], Prepared]"
    ) -> None:
        """Keep what a run needs; users call `CudaExecutor.prepare`."""
        self._card, self._listed, self._run_extern = card, listed, run_extern
        self._again = again

    def run(
        self, inputs: Sequence[Sequence[np.ndarray]], addresses: np.ndarray | None = None
    ) -> Answers:
        """Answer every request.

        Args:
            inputs: of each request, C-contiguous, dtypes and shapes as prepared for.
            addresses: not needed.

        Raises:
            OutOfDeviceMemory: the card has not enough memory.
            KernelError: the driver fails, or a kernel finds bad data.
        """
        del addresses
        return self.start(inputs).answers()

    def start(self, inputs: Sequence[Sequence[np.ndarray]], *, lane: int | None = None) -> Flight:
        """Enqueue a run, and come back; the inputs are read before. Waits while no lane is free.

        Args:
            inputs: as for `run`.
            lane: to run in; None takes any.

        Raises:
            ConfigError: there is no such lane.
            KernelError: as `run`.
        """
        if self._card.lanes.closed:
            return self._again().start(inputs, lane=lane)
        lent = self._card.lanes.take(lane)
        return Flight(self._card, self._listed, lent, inputs, self._run_extern)


class CudaExecutor:
    """Runs instances of any templates on one card, opened when it is first needed."""

    def __init__(
        self,
        lowered: Callable[[Template], Lowered],
        run_extern: RunExtern,
        settings: CudaSettings,
        codes: Callable[[], Sequence[DeviceCode]],
        *,
        driver: Callable[[], Driver] | None = None,
        build: Build | None = None,
    ) -> None:
        """Make an executor.

        Args:
            lowered: template -> stages; injected, since the runtime does not know the passes.
            run_extern: runs what has no kernel.
            settings: how.
            codes: gives the plan's device code.
            driver: gives the driver; None is this machine's.
            build: compiles kernels that the plan has no code of; None asks Triton.

        Raises:
            ConfigError: settings make no sense.
        """
        settings.check()
        self._lowered, self._run_extern, self._settings = lowered, run_extern, settings
        self._codes = codes
        self._driver, self._build = driver or load_driver, build or compile_jobs
        self._opened: Card | None = None
        self._lock = threading.Lock()
        self._templates: LockedCache[TemplateOnCard] = LockedCache(limit=None)
        self._stages: LockedCache[StagesOnCard] = LockedCache(limit=128)
        self._steps: LockedCache[tuple[Step, ...]] = LockedCache(limit=128)
        self._prepared: LockedCache[Prepared] = LockedCache(limit=64)
        self._kinds: dict[tuple[KernelKey, ...], int] = {}

    def open(self) -> Card:
        """Open the card, unless it is.

        Raises:
            UnsupportedError: there is no driver, no card, or none that there are kernels for.
            ConfigError: there is no card of this number. KernelError: the driver refuses.
        """
        with self._lock:
            if self._opened is None:
                self._opened = open_card(self._driver(), self._settings, self._codes, self._build)
            return self._opened

    def warm(self, templates: Iterable[Template]) -> None:
        """Open the card and have the kernels of templates there.

        Raises:
            UnsupportedError: see `open`; or there is neither code nor a compiler.
        """
        card = self.open()
        for template in templates:
            self._template(card, template)

    def prepare(self, wanted: Sequence[Wanted]) -> Prepared:
        """Plan an instance list, or find that it was planned before.

        Raises:
            UnsupportedError: see `open`; or there is neither code nor a compiler.
        """
        card = self.open()
        key = tuple((w.choice, w.rows, tuple(w.extents.items())) for w in wanted)
        return self._prepared.get(key, partial(self._plan, card, wanted))

    def forget(self, choices: Sequence[Choice]) -> None:
        """Drop what was planned for members that are gone; their weights leave at the next run."""
        gone = set(map(id, choices))
        self._prepared.drop(
            lambda key: isinstance(key, tuple) and any(id(entry[0]) in gone for entry in key)
        )

    def stats(self) -> CudaStats:
        """Give what was counted since the card was opened."""
        return self.open().stats()

    def close(self) -> None:
        """Wait for what runs and give the card back; the next run opens it again."""
        with self._lock:
            card, self._opened = self._opened, None
            # All of these know the card's kernels.
            for cache in (self._prepared, self._steps, self._stages, self._templates):
                cache.drop(lambda _: True)
        if card is not None:
            card.close()

    def _plan(self, card: Card, wanted: Sequence[Wanted]) -> Prepared:
        own = [self._bound(card, w.choice.template, w.extents) for w in wanted]
        numbers = card.weights.numbers(
            [(w.choice, stages.template.first_reads) for w, stages in zip(wanted, own, strict=True)]
        )
        arranged = arrange(
            [
                Part(stages.binding, own_numbers, 1 if w.rows is None else w.rows)
                for w, stages, own_numbers in zip(wanted, own, numbers, strict=True)
            ]
        )
        stages = [own[parts[0]] for parts in arranged.parts]

        def on_host(stage: StageOnCard) -> bool:
            return not any(card.kernels.of(special) for special in stage.kernels)

        steps = self._steps.get(
            tuple(s.template for s in stages), lambda: steps_of(stages, on_host)
        )
        program = program_of(arranged.classes, stages, on_host, steps, self._kind)
        return Prepared(
            card,
            Listed(wanted, arranged, program, numbers, card.weights),
            self._run_extern,
            partial(self.prepare, wanted),
        )

    def _bound(self, card: Card, template: Template, extents: Mapping[str, int]) -> StagesOnCard:
        on_card = self._template(card, template)
        key = (template.key, tuple(extents.items()))
        return self._stages.get(key, lambda: StagesOnCard(on_card, extents))

    def _template(self, card: Card, template: Template) -> TemplateOnCard:
        return self._templates.get(template.key, lambda: self._on_card(card, template))

    def _on_card(self, card: Card, template: Template) -> TemplateOnCard:
        made = TemplateOnCard(self._lowered(template), card.kernels.card.arch)
        card.kernels.ready(stage.kernels for stage in made.stages)
        return made

    def _kind(self, keys: tuple[KernelKey, ...]) -> int:
        with self._lock:
            return self._kinds.setdefault(keys, len(self._kinds))
