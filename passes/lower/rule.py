"""What an entry of the lowering table is."""

from collections.abc import Callable
from typing import TypeAlias

from fusec.ir.template import Row
from fusec.passes.lower.builder import Lowering, Value

__all__ = ["FAULTS", "Rule"]

FAULTS = (LookupError, TypeError, ValueError, ArithmeticError, AssertionError, AttributeError)
"""What a rule raises over a row that no importer makes; files that were tampered with hold such."""

Rule: TypeAlias = Callable[[Lowering, Row], Value]
"""Lower one row: emit stages, give its value. Raises `Refused` for what it does not do."""
