"""Plans whose weights are stored as bfloat16: exact products of the rounded weights, everywhere."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fusec_testing import assert_no_worse
from torch import nn

import fusec
import fusec.running
from fusec.ir.errors import ArtifactError, ConfigError
from fusec.ir.plan import Executor, PlanData, WeightStorage
from fusec.lowering import Stages
from fusec.runtime.native import ThroughNative, WholeRequests
from fusec.runtime.tile.reference import ReferenceExecutor
from fusec.runtime.weights import plain_array, repacked

Requests = dict[str, Any]


class Words(nn.Module):
    """Its table is its last weight, too: read by rows, so that it stays float32."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner = nn.Embedding(30, 20), nn.Linear(20, 20)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Score every word at every place."""
        return nn.functional.linear(torch.relu(self.inner(self.table(tokens))), self.table.weight)


class Recurrent(nn.Module):
    """The gemm of the inputs reads bfloat16, the steps in time do not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.LSTM(6, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify by the last step."""
        y, _ = self.layer(x)
        return self.last(y[:, -1])


class Image(nn.Module):
    """Convolutions stay float32, one of 1x1 too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 20, 3), nn.Conv2d(20, 20, 1), nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify by the mean over the pixels."""
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3)))


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(9, 300), nn.LayerNorm(300), nn.ReLU(), nn.Linear(300, 70))


MAKERS: dict[str, tuple[Any, torch.Tensor]] = {
    "mlp": (_mlp, torch.zeros(1, 9)),
    "words": (Words, torch.zeros(1, 4, dtype=torch.long)),
    "recurrent": (Recurrent, torch.zeros(1, 5, 6)),
    "image": (Image, torch.zeros(1, 3, 6, 6)),
}
HALF = {"0.weight", "3.weight", "inner.weight", "layer.weight_ih_l0", "last.weight", "c.weight"}
"""What is rounded, by the names in the modules."""


def _models() -> dict[str, nn.Module]:
    torch.manual_seed(5)
    return {f"{k}{i}": make().eval() for k, (make, _) in MAKERS.items() for i in range(2)}


def _compile(models: dict[str, nn.Module], **options: Any) -> fusec.Plan:
    examples = {n: MAKERS[n[:-1]][1] for n in models}
    return fusec.compile(models, examples=examples, executor="cpu", weights="bfloat16", **options)


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return _models()


@pytest.fixture(scope="module")
def plan(models: dict[str, nn.Module]) -> fusec.Plan:
    return _compile(models)


@pytest.fixture
def requests(models: dict[str, nn.Module], rng: np.random.Generator) -> Requests:
    given: Requests = {}
    for name in models:
        shape = (3, *MAKERS[name[:-1]][1].shape[1:])
        floats = rng.standard_normal(shape).astype(np.float32)
        given[name] = rng.integers(0, 30, shape) if name.startswith("words") else floats
    return given


def _rounded(model: nn.Module) -> nn.Module:
    """Round what the plan rounds, as torch does it."""
    model = copy.deepcopy(model)
    for name, weight in model.named_parameters():
        if name in HALF:
            weight.data = weight.data.bfloat16().float()
    return model


def _check(models: dict[str, nn.Module], requests: Requests, answers: dict[str, Any]) -> None:
    """Compare with the rounded weights in float64; the unrounded ones are not as near."""
    assert list(answers) == list(requests)
    for name, given in requests.items():
        model, x = _rounded(models[name]), torch.from_numpy(given)
        wide = x.double() if x.is_floating_point() else x
        with torch.no_grad():
            plain, truth = model(x), copy.deepcopy(model).double()(wide)
            other = copy.deepcopy(models[name]).double()(wide)
        (got,) = answers[name].values()
        assert_no_worse(got, plain, truth, where=name)
        error = np.abs(got - truth.numpy()).max()
        assert 20 * error < np.abs(got - other.numpy()).max() < 0.1 * np.abs(got).max(), name


@pytest.mark.parametrize("how", ["native", "reference"])
def test_answers_are_those_of_the_rounded_weights(
    models: dict[str, nn.Module], requests: Requests, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reference(executor: Executor, threads: int | None, stages: Stages) -> WholeRequests:
        others = fusec.running.runner(Executor.ISOLATED, threads, stages)
        return ThroughNative(ReferenceExecutor(stages.of), stages.has, others)

    if how == "reference":
        monkeypatch.setattr("fusec.plan.runner", reference)
    plan = _compile(models)
    assert plan.weight_storage is WeightStorage.BFLOAT16
    for _ in range(3):
        _check(models, requests, plan.run(requests))


def _data(plan: fusec.Plan) -> PlanData:
    return plan._registry.data()


def test_only_what_matrix_products_alone_read_is_stored_so(plan: fusec.Plan) -> None:
    data = _data(plan)
    for member in data.members.values():
        (variant,) = member.variants
        stored = [data.weights[w].layout.stored for w in variant.weights]
        assert stored.count("bfloat16") == len(HALF & set(member.weight_names))
    sizes = {b.data.nbytes for b in data.weights.values() if b.layout.stored}
    assert sizes == {2 * n for n in (9 * 304, 300 * 80, 20 * 32, 6 * 64, 16 * 16, 20 * 16)}


def test_explain_says_what_share_is_rounded(plan: fusec.Plan, models: dict[str, nn.Module]) -> None:
    explanation = plan.explain()
    assert explanation.weight_storage == "bfloat16"
    assert "weights:  bfloat16, 0." in str(explanation)
    for info in explanation.groups:
        assert 0 < info.rounded_bytes < info.weight_bytes
        assert f"({info.rounded_bytes / info.weight_bytes:.0%}) of weights" in str(explanation)
        assert sum(size for _, size in info.unrounded) + info.rounded_bytes == info.weight_bytes
    kept = {name: size for info in explanation.groups for name, size in info.unrounded}
    assert set(kept) == {"vectors", "index and linear", "rnn", "convolution"}
    assert "MB of index and linear" in str(explanation)
    assert explanation.to_json()["weight_storage"] == "bfloat16"
    usual = fusec.compile({}, executor="cpu")
    assert usual.weight_storage is None
    assert "bfloat16" not in str(usual.explain())
    torch.manual_seed(1)
    wide = fusec.compile({"m": _mlp().eval()}, examples={"*": torch.zeros(1, 9)}, executor="cpu")
    assert [g.unrounded for g in wide.explain().groups] == [()]
    empty = fusec.compile({}, executor="cpu", weights="bfloat16")
    assert "0.00 of 0.00 MB" in str(empty.explain())


def test_bytes_never_depend_on_company(
    plan: fusec.Plan, requests: Requests, rng: np.random.Generator
) -> None:
    alone = {n: plan.run({n: x})[n] for n, x in requests.items()}
    for _ in range(3):
        names = list(rng.permutation(list(requests)))[: rng.integers(2, len(requests) + 1)]
        given = {n: requests[n] for n in names}
        if given[names[0]].dtype == np.float32:
            given[names[0]] = np.full_like(given[names[0]], np.nan)
        for n, answer in plan.run(given).items():
            if given[n] is requests[n]:
                (a,), (b,) = answer.values(), alone[n].values()
                assert np.array_equal(a, b), n
    for n, x in requests.items():
        for row in range(3):
            (one,) = plan.run({n: x[row : row + 1]})[n].values()
            (many,) = alone[n].values()
            assert np.array_equal(one[0], many[row]), n


@pytest.mark.parametrize("executor", [None, "isolated", "merged"])
def test_a_file_keeps_the_storage_for_every_executor(
    executor: str | None,
    plan: fusec.Plan,
    models: dict[str, nn.Module],
    requests: Requests,
    tmp_path: Path,
) -> None:
    """Also for models that join there, in any way; and back to native code."""
    plan.save(tmp_path / "a.fusec")
    loaded = fusec.load(tmp_path / "a.fusec", executor=executor)
    assert loaded.weight_storage is WeightStorage.BFLOAT16
    _check(models, requests, loaded.run(requests))
    torch.manual_seed(9)
    new = {n: MAKERS[n[:-1]][0]().eval() for n in ("mlp2", "mlp3", "mlp1", "words0")}
    example = MAKERS["mlp"][1]
    loaded.add("mlp2", new["mlp2"], example=example)
    loaded.add("mlp3", new["mlp3"].state_dict(), like="mlp0")
    loaded.replace("mlp1", new["mlp1"], example=example)
    loaded.replace("words0", new["words0"].state_dict(), like="words0")
    mine = {**models, **new}
    given = {n: requests.get(n, requests["mlp0"]) for n in mine}
    _check(mine, given, loaded.run(given))
    loaded.save(tmp_path / "b.fusec")
    again = fusec.load(tmp_path / "b.fusec", executor="cpu")
    _check(mine, given, again.run(given))
    for n, answer in again.run(requests).items():
        if n not in new:
            (a,), (b,) = answer.values(), plan.run({n: requests[n]})[n].values()
            assert np.array_equal(a, b), n


def test_repacking_rounds_once(plan: fusec.Plan) -> None:
    """From other panels, or from plain arrays, come the same bytes; nothing moves in place."""
    data = _data(plan)
    wanted = Stages(WeightStorage.BFLOAT16).layouts
    assert repacked(data, wanted) is data
    wide = repacked(data, Stages().layouts)
    assert all(b.layout.stored is None for b in wide.weights.values())
    back = repacked(wide, wanted)
    assert {k: bytes(b.data) for k, b in back.weights.items()} == {
        k: bytes(b.data) for k, b in data.weights.items()
    }
    for name, member in data.members.items():
        pairs = zip(member.variants[0].weights, wide.members[name].variants[0].weights, strict=True)
        for key, other in pairs:
            np.testing.assert_array_equal(
                plain_array(data.weights[key]), plain_array(wide.weights[other])
            )


def test_a_damaged_half_weight_is_found(plan: fusec.Plan, tmp_path: Path) -> None:
    path = tmp_path / "a.fusec"
    plan.save(path)
    whole = path.read_bytes()
    key, blob = next((k, b) for k, b in _data(plan).weights.items() if b.layout.stored)
    at = whole.index(bytes(blob.data))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(ArtifactError, match=f"weight {key} is damaged"):
        fusec.load(path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"weights": "float16"}, "'float16' is not known; give 'bfloat16'"),
        ({"weights": True}, "True is not known"),
        ({"weights": "bfloat16", "executor": "isolated"}, "the executor is 'isolated'.*cpu"),
        ({"weights": "bfloat16", "executor": "merged"}, "the executor is 'merged'"),
    ],
)
def test_what_cannot_be_stored_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        fusec.compile({}, **options)
