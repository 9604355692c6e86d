"""When a request is due: at its deadline, or else at a time that follows from solo times.

    due = arrival + min(3 x solo, 1.4 x the longest solo time of the profile)

Short work is due at a few times its own time, so that it rarely waits for something long; the
longest is due soon after it could be done alone, so that being long costs it little. A due time
that is no deadline orders work and is what attainment is counted against. It never rejects
anything: who named no deadline still wants the answer. Solo times are stated ones, so that a due
time is the same whenever it is asked for.
"""

from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Request

__all__ = ["due_ns", "stand_in_ns", "wanted_ns"]


def due_ns(request: Request, profile: Profile) -> int:
    """Give the time that a request is due."""
    return stand_in_ns(request, profile) if request.deadline_ns is None else request.deadline_ns


def stand_in_ns(request: Request, profile: Profile) -> int:
    """Give the time that a request would be due if it had no deadline."""
    profile = profile.stated
    cost = profile[request.template]
    solo = cost.left_ns(0, request.rows)
    longest = max(solo, profile.longest_ns)
    return request.arrival_ns + min(3 * solo, 14 * longest // 10)


def wanted_ns(request: Request, profile: Profile) -> int:
    """Give when a request had better be done, so that chance does not make it late.

    That is half way to its deadline; without one, when it is due.
    """
    if request.deadline_ns is None:
        return stand_in_ns(request, profile)
    return (request.arrival_ns + request.deadline_ns) // 2
