"""SPLIT's five models on made-up near-periodic streams: who wins what. `bench/sim_split.py`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

import pytest
from fusec_testing.sched import MS, ask, costs, drive

from fusec.runtime.sched.records import Request

BLOCKS = {
    "googlenet": [9.0],
    "resnet50": [9.5, 9.5],
    "squeezenet": [7.0],
    "vgg19": [47 / 3] * 3,
    "yolov2": [3.0, 3.0],
}
PERIODS = {"googlenet": 106, "resnet50": 133, "squeezenet": 80, "vgg19": 80, "yolov2": 134}


@dataclass(frozen=True)
class Figures:
    over_4: float
    longest_mean: float
    mean_ratio: float
    max_ratio: float


def stream(*, even: bool) -> list[Request]:
    """Load 0.95 in 20 s: gaps with a CV of 0.1, or exponential ones."""
    rng = random.Random(4)
    times = []
    for name, period in PERIODS.items():
        at = rng.uniform(0, period)
        while at < 20_000:
            times.append((at, name))
            at += rng.gammavariate(100, period / 100) if even else rng.expovariate(1 / period)
    return [ask(i, name, at) for i, (at, name) in enumerate(sorted(times))]


@cache
def figures(policy: str, *, even: bool, cut: float = 0.0) -> Figures:
    run = drive(policy, costs(BLOCKS, cut=cut), stream(even=even))
    took = [(o.request.model, (o.at_ns - o.request.arrival_ns) / MS) for o in run.outcomes]
    ratios = [ms / sum(BLOCKS[model]) for model, ms in took]
    longest = [ms for model, ms in took if model == "vgg19"]
    return Figures(
        sum(r > 4.000001 for r in ratios) / len(ratios),
        sum(longest) / len(longest),
        sum(ratios) / len(ratios),
        max(ratios),
    )


def test_reordering_helps_the_tail_of_fifo_and_splitting_more() -> None:
    fifo, reorder, split = (figures(p, even=True) for p in ("fifo", "reorder", "split"))
    assert fifo.over_4 > reorder.over_4 > split.over_4
    assert split.longest_mean > reorder.longest_mean > fifo.longest_mean


@pytest.mark.parametrize("cut", [0.0, 0.3])
def test_slack_saves_the_tail_at_a_small_price_for_the_longest(cut: float) -> None:
    fifo, slack = figures("fifo", even=True), figures("slack", even=True, cut=cut)
    assert slack.over_4 <= 0.03
    assert slack.longest_mean <= 1.2 * fifo.longest_mean
    assert slack.mean_ratio <= 0.75 * fifo.mean_ratio
    assert slack.max_ratio <= 10
    assert slack.longest_mean < figures("split", even=True, cut=cut).longest_mean


@pytest.mark.parametrize("even", [True, False])
def test_no_policy_is_better_than_slack_in_everything(even: bool) -> None:
    own = figures("slack", even=even)
    mine = (own.over_4, own.longest_mean, own.mean_ratio, own.max_ratio)
    for name in ("fifo", "reorder", "split", "split_paper", "edf"):
        other = figures(name, even=even)
        its = (other.over_4, other.longest_mean, other.mean_ratio, other.max_ratio)
        assert any(a < b for a, b in zip(mine, its, strict=True)), name
