"""Linears, convolutions and what folds into them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fusec_testing.canonical import Function, checked, operators, rules
from torch import nn

from fusec.passes.pack import pack

aten = torch.ops.aten
W, B = torch.randn(5, 4), torch.randn(5)

LINEARS = {
    "linear": lambda x, w, b: F.linear(x, w, b),
    "matmul": lambda x, w, b: x @ w.t() + b,
    "bias first": lambda x, w, b: b + torch.matmul(x, w.transpose(0, 1)),
    "row bias": lambda x, w, b: x @ w.t() + b.reshape(1, 5),
    "addmm": lambda x, w, b: torch.addmm(b, x, w.t()),
    "mm": lambda x, w, b: torch.mm(x, w.t()) + b,
    "views": lambda x, w, b: F.linear(x.reshape(3, 1, 4), w, b).reshape(3, 5),
    "einsum": lambda x, w, b: torch.einsum("bk,nk->bn", x, w) + b,
    "einsum turned": lambda x, w, b: torch.einsum("bk,kn->bn", x, w.t()) + b,
    "bmm": lambda x, w, b: torch.bmm(x[None], w.t()[None])[0] + b,
    "baddbmm": lambda x, w, b: torch.baddbmm(b, x[None], w.t()[None]).squeeze(0),
    "dropout": lambda x, w, b: F.dropout(F.linear(x, w), 0.5, False) + b,
}


def test_linear_spellings_meet_in_one_template():
    keys = {}
    for name, function in LINEARS.items():
        program, _ = checked(Function(function, W, B), torch.randn(3, 4))
        assert operators(program) == ["linear"], name
        keys[name] = pack(program)[0].key
    assert len(set(keys.values())) == 1, keys


SCALED = {
    "addmm": lambda x, w, b: torch.addmm(b, x, w.t(), alpha=0.3, beta=1.7),
    "factor": lambda x, w, b: F.linear(x, w, b) * 0.3,
    "divisor": lambda x, w, b: F.linear(x, w, b) / 0.3,
    "factor per output": lambda x, w, b: F.linear(x, w) * b,
    "two factors": lambda x, w, b: F.linear(x, w) * b * 3 + 0.1 * b,
    "two terms": lambda x, w, b: F.linear(x, w, b) + b + b,
    "alpha": lambda x, w, b: torch.add(F.linear(x, w), b, alpha=2),
    "batch norm": lambda x, w, b: F.batch_norm(F.linear(x, w, b), b, b.abs() + 0.1, b, b),
}


@pytest.mark.parametrize("name", SCALED)
def test_constants_fold_into_the_linear(name):
    program, _ = checked(Function(SCALED[name], W, B), torch.randn(3, 4))
    assert operators(program) == ["linear"]


def test_batched_products_with_a_matrix():
    program, _ = checked(
        Function(lambda x, w, b: torch.matmul(x, w.t()) + b, W, B), torch.randn(2, 7, 4)
    )
    assert operators(program) == ["linear"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w, b: x @ x.transpose(-1, -2),
        lambda x, w, b: torch.bmm(x, w.t().expand(3, 4, 5) * torch.arange(1.0, 4)[:, None, None]),
        lambda x, w, b: w @ x.transpose(-1, -2),
    ],
    ids=["two activations", "a matrix per row", "weight on the left"],
)
def test_products_that_are_no_linear(function):
    program, _ = checked(Function(function, W, B), torch.randn(3, 6, 4))
    assert "linear" not in operators(program)


def test_a_product_needed_elsewhere_keeps_its_bias_outside():
    program, reports = checked(
        Function(lambda x, w, b: (F.linear(x, w), F.linear(x, w) + b), W, B), torch.randn(3, 4)
    )
    assert operators(program) == ["linear", "add"]
    refused = [r for report in reports for r in report.refusals]
    assert any(r.rule == "bias_into_linear" for r in refused)


def test_a_term_that_grows_the_result_is_no_bias():
    program, _ = checked(
        Function(lambda x, w, b: F.linear(x, w) + b, W, torch.randn(3, 5)), torch.randn(1, 4)
    )
    assert operators(program) == ["linear", "add"]


CONVOLUTIONS = [
    (nn.Conv1d(4, 6, 3, padding=1), (1, 4, 9)),
    (nn.Conv2d(4, 6, 3, stride=2, padding=(1, 0), dilation=2), (2, 4, 9, 9)),
    (nn.Conv2d(4, 6, 3, groups=2, bias=False), (1, 4, 9, 9)),
    (nn.Conv2d(4, 6, (3, 2), padding="same"), (1, 4, 9, 9)),
    (nn.Conv2d(4, 6, 3, padding="valid"), (4, 9, 9)),
    (nn.Conv3d(4, 2, 2), (1, 4, 5, 5, 5)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2), (1, 4, 9)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (1, 4, 5, 5)),
    (nn.ConvTranspose2d(4, 6, 3, groups=2), (1, 4, 5, 5)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("layer, shape", CONVOLUTIONS, ids=lambda v: str(v)[:60])
def test_batch_norm_folds_into_every_convolution(layer, shape):
    channels, rank = layer.out_channels, len(layer.kernel_size)
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1](channels)
    for values in (norm.weight.data, norm.bias.data, norm.running_mean):
        values.normal_()
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(shape)
    if len(shape) == rank + 1:
        model = nn.Sequential(nn.Unflatten(0, (1, shape[0])), layer, norm)
    else:
        model = nn.Sequential(layer, norm)
    program, _ = checked(model, x)
    windows = {"unfold", "permute"} if rank == 3 else set()
    assert set(operators(program)) <= {"convolution", "constant_pad_nd", "reshape", *windows}


def test_convolution_of_one_sample_without_a_batch_axis():
    program, _ = checked(nn.Conv2d(4, 6, 3), torch.randn(4, 9, 9))
    assert operators(program) == ["reshape", "convolution", "reshape"]


def test_batch_norm_spellings_by_hand_fold_too():
    def by_hand(x, w, g, b):
        return F.conv2d(x, w) * g[:, None, None] + b[:, None, None]

    program, _ = checked(
        Function(by_hand, torch.randn(3, 2, 3, 3), torch.randn(3), torch.randn(3)),
        torch.randn(1, 2, 6, 6),
    )
    assert operators(program) == ["convolution"]


def test_batch_norm_without_a_convolution_is_a_factor_and_a_term():
    program, _ = checked(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), torch.randn(1, 3, 4, 4))
    assert operators(program) == ["relu", "mul", "add"]


def test_batch_norm_after_a_branch_stays():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return y, self.norm(y)

    program, reports = checked(Branch(), torch.randn(1, 2, 4, 4))
    assert operators(program) == ["convolution", "mul", "add"]
    assert any(
        r.rule == "factor_into_convolution" and r.reason == "used_elsewhere"
        for report in reports
        for r in report.refusals
    )


def test_zero_padding_moves_into_the_convolution():
    w = torch.randn(3, 2, 3, 3)
    even, _ = checked(
        Function(lambda x, w: F.conv2d(F.pad(x, (1, 1, 2, 2)), w), w), torch.randn(1, 2, 6, 6)
    )
    odd, _ = checked(
        Function(lambda x, w: F.conv2d(F.pad(x, (0, 1, 0, 1)), w, stride=2, padding=1), w),
        torch.randn(1, 2, 6, 6),
    )
    assert operators(even) == ["convolution"]
    assert operators(odd) == ["constant_pad_nd", "convolution"]


def test_padding_with_another_value_stays():
    program, reports = checked(
        Function(lambda x, w: F.conv2d(F.pad(x, (1, 1, 1, 1), value=0.5), w),
                 torch.randn(3, 2, 3, 3)), torch.randn(1, 2, 6, 6)
    )  # fmt: skip
    assert operators(program) == ["constant_pad_nd", "convolution"]
    assert any(r.reason == "value" for report in reports for r in report.refusals)
    assert "padding_into_convolution" not in rules(reports)


def test_einsum_that_repeats_an_extent_of_one():
    program, _ = checked(
        Function(lambda x, w: torch.einsum("btk,kn->btn", x, w), torch.randn(8, 2)),
        torch.randn(2, 3, 1),
    )
    assert "linear" not in operators(program)
