"""A runtime answers what the plan answers, whoever asks, in whatever company."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fusec
from fusec import ConfigError, KernelError, Rejected, Runtime

SECONDS = 20


class Recurrent(nn.Module):
    """Words through an LSTM, of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(11, 8), nn.LSTM(8, 12, batch_first=True)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Read words."""
        outputs, _ = self.rnn(self.words(ids))
        return torch.tanh(outputs)


class Spectral(nn.Module):
    """Between two products an operator that no kernel has."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 20), nn.Linear(11, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take a spectrum in the middle."""
        y: torch.Tensor = self.b(torch.fft.rfft(self.a(x)).abs())
        return y


def _mlp(width: int, layers: int) -> nn.Module:
    made: list[nn.Module] = [nn.Linear(6, width)]
    for _ in range(layers):
        made += [nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()]
    return nn.Sequential(*made)


def _constant(k: float) -> nn.Module:
    """A model that answers its number."""
    model = nn.Linear(6, 2)
    nn.init.zeros_(model.weight)
    nn.init.constant_(model.bias, k)
    return model


CONSTANTS = [f"k{k}" for k in range(12)]
ODD = ("small0", "small1", "wide0", "wide1", "words0", "words1", "spectral")


@pytest.fixture(scope="module")
def plan() -> fusec.Plan:
    torch.manual_seed(0)
    backbone = nn.Linear(6, 40)
    models: dict[str, Any] = {name: _constant(k) for k, name in enumerate(CONSTANTS)}
    models |= {f"small{i}": _mlp(20, 2) for i in range(2)}
    models |= {f"wide{i}": _mlp(384, 4) for i in range(2)}
    models |= {f"words{i}": Recurrent() for i in range(2)}
    models |= {f"head{i}": nn.Sequential(backbone, nn.ReLU(), nn.Linear(40, 3)) for i in range(3)}
    models["spectral"] = Spectral()
    examples = {n: torch.zeros(1, 6) for n in models}
    symbols = {f"words{i}": {"ids": {1: "length"}} for i in range(2)}
    examples |= {n: torch.zeros(1, 4, dtype=torch.int64) for n in symbols}
    return fusec.compile(
        {n: m.eval() for n, m in models.items()},
        examples=examples,
        symbols=symbols,
        executor="cpu",
        threads=2,
    )


@pytest.fixture(name="rt")
def _rt(plan: fusec.Plan) -> Iterator[Runtime]:
    with Runtime(plan, measure_s=0.0, preempt_ms=0.05) as rt:
        yield rt
        assert rt.drain(SECONDS)
        stats = rt.stats()
        assert (stats.in_flight, stats.queued) == (0, 0)
        assert sum(stats.outcomes.values()) == stats.submitted


def _given(name: str, chance: random.Random) -> np.ndarray:
    rows = chance.choice([1, 1, 1, 2, 5])
    if name.startswith("words"):
        return np.random.randint(0, 11, (rows, chance.choice([1, 4, 9])))
    return np.random.standard_normal((rows, 6)).astype(np.float32)


def _bytes(answer: dict[str, Any]) -> bytes:
    (output,) = answer.values()
    return bytes(np.ascontiguousarray(output).tobytes())


def test_model_k_answers_k_to_many_clients(rt: Runtime) -> None:
    wrong: list[object] = []

    def client(seed: int) -> None:
        chance = random.Random(seed)
        asked: list[tuple[int, int, Future[dict[str, Any]]]] = []
        for _ in range(25):
            k, rows = chance.randrange(len(CONSTANTS)), chance.choice([1, 3])
            future = rt.submit(f"k{k}", np.ones((rows, 6), np.float32), tenant=f"t{seed}")
            asked.append((k, rows, future))
            if chance.random() < 0.2:
                future.cancel()
        for k, rows, future in asked:
            if future.cancelled():
                continue
            (output,) = future.result(SECONDS).values()
            if output.shape != (rows, 2) or (output != k).any():
                wrong.append((k, rows, output))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("policy", ["slack", "fair", "edf", "fifo", "split_paper"])
def test_bytes_are_those_of_the_plan_under_every_policy(plan: fusec.Plan, policy: str) -> None:
    chance = random.Random(3)
    names = [chance.choice([*ODD, "head0", "head1", "head2"]) for _ in range(60)]
    given = [_given(name, chance) for name in names]
    want = [_bytes(plan.run({n: x})[n]) for n, x in zip(names, given, strict=True)]
    with Runtime(plan, policy, measure_s=0.0, preempt_ms=0.05, memory_budget=1 << 24) as rt:
        futures = [
            rt.submit(n, x, tenant=chance.choice("ab"), priority=chance.randrange(2))
            for n, x in zip(names, given, strict=True)
        ]
        assert [_bytes(f.result(SECONDS)) for f in futures] == want
        assert rt.profile().templates != {}


@pytest.mark.parametrize("lanes", [2, 3])
def test_several_lanes_answer_alike(plan: fusec.Plan, lanes: int) -> None:
    chance = random.Random(4)
    names = [chance.choice(ODD) for _ in range(40)]
    given = [_given(name, chance) for name in names]
    want = [_bytes(plan.run({n: x})[n]) for n, x in zip(names, given, strict=True)]
    with Runtime(plan, lanes=lanes, measure_s=0.0, preempt_ms=0.05) as rt:
        futures = [rt.submit(n, x) for n, x in zip(names, given, strict=True)]
        assert [_bytes(f.result(SECONDS)) for f in futures] == want


def test_a_tick_answers_each_and_a_bad_one_fails_alone(rt: Runtime, plan: fusec.Plan) -> None:
    x = np.random.standard_normal((2, 6)).astype(np.float32)
    tick = dict.fromkeys((*CONSTANTS, "small0", "head1"), x)
    want = plan.run(tick)
    futures = rt.submit_many({**tick, "small1": x[:, :5], "nobody": x, "k3": [object()]})
    for name, future in futures.items():
        if name in ("small1", "nobody", "k3"):
            assert isinstance(future.exception(SECONDS), ConfigError)
        else:
            assert _bytes(future.result(SECONDS)) == _bytes(want[name])


def test_bad_values_fail_alone_too(rt: Runtime, plan: fusec.Plan) -> None:
    good = np.array([[1, 2, 3]])
    bad = np.array([[1, 99, 3]])
    with rt_held(rt):
        futures = [rt.submit("words0", good), rt.submit("words1", bad), rt.submit("words0", good)]
    want = _bytes(plan.run({"words0": good})["words0"])
    assert _bytes(futures[0].result(SECONDS)) == want == _bytes(futures[2].result(SECONDS))
    with pytest.raises(KernelError, match=r"words1.*out of range"):
        futures[1].result(SECONDS)
    tick = rt.submit_many({"words0": good, "words1": bad, "k1": np.ones((1, 6), np.float32)})
    assert _bytes(tick["words0"].result(SECONDS)) == want
    assert isinstance(tick["words1"].exception(SECONDS), KernelError)
    assert tick["k1"].result(SECONDS) is not None
    assert rt.drain(SECONDS)
    assert rt.stats().outcomes["failed"] == 2


class rt_held:
    """Hold a runtime's only lane, so that what is submitted meanwhile waits together."""

    def __init__(self, rt: Runtime) -> None:
        self._rt, self._go = rt, threading.Event()

    def __enter__(self) -> None:
        entered = threading.Event()
        engine = self._rt._setup.engine
        self._gather = engine.gather

        def gather(*args: Any) -> Any:
            entered.set()
            assert self._go.wait(SECONDS)
            return self._gather(*args)

        engine.gather = gather  # type: ignore[method-assign]
        self._first = self._rt.submit("k0", np.ones((1, 6), np.float32))
        assert entered.wait(SECONDS)

    def __exit__(self, *_: object) -> None:
        self._rt._setup.engine.gather = self._gather  # type: ignore[method-assign]
        self._go.set()
        assert self._first.result(SECONDS) is not None


def test_an_operator_that_raises_fails_its_own_request(
    rt: Runtime, plan: fusec.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.standard_normal((1, 6)).astype(np.float32)
    want = _bytes(plan.run({"spectral": x})["spectral"])
    externs = rt._setup.engine._externs
    run = externs._run

    def refuse(*args: Any) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(externs, "_run", refuse)
    futures = rt.submit_many({"spectral": x, "k1": x})
    with pytest.raises(KernelError, match=r"running spectral fails: MemoryError: no more"):
        futures["spectral"].result(SECONDS)
    assert futures["k1"].result(SECONDS) is not None
    monkeypatch.setattr(externs, "_run", run)
    assert _bytes(rt.submit("spectral", x).result(SECONDS)) == want


def test_what_is_cancelled_while_it_waits_never_runs(rt: Runtime) -> None:
    x = np.ones((1, 6), np.float32)
    with rt_held(rt):
        futures = rt.submit_many({"k1": x, "k2": x, "small0": x})
        alone = rt.submit("k3", x)
        assert futures["k1"].cancel() and futures["small0"].cancel() and alone.cancel()
    (output,) = futures["k2"].result(SECONDS).values()
    assert (output == 2).all()
    with pytest.raises(CancelledError):
        alone.result(SECONDS)
    assert rt.drain(SECONDS)
    stats = rt.stats()
    assert stats.outcomes == {"done": 2, "cancelled": 3}
    assert not futures["k2"].cancel()


def test_expired_requests_are_refused_and_say_why(rt: Runtime) -> None:
    x = np.ones((1, 6), np.float32)
    with rt_held(rt):
        future = rt.submit("k1", x, deadline_ms=1)
        with pytest.raises(Rejected, match="deadline") as refused:
            future.result(SECONDS)  # while the lane is still held
    assert refused.value.result in ("expired", "rejected")
    late = rt.submit("k1", x, deadline_ms=-5)
    assert isinstance(late.exception(SECONDS), Rejected)
    assert rt.submit("k1", x, deadline_ms=60_000).result(SECONDS) is not None


def test_a_full_queue_refuses_at_once(plan: fusec.Plan) -> None:
    x = np.ones((1, 6), np.float32)
    with Runtime(plan, measure_s=0.0, queue_limit=2) as rt:
        with rt_held(rt):
            futures = [rt.submit("k1", x) for _ in range(40)]
            done, _ = wait(futures, timeout=0)
            refused = [f for f in futures if f.done()]
            assert len(refused) >= 38 - 2
            assert all(isinstance(f.exception(), Rejected) for f in done)
        assert rt.drain(SECONDS)
        assert rt.stats().outcomes["full"] == len(refused)


def test_models_come_and_go_while_requests_run(plan: fusec.Plan) -> None:
    x = np.ones((1, 6), np.float32)
    wrong: list[object] = []
    stop = threading.Event()
    first = _constant(100.0)
    plan.add("moving", first, example=torch.zeros(1, 6))

    def client() -> None:
        while not stop.is_set():
            (output,) = rt.submit("moving", x).result(SECONDS).values()
            if len(np.unique(output)) != 1 or output[0, 0] < 100:
                wrong.append(output)

    with Runtime(plan, measure_s=0.0) as rt:
        threads = [threading.Thread(target=client) for _ in range(3)]
        for thread in threads:
            thread.start()
        for k in range(101, 116):
            weights = {n: t.detach() for n, t in _constant(float(k)).state_dict().items()}
            plan.replace("moving", weights, like="k0")
        plan.add("joined", _mlp(31, 1).eval(), example=torch.zeros(1, 6))
        want = _bytes(plan.run({"joined": x})["joined"])
        assert _bytes(rt.submit("joined", x).result(SECONDS)) == want
        stop.set()
        for thread in threads:
            thread.join()
        held = rt_held(rt)
        with held:
            waiting = rt.submit("moving", x)
            plan.remove("moving")
        (output,) = waiting.result(SECONDS).values()
        assert (output == 115).all()
        assert isinstance(rt.submit("moving", x).exception(SECONDS), ConfigError)
    plan.remove("joined")
    assert not wrong


def test_inputs_may_change_once_they_are_submitted(rt: Runtime, plan: fusec.Plan) -> None:
    x = np.random.standard_normal((3, 6)).astype(np.float32)
    want = _bytes(plan.run({"small0": x})["small0"])
    with rt_held(rt):
        future = rt.submit("small0", x)
        x[:] = np.nan
    assert _bytes(future.result(SECONDS)) == want


def test_tensors_come_back_as_tensors_and_no_rows_as_none(rt: Runtime) -> None:
    (tensor,) = rt.submit("k5", torch.ones(2, 6)).result(SECONDS).values()
    assert isinstance(tensor, torch.Tensor) and (tensor == 5).all()
    (empty,) = rt.submit("k5", np.ones((0, 6), np.float32)).result(SECONDS).values()
    assert empty.shape == (0, 2)


def test_it_can_be_awaited_and_left(rt: Runtime) -> None:
    x = np.ones((1, 6), np.float32)

    async def ask() -> None:
        answers = await asyncio.gather(*(rt.infer(name, x) for name in CONSTANTS))
        for k, answer in enumerate(answers):
            (output,) = answer.values()
            assert (output == k).all()
        with pytest.raises(ConfigError):
            await rt.infer("nobody", x)
        with rt_held(rt):
            task = asyncio.create_task(rt.infer("k1", x))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(ask())
    assert rt.drain(SECONDS)
    assert rt.stats().outcomes["cancelled"] == 1


def test_a_callback_that_blocks_holds_up_no_answer(rt: Runtime) -> None:
    x = np.ones((1, 6), np.float32)
    release, called = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        called.set()
        release.wait(SECONDS)

    rt.submit("k1", x).add_done_callback(slow)
    assert called.wait(SECONDS)
    assert rt.submit("k2", x).result(SECONDS) is not None
    release.set()


@pytest.mark.parametrize("executor", ["isolated", "merged"])
def test_plans_that_pytorch_runs_are_served_too(executor: str) -> None:
    models = {name: _constant(k) for k, name in enumerate(CONSTANTS[:3])}
    plan = fusec.compile(models, examples={"*": torch.zeros(1, 6)}, executor=executor)
    x = np.ones((2, 6), np.float32)
    with Runtime(plan) as rt:
        for k, future in enumerate(rt.submit_many(dict.fromkeys(models, x)).values()):
            (output,) = future.result(SECONDS).values()
            assert (output == k).all()
