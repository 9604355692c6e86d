"""First in, first out: whole runs in order of arrival."""

from fusec.runtime.policies.ranking import Ranked, one_by_one
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.view import Waiting

__all__ = ["FIFO"]


def _rank(waiting: Waiting, profile: Profile) -> int:
    del profile
    return waiting.request.arrival_ns


FIFO = Policy("fifo", Ranked(), one_by_one(_rank, whole=True))
