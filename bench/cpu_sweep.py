"""Time against the number of members, against batch, and against the share that is asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache

import harness
import models
import peers
import sessions
from given import Given
from torch import nn

BENCH = "sweep"
FLEETS = ("mlp", "cnn")
MEMBERS = (1, 2, 4, 8, 16, 32, 64)
ROWS = (1, 2, 4, 8, 16, 32)
ACTIVE = (1, 4, 16, 32)


def cases(smoke: bool) -> Iterable[str]:
    """Name each point of each sweep."""
    if smoke:
        return ("mlp-tiny, 2 members",)
    return tuple(
        f"{name}, {point}"
        for name in FLEETS
        for point in (
            *(f"{n} members" for n in MEMBERS),
            *(f"16 members of {rows} rows" for rows in ROWS[1:]),
            *(f"{n} of 64 members" for n in ACTIVE),
        )
    )


@cache
def fleet(name: str, members: int) -> tuple[Mapping[str, nn.Module], Mapping[str, bytes]]:
    """Return so many members of an architecture, as modules and as ONNX for any batch."""
    kind = {**models.FLEETS, **models.SMOKE}[name]
    made = {f"member{n}": kind.model().eval() for n in range(members)}
    example = kind.example().repeat(2, *[1] * (kind.example().ndim - 1))
    dynamic = {_input_name(made["member0"]): {0: "rows"}}
    return made, sessions.exported(made, dict.fromkeys(made, example), dynamic)


@cache
def plans(name: str, members: int, threads: int) -> peers.Plans:
    """Return the plans of a fleet; what is asked varies, the plan does not."""
    example = {**models.FLEETS, **models.SMOKE}[name].example()
    return peers.Plans(fleet(name, members)[0], example, threads)


def setup(case: str, threads: int) -> harness.Setup:
    """Make a fleet and ask some of it, each member for some rows."""
    name, _, point = case.partition(", ")
    words = point.split()
    active, members, rows = int(words[0]), int(words[0]), 1
    axis: dict[str, float] = {"members": members}
    if words[1] == "of":
        members = int(words[2])
        axis = {"active share": active / members}
    elif words[-1] == "rows":
        rows = int(words[3])
        axis = {"batch": rows}
    elif members == 16:
        axis["batch"] = 1
    elif members == 64:
        axis["active share"] = 1.0
    kind = {**models.FLEETS, **models.SMOKE}[name]
    made, contents = fleet(name, members)
    asked = [f"member{i * members // active}" for i in range(active)]
    inputs: dict[str, Given] = {}
    for member in asked:
        x = kind.example()
        inputs[member] = x.repeat(rows, *[1] * (x.ndim - 1))
    # Compiling anew for every point of a sweep would take hours.
    return peers.side_by_side(
        made,
        plans(name, members, threads),
        contents,
        inputs,
        axis=axis,
        torch_executors=False,
        compilers=False,
    )


def _input_name(model: nn.Module) -> str:
    return "input" if isinstance(model, nn.Sequential) else "x"


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
