"""The table of lowerings: operator name -> rule. What is not here runs through PyTorch."""

from collections.abc import Mapping

from fusec.passes.lower import host, views
from fusec.passes.lower.rule import Rule

__all__ = ["LOWERINGS"]

LOWERINGS: Mapping[str, Rule] = {
    **host.RULES,
    **views.RULES,
}
