"""A program ready to run: with tables and a job, for one instance list at a time.

Not reentrant; calls are lent. Another list of the same shape only needs other weights entered.
"""

from collections.abc import Callable, Sequence

import numpy as np

from fusec.ir.errors import KernelError
from fusec.ir.template import Template
from fusec.runtime.pool import Pool
from fusec.runtime.tile.answers import Memory, Ports
from fusec.runtime.tile.build import Program
from fusec.runtime.tile.engine import Job, Status, Word
from fusec.runtime.tile.layout import Arranged, joins_of
from fusec.runtime.tile.memory import ArenaPool
from fusec.runtime.tile.tables import Tables

__all__ = ["SERVICES", "STATUS_TEXTS", "Call"]

SERVICES = ("pointwise_program",)
"""Kernels that kernels call, by their word in the table of services; the status word follows."""

STATUS_TEXTS = {1: "an index is out of range"}
"""What a kernel reports in the status word."""


class Call:
    """A program with its memory."""

    def __init__(
        self,
        program: Program,
        templates: Sequence[Template],
        rows: Sequence[Sequence[int | None]],
        address: Callable[[str], int],
    ) -> None:
        """Lay out tables and ports.

        Args:
            program: what runs.
            templates: of each class.
            rows: of each request, by class.
            address: kernel name -> address.
        """
        self.program = program
        self._tables = Tables(program)
        self._blocks = [self._tables.block(cls) for cls in program.classes]
        groups = [*program.chains, *(g for g, _ in program.cohorts)]
        self._ports = [
            Ports(cls, template, own, joins_of(cls, groups))
            for cls, template, own in zip(program.classes, templates, rows, strict=True)
        ]
        self._bound: Arranged | None = None
        self._parts: tuple[tuple[int, ...], ...] = ()
        self._is_ordered = self._is_whole = False
        self._positions: list[np.ndarray] = []
        """Where a class's inputs are among those of all requests."""
        self._status = np.zeros(1, dtype=np.int64)
        services = [address(name) for name in SERVICES]
        self._services = np.array([*services, self._status.ctypes.data], dtype=np.int64)
        self.job = Job(
            program.table,
            tables=self._tables.words.ctypes.data,
            tables_stride=self._tables.words.strides[0],
            services=self._services.ctypes.data,
            workers=program.workers,
        )

    def bind(self, arranged: Arranged) -> None:
        """Enter an instance list's weights, and where its requests are; of the program's shape."""
        if arranged is self._bound:
            return
        self._tables.enter_weights(arranged.weights)
        self._bound, self._parts = arranged, arranged.parts
        self._is_ordered = arranged.parts == (tuple(range(arranged.n_requests)),)
        self._is_whole = sum(map(len, arranged.parts)) == arranged.n_requests
        counts = np.zeros(arranged.n_requests, dtype=np.int64)
        widths = [len(ports.input_slots) for ports in self._ports]
        for numbers, width in zip(arranged.parts, widths, strict=True):
            counts[list(numbers)] = width
        first = np.cumsum(counts) - counts
        self._positions = [
            first[list(numbers)][:, None] + np.arange(width)
            for numbers, width in zip(arranged.parts, widths, strict=True)
        ]

    @property
    def services(self) -> int:
        """Address of the table of services: names this call to an extern stage."""
        return int(self._services.ctypes.data)

    def run(
        self,
        pool: Pool,
        arenas: ArenaPool,
        inputs: Sequence[Sequence[np.ndarray]],
        addresses: np.ndarray | None = None,
    ) -> list[tuple[np.ndarray, ...]]:
        """Run to the end.

        Args:
            pool: of workers.
            arenas: lends the memory.
            inputs: of each request, C-contiguous, of the right dtypes and shapes.
            addresses: of all inputs, request after request, if the caller has them already.

        Raises:
            KernelError: a kernel reports bad data.
        """
        held: list[np.ndarray] = []
        outputs = []
        known = addresses if self._is_whole else None
        for numbers, where, ports, block in zip(
            self._parts, self._positions, self._ports, self._blocks, strict=True
        ):
            given = inputs if self._is_ordered else [inputs[p] for p in numbers]
            held += ports.enter_inputs(block, given, None if known is None else known[where])
            outputs.append(ports.enter_outputs(block))
        region = arenas.take(self._tables.n_bytes)
        try:
            self._tables.settle(region)
            self.job.words[Word.SCRATCH] = region.address + self._tables.scratch_start
            self.job.words[Word.SCRATCH_STRIDE] = self._tables.scratch_stride
            while pool.run(self.job, self.program.workers) is Status.RETREATED:
                self.job.lower_retreat()
        except BaseException:
            self.job.reset()  # else the next run would go on in the middle, with other inputs
            raise
        finally:
            arenas.give(region)
        del held
        code = int(self._status[0])
        if code:
            self._status[0] = 0
            raise KernelError(STATUS_TEXTS.get(code, f"a kernel reports {code}"))
        return self._in_order(outputs)

    def _in_order(self, outputs: Sequence[Sequence[Memory]]) -> list[tuple[np.ndarray, ...]]:
        if self._is_ordered:
            return self._ports[0].answers(outputs[0])
        assert self._bound is not None
        ordered: list[tuple[np.ndarray, ...]] = [()] * self._bound.n_requests
        for numbers, ports, blocks in zip(self._parts, self._ports, outputs, strict=True):
            for number, answer in zip(numbers, ports.answers(blocks), strict=True):
                ordered[number] = answer
        return ordered
