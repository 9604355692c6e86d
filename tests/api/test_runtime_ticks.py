"""Ticks, the second time and after: read in one pass, and as right as the first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fusec
from fusec import ConfigError, Runtime

SECONDS = 20


def _constant(k: float, width: int = 6) -> nn.Module:
    model = nn.Linear(width, 2)
    nn.init.constant_(model.weight, k)
    nn.init.zeros_(model.bias)
    return model.eval()


class Pair(nn.Module):
    """Two inputs."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Add them."""
        return a + b


NAMES = [f"k{k}" for k in range(8)]
WIDE = ["w0", "w1"]


def _compile() -> fusec.Plan:
    models: dict[str, Any] = {name: _constant(k) for k, name in enumerate(NAMES)}
    models |= {name: _constant(20 + k, 9) for k, name in enumerate(WIDE)}
    models["pair"] = Pair().eval()
    examples: dict[str, Any] = dict.fromkeys(NAMES, torch.zeros(1, 6))
    examples |= dict.fromkeys(WIDE, torch.zeros(1, 9))
    examples["pair"] = (torch.zeros(1, 3), torch.zeros(1, 3))
    return fusec.compile(models, examples=examples, executor="cpu", threads=2)


@pytest.fixture(scope="module")
def plan() -> fusec.Plan:
    return _compile()


@pytest.fixture(name="rt")
def _rt(plan: fusec.Plan) -> Iterator[Runtime]:
    with Runtime(plan, measure_s=0.0) as rt:
        yield rt


def _tick(rows: int = 1) -> dict[str, np.ndarray]:
    tick = {n: np.random.standard_normal((rows, 6)).astype(np.float32) for n in NAMES}
    return tick | {n: np.random.standard_normal((rows, 9)).astype(np.float32) for n in WIDE}


def _agree(rt: Runtime, plan: fusec.Plan, tick: dict[str, Any]) -> None:
    want = plan.run(tick)
    futures = rt.submit_many(tick)
    assert list(futures) == list(tick)
    for name, future in futures.items():
        (got,), (output,) = future.result(SECONDS).values(), want[name].values()
        assert got.dtype == output.dtype and np.array_equal(got, output), name


def _warm(rt: Runtime, plan: fusec.Plan, tick: dict[str, Any]) -> None:
    for _ in range(3):
        _agree(rt, plan, tick)


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which models' requests are read one by one."""
    from fusec.runtime.serving import reading

    read: list[str] = []
    plain = reading.read_request

    def noted(target: Any, given: object) -> Any:
        read.append(target.name)
        return plain(target, given)

    monkeypatch.setattr(reading, "read_request", noted)
    return read


def test_a_tick_that_came_before_is_read_in_one_pass(
    rt: Runtime, plan: fusec.Plan, once: list[str]
) -> None:
    _warm(rt, plan, _tick(3))
    once.clear()
    _agree(rt, plan, _tick(3))
    shared = np.random.standard_normal((3, 6)).astype(np.float32)
    _agree(rt, plan, _tick(3) | dict.fromkeys(NAMES, shared))
    assert not once
    _agree(rt, plan, _tick(2))  # other shapes
    assert len(once) == len(NAMES) + len(WIDE)


def test_one_array_for_all_is_copied_too(rt: Runtime, once: list[str]) -> None:
    x = np.ones((1, 6), np.float32)
    for k in range(6):
        if k == 5:
            once.clear()
        futures = rt.submit_many(dict.fromkeys(NAMES, x))
        x[:] = 0
        for j, future in enumerate(futures.values()):
            (output,) = future.result(SECONDS).values()
            assert (output == 6 * j).all()
        x[:] = 1
    assert not once


@pytest.mark.parametrize("bad", [np.ones((1, 5), np.float32), np.ones((1, 6)), None, "x"])
def test_a_bad_one_among_known_ones_fails_alone(rt: Runtime, plan: fusec.Plan, bad: Any) -> None:
    tick = _tick()
    _warm(rt, plan, tick)
    want = plan.run(tick)
    for name, future in rt.submit_many({**tick, "k3": bad}).items():
        if name == "k3":
            assert isinstance(future.exception(SECONDS), ConfigError)
        else:
            assert np.array_equal(*(next(iter(a.values())) for a in (future.result(), want[name])))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.asfortranarray(x),
        lambda x: x[::2],
        lambda x: x.astype(">f4"),
        lambda x: torch.from_numpy(x).numpy(),
        lambda x: x.view(np.ndarray)[:, ::-1][:, ::-1],
    ],
)
def test_arrays_of_any_layout_are_right(rt: Runtime, plan: fusec.Plan, change: Any) -> None:
    tick = _tick(4)
    _warm(rt, plan, tick)
    _agree(rt, plan, {name: change(x) for name, x in tick.items()})


def test_models_of_several_inputs_or_tensors_take_the_long_way(
    rt: Runtime, plan: fusec.Plan
) -> None:
    a, b = (np.ones((2, 3), np.float32) for _ in range(2))
    for _ in range(4):
        futures = rt.submit_many({"pair": (a, b), **_tick()})
        assert np.array_equal(*(futures["pair"].result(SECONDS).values()), a + b)
        for future in rt.submit_many(dict.fromkeys(NAMES, torch.ones(1, 6))).values():
            assert all(isinstance(t, torch.Tensor) for t in future.result(SECONDS).values())
        _agree(rt, plan, _tick())


def test_a_replaced_model_answers_from_its_new_weights() -> None:
    plan, tick = _compile(), _tick()
    with Runtime(plan, measure_s=0.0) as rt:
        _warm(rt, plan, tick)
        for k in range(30, 34):
            plan.replace("k2", dict(_constant(float(k)).state_dict()), like="k2")
            for _ in range(3):
                _agree(rt, plan, tick)
        plan.remove("k5")
        futures = rt.submit_many(tick)
        assert isinstance(futures["k5"].exception(SECONDS), ConfigError)
        assert futures["k6"].result(SECONDS) is not None


def test_ticks_of_many_threads_do_not_mix(rt: Runtime, plan: fusec.Plan) -> None:
    wrong: list[object] = []

    def client(k: float) -> None:
        x = np.full((1, 6), k, np.float32)
        for _ in range(20):
            for j, future in enumerate(rt.submit_many(dict.fromkeys(NAMES, x)).values()):
                (output,) = future.result(SECONDS).values()
                if (output != 6 * j * k).any():
                    wrong.append((k, j, output))

    threads = [threading.Thread(target=client, args=(float(k),)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_calls_of_a_tick_begin_together(rt: Runtime) -> None:
    x = np.ones((1, 6), dtype=np.float32)
    together = rt.submit_many({"k0": x, "k1": x, "k2": x})
    for future in together.values():
        future.result(SECONDS)
    alone = rt.submit("k0", x)
    alone.result(SECONDS)
    starts = [future.start for future in (*together.values(), alone)]  # type: ignore[attr-defined]
    assert starts[0] is not None
    assert starts[0] is starts[1] is starts[2]
    assert starts[3].at_ns > starts[0].at_ns
