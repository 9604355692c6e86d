"""Volumes become images: same answers, all native, and batch norms fold first."""

from __future__ import annotations

import pytest
import torch
from fusec_testing.canonical import checked, operators
from fusec_testing.lowered import lowered_module
from torch import nn

from fusec.ir.stage import TileOp
from fusec.ir.template import Symbol

X = torch.randn(2, 4, 6, 7, 8)

CASES = {
    "plain": nn.Conv3d(4, 5, 3, padding=1),
    "strides": nn.Conv3d(4, 6, (3, 1, 2), (2, 1, 3), (2, 0, 1), (2, 1, 1), bias=False),
    "groups": nn.Conv3d(4, 8, (2, 3, 3), groups=2),
    "depthwise": nn.Conv3d(4, 4, 3, padding="same", groups=4),
    "max": nn.MaxPool3d((3, 2, 2), (2, 1, 3), (1, 1, 0), dilation=(1, 2, 1), ceil_mode=True),
    "average": nn.AvgPool3d((2, 3, 4), (2, 2, 3), (1, 1, 2), ceil_mode=True),
    "average without padding": nn.AvgPool3d(3, 2, 1, count_include_pad=False),
    "adaptive": nn.AdaptiveAvgPool3d((4, 3, 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_keeps_its_answer_and_runs_natively(name: str) -> None:
    module = CASES[name].eval()
    program, _ = checked(module, X)
    assert not {"max_pool3d", "avg_pool3d", "_adaptive_avg_pool3d"} & set(operators(program))
    lowered = lowered_module(module, X)
    assert TileOp.EXTERN not in lowered.ops()
    native, reference = (lowered.run(X, native=n)[0] for n in (True, False))
    torch.testing.assert_close(torch.from_numpy(native), torch.from_numpy(reference))


def test_batch_norm_folds_before() -> None:
    block = nn.Sequential(nn.Conv3d(4, 5, 3, bias=False), nn.BatchNorm3d(5), nn.ReLU()).eval()
    program, _ = checked(block, X)
    assert not {"mul", "add", "batch_norm"} & set(operators(program))


def test_extents_that_vary() -> None:
    block = nn.Sequential(nn.Conv3d(4, 5, 3, padding=1), nn.MaxPool3d(2))
    others = [(torch.randn(2, 4, 6, 7, w),) for w in (2, 11)]
    for axes in ({4: Symbol("w", 2, 20)}, {3: Symbol("h", 2, 20), 4: Symbol("w", 2, 20)}):
        program, _ = checked(block, X, dynamic={0: axes}, others=others)
        assert "unfold" in operators(program)
    others = [(torch.randn(2, 4, d, 7, 8),) for d in (2, 11)]
    program, _ = checked(block, X, dynamic={0: {2: Symbol("d", 2, 20)}}, others=others)
    assert "unfold" not in operators(program)
