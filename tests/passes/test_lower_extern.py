"""Rows that PyTorch runs: they read weights as they were, whatever others would have packed."""

from __future__ import annotations

import torch
from fusec_testing import assert_no_worse
from torch import nn

import fusec
from fusec.ir.stage import LayoutKind, TileOp
from fusec.passes.lower import lower


class Shared(nn.Module):
    """One matrix for a product, which would pack it, and for an operator without a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 5)
        self.linear.weight.data = self.linear.weight.data.sort(-1).values
        self.other = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply by the matrix, and find the products among its rows."""
        y = self.linear(x)
        places = torch.searchsorted(self.linear.weight, y.t().contiguous())
        return self.other(y + places.t())


def test_a_weight_that_pytorch_reads_too_stays_plain() -> None:
    model = Shared().eval()
    x = torch.randn(3, 6)
    plan = fusec.compile({"m": model}, examples={"m": x[:1]}, executor="cpu")
    (template,) = plan._registry.data().templates.values()
    lowered = lower(template)
    kinds = {
        shape: layout.kind
        for shape, layout in zip(lowered.weight_shapes, lowered.layouts, strict=True)
    }
    assert kinds[5, 6] is LayoutKind.PLAIN
    assert kinds[4, 5] is LayoutKind.PANELS
    (stage,) = [s for s in lowered.stages if s.op is TileOp.EXTERN]
    assert stage.reads[0].slot in lowered.weights
    (answer,) = plan.run({"m": x})["m"].values()
    with torch.no_grad():
        plain = torch.cat([model(row[None]) for row in x])
        truth = model.double()(x.double())
    assert_no_worse(answer, plain, truth)


def test_a_product_that_is_refused_leaves_its_weight_plain() -> None:
    """Decided only when rows are lowered: a product in float64 has no kernel."""
    model = nn.Linear(6, 5).double().eval()
    x = torch.randn(2, 6, dtype=torch.float64)
    plan = fusec.compile({"m": model}, examples={"m": x[:1]}, executor="cpu")
    (answer,) = plan.run({"m": x})["m"].values()
    torch.testing.assert_close(answer, model(x).detach())
