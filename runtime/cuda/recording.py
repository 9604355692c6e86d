"""Segments on a lane: tables with room, and a graph of their launches, for any list that fits.

A list runs through the smallest recording of its kernels that has room for it. Only where there is
none, or where all are many times too large, another one is made; who runs, in which order and how
many rows each has are data.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.runtime.cuda.choose import blocks_of, choose
from fusec.runtime.cuda.graph import Graph, capture
from fusec.runtime.cuda.kernels import KernelStore, Ready
from fusec.runtime.cuda.memory import DeviceMemory, HostMemory, upload
from fusec.runtime.cuda.module import Launch
from fusec.runtime.cuda.program import Launched, Segment
from fusec.runtime.cuda.settings import Counters
from fusec.runtime.cuda.sheet import Room, Sheet, tile_count
from fusec.runtime.cuda.stream import Stream

__all__ = ["Recording", "Recordings"]

_TOO_LARGE = 16
"""A recording with room for so many times the tiles is not taken: idle programs cost, too."""
_MOST_KNOWN = 256


@dataclass(frozen=True, slots=True, eq=False)
class _Kernel:
    ready: Ready
    grid: int


class Recording:
    """The launches of a segment, with memory of their own."""

    def __init__(
        self,
        stream: Stream,
        status: DeviceMemory,
        sheet: Sheet,
        kernels: Sequence[_Kernel],
        counters: Counters,
        *,
        overlapping: bool,
    ) -> None:
        """Take memory; nothing is recorded yet.

        Raises:
            OutOfDeviceMemory: there is none left.
        """
        self.sheet = sheet
        self._stream, self._status, self._kernels = stream, status, tuple(kernels)
        self._counters, self._overlapping = counters, overlapping
        self._memory = DeviceMemory(stream, sheet.n_bytes)
        self._graph: Graph | None = None
        self._loaded: np.ndarray | None = None
        self.tiles = sum(room.tiles for room in sheet.rooms)

    @property
    def recorded(self) -> bool:
        """Whether there is a graph."""
        return self._graph is not None

    def fits(self, launches: Sequence[Launched]) -> bool:
        """Tell whether there is room for a list's launches, of the same kernels."""
        return all(
            launch.n_rows <= room.rows
            and tile_count(launch.shape, room.block_m, room.block_n) <= room.tiles
            for launch, room in zip(launches, self.sheet.rooms, strict=True)
        )

    def load(self, content: np.ndarray, staging: HostMemory) -> None:
        """Bring a list's tables to the card, unless they are there.

        Args:
            content: bytes of the sheet.
            staging: pinned, of that size at least; nobody writes to it before this is done.
        """
        if content is self._loaded:
            return
        self._loaded = None
        staging.window()[: content.nbytes] = content
        upload(self._stream, self._memory, staging, n_bytes=content.nbytes)
        self._counters.add("table_bytes", content.nbytes)
        self._loaded = content

    def load_launch(self, number: int, content: np.ndarray, staging: HostMemory) -> None:
        """Bring one launch's count, table and tiles; see `load`."""
        self._loaded = None
        count = self.sheet.counts[number]
        target = staging.window()
        for first, end in ((count, count + 4), self.sheet.span(number)):
            target[first:end] = content[first:end]
            upload(
                *(self._stream, self._memory, staging, first),
                source_offset=first,
                n_bytes=end - first,
            )
            self._counters.add("table_bytes", end - first)

    def forget(self) -> None:
        """Note that what is loaded is not known, say after an error."""
        self._loaded = None

    def launch(self, number: int) -> None:
        """Enqueue one launch."""
        self._launch(number)
        self._counters.add("kernel_launches")

    def replay(self) -> None:
        """Enqueue all, recorded at the first time.

        Raises:
            KernelError: the driver refuses.
        """
        if self._graph is None:
            with capture(self._stream) as recording:
                for number in range(len(self._kernels)):
                    self._launch(number)
            self._graph = recording.graph()
            self._counters.add("captures")
        self._graph.launch(self._stream)
        self._counters.add("graph_launches")

    def close(self) -> None:
        """Free all, behind its work; once."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        self._memory.free()

    def _launch(self, number: int) -> None:
        sheet, kernel, base = self.sheet, self._kernels[number], self._memory.address
        # What is ahead of the first one need not be a kernel.
        overlapping = self._overlapping and number > 0 and kernel.ready.overlaps
        kernel.ready.function.launch(
            self._stream,
            Launch(grid=(kernel.grid, 1, 1), overlapping=overlapping),
            [
                base + sheet.tables[number],
                base + sheet.tiles[number],
                base + sheet.counts[number],
                self._status,
            ],
            uses=[self._memory],
        )


class Recordings:
    """Those of a lane; the least recently used leaves for another. For one thread at a time."""

    def __init__(
        self,
        stream: Stream,
        status: DeviceMemory,
        kernels: KernelStore,
        counters: Counters,
        *,
        multiprocessors: int,
        most: int,
        overlapping: bool,
    ) -> None:
        """Have none.

        Args:
            stream: of the lane.
            status: that kernels report bad data in.
            kernels: that are ready.
            counters: of captures and launches.
            multiprocessors: that the lane has.
            most: how many to keep.
            overlapping: whether kernels may start while the one before ends.
        """
        self._stream, self._status, self._kernels = stream, status, kernels
        self._counters, self._multiprocessors = counters, multiprocessors
        self._most, self._overlapping = most, overlapping
        self._kept: OrderedDict[Recording, int] = OrderedDict()
        """With the kind of segments, the least recently used first."""
        self._known: dict[Segment, Recording] = {}

    def __len__(self) -> int:
        return sum(recording.recorded for recording in self._kept)

    def of(self, segment: Segment) -> Recording:
        """Give the recording to run a segment through.

        Raises:
            OutOfDeviceMemory: there is no memory for its tables.
        """
        found = self._known.get(segment)
        if found is None:
            found = self._find(segment) or self._make(segment)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[segment] = found
        self._kept.move_to_end(found)
        return found

    def forget(self) -> None:
        """Note that nobody knows what is in the tables."""
        for recording in self._kept:
            recording.forget()

    def close(self) -> None:
        """Free all."""
        for recording in list(self._kept):
            self._drop(recording)

    def _find(self, segment: Segment) -> Recording | None:
        launches = segment.launches
        fitting = [
            (recording.tiles, number, recording)
            for number, (recording, kind) in enumerate(self._kept.items())
            if kind == segment.kind and recording.fits(launches)
        ]
        if not fitting:
            return None
        tiles, _, found = min(fitting)
        rooms = found.sheet.rooms
        takes = sum(
            tile_count(launch.shape, room.block_m, room.block_n)
            for launch, room in zip(launches, rooms, strict=True)
        )
        # Rooms are powers of two: twice the tiles are no waste.
        return None if tiles > 2 * _TOO_LARGE * max(1, takes) else found

    def _make(self, segment: Segment) -> Recording:
        rooms, kernels = [], []
        for launch in segment.launches:
            ready = [(s, r) for s in launch.kernels if (r := self._kernels.of(s)) is not None]
            sizes = [blocks_of(special.config.blocks) for special, _ in ready]
            chosen = choose(launch.shape, sizes, self._multiprocessors)
            block_m, block_n = sizes[chosen]
            tiles = _room(tile_count(launch.shape, block_m, block_n))
            rooms.append(Room(_room(launch.n_rows), tiles, launch.width, block_m, block_n))
            kernel = ready[chosen][1]
            resident = kernel.blocks_per_multiprocessor * self._multiprocessors
            kernels.append(_Kernel(kernel, min(tiles, resident)))
        while len(self._kept) >= self._most:
            self._drop(next(iter(self._kept)))
        made = Recording(
            *(self._stream, self._status, Sheet(rooms), kernels, self._counters),
            overlapping=self._overlapping,
        )
        self._kept[made] = segment.kind
        return made

    def _drop(self, recording: Recording) -> None:
        self._known = {s: r for s, r in self._known.items() if r is not recording}
        recording.close()
        del self._kept[recording]


def _room(count: int) -> int:
    """Give room for growth: the next power of two."""
    return 1 << max(0, count - 1).bit_length()
