"""Programs of the super-kernel on a card: one launch runs all, and can be stopped between tasks."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusec.ir.errors import KernelError, VerifyError
from fusec.kernels.persistent import STATE_WORDS, Outcome
from fusec.kernels.persistent.branches import branches_in
from fusec.runtime.cuda.memory import DeviceMemory, HostMemory, Memory, download, fill, upload
from fusec.runtime.cuda.module import Function, Launch
from fusec.runtime.cuda.stream import Event, Stream, recorded
from fusec.runtime.persistent.check import check_order
from fusec.runtime.persistent.program import PersistentProgram
from fusec.runtime.persistent.state import PATIENCE_POLLS, explain, fresh_state, outcome_of
from fusec.runtime.tile.call import STATUS_TEXTS

__all__ = ["Resident"]

_ALIGN_BYTES = 256
_STATE_BYTES = 8 * STATE_WORDS
_WORD_BYTES = 16
"""Of a flag, and of what kernels report of bad data."""


class Resident:
    """A program in a card's memory, with the state of its runs. One run at a time."""

    def __init__(
        self,
        stream: Stream,
        function: Function,
        program: PersistentProgram,
        programs: int,
        patience_polls: int = PATIENCE_POLLS,
    ) -> None:
        """Upload a program.

        Args:
            stream: that it runs in.
            function: the super-kernel.
            program: assembled for its branches.
            programs: of the kernel on the card at a time: blocks per multiprocessor times their
                number. More do no harm, and are of no use.
            patience_polls: polls of a wait before it gives up.

        Raises:
            VerifyError: the program could hang.
            ArtifactError: the kernel says nothing of its branches.
            KernelError: there is no memory, or the driver refuses.
        """
        check_order(program, len(branches_in(function.kernel).keys))
        self._stream, self._function, self._program = stream, function, program
        self._programs = max(1, min(programs, len(program.tasks)))
        arrays: Sequence[NDArray[Any]] = (
            *(program.table, program.tiles, program.tasks, program.waits),
            np.zeros(program.counters, np.int64),
            fresh_state(len(program.tasks), patience_polls),
        )
        self._offsets = np.cumsum([0, *(_aligned(array.nbytes) for array in arrays)]).tolist()
        self._status = DeviceMemory(stream, _WORD_BYTES)
        self._memory = DeviceMemory(stream, self._offsets[-1])
        self._host: list[HostMemory] = []
        try:
            for array, offset in zip(arrays, self._offsets, strict=False):
                upload(stream, self._memory, array.reshape(-1).view(np.uint8).data, offset)
            for n_bytes in (_WORD_BYTES, _STATE_BYTES + _WORD_BYTES):
                self._host.append(HostMemory(stream.context, n_bytes))
        except BaseException:
            self.close()
            raise
        self._flag, self._report = self._host
        self._flag.window()[:] = 0
        self._event: Event | None = None
        self._stuck = False

    def start(self, uses: Iterable[Memory] = ()) -> None:
        """Enqueue a run, or the rest of one that was stopped.

        Args:
            uses: memory that entries have: inputs, outputs, weights and arenas.

        Raises:
            VerifyError: the run before is not waited for, or a wait of it gave up.
            KernelError: the driver refuses.
        """
        if self._event is not None:
            raise VerifyError("a program is started whose last run nobody waited for")
        if self._stuck:
            raise VerifyError("a program is started again that got stuck")
        base = self._memory.address
        fill(self._stream, self._status)
        self._function.launch(
            self._stream,
            Launch(grid=(self._programs, 1, 1)),
            [*(base + o for o in self._offsets[:6]), self._status, self._flag.address],
            [self._memory, self._flag, *uses],
        )
        download(
            *(self._stream, self._report, self._memory, self._offsets[5]), n_bytes=_STATE_BYTES
        )
        download(self._stream, self._report, self._status, target_offset=_STATE_BYTES)
        self._event = recorded(self._stream)

    def retreat(self, wanted: bool = True) -> None:
        """Ask a run to stop between tasks, or let it go on; from any thread, at any time."""
        self._flag.window()[:4].view(np.int32)[0] = wanted

    def done(self) -> bool:
        """Tell whether the run has ended or stopped."""
        return self._event is None or self._event.done()

    def outcome(self) -> Outcome:
        """Wait until the run has ended or stopped.

        Returns:
            `Outcome.DONE`, or `Outcome.RETREATED`: start again for the rest.

        Raises:
            KernelError: a wait gave up, with who waited for what; or a kernel found bad data.
        """
        event, self._event = self._event, None
        if event is not None:
            try:
                event.synchronize()
            finally:
                event.close()
        report = self._report.window()
        state = report[:_STATE_BYTES].view(np.int64).copy()
        code = int(report[_STATE_BYTES : _STATE_BYTES + 4].view(np.int32)[0])
        stuck = explain(state, self._program)
        if stuck is not None:
            self._stuck = True
            raise KernelError(str(stuck))
        if code:
            raise KernelError(STATUS_TEXTS.get(code, f"a kernel reports {code}"))
        return outcome_of(state)

    def close(self) -> None:
        """Free its memory behind what runs."""
        blocks: list[DeviceMemory | HostMemory] = [self._memory, self._status, *self._host]
        for block in blocks:
            block.free()


def _aligned(n_bytes: int) -> int:
    # Never nothing: every argument is an address inside the block.
    return max(1, -(-n_bytes // _ALIGN_BYTES)) * _ALIGN_BYTES
