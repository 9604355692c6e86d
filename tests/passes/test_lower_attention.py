"""Lowered attention against torch, through references and natively."""

from __future__ import annotations

import pytest
import torch
from fusec_testing.canonical import Function
from fusec_testing.lowered import LoweredModule, check_lowered

from fusec.ir.stage import TileOp
from fusec.ir.template import Symbol

sdpa = torch.nn.functional.scaled_dot_product_attention
ATTENTION = {TileOp.ATTENTION}


def _qkv(*, b: int = 1, heads: int = 4, kv_heads: int = 4) -> list[torch.Tensor]:
    shapes = ((b, heads, 9, 32), (b, kv_heads, 13, 32), (b, kv_heads, 13, 16))
    return [torch.randn(shape) for shape in shapes]


def _check(function, *inputs: torch.Tensor, **more) -> LoweredModule:
    return check_lowered(Function(function), *inputs, expect=ATTENTION, **more)


def test_plain_causal_and_scaled() -> None:
    _check(sdpa, *_qkv())
    _check(sdpa, *_qkv(b=2))
    _check(sdpa, *(x[0] for x in _qkv()))
    _check(lambda q, k, v: sdpa(q, k, v, is_causal=True), *_qkv())
    _check(lambda q, k, v: sdpa(q, k, v, scale=0.3), *_qkv())


def test_heads_of_projections_are_read_in_place() -> None:
    def function(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = (x.reshape(1, -1, 4, 8).transpose(1, 2) for x in (q, k, v))
        return sdpa(q, k, v).transpose(1, 2).reshape(1, -1, 32)

    made = _check(function, *(torch.randn(1, n, 32) for n in (9, 13, 13)))
    assert made.ops() == [TileOp.ATTENTION, TileOp.COPY]


def test_keys_given_transposed_are_copied() -> None:
    q, k, v = _qkv()
    _check(lambda q, k, v: sdpa(q, k.transpose(2, 3), v), q, k.transpose(2, 3).contiguous(), v)


@pytest.mark.parametrize(
    "mask",
    [
        torch.rand(1, 1, 9, 13) > 0.3,
        torch.rand(1, 1, 1, 13) > 0.3,
        torch.rand(4, 9, 1) > 0.3,
        torch.randn(1, 4, 9, 13),
        torch.randn(9, 13),
        torch.randn(9, 1),
    ],
)
def test_masks(mask: torch.Tensor) -> None:
    _check(lambda q, k, v, m: sdpa(q, k, v, m), *_qkv(), mask)


def test_fewer_heads_of_keys() -> None:
    _check(lambda q, k, v: sdpa(q, k, v, enable_gqa=True), *_qkv(kv_heads=2))


def test_any_number_of_tokens() -> None:
    tokens = Symbol("s0", 2, None)
    axes = {i: {1: tokens} for i in range(3)}

    def function(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = (x.reshape(1, -1, 4, 8).transpose(1, 2) for x in (q, k, v))
        return sdpa(q, k, v).transpose(1, 2).reshape(1, -1, 32)

    others = [tuple(torch.randn(1, n, 32) for _ in range(3)) for n in (2, 70)]
    given = (torch.randn(1, 9, 32) for _ in range(3))
    made = _check(function, *given, dynamic=axes, others=others)
    assert made.ops() == [TileOp.ATTENTION, TileOp.COPY]


def test_other_dtypes_are_left_to_torch() -> None:
    with pytest.raises(AssertionError, match="extern"):
        _check(sdpa, *(x.double() for x in _qkv()))
