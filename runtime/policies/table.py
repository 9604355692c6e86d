"""All policies by name.

`fair` is the default under shares of device time, `fair:NAME` any other under them.
"""

from collections.abc import Mapping
from typing import Any

from fusec.ir.errors import ConfigError
from fusec.runtime.policies.edf import EDF
from fusec.runtime.policies.fair import fair
from fusec.runtime.policies.fifo import FIFO
from fusec.runtime.policies.slack.policy import SLACK
from fusec.runtime.policies.split import REORDER, SPLIT
from fusec.runtime.policies.split_paper import SPLIT_PAPER
from fusec.runtime.sched.policy import Policy

__all__ = ["POLICIES", "find_policy"]

POLICIES: Mapping[str, Policy[Any]] = {
    **{policy.name: policy for policy in (FIFO, EDF, REORDER, SPLIT, SPLIT_PAPER, SLACK)},
    "fair": fair(SLACK),
}


def find_policy(name: str) -> Policy[Any]:
    """Give a policy by its name.

    Raises:
        ConfigError: there is none.
    """
    kind, colon, inner = name.partition(":")
    if kind == "fair" and colon:
        return fair(find_policy(inner))
    if name not in POLICIES:
        raise ConfigError(
            f"no policy {name!r}; there are {', '.join(sorted(POLICIES))}, and fair:NAME"
        )
    return POLICIES[name]
