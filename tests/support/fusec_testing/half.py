"""Half-width models as cards run them: every stage through its grouped kernel, interpreted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from fusec_testing.fences import fenced
from fusec_testing.grouped import Instance, run_grouped

from fusec.ir.dtypes import numpy_dtype
from fusec.ir.extents import value
from fusec.ir.plan import PlanData
from fusec.ir.stage import BufferKind, Lowered, TileOp
from fusec.ir.template import Template
from fusec.lowering import Stages
from fusec.runtime.weights import repacked

__all__ = ["on_card", "run_on_card", "within_twice"]


def on_card(data: PlanData) -> tuple[Template, Lowered, list[np.ndarray]]:
    """Lower a plan of one model for cards; give its general template, and weights packed for it.

    No stage may be left to PyTorch.
    """
    stages = Stages(card=True)
    packed = repacked(data, stages.layouts)
    (member,) = packed.members.values()
    variant = member.variants[0]
    template = packed.templates[packed.forms[variant.form].template]
    lowered = stages.of(template)
    assert not [s.extern.row.op for s in lowered.stages if s.extern is not None]
    weights = [packed.weights[key] for key in variant.weights]
    return (
        template,
        lowered,
        [
            np.frombuffer(blob.data, numpy_dtype(lowered.buffers[slot].dtype))
            for blob, slot in zip(weights, lowered.weights, strict=True)
        ],
    )


def run_on_card(data: PlanData, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Run the only model of a plan on one instance of one row; all symbols are 1."""
    template, lowered, weights = on_card(data)
    symbols = {symbol.name: 1 for symbol in template.symbols}
    flats = []
    given = {**dict(zip(lowered.inputs, map(_memory, inputs), strict=True))}
    given |= dict(zip(lowered.weights, weights, strict=True))
    for slot, buffer in enumerate(lowered.buffers):
        empty = np.zeros(value(buffer.elements, symbols), numpy_dtype(buffer.dtype))
        if buffer.kind not in (BufferKind.INPUT, BufferKind.WEIGHT):
            empty.view(np.uint8)[:] = 0xFF
        flats.append(fenced(given.get(slot, empty)))
    for stage in lowered.stages:
        assert stage.op is not TileOp.EXTERN
        run_grouped(stage, lowered.buffers, [Instance(flats, symbols)], programs=2)
    return [
        _tensor(flats[slot], lowered.buffers[slot].dtype).reshape(
            [value(e, symbols) for e in shape]
        )
        for slot, shape in zip(lowered.outputs, lowered.output_shapes, strict=True)
    ]


def within_twice(ours: torch.Tensor, plain: torch.Tensor, truth: torch.Tensor) -> None:
    """Fail unless ``err(ours) <= 2 * err(plain) + floor``; the floor is two units of the largest.

    Args:
        ours: what is tested.
        plain: by PyTorch, in the same dtype.
        truth: the same of the same half-width numbers, in float64.
    """
    assert ours.dtype == plain.dtype
    assert ours.shape == plain.shape
    if not ours.is_floating_point():
        assert torch.equal(ours, plain)
        return
    error, allowed = ((x.double() - truth).abs().max().item() for x in (ours, plain))
    unit = torch.finfo(ours.dtype).eps * truth.abs().max().item()
    assert error <= 2 * allowed + 2 * unit, f"error {error:.3g}, PyTorch's {allowed:.3g}"


def _memory(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    return tensor.contiguous().numpy().reshape(-1)


def _tensor(flat: np.ndarray, dtype: str) -> torch.Tensor:
    found = torch.from_numpy(flat.copy())
    return found.view(torch.bfloat16) if dtype == "bfloat16" else found
