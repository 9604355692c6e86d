"""Who runs with whom: batches, joining a run under way, waiting for company, and super-kernels.

One more in a batch delays those in it and saves time for it and for all that wait behind. It is
taken if what is saved, once for each that gains, is at least what is lost, and if nobody's promise
is lost that would have been kept.
"""

from collections.abc import Iterator
from itertools import chain

from fusec.runtime.policies.slack.group import Group, left_ns, merged
from fusec.runtime.policies.slack.pick import group_of, less_memory, short
from fusec.runtime.policies.slack.state import State, waiting
from fusec.runtime.sched.order import NEVER, items
from fusec.runtime.sched.view import View

__all__ = ["company", "gather", "joins_at", "waits_until"]

_MOST_BESIDE = 3
_MOST_RETREATS = 10
"""A super-kernel of several templates takes at most so many times what a retreat does."""


def gather(view: View, state: State, first: Group, until: int | None = None) -> list[Group]:
    """Give what runs together from where `first` is, itself included."""
    cost = view.profile[first.template]
    taken, rows, promise = [first], first.rows, first.promise_ns
    most, block, left_ns = cost.max_rows, first.block, cost.left_ns
    if first.done_ns or rows >= most:
        return taken
    end = cost.n_blocks if until is None else until
    behind = waiting(state)
    left = left_ns(block, rows)
    takes = left - left_ns(end, rows)
    its_rows = its_ns = 0
    for other in _mates(view, state, first):
        more = rows + other.rows
        if more > most or (view.free_bytes is not None and short(view, [*taken, other])):
            continue
        if its_rows != other.rows:
            its_rows, its_ns = other.rows, cost.span_ns(block, end, other.rows)
        longer_left = left_ns(block, more)
        longer = longer_left - left_ns(end, more)
        saved = takes + its_ns - longer
        if saved * max(1, behind - len(taken)) < (longer - takes) * len(taken):
            break
        if view.now_ns + left <= promise < view.now_ns + longer_left:
            break
        taken.append(other)
        rows, left, takes = more, longer_left, longer
        if other.promise_ns < promise:
            promise = other.promise_ns
        if rows >= most:
            break
    return taken


def joins_at(view: View, state: State, running: Group) -> Group | None:
    """Give who should catch up with a pack between two blocks, to run on together.

    With C for catching up, A and B for the rest of the pack and of the newcomer alone, and AB for
    both: the pack is delayed by C + AB - A, the newcomer is earlier by A + B - AB.
    """
    if running.block == 0 or running.done_ns:
        return None
    cost = view.profile[running.template]
    if running.rows >= cost.max_rows:
        return None
    groups = (group_of(view, state, e) for e in items(state.fresh.get(running.template)))
    new = next((group for group in groups if group is not None), None)
    if new is None or running.rows + new.rows > cost.max_rows or short(view, [new]):
        return None
    catch_up = cost.span_ns(0, running.block, new.rows) + cost.cut_ns
    alone = cost.left_ns(running.block, running.rows)
    both = cost.left_ns(running.block, running.rows + new.rows)
    later = catch_up + both - alone
    earlier = alone + cost.left_ns(running.block, new.rows) - both
    if earlier * len(new.requests) < later * len(running.requests):
        return None
    return new if view.now_ns + alone + later <= running.due_ns else None


def waits_until(view: View, state: State, pack: Group) -> int | None:
    """Give until when a lane had better stay idle so that a batch gets fuller; None: start now.

    Only if nothing else could run, the next request of the template is expected within less time
    than it saves, and nobody in the batch is late for it.
    """
    cost, rhythm = view.profile[pack.template], state.rhythms.get(pack.template)
    if rhythm is None or rhythm.gap_ns is None or pack.rows >= cost.max_rows:
        return None
    if waiting(state) > len(pack.requests) or pack.stopped:
        return None
    fuller = cost.left_ns(0, pack.rows + cost.grain)
    saved = cost.left_ns(0, pack.rows) + cost.solo_ns - fuller
    until = rhythm.last_ns + rhythm.gap_ns
    wait = until - view.now_ns
    pays = wait > 0 and wait * len(pack.requests) < saved
    return until if pays and until + fuller <= pack.due_ns else None


def company(view: View, state: State, pack: Group) -> list[list[Group]]:
    """Give what could run beside a pack in one super-kernel: what fits and harms nobody.

    Where blocks together take as long as one after the other there is nothing. What runs in
    company cannot be stopped within its block: where it could be, only short blocks take any.
    """
    percent = view.profile.together_percent
    templates, members, total = {pack.template}, [pack], _block_ns(view, pack)
    most = min((_MOST_RETREATS * (lane.retreat_ns or NEVER) for lane in view.lanes), default=NEVER)
    if percent >= 100 or pack.done_ns or total > most:
        return []
    chosen: list[list[Group]] = []
    for entry in chain(items(state.promised), items(state.order)):
        if len(chosen) == _MOST_BESIDE or len(templates) > 2 * _MOST_BESIDE:
            break
        other = group_of(view, state, entry)
        if other is None or other.done_ns or other.template in templates or short(view, [other]):
            continue
        templates.add(other.template)
        beside = gather(view, state, other)
        more = total + _block_ns(view, merged(beside))
        takes = more * percent // 100
        if takes > most or _harms(view, [*members, merged(beside)], takes):
            continue
        chosen.append(beside)
        view = less_memory(view, beside)
        members, total = [*members, merged(beside)], more
    return chosen


def _mates(view: View, state: State, first: Group) -> Iterator[Group]:
    """Give the others at the same place, in order."""
    if first.block or first.stopped:
        same = [p for p in state.packs.values() if _at(p) == _at(first) and p.key != first.key]
        yield from sorted(same, key=lambda p: p.key)
        return
    for entry in items(state.fresh.get(first.template)):
        other = group_of(view, state, entry)
        if other is not None and other.key != first.key:
            yield other


def _at(group: Group) -> tuple[str, int, int]:
    return (group.template, group.block, group.done_ns)


def _block_ns(view: View, group: Group) -> int:
    return view.profile[group.template].span_ns(group.block, group.block + 1, group.rows)


def _harms(view: View, members: list[Group], takes_ns: int) -> bool:
    """Say whether someone is late after a block in company who would not be alone."""
    for group in members:
        rest = view.profile[group.template].left_ns(group.block + 1, group.rows)
        alone = view.now_ns + left_ns(group, view.profile)
        then = view.now_ns + takes_ns + rest
        if any(alone <= limit < then for limit in (group.due_ns, group.promise_ns)):
            return True
    return False
