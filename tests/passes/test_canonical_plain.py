"""Operators made of plainer ones: spelled out, they keep their answers and run natively."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from fusec_testing.canonical import Function, checked, operators
from fusec_testing.lowered import lowered_module

from fusec.ir.stage import TileOp
from fusec.ir.template import Symbol

X, Y = torch.randn(2, 4, 6), torch.randn(2, 5, 6)
IMAGE = torch.randn(2, 6, 4, 8)
WHOLE = torch.randint(0, 9, (2, 4))


def written(x: torch.Tensor) -> torch.Tensor:
    """Write to parts of a tensor."""
    y = x.clone()
    y[:, 0] = 1.5
    y[:, 1:3] += x[:, :1]
    y[x > 1] = -0.5
    y[x[:, :, 0] > 0.3] = 7.0
    return y


CASES: dict[str, tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]] = {
    "channel_shuffle": (lambda x: F.channel_shuffle(x, 3), (IMAGE,)),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), (IMAGE,)),
    "pixel_unshuffle of rank 5": (lambda x: F.pixel_unshuffle(x[:, None], 4), (IMAGE,)),
    "meshgrid": (
        lambda x: x * sum(torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")),
        (X,),
    ),
    "meshgrid as an image": (
        lambda x: x * torch.meshgrid(torch.arange(6.0), torch.arange(4.0), indexing="xy")[0],
        (X,),
    ),
    "tril": (lambda x: x.tril(1), (X,)),
    "triu of truth values": (lambda x: (x > 0).triu(-1), (X,)),
    "triu of integers": (lambda x: x.triu(1), (WHOLE,)),
    "eye": (lambda x: x @ torch.eye(6, 3, dtype=x.dtype), (X,)),
    "linspace": (lambda x: x * torch.linspace(-1, 1.7, 6, dtype=x.dtype), (X,)),
    "one_hot": (lambda x: F.one_hot(x, 9), (WHOLE,)),
    "narrow": (lambda x: x.narrow(1, 1, 2) + x.narrow(-2, -2, 2), (X,)),
    "slice_scatter": (lambda x: torch.slice_scatter(x, x[:, 1:3] * 2, 1, 0, 2), (X,)),
    "select_scatter": (lambda x: torch.select_scatter(x, x[:, 1] * 2, 1, -1), (X,)),
    "copy": (written, (X,)),
    "diagonal": (
        lambda x: x.diagonal(1, 1, 2).sum(-1) + torch.diagonal(x, -2, 2, -2)[:, 0],
        (X,),
    ),
    "cosine_similarity": (lambda x, y: F.cosine_similarity(x[:, None], y[:, :, None], -1), (X, Y)),
    "pairwise_distance": (lambda x, y: F.pairwise_distance(x, y[:, :4], 1.0), (X, Y)),
    "cdist": (torch.cdist, (X, Y)),
    "bilinear": (
        lambda x, y, w, b: F.bilinear(x, y, w, b),
        (X, Y[:, :4, :3], torch.randn(5, 6, 3), torch.randn(5)),
    ),
    "softshrink": (lambda x: F.softshrink(x, 0.3), (X,)),
    "sinc": (lambda x: torch.sinc(x.round()) + torch.sinc(x), (X,)),
    "reflection": (lambda x: F.pad(x, (2, 1, 0, 3), mode="reflect"), (IMAGE,)),
    "replication": (lambda x: F.pad(x, (2, 9, 1, 0), mode="replicate"), (IMAGE,)),
    "circular": (lambda x: F.pad(x, (8, 1, 0, 4), mode="circular"), (IMAGE,)),
    "windows": (
        lambda x: F.unfold(x, (2, 3), dilation=(2, 1), padding=(1, 2), stride=(2, 1)),
        (IMAGE,),
    ),
    "unfold": (lambda x: x.unfold(1, 3, 1).unfold(2, 4, 2) * 2, (X,)),
    "einsum with dots": (lambda x, y: torch.einsum("b...i,b...j->b...ij", x, y[:, :4]), (X, Y)),
    "einsum of three": (lambda x, y: torch.einsum("bti,bsi,bs->bt", x, y, y[..., 0]), (X, Y)),
    "einsum that sums alone": (lambda x, y: torch.einsum("bti,bsj->bts", x, y), (X, Y)),
    "einsum with three batches": (lambda x: torch.einsum("bxyi,bxyj->bxyij", x, x * 2), (IMAGE,)),
    "einsum of one": (lambda x: torch.einsum("bij->jb", x), (X,)),
    "einsum without a result": (lambda x, y: torch.einsum("i j, j k", x, y), (X[0], Y[0].T)),
}


@pytest.mark.parametrize("name", CASES)
def test_keeps_its_answer_and_runs_natively(name: str) -> None:
    function, inputs = CASES[name]
    program, _ = checked(Function(function), *inputs)
    gone = {name.partition(" ")[0], "pad", "im2col", "_cdist_forward"} - {
        "einsum",
        "unfold",
        "diagonal",
    }
    assert not gone & set(operators(program))
    lowered = lowered_module(Function(function), *inputs)
    assert TileOp.EXTERN not in lowered.ops()
    native, reference = (lowered.run(*inputs, native=n) for n in (True, False))
    for ours, plain in zip(native, reference, strict=True):
        torch.testing.assert_close(torch.from_numpy(ours), torch.from_numpy(plain))


def test_reflection_of_an_axis_that_varies_is_left_alone() -> None:
    function = Function(lambda x: F.pad(x, (2, 1), mode="reflect"))
    program, _ = checked(function, X, dynamic={0: {2: Symbol("n", 4, 99)}})
    assert "cat" not in operators(program)


@pytest.mark.parametrize("padding", [0, 1])
def test_windows_of_axes_that_vary_are_left_alone(padding: int) -> None:
    function = Function(lambda x: F.unfold(x, 3, padding=padding))
    others, axes = [(torch.randn(2, 6, 7, 5),)], {2: Symbol("m", 3, 99), 3: Symbol("n", 3, 99)}
    program, _ = checked(function, IMAGE, dynamic={0: axes}, others=others)
    assert "im2col" in operators(program)
