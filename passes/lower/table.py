"""The table of lowerings: operator name -> rule. What is not here runs through PyTorch."""

from collections.abc import Mapping

from fusec.passes.lower import (
    attention,
    convolution,
    copy,
    gather,
    host,
    linear,
    norm,
    pointwise,
    pool,
    reduce,
    rnn,
    softmax,
    sort,
    views,
)
from fusec.passes.lower.rule import Rule

__all__ = ["LOWERINGS"]

LOWERINGS: Mapping[str, Rule] = {
    **attention.RULES,
    **gather.RULES,
    **norm.RULES,
    **reduce.RULES,
    **softmax.RULES,
    **sort.RULES,
    **convolution.RULES,
    **pool.RULES,
    **copy.RULES,
    **pointwise.RULES,
    **host.RULES,
    **linear.RULES,
    **rnn.RULES,
    **views.RULES,
}
