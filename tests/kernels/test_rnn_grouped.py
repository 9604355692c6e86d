"""fusec::grouped_rnn against one fusec::rnn per member and against float64."""

from __future__ import annotations

import pytest
import torch
from fusec_testing import assert_no_worse

import fusec.kernels.rnn.grouped
import fusec.kernels.rnn.op  # noqa: F401  (both define operators)
from fusec.ir.errors import ConfigError

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
Operands = list[torch.Tensor | None]


def operands(mode: str, members: int, steps: int, rows: int, bias: bool) -> Operands:
    inputs, hidden = 3, 5
    width = GATES[mode] * hidden
    return [
        torch.randn(members, steps, rows, inputs),
        torch.randn(members, width, inputs),
        # Large recurrent weights would blow up every rounding from step to step.
        torch.randn(members, width, hidden) * 0.2,
        torch.randn(members, 2, width) if bias else None,
        torch.randn(members, rows, hidden),
        torch.randn(members, rows, hidden) if mode == "lstm" else None,
    ]


def one(given: Operands, member: int, wide: bool) -> Operands:
    own = [None if t is None else t[member] for t in given]
    return [t if t is None or not wide else t.double() for t in own]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("mode", "activation"), [("lstm", "tanh"), ("gru", "tanh"), ("rnn", "tanh"), ("rnn", "relu")]
)
@pytest.mark.parametrize(("members", "steps", "rows"), [(1, 4, 2), (3, 1, 1), (2, 5, 3), (2, 0, 2)])
def test_like_one_layer_per_member(
    mode: str, activation: str, bias: bool, reverse: bool, members: int, steps: int, rows: int
) -> None:
    given = operands(mode, members, steps, rows, bias)
    got = torch.ops.fusec.grouped_rnn(*given, mode=mode, reverse=reverse, activation=activation)
    names = [activation] if mode == "rnn" else []
    for m in range(members):
        plain, exact = (
            torch.ops.fusec.rnn(
                *one(given, m, wide), None, None, mode=mode, reverse=reverse, activations=names
            )
            for wide in (False, True)
        )
        for name, ours, want, truth in zip("yhc", got, plain, exact, strict=True):
            assert_no_worse(ours[m], want, truth, where=f"{name} of member {m}")


@pytest.mark.parametrize("mode", list(GATES))
def test_operator_checks(mode: str) -> None:
    """Schema, fake shapes and results that share no memory."""
    given = operands(mode, 2, 3, 2, True)
    torch.library.opcheck(
        torch.ops.fusec.grouped_rnn.default,
        tuple(given),
        {"mode": mode},
        test_utils=("test_schema", "test_faketensor"),
    )


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="no 'gru' with 'relu'"):
        torch.ops.fusec.grouped_rnn(*operands("gru", 2, 1, 1, False), mode="gru", activation="relu")
