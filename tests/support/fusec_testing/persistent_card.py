"""A made-up card that knows the super-kernel, too.

Import `fusec_testing.grouped` and call its `interpreter` before this.
"""

from __future__ import annotations

import ctypes
import warnings
from importlib import import_module
from typing import Any

import numpy as np
import torch
from fusec_testing.card import ComputingCard
from fusec_testing.card_code import JOBS
from fusec_testing.cubins import made_cubin
from fusec_testing.grouped import patched_once_a_module

from fusec.ir.device import DeviceKernel, code_hash
from fusec.kernels.cuda.job import Job
from fusec.kernels.persistent.branches import NAME, Branches

__all__ = ["PersistentCard", "persistent_kernel"]

TYPES = {"*i64": np.int64, "*i32": np.int32}


class PersistentCard(ComputingCard):
    """Runs programs one after the other."""

    def _compute(self, job: Job, programs: int, values: list[int]) -> None:
        if job.name != NAME:
            super()._compute(job, programs, values)
            return
        self.launched.append(job.function)
        kinds = [TYPES[kind] for _, kind in job.signature if kind != "constexpr"]
        pointers = [
            torch.from_numpy(np.frombuffer((ctypes.c_char * 16).from_address(v), dtype=kind))
            for v, kind in zip(values, kinds, strict=True)
        ]
        kernel: Any = getattr(import_module(job.module), job.function)
        with np.errstate(all="ignore"), warnings.catch_warnings(), patched_once_a_module():
            warnings.simplefilter("ignore", RuntimeWarning)
            kernel[(programs,)](*pointers, **dict(job.constants))


def persistent_kernel(branches: Branches) -> tuple[bytes, DeviceKernel]:
    """Give code that names the super-kernel with some branches: the card runs it."""
    job = branches.job(90)
    JOBS[NAME] = job
    code = made_cubin(NAME, arch=90, parameters=(8,) * 8, threads=128)
    kernel = DeviceKernel(
        name=NAME, constants=job.constants, symbol=NAME, code=code_hash(code),
        parameters=job.parameters, hidden=0, warps=4, shared_bytes=0, registers=32,
        stack_bytes=0, spill_bytes=0,
    )  # fmt: skip
    return code, kernel
