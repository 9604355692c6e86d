"""What a plan's calls give: answers by name, or an error that names the models."""

from collections.abc import Sequence
from typing import Any

from fusec.ir.errors import KernelError
from fusec.runtime.arrays import Array
from fusec.runtime.request import Request

__all__ = ["FAULTS", "failed", "named"]

FAULTS = (RuntimeError, LookupError, TypeError, ValueError, ArithmeticError)
"""What torch's operators raise."""


def named(
    requests: Sequence[Request], answers: Sequence[tuple[Array, ...]]
) -> dict[str, dict[str, Any]]:
    """Give answers as `Plan.run` does: model -> output -> array."""
    return {
        request.target.name: dict(zip(request.target.member.output_names, answer, strict=True))
        for request, answer in zip(requests, answers, strict=True)
    }


def failed(names: list[str], error: Exception) -> KernelError:
    """Say which models an error is of."""
    who = ", ".join(names[:5]) + (f", ... ({len(names)} models)" if len(names) > 5 else "")
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, KernelError):
        return KernelError(f"running {who} fails: {text}")
    return KernelError(
        f"running {who} fails: {type(error).__name__}: {text}; the shapes fit, so look at the "
        "values (an index out of range?) or at the memory that is left"
    )
