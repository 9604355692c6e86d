"""The table of lowerings: operator name -> rule. What is not here runs through PyTorch."""

from collections.abc import Mapping

from fusec.passes.lower import attention, gather, host, norm, reduce, softmax, views
from fusec.passes.lower.rule import Rule

__all__ = ["LOWERINGS"]

LOWERINGS: Mapping[str, Rule] = {
    **attention.RULES,
    **gather.RULES,
    **norm.RULES,
    **reduce.RULES,
    **softmax.RULES,
    **host.RULES,
    **views.RULES,
}
