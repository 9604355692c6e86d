"""SPLIT as its authors wrote it: one queue, insertion from the tail, splitting when it may help.

A newcomer starts at the tail and moves past another while that does not raise the sum of their
response ratios; it stays behind its own model. A model runs in blocks only while some other model
has nothing waiting, whose next request might want to go first; else it runs as a whole.

Linear in the queue by its nature: for comparison, not for use.
Source: SPLIT (ICPP 2023), code of its scheduler; see `split` for the algebra.
"""

from dataclasses import dataclass

from fusec.runtime.policies.ranking import left_ns, less_memory, needs_bytes
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.records import Action, Launch, Pack
from fusec.runtime.sched.view import View, Waiting

__all__ = ["SPLIT_PAPER", "Queue"]


@dataclass(frozen=True, slots=True)
class _Place:
    """One request in the queue. Who runs keeps its place, so that newcomers may pass it."""

    number: int
    model: str
    product: int
    """Remaining x solo, at the end of its launch if it runs."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The requests, the next one first."""

    places: tuple[_Place, ...] = ()


def _decide(view: View, state: Queue) -> tuple[tuple[Action, ...], Queue]:
    running = {n for lane in view.lanes if lane.pack for n in lane.pack.requests}
    queue = [p for p in state.places if p.number in view.waiting or p.number in running]
    for request in view.change.arrived:
        if request.id in view.waiting:
            _insert(view, queue, view.waiting[request.id])
    actions: list[Action] = []
    started: set[int] = set()
    for lane in view.lanes:
        if lane.pack is not None:
            continue
        at = _next_ready(view, queue, started)
        if at is None:
            break
        waiting = view.waiting[queue[at].number]
        request = waiting.request
        cost = view.profile[request.template]
        view = less_memory(view, (waiting,))
        splits = len({p.model for p in queue}) < len(view.profile.models)
        until = waiting.next_block + 1 if splits else cost.n_blocks
        pack = Pack(request.template, (request.id,), waiting.next_block)
        actions.append(Launch(pack, lane.index, until))
        started.add(request.id)
        product = cost.left_ns(until, request.rows) * cost.solo_ns
        queue[at] = _Place(request.id, request.model, product)
    return tuple(actions), Queue(tuple(queue))


def _next_ready(view: View, queue: list[_Place], started: set[int]) -> int | None:
    """Give the position of the first that could start, and that there is memory for."""
    for i, place in enumerate(queue):
        waiting = view.waiting.get(place.number)
        if waiting is None or place.number in started:
            continue
        if view.free_bytes is None or needs_bytes(view, waiting) <= view.free_bytes:
            return i
    return None


def _insert(view: View, queue: list[_Place], new: Waiting) -> None:
    product = left_ns(new, view.profile) * view.profile[new.request.template].solo_ns
    place = len(queue)
    while place > 0:
        old = queue[place - 1]
        if old.model == new.request.model or product > old.product:
            break
        place -= 1
    queue.insert(place, _Place(new.request.id, new.request.model, product))


SPLIT_PAPER = Policy("split_paper", Queue(), _decide)
