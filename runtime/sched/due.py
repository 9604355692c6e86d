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

__all__ = ["due_ns"]


def due_ns(request: Request, profile: Profile) -> int:
    """Give the time that a request is due."""
    if request.deadline_ns is not None:
        return request.deadline_ns
    profile = profile.stated
    cost = profile[request.template]
    solo = cost.solo_ns if request.rows == 1 else cost.left_ns(0, request.rows)
    longest = max(solo, profile.longest_ns)
    return request.arrival_ns + min(3 * solo, 14 * longest // 10)
