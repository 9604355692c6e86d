"""Who runs with whom: batches, joining a run under way, waiting for company, and super-kernels.

One more in a batch delays those in it and saves time for it and for all that wait behind. It is
taken if what is saved, once for each that gains, is at least what is lost, and if nobody's promise
is lost who would have kept it.
"""

from fusec.runtime.policies.ranking import less_memory, needs_bytes
from fusec.runtime.policies.slack.state import State, place_of, promise_ns
from fusec.runtime.sched.due import due_ns
from fusec.runtime.sched.order import items, size
from fusec.runtime.sched.records import Pack
from fusec.runtime.sched.view import View, Waiting

__all__ = ["company", "gather", "joins_at", "packed", "waits_until"]

_MOST_BESIDE = 3


def gather(view: View, state: State, first: Waiting, until: int | None = None) -> list[Waiting]:
    """Give who runs together from where `first` is, itself included."""
    if first.done_ns:  # a group that retreated goes on as it was
        return [view.waiting[n] for n in first.group if n in view.waiting]
    cost = view.profile[first.request.template]
    end = cost.n_blocks if until is None else until
    taken, rows, promise = [first], first.request.rows, promise_ns(first.request)
    behind = size(state.order)
    for entry in items(state.places.get(place_of(first))):
        if rows >= cost.max_batch:
            break
        other = view.waiting.get(entry.request)
        if other is None or other is first or other.stops != entry.stops:
            continue
        more = rows + other.request.rows
        if more > cost.max_batch or _short(view, [*taken, other]):
            continue
        now_takes = cost.span_ns(first.next_block, end, rows)
        takes = cost.span_ns(first.next_block, end, more)
        saved = now_takes + cost.span_ns(first.next_block, end, other.request.rows) - takes
        if saved * max(1, behind - len(taken)) < (takes - now_takes) * len(taken):
            break
        full = view.now_ns + cost.left_ns(first.next_block, more)
        if view.now_ns + cost.left_ns(first.next_block, rows) <= promise < full:
            break
        taken.append(other)
        rows, promise = more, min(promise, promise_ns(other.request))
    return taken


def joins_at(view: View, state: State, running: list[Waiting]) -> Waiting | None:
    """Give who should catch up with a pack between two blocks, to run on together.

    With C for catching up, A and B for the rest of the pack and of the newcomer alone, and AB for
    both: the pack is delayed by C + AB - A, the newcomer is earlier by A + B - AB.
    """
    first = running[0]
    fresh = state.places.get((first.request.template, 0, 0, ()))
    entry = next(items(fresh), None)
    newcomer = None if entry is None else view.waiting.get(entry.request)
    if newcomer is None or first.next_block == 0 or first.done_ns:
        return None
    cost = view.profile[first.request.template]
    rows, block = sum(w.request.rows for w in running), first.next_block
    together = rows + newcomer.request.rows
    if together > cost.max_batch or _short(view, [newcomer]):
        return None
    catch_up = cost.span_ns(0, block, newcomer.request.rows) + cost.cut_ns
    alone, both = cost.left_ns(block, rows), cost.left_ns(block, together)
    later = catch_up + both - alone
    earlier = alone + cost.left_ns(block, newcomer.request.rows) - both
    if earlier * newcomer.request.rows < later * len(running):
        return None
    kept = all(view.now_ns + alone + later <= due_ns(w.request, view.profile) for w in running)
    return newcomer if kept else None


def waits_until(view: View, state: State, pack: list[Waiting]) -> int | None:
    """Give until when a lane had better stay idle so that a batch gets fuller; None: start now.

    Only if nothing else could run, the next request of the template is expected within less time
    than it saves, and nobody in the batch is late for it.
    """
    first = pack[0]
    template = first.request.template
    cost, rhythm = view.profile[template], state.rhythms.get(template)
    rows = sum(w.request.rows for w in pack)
    if rhythm is None or rhythm.gap_ns is None or rows >= cost.max_batch:
        return None
    if size(state.order) > len(pack) or first.next_block or first.done_ns:
        return None
    fuller = cost.left_ns(0, rows + 1)
    saved = cost.left_ns(0, rows) + cost.solo_ns - fuller
    due = min(due_ns(w.request, view.profile) for w in pack)
    until = min(rhythm.last_ns + rhythm.gap_ns, due - fuller)
    wait = until - view.now_ns
    return until if wait > 0 and wait * len(pack) < saved else None


def company(view: View, state: State, pack: list[Waiting]) -> list[list[Waiting]]:
    """Give packs of other templates for the same super-kernel: those that fit and harm nobody.

    Where blocks together take as long as one after the other there are none.
    """
    percent = view.profile.together_percent
    first = pack[0]
    if percent >= 100 or first.done_ns:
        return []
    total = _block_ns(view, pack)
    chosen: list[list[Waiting]] = []
    templates, members = {first.request.template}, list(pack)
    for entry in items(state.order):
        if len(chosen) == _MOST_BESIDE or len(templates) > 2 * _MOST_BESIDE:
            break
        other = view.waiting.get(entry.request)
        if other is None or other.done_ns or other.request.template in templates:
            continue
        if _short(view, [other]):
            continue
        templates.add(other.request.template)
        beside = gather(view, state, other)
        more = total + _block_ns(view, beside)
        if _harms(view, [*members, *beside], more * percent // 100):
            continue
        chosen.append(beside)
        view = less_memory(view, beside)
        members, total = [*members, *beside], more
    return chosen


def _short(view: View, starting: list[Waiting]) -> bool:
    """Say whether there is too little memory for some to start."""
    need = sum(needs_bytes(view, w) for w in starting)
    return view.free_bytes is not None and need > view.free_bytes


def _block_ns(view: View, pack: list[Waiting]) -> int:
    block, rows = pack[0].next_block, sum(w.request.rows for w in pack)
    return view.profile[pack[0].request.template].span_ns(block, block + 1, rows)


def _harms(view: View, members: list[Waiting], takes_ns: int) -> bool:
    """Say whether someone is late after a block in company who would not be alone."""
    for waiting in members:
        cost = view.profile[waiting.request.template]
        rest = cost.left_ns(waiting.next_block + 1, waiting.request.rows)
        alone = cost.left_ns(waiting.next_block, waiting.request.rows)
        due = due_ns(waiting.request, view.profile)
        if view.now_ns + alone <= due < view.now_ns + takes_ns + rest:
            return True
    return False


def packed(pack: list[Waiting], beside: list[list[Waiting]]) -> Pack:
    """Make the pack of who runs together."""
    companions = tuple(packed(p, []) for p in beside)
    numbers = tuple(w.request.id for w in pack)
    return Pack(pack[0].request.template, numbers, pack[0].next_block, companions)
