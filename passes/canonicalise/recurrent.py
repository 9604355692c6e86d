"""Recurrent layers whose first state is zeros, whoever wrote the zeros."""

from typing import Any, Final

import torch
from torch import fx

import fusec.kernels.rnn.op  # noqa: F401  (defines torch.ops.fusec.rnn)
from fusec.ir.template import Predicate
from fusec.passes.canonicalise.facts import dtype_of, is_call, shape_of
from fusec.passes.canonicalise.rewrite import Answer, Edit, Rule
from fusec.passes.canonicalise.schema import arguments

__all__ = ["RULES"]

aten = torch.ops.aten
RNN: Final = torch.ops.fusec.rnn.default


def _zero_state(edit: Edit, node: fx.Node) -> Answer:
    given = arguments(node)
    changed = False
    for name in ("h0", "c0"):
        state = given[name]
        if _is_zeros(edit, state) and not is_call(state, aten.full.default):
            sizes: list[Any] = list(shape_of(state))
            given[name] = edit.emit(aten.full.default, sizes, 0, dtype=dtype_of(state))
            changed = True
    return edit.emit(RNN, **given) if changed else None


def _is_zeros(edit: Edit, state: Any) -> bool:
    if state is None or not edit.is_constant(state) or bool((edit.value(state) != 0).any()):
        return False
    edit.guard(state, Predicate.EQUALS, 0.0, "is 0 everywhere (a recurrent layer's first state)")
    return True


RULES: Final = (Rule("zero_state", (RNN,), _zero_state),)
