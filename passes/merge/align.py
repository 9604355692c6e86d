"""Puts the calls of all members together: which run as one, and in which order."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fusec.passes.merge.numbering import Numbers

__all__ = ["Step", "apart", "steps"]

SHOWN = 4
"""Members named in a sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Values that one merged call computes.

    Attributes:
        numbers: one per row, in the order of the members that have them first.
        members: how many members need the result.
    """

    numbers: tuple[int, ...]
    members: int


def steps(numbers: Numbers, results: Iterable[int]) -> list[Step]:
    """List merged calls, operands first, as far as results need them.

    Args:
        numbers: of all members.
        results: numbers of the outputs.
    """
    step_of = {number: step for step in _match(numbers) for number in step.numbers}
    done: dict[Step, None] = {}
    stack = [(number, False) for number in reversed(list(results))]
    while stack:
        number, ready = stack.pop()
        step = step_of.get(number)
        if step is None or step in done:
            continue
        if ready:
            done[step] = None
            continue
        stack.append((number, True))
        for row in reversed(step.numbers):
            stack.extend((n, False) for n in reversed(numbers.sources[row].operands))
    return list(done)


def _match(numbers: Numbers) -> Iterator[Step]:
    """Join the i-th value of a class in each member; what is shared joins once."""
    queues = [_by_class(numbers, calls) for calls in numbers.calls]
    placed: set[int] = set()
    for class_ in dict.fromkeys(c for queue in queues for c in queue):
        columns = [queue.get(class_, []) for queue in queues]
        for i in range(max(map(len, columns))):
            found = [column[i] for column in columns if i < len(column)]
            fresh = tuple(n for n in dict.fromkeys(found) if n not in placed)
            if fresh:
                placed.update(fresh)
                yield Step(fresh, len(found))


def _by_class(numbers: Numbers, calls: Sequence[int]) -> dict[int, list[int]]:
    queue: dict[int, list[int]] = {}
    for number in calls:
        queue.setdefault(numbers.sources[number].class_, []).append(number)
    return queue


def apart(numbers: Numbers, names: Sequence[str]) -> tuple[str, ...]:
    """Say where members part: the first calls on any path that not all members have."""
    have: dict[int, list[int]] = {}
    for member, calls in enumerate(numbers.calls):
        for class_ in _by_class(numbers, calls):
            have.setdefault(class_, []).append(member)
    found: dict[int, str] = {}
    for calls in numbers.calls:
        for number in calls:
            source = numbers.sources[number]
            members = have[source.class_]
            above = [numbers.sources[n].class_ for n in source.operands]
            first = all(len(have.get(c, names)) == len(names) for c in above)
            if len(members) < len(names) and first and source.node.op == "call_function":
                who = _some([names[m] for m in members])
                found[source.class_] = f"{source.node.name} ({source.node.target}): only in {who}"
    return tuple(found.values())


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} others"
