"""Attention in the spellings that exporters write."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from fusec_testing.canonical import Function, checked, operators

from fusec.passes.pack import pack

QKV = tuple(torch.randn(1, 2, 6, 8) for _ in range(3))
E = 8
CAUSAL = torch.full((6, 6), -torch.inf).triu(1)


def soft(s, v):
    return torch.softmax(s, -1) @ v


PLAIN = {
    "operator": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
    "explicit": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=E**-0.5),
    "on scores": lambda q, k, v: soft(q @ k.transpose(-1, -2) / math.sqrt(E), v),
    "product": lambda q, k, v: soft((q @ k.transpose(2, 3)) * (1 / math.sqrt(E)), v),
    "on q": lambda q, k, v: soft((q / math.sqrt(E)) @ k.mT, v),
    "on k": lambda q, k, v: soft(q @ (k.mT * E**-0.5), v),
    "on both": lambda q, k, v: soft((q * E**-0.25) @ (k * E**-0.25).mT, v),
    "rounded": lambda q, k, v: soft(
        (q @ k.mT) * torch.tensor(E**-0.5).item(), v
    ),
    "dropout": lambda q, k, v: F.dropout(torch.softmax(q @ k.mT / math.sqrt(E), 3), 0.1, False) @ v,
}  # fmt: skip


def test_plain_spellings_meet_in_one_template():
    keys = {}
    for name, function in PLAIN.items():
        program, _ = checked(Function(function), *QKV)
        assert operators(program) == ["scaled_dot_product_attention"], name
        keys[name] = pack(program)[0].key
    assert len(set(keys.values())) == 1, keys


def test_added_mask():
    def by_hand(q, k, v, mask):
        return soft(q @ k.mT / math.sqrt(E) + mask, v)

    def hugging_face(q, k, v, mask):
        return soft(mask + torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(E), v)

    def whole(q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, mask)

    mask = torch.randn(1, 1, 1, 6)
    programs = [checked(Function(f), *QKV, mask)[0] for f in (by_hand, hugging_face, whole)]
    assert len({pack(p)[0].key for p in programs}) == 1
    assert operators(programs[0]) == ["scaled_dot_product_attention"]


CAUSAL_SPELLINGS = {
    "flag": lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "added": lambda q, k, v, m: soft(q @ k.mT / math.sqrt(E) + m, v),
    "computed": lambda q, k, v, m: soft(
        (q @ k.mT / math.sqrt(E)).masked_fill(
            torch.ones(6, 6, dtype=torch.bool).tril().logical_not(), -torch.inf
        ), v),
    "where": lambda q, k, v, m: soft(
        torch.where(m == 0, q @ k.mT / math.sqrt(E), torch.finfo(torch.float32).min), v),
    "mask": lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m == 0),
}  # fmt: skip


def test_causal_spellings_meet_in_one_template():
    keys = set()
    for name, function in CAUSAL_SPELLINGS.items():
        program, _ = checked(Function(function, CAUSAL), *QKV)
        assert operators(program) == ["scaled_dot_product_attention"], name
        keys.add(pack(program)[0].key)
    assert len(keys) == 1


def test_a_causal_weight_is_guarded():
    program, _ = checked(Function(CAUSAL_SPELLINGS["added"], CAUSAL), *QKV)
    (guard,) = program.guards
    assert guard.predicate == "causal_mask"
    assert guard.text == "weights.0 is a causal mask"
    assert len(program.results) == 2


def test_a_weight_that_is_no_causal_mask_stays_a_mask():
    other = CAUSAL.clone()
    other[0, 3] = 0
    program, _ = checked(Function(CAUSAL_SPELLINGS["added"], other), *QKV)
    assert operators(program) == ["scaled_dot_product_attention"]
    assert not program.guards


NEAR = {
    "softmax over queries": lambda q, k, v: torch.softmax(q @ k.mT, -2) @ v,
    "no softmax": lambda q, k, v: (q @ k.mT) @ v,
    "blocked by inputs": lambda q, k, v: soft(
        torch.where(q[..., :1] > 0, q @ k.mT, -torch.inf).clamp(min=-1e9), v),
    "finite": lambda q, k, v: soft((q @ k.mT).masked_fill(CAUSAL < 0, -10000.0), v),
    "a row masked as a whole": lambda q, k, v: soft(
        (q @ k.mT).masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(),
                               torch.finfo(torch.float32).min), v),
    "shared keys": lambda q, k, v: soft(q @ k[:, :1].mT, v),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR)
def test_near_misses_are_left_alone(name):
    program, _ = checked(Function(NEAR[name]), *QKV)
    assert "scaled_dot_product_attention" not in operators(program)


def test_three_axes():
    program, _ = checked(
        Function(lambda q, k, v: torch.bmm(torch.softmax(torch.bmm(q, k.mT) * 0.5, -1), v)),
        *(x[0] for x in QKV),
    )
    (call,) = program.graph.graph.find_nodes(
        op="call_function", target=torch.ops.aten.scaled_dot_product_attention.default
    )
    assert call.kwargs == {"scale": 0.5}
