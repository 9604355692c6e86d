"""From requests to instances and back: rows cut apart, answers put together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fusec.ir.symbols import evaluate
from fusec.ir.template import Template, TensorSpec
from fusec.kernels.torch_graph import torch_dtype
from fusec.runtime.request import Choice, Request

__all__ = ["Instance", "instances_of", "join"]


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
    if request.rows is None:
        return [Instance(choice=choice, inputs=tuple(map(_own, request.inputs)))]
    axes = choice.template.input_axes
    return [
        Instance(
            choice=choice,
            inputs=tuple(
                _own(t if axis is None else t.narrow(axis, row, 1))
                for t, axis in zip(request.inputs, axes, strict=True)
            ),
        )
        for row in range(request.rows)
    ]


def _own(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def join(request: Request, answers: Sequence[tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
    """Put the answers of a request's instances together along each output's batch axis."""
    if request.rows is None:
        return list(answers[0])
    if not answers:
        return _no_rows(request)
    joined = []
    for i, axis in enumerate(request.choice.template.output_axes):
        parts = [answer[i] for answer in answers]
        joined.append(parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis or 0))
    return joined


def _no_rows(request: Request) -> list[torch.Tensor]:
    """Give outputs of zero rows in the right dtypes and shapes."""
    template = request.choice.template
    empty = []
    for spec, axis in zip(_output_specs(template), template.output_axes, strict=True):
        shape = [evaluate(str(d), request.extents) for d in spec.shape]
        shape[axis or 0] = 0
        empty.append(torch.empty(shape, dtype=torch_dtype(spec.dtype)))
    return empty


def _output_specs(template: Template) -> list[TensorSpec]:
    specs = []
    for result in template.body.results:
        spec = template.body.spec_of(result)
        assert isinstance(spec, TensorSpec)
        specs.append(spec)
    return specs
