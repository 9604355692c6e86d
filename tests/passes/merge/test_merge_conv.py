"""The forms of a merged convolution, and which one the cost model takes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from fusec_testing.merged import Merged
from torch import nn

from fusec.passes.merge import ConvCost, ConvForm
from fusec.passes.merge.conv_cost import ConvShape

SHAPE = ConvShape(
    members=8, batch=1, in_channels=32, out_channels=32, groups=1, taps=9, in_positions=256,
    positions=256, pointwise=False, matmul=True,
)  # fmt: skip


@pytest.mark.parametrize("form", list(ConvForm))
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Conv2d(4, 6, 3, padding=1), (1, 4, 6, 5)),
        (lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), bias=False), (1, 4, 8, 7)),
        (lambda: nn.Conv2d(4, 6, 1), (1, 4, 6, 5)),
        (lambda: nn.Conv1d(4, 6, 3, stride=2, dilation=2, padding=2), (1, 4, 9)),
        (lambda: nn.Conv1d(4, 6, 1), (1, 4, 9)),
        (lambda: nn.Conv3d(2, 3, 1), (1, 2, 3, 4, 5)),
        (lambda: nn.Conv2d(4, 8, 3, groups=4), (2, 4, 6, 5)),
        (lambda: nn.ConvTranspose2d(4, 6, 3, 2, output_padding=1, groups=2), (2, 4, 3, 3)),
        (lambda: nn.Conv2d(4, 6, 3), (4, 6, 5)),
    ],
)
def test_every_form(make: Any, shape: tuple[int, ...], form: ConvForm) -> None:
    merged = Merged(
        [nn.Sequential(make(), nn.ReLU(), nn.Flatten(0)) for _ in range(3)],
        torch.randn(shape),
        conv_cost=ConvCost(forced=form),
    )
    merged.check([[torch.randn(shape)] for _ in range(3)])
    use = merged.report.uses[0]
    if form is ConvForm.PER_MEMBER:
        assert use.rule == "per_member"
        assert "fastest" in use.detail
    else:
        assert use.rule == "conv"
        assert use.detail in ("grouped", "matmul")


def test_the_product_form_is_taken_where_it_exists_and_is_asked_for() -> None:
    forced = ConvCost(forced=ConvForm.MATMUL)
    merged = Merged(
        [nn.Conv2d(4, 6, 3) for _ in range(2)], torch.randn(1, 4, 6, 5), conv_cost=forced
    )
    assert merged.report.uses[0].detail == "matmul"
    assert ConvForm.MATMUL not in forced.estimates(replace(SHAPE, matmul=False))
    assert forced.choose(replace(SHAPE, matmul=False)) is not ConvForm.MATMUL


@pytest.mark.parametrize(
    ("change", "form"),
    [
        ({}, ConvForm.GROUPED),
        ({"taps": 1, "pointwise": True}, ConvForm.MATMUL),
        ({"in_channels": 512, "out_channels": 512, "positions": 49, "in_positions": 49,
          "matmul": False}, ConvForm.PER_MEMBER),
        ({"members": 2, "in_channels": 1, "out_channels": 8, "positions": 64,
          "in_positions": 64, "matmul": False}, ConvForm.PER_MEMBER),
        ({"groups": 32, "matmul": False}, ConvForm.GROUPED),
    ],
)  # fmt: skip
def test_choices_that_were_measured(change: dict[str, Any], form: ConvForm) -> None:
    assert ConvCost().choose(replace(SHAPE, **change)) is form


def test_estimates_grow_with_members() -> None:
    few, many = (ConvCost().estimates(replace(SHAPE, members=n)) for n in (2, 20))
    assert all(many[form] > few[form] and math.isfinite(many[form]) for form in few)
