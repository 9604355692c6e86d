"""What a runtime reckons with: a plan's profile, or what it measures or works out itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fusec
from fusec import KernelError, Runtime
from fusec.runtime.sched.profile import TemplateCost

SECONDS = 20


class Words(nn.Module):
    """Means of words, of any number, through wide layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 256)
        self.layers = nn.Sequential(*[nn.Linear(256, 256) for _ in range(6)])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Read words."""
        y: torch.Tensor = self.layers(self.words(ids)).mean(1)
        return y


@pytest.fixture(scope="module")
def plan() -> fusec.Plan:
    torch.manual_seed(3)
    models = {"words": Words().eval(), "small": nn.Linear(6, 3).eval()}
    return fusec.compile(
        models,
        examples={"words": torch.zeros(1, 8, dtype=torch.int64), "small": torch.zeros(1, 6)},
        symbols={"words": {"ids": {1: "length"}}},
        executor="cpu",
        threads=1,
    )


def _costs(rt: Runtime, model: str) -> TemplateCost:
    profile = rt.profile()
    return profile[profile.models[model]]


def test_without_a_profile_it_measures_and_cuts_what_is_long(plan: fusec.Plan) -> None:
    with Runtime(plan, measure_s=0.0, preempt_ms=0.05, max_batch=4) as rt:
        words, small = _costs(rt, "words"), _costs(rt, "small")
        assert words.n_blocks > 1 and small.n_blocks == 1
        assert words.max_batch <= 4 and small.max_batch <= 4
        assert words.solo_ns > small.solo_ns > 0
        assert words.bytes_per_instance > 0


def test_a_profile_of_the_plan_is_taken(plan: fusec.Plan, tmp_path: Path) -> None:
    plan.profile(seconds=0.02, preempt_ms=0.05)
    plan.save(tmp_path / "plan.fusec")
    loaded = fusec.load(tmp_path / "plan.fusec")
    stored = loaded.costs()
    assert stored is not None
    schedule = stored.schedule(1)
    assert schedule is not None
    x = np.random.randint(0, 30, (2, 9))
    (want,) = plan.run({"words": x})["words"].values()
    with Runtime(loaded, measure_s=0.0, preempt_ms=1000) as rt:
        words = _costs(rt, "words")
        key = next(k for k in schedule.templates if k.startswith(rt.profile().models["words"]))
        known = schedule.templates[key].cost
        assert words.n_blocks == known.n_blocks > 1
        assert set(words.blocks_ns) == set(known.blocks_ns)
        assert rt.profile().together_percent == schedule.together_percent
        (got,) = rt.submit("words", x).result(SECONDS).values()
        assert np.array_equal(got, want)
    with Runtime(loaded, measure_s=0.0, preempt_ms=1000, max_batch=1) as rt:
        assert _costs(rt, "words").max_batch == 1


def test_longer_requests_count_as_several(plan: fusec.Plan, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Runtime(plan, measure_s=0.0, log=log) as rt:
        for length in (64, 512, 8):
            assert rt.submit("words", np.zeros((1, length), np.int64)).result(SECONDS) is not None
        assert rt.submit("words", np.zeros((0, 4), np.int64)).result(SECONDS) is not None
    from fusec.runtime.sched.log import read_log

    arrived = [r for d in read_log(log).decisions for r in d.change.arrived]
    assert arrived[0].rows == 16  # of which each is a sixteenth of an instance
    assert arrived[1].rows >= 4 * 16
    assert 2 <= arrived[2].rows < 16


def test_models_that_refuse_made_up_inputs_are_served_all_the_same() -> None:
    class Third(nn.Module):
        """Takes ids below its size: ones do not do for a table of one row."""

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(1, 4)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            """Look up."""
            y: torch.Tensor = self.table(ids)
            return y

    plan = fusec.compile(
        {"third": Third().eval()},
        examples={"third": torch.zeros(1, 2, dtype=torch.int64)},
        executor="cpu",
    )
    with Runtime(plan, measure_s=0.0) as rt:
        zeros = np.zeros((1, 2), np.int64)
        (got,) = rt.submit("third", zeros).result(SECONDS).values()
        assert np.array_equal(got, *plan.run({"third": zeros})["third"].values())
        assert isinstance(rt.submit("third", zeros + 1).exception(SECONDS), KernelError)
