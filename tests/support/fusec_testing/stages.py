"""Run one stage through its reference and its native kernel, without a planner."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from importlib import import_module

import numpy as np

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.errors import KernelError
from fusec.ir.extents import value
from fusec.ir.stage import Buffer, BufferKind, Lowered, Stage
from fusec.kernels.encoded import Encoded
from fusec.kernels.gemm.pack import pack
from fusec.kernels.library import address
from fusec.kernels.memory import Memory
from fusec.kernels.table import TILE_OPS

__all__ = ["Cut", "run_lowered", "run_native", "run_reference"]

Flats = Sequence[np.ndarray]
Cut = tuple[int, int, int, int]
"""lo, hi, lo2, hi2 of one task."""


def run_reference(stage: Stage, flats: Flats, symbols: Mapping[str, int] | None = None) -> None:
    """Run the reference kernel over flat buffers, by slot."""
    folder = TILE_OPS[stage.op]
    import_module(f"{folder.package}.{folder.reference}").run(stage, Memory(flats, symbols or {}))


def run_native(
    stage: Stage,
    buffers: Sequence[Buffer],
    flats: Flats,
    cuts: Sequence[Cut] | None = None,
    symbols: Mapping[str, int] | None = None,
) -> Encoded:
    """Run the native kernel over flat buffers, in one task or in the cuts given.

    Args:
        stage: what to run.
        buffers: for the encoder.
        flats: by slot, contiguous; written in place.
        cuts: tasks in order; by default all items in one.
        symbols: values of the symbols.

    Raises:
        KernelError: the kernel reports bad data.
    """
    symbols = symbols or {}
    encoded: Encoded = import_module(f"{TILE_OPS[stage.op].package}.encode").encode(stage, buffers)
    words = np.array([value(word, symbols) for word in encoded.words], np.int64)
    table = np.array([flat.ctypes.data for flat in flats], np.int64)
    scratch = np.full(value(encoded.scratch_bytes, symbols) + 64 + 64, 0xFF, np.uint8)
    aligned = -(-scratch.ctypes.data // 64) * 64
    end = aligned + value(encoded.scratch_bytes, symbols) - scratch.ctypes.data
    machine = stage.point is not None
    status = np.zeros(1, np.int64)
    point = address("pointwise_program") if machine else 0
    services = np.array([point, status.ctypes.data], np.int64)
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(address(encoded.kernel))
    all_items = (0, value(encoded.items, symbols), 0, value(encoded.items2, symbols))
    for lo, hi, lo2, hi2 in [all_items] if cuts is None else cuts:
        scratch[:] = 0xFF  # NaN everywhere: nothing may be left over from another task
        run(words.ctypes.data, table.ctypes.data, lo, hi, lo2, hi2, aligned, services.ctypes.data)
        assert (scratch[end:] == 0xFF).all(), "the kernel wrote behind its scratch memory"
    if status[0]:
        raise KernelError(f"the kernel reports status {status[0]}")
    return encoded


def run_lowered(
    lowered: Lowered,
    inputs: Sequence[np.ndarray],
    weights: Sequence[np.ndarray] = (),
    symbols: Mapping[str, int] | None = None,
    *,
    native: bool,
) -> list[np.ndarray]:
    """Run all stages of a lowered template, of which none may be an extern stage.

    Args:
        lowered: what to run.
        inputs: in the template's order.
        weights: plain, in the template's order.
        symbols: values of the symbols.
        native: through native kernels, else through the reference.
    """
    symbols = symbols or {}
    flats = []
    for buffer in lowered.buffers:
        if buffer.kind is BufferKind.INPUT:
            flats.append(np.ascontiguousarray(inputs[buffer.index]).reshape(-1))
        elif buffer.kind is BufferKind.WEIGHT:
            flats.append(pack(lowered.layouts[buffer.index], weights[buffer.index]))
        else:
            dtype = numpy_dtype(buffer.dtype)
            n = value(buffer.elements, symbols) * dtype.itemsize
            flats.append(np.full(n, 0xFF, np.uint8).view(dtype))
    for stage in lowered.stages:
        if native:
            run_native(stage, lowered.buffers, flats, symbols=symbols)
        else:
            run_reference(stage, flats, symbols)
    return [
        flats[slot].reshape([value(e, symbols) for e in shape])
        for slot, shape in zip(lowered.outputs, lowered.output_shapes, strict=True)
    ]
