"""The rule of SPLIT in its closed form: the smallest remaining x solo first, at each block's end.

SPLIT compares sums of response ratios (waited + elapsed + remaining) / solo with two requests in
either order. What both waited cancels out, and what is left is: the newcomer goes first iff

    remaining_new x solo_new <= remaining_old x solo_old

Nothing ages in it: under steady short work, long work may wait for ever.
Source: SPLIT (ICPP 2023), the authors' code; the algebra is ours. `split_paper` has the queue.
"""

from fusec.runtime.policies.ranking import Ranked, left_ns, one_by_one
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.view import Waiting

__all__ = ["REORDER", "SPLIT"]


def _rank(waiting: Waiting, profile: Profile) -> int:
    return left_ns(waiting, profile) * profile[waiting.request.template].solo_ns


SPLIT = Policy("split", Ranked(), one_by_one(_rank, whole=False))

REORDER = Policy("reorder", Ranked(), one_by_one(_rank, whole=True))
"""The same order of whole runs: what SPLIT is without splitting."""
