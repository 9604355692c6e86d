"""One instance list ready to run: its program, tables and job. Not reentrant; calls are lent."""

from collections.abc import Callable, Sequence

import numpy as np

from fusec.ir.errors import KernelError
from fusec.ir.template import Template
from fusec.runtime.pool import Pool
from fusec.runtime.tile.answers import Memory, Ports
from fusec.runtime.tile.build import Program
from fusec.runtime.tile.engine import Job, Status, Word
from fusec.runtime.tile.layout import Part
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
        parts: Sequence[Part],
        templates: Sequence[Template],
        rows: Sequence[int | None],
        address: Callable[[str], int],
    ) -> None:
        """Lay out tables and ports.

        Args:
            program: built from `parts`.
            parts: requests.
            templates: of each request.
            rows: of each request.
            address: kernel name -> address.
        """
        self.program = program
        self._tables = Tables(program)
        self._blocks = [self._tables.block(cls) for cls in program.classes]
        self._ports = [
            Ports(cls, templates[cls.parts[0]], [rows[p] for p in cls.parts])
            for cls in program.classes
        ]
        self._order = [p for cls in program.classes for p in cls.parts]
        self._n_requests = len(parts)
        self._is_ordered = len(self._ports) == 1 and self._order == list(range(len(parts)))
        groups = [*program.chains, *(g for g, _ in program.cohorts)]
        self._together = [
            any(g.cls is cls and cls.part_of(g.start) != cls.part_of(g.stop - 1) for g in groups)
            for cls in program.classes
        ]
        counts = [t.n_inputs for t in templates]
        first = np.cumsum([0, *counts])
        self._positions = {
            id(cls): first[list(cls.parts)][:, None] + np.arange(counts[cls.parts[0]])
            for cls in program.classes
        }
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
        for cls, ports, block, together in zip(
            self.program.classes, self._ports, self._blocks, self._together, strict=True
        ):
            if addresses is not None and ports.in_place and not together:
                ports.enter_addresses(block, addresses[self._positions[id(cls)]])
            else:
                given = [inputs[p] for p in cls.parts]
                held += ports.enter_inputs(block, given, together=together)
            outputs.append(ports.enter_outputs(block, together=together))
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
        ordered: list[tuple[np.ndarray, ...]] = [()] * self._n_requests
        numbers = iter(self._order)
        for ports, blocks in zip(self._ports, outputs, strict=True):
            for answer in ports.answers(blocks):
                ordered[next(numbers)] = answer
        return ordered
