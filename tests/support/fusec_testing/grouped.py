"""Grouped kernels in Triton's interpreter: stages of many instances over fenced memory.

Import it before triton: the interpreter is chosen when triton is imported.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from unittest import mock

import numpy as np
import pytest
from fusec_testing.fences import fenced
from fusec_testing.kernel_case import KernelCase
from fusec_testing.stages import run_reference

from fusec.ir.errors import KernelError
from fusec.ir.stage import Buffer, Stage
from fusec.kernels.grouped.bind import bind, tiles_of
from fusec.kernels.triton_table import grouped, specials

__all__ = [
    "BLOCKS",
    "Instance",
    "check_case",
    "check_grouped",
    "interpreter",
    "patched_once_a_module",
    "run_grouped",
]

BLOCKS: dict[str, int] = {"BLOCK_M": 16, "BLOCK_N": 32, "BLOCK_K": 16, "BLOCK_R": 32}
"""Small ones, so that small cases have several tiles."""


def interpreter() -> None:
    """Skip the module that calls this where Triton is not installed."""
    os.environ["TRITON_INTERPRET"] = "1"
    triton = pytest.importorskip("triton")
    plain = type(triton.language.zeros).__name__
    assert plain == "InterpretedFunction", "triton was imported without its interpreter"


@dataclass
class Instance:
    """Memory of one instance, or of several in a row that lie as one."""

    flats: Sequence[np.ndarray]
    symbols: Mapping[str, int]
    count: int = 1


def run_grouped(
    stage: Stage,
    buffers: Sequence[Buffer],
    instances: Sequence[Instance],
    blocks: Mapping[str, int] | None = None,
    *,
    programs: int = 3,
    order: np.random.Generator | None = None,
) -> None:
    """Run a stage for instances, in place.

    Args:
        stage: what to run.
        buffers: of the lowered template.
        instances: who runs.
        blocks: sizes of blocks in place of `BLOCKS`.
        programs: of the grid.
        order: shuffles the tiles.

    Raises:
        KernelError: the kernel reports bad data.
    """
    import torch

    spelled = grouped(stage, buffers)
    assert spelled is not None
    special = specials(spelled, 90, (("WIDEN", 1),))[0]
    constants: dict[str, Any] = dict(special.constants)
    given = {**BLOCKS, **(blocks or {})}
    constants.update({name: given.get(name, size) for name, size in special.config.blocks})
    rows = [
        bind(
            spelled,
            [flat.ctypes.data for flat in instance.flats],
            instance.symbols,
            constants.get("BLOCK_M", 1),
            constants.get("BLOCK_N", 1),
            instance.count,
        )
        for instance in instances
    ]
    tiles = tiles_of(rows)
    if order is not None:
        order.shuffle(tiles)
    table = fenced(np.concatenate([row.words for row in rows]))
    kept = [table, fenced(tiles.reshape(-1)), np.array([len(tiles)], np.int32)]
    status = np.zeros(1, np.int32)
    function = getattr(import_module(special.kernel.module), special.kernel.function)
    # Cards say nothing of overflows, nor of rows of NaN.
    with np.errstate(all="ignore"), warnings.catch_warnings(), patched_once_a_module():
        warnings.simplefilter("ignore", RuntimeWarning)
        function[(programs,)](*(torch.from_numpy(a) for a in (*kept, status)), **constants)
    if status[0]:
        raise KernelError(f"the kernel reports status {status[0]}")


@contextlib.contextmanager
def patched_once_a_module() -> Iterator[None]:
    """Spare the interpreter what it does on every call of a function from a kernel.

    It puts its own versions of Triton's functions into the module that the function sees: nine
    tenths of the time, and the same every time.
    """
    from triton.runtime import interpreter as own

    seen: set[str] = set()

    def call(self: Any, *args: object, **kwargs: object) -> object:
        if self.fn.__module__ not in seen:
            seen.add(self.fn.__module__)
            own._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    with mock.patch.object(own.InterpretedFunction, "__call__", call):
        yield


def check_grouped(
    stage: Stage,
    buffers: Sequence[Buffer],
    flats: Sequence[np.ndarray],
    blocks: Mapping[str, int] | None = None,
    *,
    symbols: Mapping[str, int] | None = None,
    count: int = 1,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Run one instance, and the reference; give all memory of both, by slot.

    A second run among neighbours full of ones, tiles in any order, has to give the same bytes.
    """
    symbols = symbols or {}
    alone = [fenced(flat) for flat in flats]
    run_grouped(stage, buffers, [Instance(alone, symbols, count)], blocks, programs=1)
    wanted = [flat.copy() for flat in flats]
    with np.errstate(all="ignore"):
        run_reference(stage, wanted, symbols)
    among = [fenced(flat) for flat in flats]
    company = [Instance(among, symbols, count)]
    for at in (0, 2):
        strange = [fenced(flat) for flat in flats]
        for flat, buffer in zip(strange, buffers, strict=True):
            if buffer.dtype.startswith(("float", "bfloat")):
                flat.view(np.uint8)[:] = 0xFF
        company.insert(at, Instance(strange, symbols, count))
    rng = np.random.default_rng(len(flats))
    run_grouped(stage, buffers, company, blocks, programs=4, order=rng)
    for one, other in zip(alone, among, strict=True):
        assert one.tobytes() == other.tobytes(), "company changed bytes"
    return alone, wanted


def check_case(
    case: KernelCase, blocks: Mapping[str, int] | None = None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Run a case and its reference as `check_grouped` does; give what was written by both.

    What lies between the elements of a result has to stay as it was.
    """
    for view in case.stage.writes:
        case.flats[view.slot].view(np.uint8)[:] = 0xFF
    got, wanted = check_grouped(case.stage, case.buffers, case.flats, blocks)
    results = []
    for flats in (got, wanted):
        case.flats = [fenced(flat) for flat in flats]
        results.append(case.results())
        for view in case.stage.writes:
            case.check_gaps(view)
    return results[0], results[1]
