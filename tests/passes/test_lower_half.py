"""Half-width rows are lowered for cards as float32 is, and for nobody else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fusec
from fusec.ir.plan import WeightStorage
from fusec.ir.stage import LayoutKind, Lowered, TileOp
from fusec.lowering import Stages


class Call(nn.Module):
    def __init__(self, function: Callable[..., torch.Tensor], *weights: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *self.weights)


def lowered(
    model: nn.Module, x: torch.Tensor, *, card: bool = True, storage: WeightStorage | None = None
) -> Lowered:
    plan = fusec.compile({"a": model.eval()}, examples={"a": x})
    (template,) = plan.inside()[0].data().templates.values()
    return Stages(storage, card=card).of(template)


def mlp(dtype: torch.dtype) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 20), nn.GELU(), nn.LayerNorm(20), nn.Linear(20, 3)).to(dtype)


def test_float32_is_lowered_as_for_native_code() -> None:
    model, x = mlp(torch.float32), torch.zeros(1, 6)
    assert lowered(model, x) == lowered(model, x, card=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_is_lowered_as_float32_is(dtype: torch.dtype) -> None:
    half = lowered(mlp(dtype), torch.zeros(1, 6, dtype=dtype))
    single = lowered(mlp(torch.float32), torch.zeros(1, 6))
    assert [s.op for s in half.stages] == [s.op for s in single.stages]
    assert half.layouts == single.layouts
    assert half.layouts[0].kind is LayoutKind.PANELS
    name = str(dtype).removeprefix("torch.")
    assert {b.dtype for b in half.buffers} == {name}
    assert {v.dtype for s in half.stages for v in (*s.reads, *s.writes)} == {name}
    steps = [s.op for stage in half.stages if stage.point for s in stage.point.steps]
    short = {"float16": "f16", "bfloat16": "bf16"}[name]
    assert steps == ["gelu_f32", f"round_{short}_f32"]


def test_native_code_leaves_products_to_torch() -> None:
    made = lowered(mlp(torch.float16), torch.zeros(1, 6, dtype=torch.float16), card=False)
    assert TileOp.EXTERN in {s.op for s in made.stages}
    assert {layout.kind for layout in made.layouts} == {LayoutKind.PLAIN}


def test_half_weights_are_not_stored_as_another_half() -> None:
    x = torch.zeros(1, 6, dtype=torch.float16)
    made = lowered(mlp(torch.float16), x, storage=WeightStorage.BFLOAT16)
    assert {layout.stored for layout in made.layouts} == {None}


def test_results_keep_their_width() -> None:
    """A sum of half-width numbers as float32 is not rounded on the way."""
    model = Call(lambda x: x.sum(-1, dtype=torch.float32))
    made = lowered(model, torch.zeros(1, 6, dtype=torch.float16))
    assert made.buffers[made.outputs[0]].dtype == "float32"
    for stage in made.stages:
        for view in (*stage.reads, *stage.writes):
            assert view.dtype == made.buffers[view.slot].dtype


def test_copies_keep_the_dtype_of_what_they_read() -> None:
    """A turned operand is copied as it is, beside one of another width."""
    mask = torch.zeros(3, 3)
    model = Call(
        lambda x, m: F.layer_norm(x.transpose(1, 2), (3,), m[:, 0].contiguous()), mask.half()
    )
    made = lowered(model, torch.zeros(1, 3, 5, dtype=torch.float16))
    for stage in made.stages:
        assert {v.dtype for v in (*stage.reads, *stage.writes)} == {"float16"}


def test_both_kinds_of_half_are_left_to_torch() -> None:
    model = Call(lambda x: F.silu(x) * F.silu(x.to(torch.bfloat16)))
    made = lowered(model, torch.zeros(1, 6, dtype=torch.float16))
    assert {s.op for s in made.stages} <= {TileOp.POINTWISE, TileOp.COPY, TileOp.EXTERN}


def test_what_cards_have_no_kernel_for_is_left_to_torch() -> None:
    model = Call(lambda x: torch.sort(x, dim=-1)[0])
    made = lowered(model, torch.zeros(1, 6, dtype=torch.float16))
    assert TileOp.EXTERN in {s.op for s in made.stages}


def test_batch_norm_is_an_epilogue_of_factor_and_term() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).half()
    made = lowered(model, torch.zeros(1, 2, 5, 5, dtype=torch.float16))
    first = made.stages[0]
    assert first.op is TileOp.CONV
    assert first.point is not None
    assert [s.op for s in first.point.steps] == [
        "same_f32", "mul_f32", "add_f32", "round_f16_f32", "relu_f32", "round_f16_f32",
    ]  # fmt: skip
