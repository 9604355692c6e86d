"""Modules drawn at random, several members each: right, and the same bytes in any company."""

from __future__ import annotations

import copy
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.random_models import random_net, with_other_weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fusec

ROWS = (1, 2, 3, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a place for plan files."""
    return tmp_path_factory.mktemp("plans")


@settings(max_examples=16, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(seed=st.integers(0, 2**32))
def test_right_alone_and_in_company(seed: int, folder: Path) -> None:
    r, rng = Random(seed), np.random.default_rng(seed)
    net, shape = random_net(r)
    models = {"a": net, "b": with_other_weights(net, 1), "c": copy.deepcopy(net)}
    example = torch.zeros(1, *shape)
    plan = fusec.compile(models, examples={"*": example}, executor="cpu", threads=1)
    plan.save(folder / "plan.fusec")
    other = fusec.load(folder / "plan.fusec", threads=2)
    inputs = {
        name: torch.from_numpy(rng.standard_normal((int(rng.choice(ROWS)), *shape), np.float32))
        for name in models
    }
    alone = {}
    for name, x in inputs.items():
        got = list(plan.run({name: x})[name].values())
        with torch.no_grad():
            plain = models[name](x)
            exact = copy.deepcopy(models[name]).double()(x.double())
        for triple in zip(got, plain, exact, strict=True):
            assert_no_worse(*triple, where=f"{name}: {net}")
        alone[name] = [y.numpy().tobytes() for y in got]
        rows = [list(plan.run({name: x[i : i + 1]})[name].values()) for i in range(len(x))]
        for i, whole in enumerate(alone[name]):
            assert b"".join(row[i].numpy().tobytes() for row in rows) == whole, f"{name}: {net}"
    for together in (plan, other):
        order = list(rng.permutation(list(models)))
        _same(together.run({n: inputs[n] for n in order}), alone)
        spoiled = {n: torch.full_like(x, torch.nan) if n == "b" else x for n, x in inputs.items()}
        if not _looks_up(net):
            _same(together.run(spoiled), {n: alone[n] for n in "ac"})


def _same(got: dict[str, dict[str, torch.Tensor]], wanted: dict[str, list[bytes]]) -> None:
    for name, outputs in wanted.items():
        assert [y.numpy().tobytes() for y in got[name].values()] == outputs, name


def _looks_up(net: torch.nn.Module) -> bool:
    """Tell whether NaN becomes an index somewhere, which is an error."""
    return any(isinstance(part, torch.nn.Embedding) for part in net.modules())
