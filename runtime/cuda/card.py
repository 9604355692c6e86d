"""A card with all that runs share: kernels, weights, lanes."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from fusec.ir.device import DeviceCode
from fusec.kernels.cuda.compile import compile_jobs
from fusec.runtime.cuda.context import Context, open_context
from fusec.runtime.cuda.green import Share, shares_of
from fusec.runtime.cuda.kernels import Build, KernelStore, arch_of
from fusec.runtime.cuda.lane import Lane, Lanes
from fusec.runtime.cuda.library import Driver
from fusec.runtime.cuda.memory import DeviceMemory
from fusec.runtime.cuda.recording import Recordings
from fusec.runtime.cuda.settings import Counters, CudaSettings, CudaStats
from fusec.runtime.cuda.stream import Stream
from fusec.runtime.cuda.weights import WeightStore

__all__ = ["Card", "open_card"]

_WEIGHTS_SHARE = 0.8
"""Of what is free, where nobody says how much weights may take."""


class Card:
    """What a plan has on a card; users call `open_card`."""

    def __init__(
        self,
        context: Context,
        settings: CudaSettings,
        kernels: KernelStore,
        counters: Counters,
    ) -> None:
        """Make streams and lanes.

        Args:
            context: of the card.
            settings: checked.
            kernels: of the plan.
            counters: of all of it.
        """
        self.context, self.settings, self.kernels = context, settings, kernels
        self.counters = counters
        budget = settings.memory_budget
        if budget is None:
            budget = int(context.free_memory_bytes() * _WEIGHTS_SHARE)
        self.multiprocessors = context.properties.multiprocessors
        with ExitStack() as undo:
            self._copies = Stream(context)
            undo.callback(self._copies.close)
            self.weights = WeightStore(self._copies, budget, counters)
            shares = shares_of(context, settings.lanes) if settings.green else ()
            for share in shares:
                undo.callback(share.close)
            made = []
            for index, urgency in enumerate(settings.urgencies or (0,) * settings.lanes):
                made.append(self._lane(index, urgency, shares[index] if shares else None))
                undo.callback(made[-1].close)
            undo.pop_all()
        self._shares = shares
        self.lanes = Lanes(made)

    def stats(self) -> CudaStats:
        """Give what was counted by now."""
        return self.counters.stats(
            graphs=self.lanes.graphs, resident_bytes=self.weights.resident_bytes
        )

    def close(self) -> None:
        """Wait for what runs, and give everything back; once."""
        self.lanes.close()
        for share in self._shares:
            share.close()
        self.weights.close()
        self._copies.close()
        self.kernels.close()
        self.context.close()

    def _lane(self, index: int, urgency: int, share: Share | None) -> Lane:
        handle, own = (None, self.multiprocessors)
        if share is not None:
            handle, own = share.handle, share.multiprocessors
        stream = Stream(self.context, urgency=urgency, share=handle)
        try:
            return Lane(index, stream, partial(self._recordings, own))
        except BaseException:
            stream.close()
            raise

    def _recordings(self, multiprocessors: int, stream: Stream, status: DeviceMemory) -> Recordings:
        return Recordings(
            *(stream, status, self.kernels, self.counters),
            multiprocessors=multiprocessors,
            most=self.settings.most_graphs,
            overlapping=self.settings.overlapping,
        )


def open_card(
    driver: Driver,
    settings: CudaSettings,
    codes: Callable[[], Sequence[DeviceCode]],
    build: Build = compile_jobs,
) -> Card:
    """Open a card for a plan.

    Args:
        driver: of this machine.
        settings: how the plan runs.
        codes: gives the plan's device code.
        build: compiles what it lacks.

    Raises:
        ConfigError: there is no such card. UnsupportedError: there are no kernels for it.
        KernelError: the driver refuses.
    """
    context = open_context(driver, settings.card)
    try:
        arch = arch_of(context.properties.capability, [code.target for code in codes()])
        counters = Counters()
        kernels = KernelStore(
            context, arch, codes, build, lambda count: counters.add("compiles", count)
        )
        return Card(context, settings, kernels, counters)
    except BaseException:
        context.close()
        raise
