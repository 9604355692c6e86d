"""Extents of 1: a trace takes them for constants, so each gets a program of its own."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from torch import Tensor

from fusec.importers.batch import Runnable
from fusec.importers.torch_capture import Dynamic
from fusec.ir.errors import FusecError

__all__ = ["variants"]


def variants(
    source: Runnable, examples: Sequence[Tensor], dynamic: Dynamic
) -> Iterator[tuple[tuple[Tensor, ...], Dynamic]]:
    """Give the captures that together serve every extent in range.

    The general one comes first; then those where some symbols are 1, as far as their ranges allow
    it and the source runs there. Up to two symbols all combinations are tried, with more each one
    alone and all together.

    Args:
        source: the original model.
        examples: inputs at one row.
        dynamic: extents that vary; equal names are equal extents.

    Yields:
        Example inputs and the extents that still vary.
    """
    yield tuple(examples), dynamic
    names = list(
        dict.fromkeys(s.name for axes in dynamic.values() for s in axes.values() if s.min <= 1)
    )
    if len(names) <= 2:
        sets = [set(c) for k in range(1, len(names) + 1) for c in combinations(names, k)]
    else:
        sets = [*({n} for n in names), set(names)]
    for ones in sets:
        inputs = tuple(_shrink(e, i, dynamic, ones) for i, e in enumerate(examples))
        if not _runs(source, inputs):
            continue
        rest = {
            i: {a: s for a, s in axes.items() if s.name not in ones} for i, axes in dynamic.items()
        }
        yield inputs, {i: axes for i, axes in rest.items() if axes}


def _shrink(example: Tensor, index: int, dynamic: Dynamic, ones: set[str]) -> Tensor:
    for axis, symbol in dynamic.get(index, {}).items():
        if symbol.name in ones and example.shape[axis] > 1:
            example = example.narrow(axis, 0, 1)
    return example.contiguous()


def _runs(source: Runnable, inputs: Sequence[Tensor]) -> bool:
    try:
        source.run(inputs)
    except FusecError:
        return False
    return True
