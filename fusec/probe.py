"""What measuring needs: extents that a template takes, inputs of these extents, empty caches."""

from collections.abc import Callable, Mapping

import numpy as np

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.symbols import evaluate, holds
from fusec.ir.template import Template, TensorSpec

__all__ = ["evictor", "extents_near", "inputs_of_ones"]

_EVICT_BYTES = 32 << 20


def extents_near(template: Template, size: int) -> dict[str, int]:
    """Choose extents that a template takes, each symbol towards a size."""
    extents = {s.name: max(s.min, min(size, s.max or size)) for s in template.symbols}
    if all(holds(c, extents) for c in template.constraints):
        return extents
    for other in range(1, 512):
        extents = {s.name: min(max(s.min, other), s.max or other) for s in template.symbols}
        if all(holds(c, extents) for c in template.constraints):
            return extents
    return {s.name: s.min for s in template.symbols}


def inputs_of_ones(template: Template, extents: Mapping[str, int]) -> tuple[np.ndarray, ...]:
    """Make up inputs of one row: ones, which are an index, a mask and a number."""
    arrays = []
    for spec in template.inputs:
        assert isinstance(spec, TensorSpec)
        shape = [evaluate(d, extents) for d in spec.shape]
        arrays.append(np.ones(shape, dtype=numpy_dtype(spec.dtype)))
    return tuple(arrays)


def evictor() -> Callable[[], object]:
    """Make what reads so much memory that the caches of processors hold nothing else.

    Cost: 32 MB while it is there, and some milliseconds a call.
    """
    # Not zeros: the system has one page for all that was never written.
    return np.ones(_EVICT_BYTES // 8).sum
