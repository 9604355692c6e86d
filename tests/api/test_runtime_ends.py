"""How a runtime ends, is disturbed, breaks, and what it leaves behind: no future without an end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fusec
from fusec import ConfigError, FusecError, Rejected, Runtime, VerifyError
from fusec.runtime.policies.table import find_policy
from fusec.runtime.sched.log import read_log
from fusec.runtime.sched.policy import Policy
from fusec.runtime.sched.records import Launch, Pack
from fusec.runtime.sched.replay import replay
from fusec.runtime.sched.view import View
from fusec.runtime.tile.memory import Region

SECONDS = 20


def _mlp(width: int, layers: int) -> nn.Module:
    made: list[nn.Module] = [nn.Linear(6, width)]
    for _ in range(layers):
        made += [nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()]
    return nn.Sequential(*made).eval()


@pytest.fixture(scope="module")
def plan() -> fusec.Plan:
    torch.manual_seed(1)
    models = {f"small{i}": _mlp(20, 2) for i in range(6)}
    models |= {f"wide{i}": _mlp(384, 5) for i in range(3)}
    models |= {f"other{i}": _mlp(256, 4) for i in range(2)}
    return fusec.compile(models, examples={"*": torch.zeros(1, 6)}, executor="cpu", threads=2)


def _x(rows: int = 1) -> np.ndarray:
    return np.random.standard_normal((rows, 6)).astype(np.float32)


def _bytes(answer: dict[str, Any]) -> bytes:
    (output,) = answer.values()
    return bytes(np.ascontiguousarray(output).tobytes())


def _serve(plan: fusec.Plan, policy: str | Policy[Any] = "slack", **options: Any) -> Runtime:
    return Runtime(plan, policy, measure_s=0.0, preempt_ms=0.05, **options)


@pytest.mark.parametrize(("policy", "lanes"), [("slack", 1), ("slack", 2), ("fair", 1), ("edf", 1)])
def test_stops_at_random_change_no_byte(
    plan: fusec.Plan,
    policy: str,
    lanes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(7)
    names = [chance.choice(list(plan.members)) for _ in range(80)]
    given = [_x(chance.choice([1, 2, 7])) for _ in names]
    want = [_bytes(plan.run({n: x})[n]) for n, x in zip(names, given, strict=True)]
    over = threading.Event()
    log = tmp_path / "decisions.jsonl"
    with _serve(plan, policy, lanes=lanes, log=log) as rt:
        arenas = rt._setup.engine._arenas
        lent: list[Region] = []
        take, give = arenas.take, arenas.give
        monkeypatch.setattr(arenas, "take", lambda n: lent.append(r := take(n)) or r)
        monkeypatch.setattr(arenas, "give", lambda region: lent.remove(region) or give(region))

        def disturb() -> None:
            while not over.wait(0.0003):
                chance.choice(rt._lanes).stop(within_block=chance.random() < 0.8)

        thread = threading.Thread(target=disturb)
        thread.start()
        futures = []
        for n, x in zip(names, given, strict=True):
            futures.append(rt.submit(n, x, tenant=chance.choice("abc")))
            time.sleep(chance.choice([0, 0, 0.001]))
        got = [_bytes(f.result(SECONDS)) for f in futures]
        over.set()
        thread.join()
        assert rt.drain(SECONDS)
        stats = rt.stats()
    assert got == want
    assert not lent
    assert (stats.in_flight, stats.queued, stats.running_lanes) == (0, 0, 0)
    assert stats.outcomes == {"done": 80}
    assert stats.preemptions > 0
    assert stats.busy_ns > 0 and set(stats.tenant_ns) == set("abc")
    read = read_log(log)
    assert len(read.decisions) == stats.decisions
    assert replay(find_policy(read.policy), read.profile, read.decisions) is None


def test_random_clients_each_get_one_end(plan: fusec.Plan) -> None:
    wrong: list[object] = []
    names = list(plan.members)
    fixed = {name: _x() for name in names}
    want = {name: _bytes(plan.run({name: fixed[name]})[name]) for name in names}

    def client(seed: int) -> None:
        chance = random.Random(seed)
        asked: dict[Future[dict[str, Any]], str] = {}
        for _ in range(12):
            deadline = chance.choice([None, None, 0.01, 1.0, 50.0, 5000.0])
            some = chance.sample(names, chance.choice([1, 1, 4]))
            tick = rt.submit_many(
                {n: fixed[n] for n in some}, tenant=f"t{seed % 3}", deadline_ms=deadline
            )
            asked |= {future: name for name, future in tick.items()}
            for future in tick.values():
                if chance.random() < 0.3:
                    time.sleep(chance.choice([0, 0.0005]))
                    future.cancel()
        for future, name in asked.items():
            try:
                if _bytes(future.result(SECONDS)) != want[name]:
                    wrong.append((name, "other bytes"))
            except (Rejected, CancelledError):
                pass
            except FusecError as e:
                wrong.append((name, e))

    with _serve(plan, lanes=2, queue_limit=30, memory_budget=1 << 20) as rt:
        threads = [threading.Thread(target=client, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert rt.drain(SECONDS)
        stats = rt.stats()
    assert not wrong
    assert sum(stats.outcomes.values()) == stats.submitted > 0
    assert stats.free_bytes == 1 << 20


def test_one_that_catches_up_joins_at_a_block(plan: fusec.Plan) -> None:
    def join(view: View, state: int) -> tuple[tuple[Any, ...], int]:
        """Run the first a block, let the second catch up, then run both to the end."""
        if view.lanes[0].pack is not None or not view.waiting:
            return (), state
        blocks = sorted((w.next_block, k) for k, w in view.waiting.items())
        template = view.waiting[blocks[0][1]].request.template
        cost = view.profile[template]
        if state == 0:
            return (_launch(template, (blocks[0][1],), blocks[0][0], blocks[0][0] + 1),), 1
        if len(blocks) == 1:
            return (), state  # the second is on its way
        (low, who), (high, _) = blocks[0], blocks[-1]
        if low < high:
            return (_launch(template, (who,), low, high),), state
        joined.append(high)
        both = tuple(k for _, k in blocks)
        return (_launch(template, both, low, cost.n_blocks),), state

    joined: list[int] = []
    x = [_x(1), _x(3)]
    want = [_bytes(plan.run({n: g})[n]) for n, g in zip(("wide0", "wide1"), x, strict=True)]
    with _serve(plan, Policy("join", 0, join)) as rt:
        first = rt.submit("wide0", x[0])
        second = rt.submit("wide1", x[1])
        assert [_bytes(f.result(SECONDS)) for f in (first, second)] == want
    assert joined and joined[0] >= 1


def test_packs_of_several_templates_run_as_one(plan: fusec.Plan) -> None:
    def together(view: View) -> tuple[Any, ...]:
        """Wait for all three, then run a block of each as long as there are any."""
        if view.lanes[0].pack is not None or (not packed and len(view.waiting) < 3):
            return ()
        packs = [
            Pack(w.request.template, (n,), w.next_block) for n, w in sorted(view.waiting.items())
        ]
        if not packs:
            return ()
        packed.append(len(packs))
        first, *others = packs
        pack = Pack(first.template, first.requests, first.next_block, tuple(others))
        return (Launch(pack, 0, first.next_block + 1),)

    packed: list[int] = []
    names = ("wide0", "other1", "small2")
    x = {n: _x(2) for n in names}
    want = {n: _bytes(a) for n, a in plan.run(x).items()}
    policy = Policy("together", 0, lambda view, state: (together(view), state))
    with _serve(plan, policy) as rt:
        futures = {n: rt.submit(n, x[n]) for n in names}
        assert {n: _bytes(f.result(SECONDS)) for n, f in futures.items()} == want
        assert rt.stats().mean_pack > 1
    assert packed[0] == 3


def test_a_pack_may_be_taken_apart(plan: fusec.Plan) -> None:
    def apart(view: View) -> tuple[Any, ...]:
        """Begin two together, then go on with one after the other."""
        if view.lanes[0].pack is not None or (not begun and len(view.waiting) < 2):
            return ()
        ready = sorted(view.waiting)
        if not ready:
            return ()
        take = tuple(ready) if not begun else (ready[0],)
        begun.append(len(take))
        entry = view.waiting[take[0]]
        return (_launch(entry.request.template, take, entry.next_block, entry.next_block + 1),)

    begun: list[int] = []
    x = {"wide0": _x(2), "wide1": _x(1)}
    want = {n: _bytes(a) for n, a in plan.run(x).items()}
    policy = Policy("apart", 0, lambda view, state: (apart(view), state))
    with _serve(plan, policy) as rt:
        futures = {n: rt.submit(n, g) for n, g in x.items()}
        assert {n: _bytes(f.result(SECONDS)) for n, f in futures.items()} == want
    assert begun[0] == 2 and begun[-1] == 1


def _launch(template: str, requests: tuple[int, ...], block: int, until: int) -> Launch:
    return Launch(Pack(template, requests, block), 0, until)


@pytest.fixture
def broken(plan: fusec.Plan) -> Iterator[tuple[Runtime, threading.Event]]:
    """Give a runtime whose policy fails once an event is set."""
    fail = threading.Event()

    def decide(view: View, state: None) -> tuple[tuple[Any, ...], None]:
        if fail.is_set():
            raise ZeroDivisionError("a fault")
        return (), None

    with _serve(plan, Policy("broken", None, decide)) as rt:
        yield rt, fail


def test_when_the_scheduler_breaks_all_futures_say_so(
    broken: tuple[Runtime, threading.Event],
) -> None:
    rt, fail = broken
    futures = [rt.submit("small0", _x()) for _ in range(5)]
    fail.set()
    futures += [rt.submit("small1", _x()) for _ in range(5)]
    for future in futures:
        with pytest.raises(VerifyError, match="a fault"):
            future.result(SECONDS)
    with pytest.raises(VerifyError, match="a fault"):
        rt.submit("small0", _x()).result(SECONDS)
    assert rt.drain(SECONDS)
    rt.close()


def test_what_runs_when_the_scheduler_breaks_has_an_end_too(plan: fusec.Plan) -> None:
    slack = find_policy("slack")

    def decide(view: View, state: Any) -> tuple[tuple[Any, ...], Any]:
        if any(lane.pack is not None for lane in view.lanes):
            raise ZeroDivisionError("a fault")
        return slack.decide(view, state)

    with _serve(plan, Policy("breaks later", slack.start, decide), lanes=2) as rt:
        futures = [rt.submit(f"wide{i % 3}", _x(50)) for i in range(12)]
        for future in futures:
            error = future.exception(SECONDS)
            assert error is None or isinstance(error, VerifyError)


@pytest.mark.parametrize("method", ["enter", "finish", "start", "result"])
def test_a_fault_anywhere_in_a_turn_leaves_no_future_open(
    plan: fusec.Plan, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(10**6))
    with _serve(plan) as rt:
        plain = getattr(rt._driver.book, method)

        def third(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == 2:
                raise ZeroDivisionError("a fault")
            return plain(*args, **kwargs)

        monkeypatch.setattr(rt._driver.book, method, third)
        futures = [rt.submit(f"wide{i % 3}", _x(5)) for i in range(20)]
        ended = [future.exception(SECONDS) for future in futures]
        assert all(e is None or isinstance(e, VerifyError) for e in ended)
        assert any(ended)
        assert rt.drain(SECONDS)
        assert sum(rt.stats().outcomes.values()) == rt.stats().submitted == 20


def test_closing_answers_what_came_before_and_refuses_what_comes_after(plan: fusec.Plan) -> None:
    rt = _serve(plan)
    futures = [rt.submit(f"wide{i % 3}", _x()) for i in range(30)]
    rt.close()
    assert all(f.done() and f.exception() is None for f in futures)
    rt.close()
    with pytest.raises(Rejected, match="closed"):
        rt.submit("small0", _x()).result(SECONDS)
    with pytest.raises(Rejected, match="closed"):
        rt.submit_many({"small0": _x()})["small0"].result(SECONDS)
    names = {t.name for t in threading.enumerate()}
    assert not names & {"fusec-scheduler", "fusec-lane-0"}


def test_a_policy_that_starts_nothing_does_not_hold_up_the_end(
    plan: fusec.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusec.runtime.serving.watch.STUCK_S", 0.2)
    rt = _serve(plan, Policy("never", None, lambda view, state: ((), state)))
    future = rt.submit("small0", _x())
    rt.close()
    with pytest.raises(Rejected, match="closed"):
        future.result(SECONDS)


def test_ctrl_c_in_a_turn_comes_after_it(plan: fusec.Plan) -> None:
    def decide(view: Any, state: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGINT)
        return slack.decide(view, state)

    slack = find_policy("slack")
    with _serve(plan, Policy("slack", slack.start, decide)) as rt:
        for _ in range(3):
            with contextlib.suppress(KeyboardInterrupt):
                rt.submit("small0", _x()).result(SECONDS)
        assert rt.drain(SECONDS)
        assert rt.stats().outcomes["done"] == 3


def test_an_error_in_the_with_block_does_not_wait_for_answers(plan: fusec.Plan) -> None:
    futures = []
    with pytest.raises(KeyError), _serve(plan) as rt:
        futures = [rt.submit(f"wide{i % 3}", _x(40)) for i in range(60)]
        raise KeyError
    ended = [f.exception(SECONDS) for f in futures]
    assert all(e is None or isinstance(e, Rejected) for e in ended)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_to_make_its_own(plan: fusec.Plan) -> None:
    with _serve(plan) as rt:
        assert rt.submit("small0", _x()).result(SECONDS) is not None
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            error = rt.submit("small0", _x()).exception(SECONDS)
            rt.close()
            os.write(writer, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert b"forked" in os.read(reader, 1000)
        assert rt.submit("small0", _x()).result(SECONDS) is not None


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "best"},
        {"lanes": 0},
        {"queue_limit": 0},
        {"memory_budget": -1},
        {"max_batch": True},
        {"preempt_ms": float("nan")},
        {"log": "/nowhere/at/all/log"},
    ],
)
def test_settings_that_make_no_sense_are_refused(plan: fusec.Plan, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Runtime(plan, **{"measure_s": 0.0, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"deadline_ms": float("nan")},
        {"deadline_ms": "soon"},
        {"deadline_ms": 1e300},
        {"priority": 0.5},
        {"tenant": 3},
    ],
)
def test_requests_that_make_no_sense_are_refused(plan: fusec.Plan, options: dict[str, Any]) -> None:
    with _serve(plan) as rt, pytest.raises(FusecError):
        rt.submit("small0", _x(), **options)
