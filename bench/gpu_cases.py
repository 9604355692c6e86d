"""The cases that are measured on a card: fleets beside peers, subsets, and isolation."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from gpu_card import Answers, Card, Fusec, Inputs
from gpu_models import FLEETS, Fleet
from gpu_peers import PEERS
from harness import Figure, Impl, Row, Setup, Took, run_case

__all__ = ["fleet_rows", "half_rows", "isolation_rows"]

BENCH = "gpu"


def fleet_rows(card: Card, name: str, seconds: float) -> list[Row]:
    """Time a whole fleet, one row each, beside all peers and the memory's limit."""
    fleet = FLEETS[name](card.dry)
    ours = Fusec(card, fleet.models, fleet.inputs)
    overlapping = Fusec(card, fleet.models, fleet.inputs, overlapping=True)
    limit_ns = Took(round(fleet.weight_bytes / card.bytes_per_ns()))
    impls = {
        "fusec": Impl(partial(ours.prepare, fleet.inputs), _same),
        "fusec, kernels overlapping": Impl(partial(overlapping.prepare, fleet.inputs), _same),
        **{
            peer: Impl(partial(build, card, fleet.models, fleet.inputs), _same)
            for peer, build in PEERS.items()
        },
        "limit: weights read once": Impl(lambda: lambda: limit_ns, None),
    }
    counted = ("captures", "compiles", "graph_launches", "kernel_launches")
    counts = [Figure("fusec", m, "count", partial(_counted, ours, m)) for m in counted]
    setup = Setup(
        impls=impls,
        truth=truth(fleet),
        moved_bytes=float(fleet.weight_bytes),
        figures=counts,
        warmup=1 if card.dry else 3,
        least=1 if card.dry else 5,
        burst=1 if card.dry else 6,
    )
    case = f"{name}, {len(fleet.models)} members"
    rows = run_case(BENCH, case, setup, seconds=seconds, threads=1)
    ours.close()
    overlapping.close()
    return rows


def half_rows(card: Card, name: str, seconds: float) -> list[Row]:
    """Time all members beside a random half of them, another one each time."""
    fleet = FLEETS[name](card.dry)
    ours = Fusec(card, fleet.models, fleet.inputs)
    draw, names = random.Random(1), list(fleet.models)
    subsets = [draw.sample(names, len(names) // 2) for _ in range(2 if card.dry else 8)]

    def halves() -> Callable[[], Answers]:
        runs = [ours.prepare({n: fleet.inputs[n] for n in subset}) for subset in subsets]
        for run in runs:
            run()
        return lambda: draw.choice(runs)()

    everybody = Impl(partial(ours.prepare, fleet.inputs), None)
    setup = Setup(impls={"all": everybody, "a random half": Impl(halves, None)}, truth={}, burst=1)
    rows = run_case(BENCH, f"{name}, subsets", setup, seconds=seconds, threads=1)
    before = ours.executor.stats()
    subset = draw.sample(names, len(names) // 2)
    ours.prepare({n: fleet.inputs[n] for n in subset})()
    after = ours.executor.stats()
    new = {m: getattr(after, m) - getattr(before, m) for m in ("captures", "compiles", "uploads")}
    ours.close()
    return [*rows, *(_count(f"{name}, subsets", f"{m} for a new half", n) for m, n in new.items())]


def isolation_rows(card: Card, name: str) -> list[Row]:
    """Count members whose bytes depend on who else runs, on order, or on a poisoned neighbour."""
    fleet = FLEETS[name](card.dry)
    ours = Fusec(card, fleet.models, fleet.inputs)
    names = list(fleet.models)
    alone = {n: _bytes(ours.prepare({n: fleet.inputs[n]})())[n] for n in names}
    draw, wrong = random.Random(2), 0
    for _ in range(2 if card.dry else 6):
        some = draw.sample(names, max(2, len(names) // 2))
        poisoned = some[0]
        given = {n: _nan(fleet.inputs[n]) if n == poisoned else fleet.inputs[n] for n in some}
        together = _bytes(ours.prepare(given)())
        wrong += sum(together[n] != alone[n] for n in some if n != poisoned)
    ours.close()
    return [_count(f"{name}, isolation", "answers that depend on company", wrong)]


def truth(fleet: Fleet) -> Mapping[str, np.ndarray]:
    """Give float64 answers of the members, computed on the card where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    answers = {}
    for name, model in fleet.models.items():
        wide = copy.deepcopy(model).double().to(device)
        given = (torch.from_numpy(a).to(device) for a in fleet.inputs[name])
        with torch.no_grad():
            answers[name] = wide(*(x.double() if x.is_floating_point() else x for x in given))
    return {n: a.cpu().numpy() for n, a in answers.items()}


def _counted(ours: Fusec, metric: str) -> float:
    return float(getattr(ours.executor.stats(), metric))


def _same(answers: object) -> Mapping[str, np.ndarray]:
    assert isinstance(answers, dict)
    return answers


def _bytes(answers: Answers) -> dict[str, bytes]:
    return {n: a.tobytes() for n, a in answers.items()}


def _nan(inputs: Inputs) -> Inputs:
    return tuple(np.full_like(a, np.nan) if a.dtype.kind == "f" else a for a in inputs)


def _count(case: str, metric: str, value: float) -> Row:
    return Row(
        bench=BENCH, case=case, impl="fusec", metric=metric, unit="count", p20=value, p50=value,
        p80=value, n=1, threads=1,
    )  # fmt: skip
