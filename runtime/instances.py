"""From requests to instances and back: rows cut apart, answers put together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fusec.ir.symbols import evaluate
from fusec.kernels.torch_graph import from_numpy, torch_dtype
from fusec.runtime.arrays import is_tensor
from fusec.runtime.request import Choice, Request

__all__ = ["Instance", "instances_of", "join", "own_memory"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instance:
    """One member with one sample: what executors run."""

    choice: Choice
    """The member's template and packed weights."""
    inputs: tuple[torch.Tensor, ...]
    """In template order, one row each, contiguous, freshly allocated."""


def instances_of(request: Request) -> list[Instance]:
    """Cut a request into instances: one per row, or one in all.

    Every input is copied, so that neither the caller's memory nor its alignment can change a bit.
    """
    choice = request.choice
    inputs = [t if is_tensor(t) else from_numpy(t) for t in request.inputs]
    if request.rows is None:
        return [Instance(choice=choice, inputs=tuple(map(_own, inputs)))]
    axes = choice.template.input_axes
    if request.rows == 0 and None in choice.template.output_axes:
        # An output that is the same whatever the rows is there without any: ask with zeros.
        return [Instance(choice=choice, inputs=tuple(map(_one_of_zeros, inputs, axes)))]
    return [
        Instance(
            choice=choice,
            inputs=tuple(
                _own(t if axis is None else t.narrow(axis, row, 1))
                for t, axis in zip(inputs, axes, strict=True)
            ),
        )
        for row in range(request.rows)
    ]


def _one_of_zeros(tensor: torch.Tensor, axis: int | None) -> torch.Tensor:
    if axis is None:
        return _own(tensor)
    return tensor.new_zeros([1 if i == axis else n for i, n in enumerate(tensor.shape)])


def own_memory(
    answer: Sequence[torch.Tensor], held: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Copy outputs that are views of `held` or of one another, or repeat one element.

    Whoever gets an answer may write to it, and must not change a weight or another answer.
    """
    taken = {t.untyped_storage().data_ptr() for t in held}
    owned = []
    for tensor in answer:
        shared = tensor.untyped_storage().data_ptr() in taken
        repeats = any(
            step == 0 and n > 1 for step, n in zip(tensor.stride(), tensor.shape, strict=True)
        )
        own = tensor.clone() if shared or repeats else tensor
        taken.add(own.untyped_storage().data_ptr())
        owned.append(own)
    return tuple(owned)


def _own(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def join(request: Request, answers: Sequence[tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
    """Put the answers of a request's instances together along each output's batch axis.

    An output without one is the same in all, as was checked when the model was imported.
    """
    if request.rows is None:
        return list(answers[0])
    if request.rows == 0:
        return _no_rows(request, answers)
    joined = []
    for i, axis in enumerate(request.choice.template.output_axes):
        parts = [answer[i] for answer in answers]
        joined.append(parts[0] if axis is None or len(parts) == 1 else torch.cat(parts, dim=axis))
    return joined


def _no_rows(request: Request, answers: Sequence[tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
    """Give outputs of zero rows in the right dtypes and shapes."""
    template = request.choice.template
    empty = []
    for i, (spec, axis) in enumerate(zip(template.outputs, template.output_axes, strict=True)):
        if axis is None:
            empty.append(answers[0][i])
            continue
        shape = [evaluate(str(d), request.extents) for d in spec.shape]
        shape[axis] = 0
        empty.append(torch.empty(shape, dtype=torch_dtype(spec.dtype)))
    return empty
