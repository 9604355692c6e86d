"""Earliest deadline first, decided anew at the end of each block."""

from fusec.runtime.policies.ranking import Ranked, one_by_one
from fusec.runtime.sched.due import due_ns
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.view import Waiting

__all__ = ["EDF"]


def _rank(waiting: Waiting, profile: Profile) -> int:
    return due_ns(waiting.request, profile)


EDF = Policy("edf", Ranked(), one_by_one(_rank, whole=False))
