"""What the operator table holds: one record per operator."""

import dataclasses
from collections.abc import Callable, Mapping

from fusec.importers.onnx.values import Value
from fusec.ir.errors import VerifyError

Key = tuple[str, str]
Function = Callable[..., Value | tuple[Value, ...]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """How one operator is evaluated.

    Inputs arrive in order after the call; an absent optional one is ``None``, trailing ones may be
    missing. A tuple is several outputs; a list is one output that is a sequence.

    Attributes:
        run: evaluates on tensors; inputs that are host values are converted first.
        host: positions that are structure: always handed over as host values.
        numpy: used instead of `run` when every present input is a host value.
        either: `run` takes values of either domain as they are.
        scalar: positions where a rank-0 floating host value may arrive as a Python float, when
            another input is a tensor of the same dtype.
        lifted: attributes (lists of floats) that are weights: they arrive as tensors behind the
            inputs, in this order, None where absent. The operator takes a fixed number of inputs.
    """

    run: Function
    host: frozenset[int] = frozenset()
    numpy: Function | None = None
    either: bool = False
    scalar: frozenset[int] = frozenset()
    lifted: tuple[str, ...] = ()


def unite(
    families: tuple[Mapping[str, Op], ...], others: tuple[Mapping[Key, Op], ...]
) -> dict[Key, Op]:
    """Join families into one table keyed by (domain, operator).

    Args:
        families: tables of the default domain by operator.
        others: tables of other domains by (domain, operator).

    Raises:
        VerifyError: an operator is in two families.
    """
    table: dict[Key, Op] = {}
    keyed = [{("", name): op for name, op in family.items()} for family in families]
    for family in (*keyed, *others):
        for key, op in family.items():
            if key in table:
                raise VerifyError(f"operator {key} is in two families of the ONNX table")
            table[key] = op
    return table
