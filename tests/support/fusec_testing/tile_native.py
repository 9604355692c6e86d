"""Tile programs of `tile_programs` as jobs for native workers."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from fusec_testing.tile_programs import ARENA_WORDS, Program

from fusec.kernels.codegen.link import Linker
from fusec.runtime.tile.engine import Job

OBJECT_FILE = "FUSEC_TEST_MIX"
"""Names a file with the kernel's object code, for scripts that should start fast."""


@functools.cache
def object_code() -> bytes:
    """Give the kernel's object code."""
    if named := os.environ.get(OBJECT_FILE):
        return Path(named).read_bytes()
    from fusec_testing.tile_mix import mix_object

    return mix_object()


@functools.cache
def _kernels() -> Linker:
    linker = Linker()
    linker.add(object_code())
    return linker


class NativeProgram:
    """A program with memory, tables and a job."""

    def __init__(
        self,
        program: Program,
        workers: int,
        pauses: Sequence[int] = (0,),
        raising: Collection[int] = (),
    ) -> None:
        self.memory = program.memory()
        self._arenas = np.arange(workers * ARENA_WORDS, dtype=np.uint64).reshape(workers, -1) * 977
        self._tables = np.empty((workers, 2), dtype=np.int64)
        self._tables[:, 0] = self.memory.ctypes.data
        self._tables[:, 1] = [row.ctypes.data for row in self._arenas]
        self._descriptions = program.descriptions()
        self._services = np.zeros(1, dtype=np.int64)
        table = program.table()
        table.tasks["kernel"] = _kernels().address("fusec_mix")
        table.tasks["desc"] = [d.ctypes.data for d in self._descriptions]
        for i in range(len(table.tasks)):
            table.tasks[i]["lo"] = pauses[i % len(pauses)]
            table.tasks[i]["hi"] = i in raising
        self.job = Job(
            table,
            tables=self._tables.ctypes.data,
            tables_stride=self._tables.strides[0],
            services=self._services.ctypes.data,
            workers=workers,
        )
        self._services[0] = self.job.retreat_address

    def lower(self) -> None:
        """Take the retreat flag down."""
        at = (self.job.retreat_address - self.job.address) // 8
        self.job.words[at] = 0
