"""One run on a lane: enqueued as a whole, waited for later.

    inputs -> lane's memory    weights that lack -> copy stream    launches or a graph    outputs ->

Where all weights are there, a segment is one graph launch. While some are on their way its launches
go one by one, each behind the weights of its own stage. Whatever fails, the lane is waited for and
given back, and the weights may leave again.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from fusec.ir.errors import KernelError
from fusec.runtime.cuda.card import Card
from fusec.runtime.cuda.host_stage import run_on_host
from fusec.runtime.cuda.lane import STATUS_BYTES, Lane
from fusec.runtime.cuda.listed import Listed
from fusec.runtime.cuda.memory import DeviceMemory, HostMemory, download, fill, upload
from fusec.runtime.cuda.ports import put_inputs, taken_outputs
from fusec.runtime.cuda.program import HostStage, Segment
from fusec.runtime.cuda.recording import Recording
from fusec.runtime.cuda.sheet import fill_launch, filled
from fusec.runtime.cuda.stream import recorded
from fusec.runtime.cuda.weights import Rolling
from fusec.runtime.tile.call import STATUS_TEXTS
from fusec.runtime.tile.externs import RunExtern

__all__ = ["Flight"]

Answers = list[tuple[np.ndarray, ...]]


class Flight:
    """A run that was enqueued. Safe from many threads.

    It has its lane until somebody asks for the answers, or needs a lane and finds none free.
    """

    def __init__(
        self,
        card: Card,
        listed: Listed,
        lane: Lane,
        inputs: Sequence[Sequence[np.ndarray]],
        run_extern: RunExtern,
    ) -> None:
        """Enqueue a run.

        Args:
            card: that runs.
            listed: who runs.
            lane: lent for this run; it is given back whatever happens.
            inputs: of each request.
            run_extern: runs what PyTorch has to.

        Raises:
            KernelError: the driver refuses, or there is no memory.
        """
        self._card, self._listed, self._lane = card, listed, lane
        self._run_extern = run_extern
        self._landing = threading.Lock()
        self._landed = False
        self._answers: Answers = []
        self._error: BaseException | None = None
        try:
            self._outbox = self._enqueue(inputs)
            self._event = recorded(lane.stream)
        except BaseException:
            lane.recover()
            card.lanes.give(lane)
            raise
        card.counters.add("runs")
        card.lanes.fly(lane, self)

    def done(self) -> bool:
        """Tell whether it has run.

        Raises:
            KernelError: it has failed.
        """
        with self._landing:
            return self._landed or self._event.done()

    def answers(self) -> Answers:
        """Wait for the outputs of each request.

        Raises:
            KernelError: it failed, or a kernel found bad data.
        """
        self.land()
        if self._error is not None:
            raise self._error
        return self._answers

    def land(self) -> None:
        """Wait until it has run, keep what came out, and give the lane back; once."""
        with self._landing:
            if self._landed:
                return
            self._landed = True
            try:
                self._event.synchronize()
                self._answers = self._taken()
            except BaseException as e:  # noqa: BLE001  (whoever asks for answers is told)
                self._error = e
                self._lane.recover()
            finally:
                self._card.lanes.give(self._lane)
                with suppress(KernelError):  # of a context that is broken, as was said already
                    self._event.close()

    def _taken(self) -> Answers:
        listed = self._listed
        source = self._outbox.window()
        code = int(source[:4].view(np.int32)[0])
        if code:
            raise KernelError(STATUS_TEXTS.get(code, f"a kernel reports {code}"))
        return taken_outputs(
            *(source[STATUS_BYTES:], listed.places, listed.ports),
            *(listed.arranged.parts, listed.arranged.n_requests),
        )

    def _enqueue(self, inputs: Sequence[Sequence[np.ndarray]]) -> HostMemory:
        card, listed, lane = self._card, self._listed, self._lane
        places, stream, weights = listed.places, lane.stream, card.weights
        memory = lane.memory(places.n_bytes, weights.make_room)
        inbox = lane.inbox.take(places.input_bytes)
        put_inputs(
            inbox.window(),
            *(places, listed.ports, listed.arranged.parts, inputs),
        )
        upload(stream, memory, inbox, n_bytes=places.input_bytes)
        card.counters.add("input_bytes", places.input_bytes)
        fill(stream, lane.status)
        with weights.using(listed.needed, stream) as rolling:
            coming = rolling is None and weights.arriving(listed.needed)
            for part in listed.program.parts:
                if isinstance(part, HostStage):
                    if rolling is not None:
                        rolling.advance(part.step)
                    self._host(part, memory)
                elif rolling is not None:
                    self._roll(part, memory, rolling)
                else:
                    self._segment(part, memory, coming=coming)
        outbox = lane.outbox.take(STATUS_BYTES + places.output_bytes)
        download(stream, outbox, lane.status, n_bytes=STATUS_BYTES)
        download(
            *(stream, outbox, memory, places.output_start),
            target_offset=STATUS_BYTES,
            n_bytes=places.output_bytes,
        )
        card.counters.add("output_bytes", places.output_bytes)
        return outbox

    def _segment(self, segment: Segment, memory: DeviceMemory, *, coming: bool) -> None:
        """Enqueue launches whose weights are there, or will be before each of them."""
        card, listed, lane = self._card, self._listed, self._lane
        recording = lane.recordings.of(segment)
        lane.stream.touch([memory])
        recording.load(self._content(segment, recording, memory), self._staging(recording))
        if card.settings.graphs and not coming:
            recording.replay()
            return
        for number, launch in enumerate(segment.launches):
            if coming:
                card.weights.wait(listed.needed, launch.step, lane.stream)
            recording.launch(number)

    def _roll(self, segment: Segment, memory: DeviceMemory, rolling: Rolling) -> None:
        """Enqueue launches whose weights come and go meanwhile, and so do addresses."""
        card, listed, lane = self._card, self._listed, self._lane
        recording = lane.recordings.of(segment)
        lane.stream.touch([memory])
        staging = self._staging(recording)
        content = np.zeros(recording.sheet.n_bytes, dtype=np.uint8)
        known: dict[bytes, np.ndarray] = {}
        for number, launch in enumerate(segment.launches):
            rolling.advance(launch.step)
            addresses = listed.addresses(card.weights, memory.address)
            fill_launch(content, recording.sheet, number, launch, addresses, known)
            recording.load_launch(number, content, staging)
            card.weights.wait(listed.needed, launch.step, lane.stream)
            recording.launch(number)

    def _host(self, part: HostStage, memory: DeviceMemory) -> None:
        listed, cls = self._listed, part.cls
        run_on_host(
            *(self._lane, memory, part.stage.stage, listed.arranged.classes[cls]),
            listed.choices_of(cls),
            lambda slot: listed.places.of(cls, slot),
            self._run_extern,
        )
        self._card.counters.add("host_stages")

    def _staging(self, recording: Recording) -> HostMemory:
        return self._lane.tables.take(recording.sheet.n_bytes)

    def _content(self, segment: Segment, recording: Recording, memory: DeviceMemory) -> np.ndarray:
        weights, listed = self._card.weights, self._listed
        key = (recording.sheet, segment, memory.address, weights.frames(listed.needed))
        return listed.sheets.get(
            key,
            lambda: filled(
                recording.sheet, segment.launches, listed.addresses(weights, memory.address)
            ),
        )
