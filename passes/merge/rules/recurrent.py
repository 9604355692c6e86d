"""Recurrent layers: all members in one loop over time where steps are small, else one by one.

The library's loop reads packed weights and wins as soon as a step's products are large; one loop
for all members saves g - 1 calls of every small operator in a step. Measured (LSTM, one thread,
float32):

    members  steps  hidden   per member   one loop
    4        1      64       0.50 ms      0.10 ms
    16       32     32       2.0          1.1
    16       32     64       2.8          2.6
    16       32     128      9.2          16
    64       1      64       21           1.1
    64       32     32       17           3.1
    64       32     64       26           18
    64       32     128      64           160
"""

import operator

import torch

import fusec.kernels.rnn.grouped  # noqa: F401  (defines torch.ops.fusec.grouped_rnn)
from fusec.passes.merge.builder import Builder
from fusec.passes.merge.operand import Call, PerMember, Result
from fusec.passes.merge.rules.rule import MergeRule

__all__ = ["RULES"]

FEW_STEPS = 2
"""At so few steps reading the weights once is all that matters."""

SMALL_STEP = 64 * 64
"""Rows times hidden size squared up to which one loop wins over longer sequences."""

FEW_MEMBERS = 8
"""Below, the library's loop per member wins over longer sequences."""


def _plain(call: Call) -> str:
    """Say what the grouped loop does not have; empty if it has all."""
    for name in ("peephole", "lengths", "clip"):
        if call.arguments.get(name) is not None:
            return name
    if call.get("input_forget"):
        return "coupled gates"
    if call.get("mode") == "gru" and not call.get("reset_after"):
        return "reset before the product"
    if _activation(call) is None:
        return "other activations"
    return ""


def _activation(call: Call) -> str | None:
    """Give the one activation that a layer may choose, None where the layer is not plain."""
    given = call.arguments.get("activations") or ()
    assert isinstance(given, list | tuple)
    names = tuple(str(name) for name in given)
    if call.get("mode") == "rnn":
        name = names[0] if names else "tanh"
        return name if name in ("tanh", "relu") else None
    defaults = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh")}
    return "tanh" if not names or names == defaults[str(call.get("mode"))] else None


def _is_small(b: Builder, call: Call) -> bool:
    x, recurrent = call.operand("x"), call.operand("r")
    steps, rows, hidden = x.shape[0], x.shape[1], recurrent.shape[1]
    if isinstance(steps, int) and steps <= FEW_STEPS:
        return True
    work = int(hidden) ** 2 * (rows if isinstance(rows, int) else 1)
    return b.g >= FEW_MEMBERS and work <= SMALL_STEP


def _rnn(b: Builder, call: Call) -> Result:
    missing = _plain(call)
    if missing:
        return PerMember(f"the grouped loop has no {missing}")
    if not _is_small(b, call):
        return PerMember("a wide layer runs faster in the library's loop")
    names = ("x", "w", "r", "b", "h0", "c0")
    operands = [call.optional(name) for name in names]
    lifted = [None if operand is None else b.full(operand) for operand in operands]
    whole = b.call(
        torch.ops.fusec.grouped_rnn.default,
        *lifted,
        mode=call.get("mode"),
        reverse=call.get("reverse"),
        activation=_activation(call),
    )
    return tuple(b.call(operator.getitem, whole, i) for i in range(3))


RULES = (MergeRule(name="recurrent", targets=("fusec.rnn.default",), build=_rnn),)
