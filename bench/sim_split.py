"""SPLIT's mix of five models under every policy, simulated: the recorded streams, and Poisson.

Solo times 9, 19, 7, 47 and 6 ms, one lane, no batching, no deadlines; ResNet-50 and YOLOv2 in two
blocks, VGG19 in three. A cut costs a share of the solo time each time that a run is interrupted.
Arrival stamps come from the authors' raw data, stretched to a load; see `--trace`.

    python bench/sim_split.py --trace ../shared/traces/split_arrivals.csv
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from where import RESULTS, environment

from fusec.runtime.arrivals import Mix
from fusec.runtime.drivers.run import check_run
from fusec.runtime.drivers.virtual import VirtualDriver
from fusec.runtime.policies.table import find_policy
from fusec.runtime.sched.profile import Profile, TemplateCost
from fusec.runtime.sched.records import Request
from fusec.runtime.traces import read_trace

MS = 1_000_000
MODELS = {
    "googlenet": (9, 1),
    "resnet50": (19, 2),
    "squeezenetv1": (7, 1),
    "vgg19": (47, 3),
    "yolov2": (6, 2),
}
"""Solo time in ms, blocks."""
LONGEST = "vgg19"
POLICIES = ("fifo", "reorder", "split", "split_paper", "edf", "slack", "fair")
LOADS = (0.8, 0.9, 0.96)
CUTS = (0.0, 0.02)
COUNTS = {"googlenet": 190, "resnet50": 152, "squeezenetv1": 254, "vgg19": 253, "yolov2": 151}
"""How often each model is asked for in a thousand requests of the recorded mix."""
MIXES = [str(n) for n in range(7)]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one policy made of one load. Times in ms."""

    over_4: float
    longest_mean: float
    mean_ratio: float
    max_ratio: float

    def beaten_by(self, other: Figures) -> bool:
        """Say whether another is at least as good in everything and better in something."""
        own = (self.over_4, self.longest_mean, self.mean_ratio, self.max_ratio)
        its = (other.over_4, other.longest_mean, other.mean_ratio, other.max_ratio)
        return its != own and all(a <= b for a, b in zip(its, own, strict=True))


def profile(cut: float) -> Profile:
    """Make the costs of the mix."""
    costs = {
        name: TemplateCost(
            blocks_ns={1: (solo * MS // blocks,) * blocks}, cut_ns=round(cut * solo * MS)
        )
        for name, (solo, blocks) in MODELS.items()
    }
    return Profile(templates=costs, models={name: name for name in MODELS})


def recorded(trace: Path, load: float) -> list[Sequence[Request]]:
    """Give the recorded mixes, stretched together to a load."""
    mix = Mix(models={name: name for name in MODELS})
    plain = [read_trace(trace, mix, which=n) for n in MIXES]
    work = sum(MODELS[r.model][0] * MS for requests in plain for r in requests)
    here = work / sum(requests[-1].arrival_ns for requests in plain)
    return [read_trace(trace, mix, which=n, stretch=here / load) for n in MIXES]


def poisson(load: float, seeds: int) -> list[Sequence[Request]]:
    """Make streams of the same rates whose gaps are exponential."""
    work = sum(COUNTS[name] * solo for name, (solo, _) in MODELS.items())
    end_ms = work / load

    def streams(rng: random.Random) -> Iterator[tuple[int, str]]:
        for name, count in COUNTS.items():
            at = rng.expovariate(count / end_ms)
            while at < end_ms:
                yield round(at * MS), name
                at += rng.expovariate(count / end_ms)

    return [
        [
            Request(id=i, model=name, template=name, arrival_ns=at)
            for i, (at, name) in enumerate(sorted(streams(random.Random(seed))))
        ]
        for seed in range(seeds)
    ]


def measure(policy: str, runs: Sequence[Sequence[Request]], cut: float) -> Figures:
    """Simulate the runs under a policy; ratios are of latency to solo time, without cuts."""
    costs = profile(cut)
    ratios, longest = [], []
    for requests in runs:
        run = VirtualDriver(find_policy(policy), costs).run(requests)
        check_run(run, requests)
        for outcome in run.outcomes:
            took = outcome.at_ns - outcome.request.arrival_ns
            ratios.append(took / costs[outcome.request.template].solo_ns)
            if outcome.request.model == LONGEST:
                longest.append(took / MS)
    n = len(ratios)
    over = sum(ratio > 4 + 1e-6 for ratio in ratios) / n
    return Figures(over, sum(longest) / len(longest), sum(ratios) / n, max(ratios))


def table(title: str, found: Mapping[tuple[float, float, str], Figures]) -> str:
    """Give Markdown."""
    lines = [
        f"### {title}",
        "",
        "| load | cut | policy | ratio > 4 | longest's mean | mean ratio | largest | beaten by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (load, cut, policy), figures in found.items():
        fifo = found[load, cut, "fifo"]
        rivals = [
            p
            for (a, b, p), other in found.items()
            if (a, b) == (load, cut) and figures.beaten_by(other)
        ]
        lines.append(
            f"| {load} | {cut:.0%} | {policy} | {figures.over_4:.2%} | {figures.longest_mean:.1f} "
            f"ms ({figures.longest_mean / fifo.longest_mean - 1:+.1%}) | {figures.mean_ratio:.2f} "
            f"({figures.mean_ratio / fifo.mean_ratio - 1:+.0%}) | {figures.max_ratio:.1f} | "
            f"{', '.join(rivals) or '-'} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Simulate everything, print tables, append rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, help="split_arrivals.csv; Poisson only if absent")
    parser.add_argument("--seeds", type=int, default=7, help="of Poisson streams")
    parser.add_argument("--policy", action="append", help="besides fifo; all if absent")
    parser.add_argument("--out", type=Path, default=RESULTS / "sim_split.jsonl")
    options = parser.parse_args()
    policies = ["fifo", *(p for p in options.policy or POLICIES if p != "fifo")]
    sources = ["recorded"] * (options.trace is not None) + ["poisson"]
    where = environment()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for source in sources:
        found: dict[tuple[float, float, str], Figures] = {}
        for load in LOADS:
            made = recorded(options.trace, load) if source == "recorded" else None
            runs = made or poisson(load, options.seeds)
            for cut in CUTS:
                for policy in policies:
                    found[load, cut, policy] = measure(policy, runs, cut)
        print(table(f"{source} streams", found), end="\n\n", flush=True)
        with options.out.open("a") as file:
            file.writelines(
                json.dumps({**row, **where}) + "\n"
                for key, f in found.items()
                for row in _rows(source, key, f)
            )


def _rows(
    source: str, key: tuple[float, float, str], figures: Figures
) -> Iterator[dict[str, object]]:
    load, cut, policy = key
    units = {"over_4": "share", "longest_mean": "ms", "mean_ratio": "ratio", "max_ratio": "ratio"}
    for metric, unit in units.items():
        value = getattr(figures, metric)
        yield {
            "bench": "sim_split",
            "case": f"{source} load {load} cut {cut:.0%}",
            "impl": policy,
            "metric": metric,
            "unit": unit,
            "p20": value,
            "p50": value,
            "p80": value,
            "n": 1,
            "threads": 1,
        }


if __name__ == "__main__":
    main()
