"""Plans on the CPU executor: any subset and rows, both kinds of arrays, packed weights, edits.

Each test runs twice: with native code, and with the reference executor in its place.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusec_testing import assert_no_worse
from torch import nn

import fusec
import fusec.running
from fusec.ir.plan import Executor
from fusec.ir.stage import LayoutKind
from fusec.lowering import Stages
from fusec.runtime.native import ThroughNative, WholeRequests
from fusec.runtime.tile.reference import ReferenceExecutor

X = torch.zeros(1, 4)


@pytest.fixture(autouse=True, params=["native", "reference"])
def _executor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def reference(executor: Executor, threads: int | None, stages: Stages) -> WholeRequests:
        made = fusec.running.runner(executor, threads, stages)
        if not isinstance(made, ThroughNative):
            return made
        others = fusec.running.runner(Executor.ISOLATED, threads, stages)
        return ThroughNative(ReferenceExecutor(stages.of), stages.has, others)

    if request.param == "reference":
        monkeypatch.setattr("fusec.plan.runner", reference)


class Two(nn.Module):
    """Two inputs, two outputs, one of them without a batch axis."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(3, 5)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of both and the second one's bias."""
        return self.a(x) + torch.relu(self.b(y)), self.b.bias * 2


class Highest(nn.Module):
    """Between two products an operator that no kernel has."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 20), nn.Linear(20, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take the largest so far in the middle."""
        return self.b(torch.cummax(self.a(x), dim=-1).values)


def _mlp(width: int = 20) -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 3)
    ).eval()


MAKERS: dict[str, tuple[Callable[[], nn.Module], tuple[torch.Tensor, ...]]] = {
    "mlp": (_mlp, (X,)),
    "two": (Two, (X, torch.zeros(1, 3))),
    "highest": (Highest, (X,)),
}


def _plan(**options: Any) -> tuple[fusec.Plan, dict[str, nn.Module]]:
    models = {f"{k}{i}": make().eval() for k, (make, _) in MAKERS.items() for i in range(2)}
    examples = {n: MAKERS[n[:-1]][1] for n in models}
    return fusec.compile(models, examples=examples, executor="cpu", **options), models


def _inputs(name: str, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return tuple(
        rng.standard_normal((rows, *x.shape[1:])).astype(np.float32) for x in MAKERS[name[:-1]][1]
    )


def _check(
    models: dict[str, nn.Module], requests: dict[str, Any], answers: dict[str, dict[str, Any]]
) -> None:
    assert list(answers) == list(requests)
    for name, given in requests.items():
        tensors = [torch.as_tensor(x) for x in given]
        with torch.no_grad():
            plain = models[name](*tensors)
            truth = models[name].double()(*(t.double() for t in tensors))
            models[name].float()
        plain, truth = (t if isinstance(t, tuple) else (t,) for t in (plain, truth))
        for got, p, t in zip(answers[name].values(), plain, truth, strict=True):
            assert_no_worse(got, p, t, where=name)


def test_any_subset_any_number_of_rows_again_and_again(rng: np.random.Generator) -> None:
    plan, models = _plan()
    assert plan.executor is Executor.CPU
    names = list(models)
    for rows in ([1] * 6, [1] * 6, [1] * 6, [3, 1, 2, 5, 1, 1], [2] * 6):
        order = list(rng.permutation(names))
        for subset in (names, order[:3], order[:1], order):
            requests = {n: _inputs(n, r, rng) for n, r in zip(subset, rows, strict=False)}
            for _ in range(3):
                _check(models, requests, plan.run(requests))
    assert plan.run({}) == {}


def test_bytes_never_depend_on_company(rng: np.random.Generator) -> None:
    plan, models = _plan()
    requests = {n: _inputs(n, 3, rng) for n in models}
    alone = {n: plan.run({n: x})[n] for n, x in requests.items()}
    for _ in range(4):
        names = list(rng.permutation(list(models)))[: rng.integers(1, len(models) + 1)]
        given = {n: requests[n] for n in names}
        spoiled = {
            n: x if n == names[0] else tuple(np.full_like(a, np.nan) for a in x)
            for n, x in given.items()
        }
        for company in (given, spoiled):
            for n, answer in plan.run(company).items():
                if company[n] is requests[n]:
                    for a, b in zip(answer.values(), alone[n].values(), strict=True):
                        assert np.array_equal(a, b), n
    for n, given in requests.items():
        for row in range(3):
            one = plan.run({n: tuple(x[row : row + 1] for x in given)})[n]
            first = next(iter(one.values()))
            assert np.array_equal(first[0], next(iter(alone[n].values()))[row])


def test_arrays_in_any_form_and_tensors(rng: np.random.Generator) -> None:
    plan, models = _plan()
    (x,) = _inputs("mlp0", 2, rng)
    wide = np.zeros((2, 8), np.float32)
    wide[:, ::2] = x
    forms = [x, (x,), {"input": x}, wide[:, ::2], np.asfortranarray(x), x.astype(">f4"), x.tolist()]
    read_only = x.copy()
    read_only.flags.writeable = False
    for _ in range(3):
        for form in (*forms, read_only, memoryview_array(x)):
            (answer,) = plan.run({"mlp0": form})["mlp0"].values()
            assert type(answer) is np.ndarray
            _check(models, {"mlp0": (x,)}, {"mlp0": {"output": answer}})
    for tensor in (
        torch.from_numpy(x),
        torch.from_numpy(wide)[:, ::2],
        nn.Parameter(torch.tensor(x)),
    ):
        for _ in range(3):
            (given,) = plan.run({"mlp0": tensor})["mlp0"].values()
            assert isinstance(given, torch.Tensor)
            assert not given.requires_grad
            assert np.array_equal(given.numpy(), answer)


def memoryview_array(array: np.ndarray) -> np.ndarray:
    """Give an array at an odd address."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    odd = memory[1:].view(array.dtype).reshape(array.shape)
    odd[...] = array
    return odd


def test_mixed_kinds_of_arrays_in_one_call(rng: np.random.Generator) -> None:
    plan, models = _plan()
    x, y = _inputs("two0", 2, rng)
    for _ in range(3):
        answers = plan.run(
            {"two0": (torch.from_numpy(x), y), "mlp0": x, "mlp1": torch.from_numpy(x)}
        )
        kinds = {n: {type(v) for v in a.values()} for n, a in answers.items()}
        assert kinds == {"two0": {torch.Tensor}, "mlp0": {np.ndarray}, "mlp1": {torch.Tensor}}
        _check(models, {"two0": (x, y), "mlp0": (x,), "mlp1": (x,)}, answers)


@pytest.mark.parametrize("tensors", [False, True])
def test_a_bad_request_after_a_good_one(tensors: bool, rng: np.random.Generator) -> None:
    """What came before is remembered; what differs in anything is still checked in full."""
    plan, models = _plan()
    (x,) = _inputs("mlp0", 2, rng)
    x_, y_ = _inputs("two0", 2, rng)
    turn = torch.from_numpy if tensors else np.asarray
    good = {"mlp0": turn(x), "two0": {"x": turn(x_), "y": turn(y_)}}
    for _ in range(4):
        plan.run(good)
    bad: list[tuple[Any, str]] = [
        ({**good, "mlp0": turn(x.astype(np.float64))}, "is float64, the model takes float32"),
        ({**good, "mlp0": turn(x[0])}, r"has shape \[4\]"),
        ({**good, "mlp0": turn(x[:, :3].copy())}, "wanted"),
        ({**good, "mlp0": object()}, "give a NumPy array"),
        ({**good, "mlp0": {}}, "missing"),
        ({**good, "mlp0": {"input": turn(x), "more": turn(x)}}, "unknown"),
        ({**good, "two0": {"x": turn(x_), "z": turn(y_)}}, "unknown"),
        ({**good, "two0": {"x": turn(x_)}}, "missing"),
        ({**good, "two0": turn(x_)}, "takes 2 inputs"),
        ({**good, "two0": (turn(x_), turn(y_[:1]))}, "rows"),
        ({"mlp0": good["mlp0"], "nobody": good["two0"]}, "no model 'nobody'"),
    ]
    for request, text in bad:
        with pytest.raises(fusec.ConfigError, match=text):
            plan.run(request)
    _check(models, {"mlp0": (x,), "two0": (x_, y_)}, plan.run(good))
    (three,) = plan.run({"mlp0": turn(np.concatenate([x, x[:1]]))})["mlp0"].values()
    assert len(three) == 3


def test_edits_are_seen_at_once(rng: np.random.Generator) -> None:
    plan, models = _plan()
    (x,) = _inputs("mlp0", 1, rng)
    requests = {"mlp0": x, "mlp1": x}
    for _ in range(4):
        plan.run(requests)
    models["mlp0"] = _mlp()
    plan.replace("mlp0", models["mlp0"].state_dict(), like="mlp1")
    _check(models, dict.fromkeys(requests, (x,)), plan.run(requests))
    plan.remove("mlp1")
    with pytest.raises(fusec.ConfigError, match="no model 'mlp1'"):
        plan.run(requests)
    models["mlp1"] = _mlp()
    plan.add("mlp1", models["mlp1"], example=X)
    for _ in range(3):
        _check(models, dict.fromkeys(requests, (x,)), plan.run(requests))


def test_a_removed_members_weights_are_let_go(rng: np.random.Generator) -> None:
    plan, models = _plan()
    requests = {n: _inputs(n, 1, rng) for n in models}
    for _ in range(4):
        plan.run(requests)
    gone = weakref.ref(plan._registry.target("mlp0").choices[0])
    kept = weakref.ref(plan._registry.target("mlp1").choices[0])
    plan.remove("mlp0")
    gc.collect()
    assert gone() is None
    assert kept() is not None


def test_results_are_the_callers_own(rng: np.random.Generator) -> None:
    plan, models = _plan()
    requests = {n: _inputs(n, 1, rng) for n in models}
    for _ in range(4):
        answers = plan.run(requests)
        kept = {n: {k: a.copy() for k, a in answer.items()} for n, answer in answers.items()}
        for answer in plan.run(requests).values():
            for array in answer.values():
                array += 1
        for n, answer in answers.items():
            for k, array in answer.items():
                assert np.array_equal(array, kept[n][k])


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_outputs_without_a_batch_axis_and_no_rows(rows: int, rng: np.random.Generator) -> None:
    plan, models = _plan()
    requests = {n: _inputs(n, rows, rng) for n in models}
    for _ in range(3):
        _check(models, requests, plan.run(requests))


def test_weights_are_packed_once_and_come_back(tmp_path: Path, rng: np.random.Generator) -> None:
    model = _mlp(width=256)
    models = {"a": model, "b": model, "c": _mlp(width=256)}
    plan = fusec.compile(models, examples={"*": X}, executor="cpu")
    plan.add("d", model.state_dict(), like="c")
    data = plan._registry.data()
    kinds = [blob.layout.kind for blob in data.weights.values()]
    assert kinds.count(LayoutKind.PANELS) == 4
    assert data.members["a"].variants == data.members["b"].variants == data.members["d"].variants
    models["d"] = model
    path = tmp_path / "p.fusec"
    plan.save(path)
    requests = {n: (rng.standard_normal((2, 4)).astype(np.float32),) for n in models}
    first = plan.run(requests)
    for executor in ("cpu", "isolated", "merged"):
        loaded = fusec.load(path, executor=executor)
        answers = loaded.run(requests)
        _check(models, requests, answers)
        if executor == "cpu":
            assert all(np.array_equal(answers[n]["output"], first[n]["output"]) for n in models)
            assert all(b.data.readonly for b in loaded._registry.data().weights.values())
        loaded.save(tmp_path / f"{executor}.fusec")
    assert path.read_bytes() == (tmp_path / "cpu.fusec").read_bytes()
    plain = fusec.compile({"a": model}, examples={"*": X}, executor="isolated")
    plain.save(path)
    (answer,) = fusec.load(path, executor="cpu").run({"a": requests["a"]})["a"].values()
    assert np.array_equal(answer, first["a"]["output"])


def test_half_precision_outputs_come_as_torch_or_float32() -> None:
    model = nn.Linear(4, 3).bfloat16().eval()
    x = torch.randn(2, 4, dtype=torch.bfloat16)
    plan = fusec.compile({"m": model}, examples={"m": x}, executor="cpu")
    for _ in range(3):
        (answer,) = plan.run({"m": x})["m"].values()
        assert answer.dtype == torch.bfloat16
        torch.testing.assert_close(answer, model(x).detach())


def test_explain_says_what_is_native_and_what_is_not() -> None:
    plan, _ = _plan()
    text = str(plan.explain())
    assert "executor: cpu (native code; bytes never depend on company)" in text
    assert "1 cummax, one instance per call; imported at the first of them" in text
    groups = plan.explain().to_json()["groups"]
    (info,) = [g["native"] for g in groups if "highest0" in g["members"]]
    assert [list(pair) for pair in info["extern"]] == [["aten.cummax.default", 1]]
    assert info["whole"] is None
    assert ["gemm", 2] in [list(pair) for pair in info["stages"]]


def test_templates_without_stages_run_through_pytorch(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """In one call with templates that have them."""
    real = fusec.lowering.lower

    def refuse(template: Any, **options: Any) -> Any:
        if any("cummax" in row.op for row in template.body.rows):
            raise fusec.UnsupportedError("no stages for row 1: cummax")
        return real(template, **options)

    monkeypatch.setattr("fusec.lowering.lower", refuse)
    plan, models = _plan()
    requests = {n: _inputs(n, 2, rng) for n in models}
    for _ in range(3):
        _check(models, requests, plan.run(requests))
    assert "PyTorch runs it whole, one call per instance: no stages for row 1" in str(
        plan.explain()
    )


def test_threads_that_run_and_edit_at_once(rng: np.random.Generator) -> None:
    """Each call answers with the weights it found, whoever else runs or edits."""
    plan, models = _plan()
    requests = {n: _inputs(n, 2, rng) for n in models}
    wanted = plan.run(requests)
    other = _mlp()
    plan.add("extra", other, example=X)
    failures: list[str] = []

    def run(seed: int) -> None:
        own = np.random.default_rng(seed)
        for _ in range(12):
            names = list(own.permutation(list(models)))[: own.integers(1, len(models) + 1)]
            for n, answer in plan.run({n: requests[n] for n in names}).items():
                for k, array in answer.items():
                    if not np.array_equal(array, wanted[n][k]):
                        failures.append(n)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        plan.replace("extra", other.state_dict(), like="mlp0")
    for thread in threads:
        thread.join()
    assert failures == []
