"""Schedules of plans: measured, stored, read back, refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fusec
from fusec.ir.split import Block, Split
from fusec.profile import Profile
from fusec.profiling import profile_plan
from fusec.runtime.roofline import Machine
from fusec.runtime.sched.profile import TemplateCost
from fusec.schedule import Schedule, TemplateSchedule, fit_fixed, named
from fusec.schedule_measure import low, rising

MACHINE = Machine(threads=1, read_bytes_per_ns=10.0, flops_per_ns=50.0)


class Tokens(nn.Module):
    """A model whose length varies."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 16)
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.layers(self.table(tokens)).mean(1)


@pytest.fixture(scope="module")
def plan() -> fusec.Plan:
    torch.manual_seed(0)
    models: dict[str, nn.Module] = {
        name: nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.LayerNorm(20)).eval() for name in "ab"
    }
    models["tokens"] = Tokens().eval()
    plan = fusec.compile(
        models,
        examples={"*": torch.randn(1, 12), "tokens": torch.randint(0, 9, (1, 24))},
        symbols={"tokens": {"tokens": {1: ("n", 2, 64)}}},
        executor="cpu",
        threads=2,
    )
    plan.profile(seconds=0.01, preempt_ms=0.02)
    return plan


def test_blocks_are_measured_for_one_thread_and_for_all(plan: fusec.Plan) -> None:
    measured = plan.costs()
    assert measured is not None
    assert [s.threads for s in measured.schedules] == [1, 2]
    assert measured.schedule() == measured.schedule(2) == measured.schedules[-1]
    assert measured.schedule(3) is None
    for schedule in measured.schedules:
        assert schedule.templates.keys() == measured.templates.keys()
        for key, template in schedule.templates.items():
            cost, n = template.cost, len(measured.templates[key].stages)
            assert len(template.split.stops(n)) == cost.n_blocks
            assert sorted(cost.blocks_ns)[:2] == [1, 2]
            assert cost.max_batch == max(cost.blocks_ns)
            left = [cost.left_ns(0, n) for n in range(1, cost.max_batch + 1)]
            assert left == sorted(left)  # what is more never takes less
            assert cost.bytes_per_instance > 0
            assert len(template.spread_percent) == 3
            assert 0 <= template.fixed_percent < 100
            assert (cost.cut_ns == 0) or cost.n_blocks > 1


def test_schedulers_read_it_from_the_file(plan: fusec.Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "p.fusec")
    loaded = fusec.load(tmp_path / "p.fusec")
    assert loaded.costs() == plan.costs()
    costs = loaded.schedule(1)
    assert costs is not None
    assert costs.models.keys() == {"a", "b", "tokens"}
    assert costs.models["a"] == costs.models["b"] != costs.models["tokens"]
    assert costs[costs.models["tokens"]].solo_ns > 0
    assert loaded.schedule(7) is None


def test_stages_only_where_nobody_wants_blocks() -> None:
    plan = fusec.compile({"m": nn.Linear(3, 2)}, examples={"m": torch.randn(1, 3)}, executor="cpu")
    assert plan.schedule() is None
    assert plan.profile(seconds=0.01, preempt_ms=None).schedules == ()
    assert plan.schedule() is None


def test_profiles_from_before_schedules_load(plan: fusec.Plan) -> None:
    measured = plan.costs()
    assert measured is not None
    old = measured.to_json()
    del old["schedules"]
    assert Profile.from_json(old).schedules == ()


def test_models_that_joined_since_are_left_out(plan: fusec.Plan) -> None:
    measured = plan.costs()
    assert measured is not None
    schedule = measured.schedules[0]
    key = next(iter(schedule.templates))
    assert schedule.costs({"new": "x" * 64, "old": key}).models == {"old": named(key)}
    with pytest.raises(fusec.ConfigError, match="run `fusec profile` again"):
        schedule.costs({"new": "x" * 64})


WHOLE = st.integers(1, 1 << 40)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Draw a schedule of one or two templates."""
    templates = {}
    for key in draw(st.sampled_from([["a" * 64], ["a" * 64, "b" * 64]])):
        parts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
        places = [(s, p) for s, n in enumerate(parts) for p in range(n)][1:]
        chosen = draw(st.sets(st.sampled_from(places), max_size=3)) if places else set()
        stops = [*sorted(chosen), (len(parts), 0)]
        starts = [(0, 0), *stops[:-1]]
        blocks = tuple(
            Block(a[0], b[0], draw(WHOLE), a[1], b[1]) for a, b in zip(starts, stops, strict=True)
        )
        counts = draw(st.sampled_from([[1], [1, 2], [1, 4, 64]]))
        row = st.lists(WHOLE, min_size=len(blocks), max_size=len(blocks)).map(tuple)
        templates[key] = TemplateSchedule(
            extents=draw(st.dictionaries(st.sampled_from(["n", "m"]), st.integers(0, 512))),
            split=Split(blocks=blocks, parts=tuple(parts)),
            cost=TemplateCost(
                blocks_ns={n: draw(row) for n in counts},
                cut_ns=draw(st.integers(0, 1 << 30)),
                max_batch=counts[-1],
                bytes_per_instance=draw(st.integers(0, 1 << 40)),
            ),
            fixed_percent=draw(st.integers(0, 95)),
            fit_percent=draw(st.integers(0, 300)),
            spread_percent=tuple(draw(st.lists(st.integers(0, 900), max_size=3))),
        )
    return Schedule(
        threads=draw(st.integers(1, 64)),
        templates=templates,
        together_percent=draw(st.integers(1, 1000)),
    )


@given(schedules())
def test_they_survive_json(schedule: Schedule) -> None:
    made = Profile(machine=MACHINE, templates={}, schedules=(schedule,))
    assert Profile.from_json(json.loads(json.dumps(made.to_json()))) == made


JUNK: list[Any] = [None, -1, 1.5, "x", [], {}, True, 1 << 70, [[1]], {"1": [0]}, {"2": [5]}]


@settings(max_examples=300)
@given(schedules(), st.data())
def test_hostile_values_are_refused(schedule: Schedule, data: st.DataObject) -> None:
    """Any one value replaced by junk: an error for people, or a schedule that makes sense."""
    spoilt = Profile(machine=MACHINE, templates={}, schedules=(schedule,)).to_json()
    spoilt = json.loads(json.dumps(spoilt))
    places = list(_places(spoilt["schedules"]))
    at, key = data.draw(st.sampled_from(places))
    at[key] = copy.deepcopy(data.draw(st.sampled_from(JUNK)))
    try:
        read = Profile.from_json(spoilt)
    except fusec.ArtifactError as e:
        assert "measure it again" in str(e)
        assert len(str(e)) < 2000
        return
    for own in read.schedules:
        for template in own.templates.values():
            assert 0 <= template.units(1.0) <= 1
            assert template.cost.solo_ns > 0


def _places(value: Any) -> Any:
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda s, t: s.update(threads=0), "from 1 to"),
        (lambda s, t: t.update(blocks=[[1, 0]]), "unpack"),
        (lambda s, t: t.update(blocks=[[1, 0, 5], [1, 0, 5]]), "empty"),
        (lambda s, t: t.update(blocks=[[1, 0, 5], [2, 0, 5]]), "2 blocks with times of 1"),
        (lambda s, t: t.update(max_batch=1 << 30), "max_batch"),
        (lambda s, t: t.update(blocks_ns={"1": [1] * 1000}, max_batch=4000), "together at most"),
        (lambda s, t: t.update(blocks_ns={"1": [1 << 60]}), "larger than any"),
        (lambda s, t: t.update(spread_percent=[-1]), "from 0"),
        (lambda s, t: t.pop("extents"), "extents"),
        (lambda s, t: s.update(templates=[t]), "not a profile"),
        (lambda s, t: s.update(templates={"k" * 16: t, "k" * 17: t}), "one name"),
    ],
)
def test_what_is_wrong_is_named(
    damage: Callable[[dict[str, Any], dict[str, Any]], object], words: str
) -> None:
    template = TemplateSchedule(
        extents={}, split=Split(blocks=(Block(0, 1, 5),)), cost=TemplateCost(blocks_ns={1: (5,)})
    )
    made = Schedule(threads=1, templates={"t": template})
    data = Profile(machine=MACHINE, templates={}, schedules=(made,)).to_json()
    own = data["schedules"][0]
    damage(own, own["templates"]["t"])
    with pytest.raises(fusec.ArtifactError, match=words):
        Profile.from_json(data)


@given(
    st.integers(0, 95),
    st.lists(st.floats(0.01, 8), min_size=1, max_size=5).filter(
        lambda works: any(abs(w - 1) > 0.05 for w in works)
    ),
)
def test_a_fixed_share_is_found_again(percent: int, works: list[float]) -> None:
    points = [(w, percent / 100 + (1 - percent / 100) * w) for w in works]
    assert fit_fixed(points) == (percent, 0)


@given(st.lists(st.tuples(st.floats(0.01, 20), st.floats(0.01, 50)), max_size=5))
def test_any_times_give_a_share(points: list[tuple[float, float]]) -> None:
    fixed, off = fit_fixed(points)
    assert 0 <= fixed <= 95
    assert off >= 0


def test_the_fifth_best_of_the_times_counts() -> None:
    assert low([9, 1, 5]) == 1
    assert low(list(range(10))) == 2


def test_more_instances_never_take_less() -> None:
    assert rising({1: [5, 0], 2: [4, 3], 4: [9, 2]}) == {1: (5, 1), 2: (5, 3), 4: (9, 3)}
    assert rising({1: [], 2: []}) == {1: (1,), 2: (1,)}


def test_what_has_no_stages_has_a_schedule() -> None:
    plan = fusec.compile({"m": nn.Identity()}, examples={"m": torch.randn(1, 3)}, executor="cpu")
    registry, stages, _ = plan.inside()
    (schedule, *_) = profile_plan(registry.data(), stages, seconds=0.01).schedules
    for template in schedule.templates.values():
        assert template.cost.n_blocks == 1


def test_a_schedule_is_shown_by_rows() -> None:
    costs = {1: (2_000_000, 1_000_000), 8: (4_000_000, 2_000_000)}
    split = Split(blocks=(Block(0, 1, 2), Block(1, 2, 1)))
    template = TemplateSchedule(extents={}, split=split, cost=TemplateCost(blocks_ns=costs))
    shown = str(Schedule(threads=2, templates={"t": template, "u": template}, together_percent=90))
    assert "on 2 threads" in shown
    assert "template t, 2 blocks of at most 2 ms: 1: 3, 8: 6" in shown
    assert "two templates together: 90 %" in shown
