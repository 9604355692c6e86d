"""Deadlines that clients name, and what they are told when serving ends by a fault."""

import math

from fusec.ir.errors import ConfigError, FusecError, VerifyError

__all__ = ["broke", "deadline_after"]

_MOST_DEADLINE_MS = 1e12


def broke(problem: BaseException) -> FusecError:
    """Say that nobody serves any more, and why."""
    error = VerifyError(
        f"serving ended by a fault of fusec or of a policy: {type(problem).__name__}: {problem}"
    )
    error.__cause__ = problem
    return error


def deadline_after(now_ns: int, deadline_ms: float | None) -> int | None:
    """Give the time of a deadline.

    Args:
        now_ns: the time.
        deadline_ms: from now on; None: there is none.

    Raises:
        ConfigError: it is no number of milliseconds.
    """
    if deadline_ms is None:
        return None
    good = isinstance(deadline_ms, int | float) and not isinstance(deadline_ms, bool)
    if not good or math.isnan(deadline_ms) or abs(deadline_ms) > _MOST_DEADLINE_MS:
        raise ConfigError(
            f"deadline_ms is {deadline_ms!r}, wanted milliseconds from now on, or None"
        )
    return now_ns + round(deadline_ms * 1e6)
