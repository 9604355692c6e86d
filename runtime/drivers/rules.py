"""What no policy may do, checked at each launch by whoever drives."""

from collections.abc import Callable

from fusec.ir.errors import VerifyError
from fusec.runtime.sched.profile import Profile
from fusec.runtime.sched.records import Launch, Pack
from fusec.runtime.sched.view import Waiting

__all__ = ["check_groups", "check_launch", "need_bytes"]


def check_launch(
    launch: Launch,
    entries: tuple[tuple[Waiting, ...], ...],
    profile: Profile,
    *,
    now_ns: int,
    busy: bool,
    free_bytes: int | None,
) -> None:
    """Check a launch against what waits.

    Args:
        launch: the action.
        entries: what waited, for each part of the pack.
        profile: costs.
        now_ns: the time.
        busy: whether the lane runs something.
        free_bytes: memory that is left, if it is limited.

    Raises:
        VerifyError: a rule is broken; the message says which.
    """

    def fail(problem: str) -> VerifyError:
        return VerifyError(f"{launch} at {now_ns} ns: {problem}")

    if busy:
        raise fail(f"lane {launch.lane} is busy")
    first = launch.pack.next_block
    if not first < launch.until_block <= profile[launch.pack.template].n_blocks:
        raise fail(f"blocks {first} to {launch.until_block} are no part of the template")
    if launch.pack.beside and launch.until_block != first + 1:
        raise fail("a pack with others beside it runs one block")
    for pack, part in zip(launch.pack.parts, entries, strict=True):
        _check_part(pack, part, profile, now_ns, fail)
    need = need_bytes(launch.pack, entries, profile)
    if free_bytes is not None and need > free_bytes:
        raise fail(f"needs {need} bytes and {free_bytes} are free")


def check_groups(
    launch: Launch,
    entries: tuple[tuple[Waiting, ...], ...],
    waiting: Callable[[int], Waiting | None],
) -> None:
    """Check that what retreated together in mid-block goes on together.

    Raises:
        VerifyError: somebody still waits.
    """
    for pack, part in zip(launch.pack.parts, entries, strict=True):
        left_out = [n for n in part[0].group if waiting(n)]
        if left_out:
            raise VerifyError(
                f"{launch}: requests {left_out} retreated in mid-block with {pack.requests} "
                "and must go on with them"
            )


def need_bytes(pack: Pack, entries: tuple[tuple[Waiting, ...], ...], profile: Profile) -> int:
    """Give the memory that starting a pack takes; who was stopped has kept its own."""
    return sum(
        profile[e.request.template].needs_bytes(e.request.rows)
        for part in entries
        for e in part
        if not e.stops
    )


def _check_part(
    pack: Pack,
    entries: tuple[Waiting, ...],
    profile: Profile,
    now_ns: int,
    fail: Callable[[str], VerifyError],
) -> None:
    if not entries:
        raise fail("a pack without requests")
    cost = profile[pack.template]
    rows = sum(e.request.rows for e in entries)
    if len(entries) > 1 and rows > cost.max_rows:
        raise fail(f"{rows} rows together, {cost.max_rows} are allowed")
    if not 0 <= pack.next_block < cost.n_blocks:
        raise fail(f"there is no block {pack.next_block}")
    place = {(e.next_block, e.done_ns, e.group) for e in entries}
    if len(place) > 1:
        raise fail(f"requests at different places run together: {sorted(place)}")
    for entry in entries:
        request = entry.request
        if request.template != pack.template:
            raise fail(f"request {request.id} is of template {request.template!r}")
        if entry.next_block != pack.next_block:
            raise fail(f"request {request.id} is at block {entry.next_block}")
        if request.arrival_ns > now_ns:
            raise fail(f"request {request.id} comes at {request.arrival_ns} ns")
        if request.deadline_ns is not None and request.deadline_ns <= now_ns:
            raise fail(f"request {request.id} expired at {request.deadline_ns} ns")
