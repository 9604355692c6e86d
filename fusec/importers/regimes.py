"""Extents in other regimes than the example's: a window that fits once, twice, or many times.

A trace decides once whether a derived extent is 1: a convolution that leaves one frame of 300
samples leaves four of 600, and the trace of the one does not serve the other. Where a capture says
that it relies on such an equality, other sizes are tried; each regime met gets a program.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fusec.importers.source import Source
from fusec.importers.torch_capture import Dynamic
from fusec.ir.errors import FusecError, ImportFailed
from fusec.ir.symbols import ExtentError, check_request
from fusec.kernels.torch_graph import spec_of
from fusec.passes.pack import renamer
from fusec.passes.program import Program

__all__ = ["covers", "other_regimes"]

_LADDER = (8, 32, 64, 128, 192, 256, 320, 400, 512, 576, 640, 800, 1024, 1536, 4096)
"""Sizes tried for the extents that vary; further axes are a little larger, so none are equal."""

_STEP = 32
_MAX_PROGRAMS = 5


def other_regimes(
    source: Source,
    examples: Sequence[Tensor],
    dynamic: Dynamic,
    first: Program,
    capture: Callable[[Sequence[Tensor], Dynamic], Program],
) -> Iterator[Program]:
    """Capture programs for extents that the first one does not serve.

    Args:
        source: the model.
        examples: inputs that the first program was captured at.
        dynamic: extents that vary.
        first: the program at hand; nothing is done unless it relies on an equality.
        capture: captures the model at other inputs.

    Cost: a run of the source per size tried, a capture per regime found, at most four.
    """
    if not any("Eq(" in c or "==" in c for c in first.constraints):
        return
    found = [first]
    for size in _LADDER:
        inputs = _resized(examples, dynamic, size)
        if inputs is None or any(covers(p, inputs) for p in found) or not _runs(source, inputs):
            continue
        try:
            program = capture(inputs, dynamic)
        except ImportFailed:
            # The programs at hand stand; requests of these extents are refused.
            continue
        if covers(program, inputs):
            found.append(program)
            yield program
        if len(found) == _MAX_PROGRAMS:
            return


def covers(program: Program, inputs: Sequence[Tensor]) -> bool:
    """Tell whether a program serves inputs of these shapes."""
    rename = renamer(program.symbol_names)
    specs = [spec_of(node.meta["val"], rename) for node in program.inputs]
    try:
        shapes = [tuple(t.shape) for t in inputs]
        check_request(specs, shapes, program.symbols, program.constraints)
    except ExtentError:
        return False
    return True


def _resized(examples: Sequence[Tensor], dynamic: Dynamic, size: int) -> tuple[Tensor, ...] | None:
    """Cut or repeat the examples along the axes that vary; None if a range forbids it."""
    sizes: dict[str, int] = {}
    resized = list(examples)
    for i, axes in dynamic.items():
        for axis, symbol in axes.items():
            wanted = sizes.setdefault(symbol.name, size + _STEP * len(sizes))
            if wanted < symbol.min or (symbol.max is not None and wanted > symbol.max):
                return None
            tensor = resized[i]
            index = torch.arange(wanted) % max(1, tensor.shape[axis])
            resized[i] = tensor.index_select(axis, index).contiguous()
    return tuple(resized)


def _runs(source: Source, inputs: Sequence[Tensor]) -> bool:
    try:
        source.run(inputs)
    except FusecError:
        return False
    return True
