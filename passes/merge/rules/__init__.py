"""The table of merge rules: operator name -> rule, one file per family."""

from collections.abc import Mapping

from fusec.passes.merge.rules import linear, norm, pointwise, shape
from fusec.passes.merge.rules.rule import MergeRule, table

__all__ = ["RULES", "MergeRule"]

RULES: Mapping[str, MergeRule] = table(
    (
        *linear.RULES,
        *norm.RULES,
        *pointwise.RULES,
        *shape.RULES,
    )
)
