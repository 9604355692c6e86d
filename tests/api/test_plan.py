"""The public API: compile, run, edit, save, load; isolation and right answers throughout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fusec_testing import assert_no_worse
from torch import nn

import fusec


def _mlp(width: int = 8, out: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, out)
    ).eval()


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    ).eval()


X = torch.zeros(1, 4)
PICTURE = torch.zeros(1, 1, 8, 8)


def _plan(executor: str = "isolated") -> tuple[fusec.Plan, dict[str, nn.Module]]:
    models: dict[str, nn.Module] = {f"mlp{i}": _mlp() for i in range(3)}
    models |= {f"cnn{i}": _cnn() for i in range(2)}
    examples = {n: X if n.startswith("mlp") else PICTURE for n in models}
    return fusec.compile(models, examples=examples, executor=executor), models


def _inputs(name: str, rows: int) -> torch.Tensor:
    return torch.randn(rows, 4) if name.startswith("mlp") else torch.randn(rows, 1, 8, 8)


def _check(
    plan: fusec.Plan, models: dict[str, nn.Module], requests: dict[str, torch.Tensor]
) -> None:
    answers = plan.run(requests)
    assert list(answers) == list(requests)
    for name, x in requests.items():
        (answer,) = answers[name].values()
        with torch.no_grad():
            plain = torch.cat([models[name](row[None]) for row in x])
            truth = models[name].double()(x.double())
            models[name].float()
        assert_no_worse(answer, plain, truth, where=name)


@pytest.mark.parametrize("executor", ["isolated", "merged"])
def test_any_subset_and_any_number_of_rows(executor: str) -> None:
    plan, models = _plan(executor)
    names = list(models)
    for subset in (names, names[:1], names[1:4], [names[4], names[0]]):
        _check(plan, models, {n: _inputs(n, 1 + i) for i, n in enumerate(subset)})
    assert plan.run({}) == {}


@pytest.mark.parametrize("executor", ["isolated", "merged"])
def test_no_rows_give_empty_outputs(executor: str) -> None:
    plan, _ = _plan(executor)
    (answer,) = plan.run({"mlp0": torch.empty(0, 4)})["mlp0"].values()
    assert answer.shape == (0, 3)
    assert answer.dtype == torch.float32


def test_groups_are_by_architecture() -> None:
    plan, _ = _plan()
    groups = plan.explain().groups
    assert [g.members for g in groups] == [("mlp0", "mlp1", "mlp2"), ("cnn0", "cnn1")]
    assert [g.size for g in groups] == [3, 2]


def test_isolated_bytes_never_depend_on_company() -> None:
    plan, models = _plan()
    requests = {n: _inputs(n, 3) for n in models}
    alone = {n: plan.run({n: x})[n] for n, x in requests.items()}
    rng = np.random.default_rng(0)
    for _ in range(5):
        names = list(rng.permutation(list(models)))[: rng.integers(1, len(models) + 1)]
        company = {n: requests[n] for n in names}
        spoiled = {n: torch.full_like(x, torch.nan) for n, x in company.items()}
        spoiled[names[0]] = company[names[0]]
        for given in (company, spoiled):
            for n, answer in plan.run(given).items():
                if given[n] is requests[n]:
                    (a,), (b,) = answer.values(), alone[n].values()
                    assert torch.equal(a, b), n
    # Rows do not depend on each other either.
    (rows,) = alone["cnn0"].values()
    for i in range(3):
        (row,) = plan.run({"cnn0": requests["cnn0"][i : i + 1]})["cnn0"].values()
        assert torch.equal(row[0], rows[i])


def test_merged_mode_keeps_a_tenants_nan_to_itself() -> None:
    plan, models = _plan("merged")
    requests = {n: _inputs(n, 2) for n in models}
    requests["mlp1"] = torch.full((2, 4), torch.nan)
    answers = plan.run(requests)
    for n in models:
        (answer,) = answers[n].values()
        assert bool(answer.isnan().all()) == (n == "mlp1"), n


def test_numpy_in_numpy_out_torch_in_torch_out() -> None:
    plan, _ = _plan()
    (a,) = plan.run({"mlp0": np.zeros((2, 4), np.float32)})["mlp0"].values()
    (b,) = plan.run({"mlp0": torch.zeros(2, 4)})["mlp0"].values()
    assert isinstance(a, np.ndarray)
    assert isinstance(b, torch.Tensor)
    assert np.array_equal(a, b.numpy())


def test_inputs_by_position_by_name_and_of_any_memory_layout() -> None:
    plan, _ = _plan()
    (name,) = plan.members["mlp0"].input_names
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    given = [x.T[:, ::-1], np.asfortranarray(x.T[:, ::-1]), np.ascontiguousarray(x.T[:, ::-1])]
    given[2].flags.writeable = False
    given.append(given[2].astype(">f4"))
    answers = [plan.run({"mlp0": v})["mlp0"] for v in given]
    answers += [
        plan.run({"mlp0": {name: given[2]}})["mlp0"],
        plan.run({"mlp0": (given[2],)})["mlp0"],
    ]
    first = next(iter(answers[0].values()))
    for other in answers[1:]:
        assert np.array_equal(first, next(iter(other.values())))


def test_results_own_their_memory() -> None:
    class Same(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x + 1

    plan = fusec.compile({"same": Same().eval()}, examples={"same": X})
    x = torch.ones(1, 4)
    answer = plan.run({"same": x})["same"]
    next(iter(answer.values())).zero_()
    assert torch.equal(x, torch.ones(1, 4))


def test_add_replace_remove_while_the_rest_stays() -> None:
    plan, models = _plan()
    before = plan.run({"mlp0": torch.ones(1, 4)})
    models["late"] = _mlp()
    plan.add("late", models["late"], example=X)
    _check(plan, models, {"late": torch.randn(2, 4), "mlp0": torch.randn(1, 4)})
    models["late"] = _mlp(out=7)
    plan.replace("late", models["late"], example=X)
    _check(plan, models, {"late": torch.randn(2, 4)})
    plan.remove("late")
    assert "late" not in plan.members
    with pytest.raises(fusec.ConfigError, match="no model 'late'; it has 5"):
        plan.run({"late": torch.ones(1, 4)})
    after = plan.run({"mlp0": torch.ones(1, 4)})
    for a, b in zip(before["mlp0"].values(), after["mlp0"].values(), strict=True):
        assert torch.equal(a, b)


def test_removing_the_last_of_a_kind_forgets_its_weights(tmp_path: Path) -> None:
    plan, models = _plan()
    plan.save(tmp_path / "full.fusec")
    for n in list(models)[1:]:
        plan.remove(n)
    plan.save(tmp_path / "one.fusec")
    other = fusec.compile({"mlp0": models["mlp0"]}, examples={"mlp0": X}, executor="isolated")
    other.save(tmp_path / "alone.fusec")
    one, alone = (tmp_path / f"{n}.fusec" for n in ("one", "alone"))
    assert one.stat().st_size == alone.stat().st_size


def test_like_takes_a_state_dict_and_traces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, models = _plan()
    models["new"] = _mlp()

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("traced")

    monkeypatch.setattr(torch.export, "export", fail)
    monkeypatch.setattr("fusec.importers.torch_capture.export", fail)
    plan.add("new", models["new"].state_dict(), like="mlp0")
    state = {k: v.numpy() for k, v in models["new"].state_dict().items()}
    plan.add("arrays", state, like="new")
    models["arrays"] = models["new"]
    _check(plan, models, {"new": torch.randn(2, 4), "arrays": torch.randn(2, 4)})
    assert plan.explain().groups[0].members == ("mlp0", "mlp1", "mlp2", "new", "arrays")


def test_equal_weights_are_stored_once(tmp_path: Path) -> None:
    model = _mlp(width=512)
    one = fusec.compile({"a": model}, examples={"*": X})
    two = fusec.compile({"a": model, "b": model}, examples={"*": X})
    one.save(tmp_path / "one.fusec")
    two.save(tmp_path / "two.fusec")
    sizes = [(tmp_path / f"{n}.fusec").stat().st_size for n in ("one", "two")]
    assert sizes[1] - sizes[0] < 4096


@pytest.mark.parametrize("executor", ["isolated", "merged"])
def test_a_loaded_plan_gives_the_same_bytes(tmp_path: Path, executor: str) -> None:
    plan, models = _plan(executor)
    requests = {n: _inputs(n, 2) for n in models}
    plan.save(tmp_path / "p.fusec")
    loaded = fusec.load(tmp_path / "p.fusec")
    assert str(loaded.explain()) == str(plan.explain())
    a, b = plan.run(requests), loaded.run(requests)
    for n in models:
        for x, y in zip(a[n].values(), b[n].values(), strict=True):
            assert torch.equal(x, y)
    loaded.add("more", _mlp(), example=X)
    loaded.save(tmp_path / "p.fusec")
    assert len(fusec.load(tmp_path / "p.fusec")) == len(models) + 1


def test_explain_prints_and_gives_json() -> None:
    import json

    plan, _ = _plan("merged")
    explanation = plan.explain()
    text = str(explanation)
    assert "5 models in 2 groups" in text
    assert "linear -> layer_norm -> gelu -> linear" in text
    data = json.loads(json.dumps(explanation.to_json()))
    assert data["groups"][0]["members"] == ["mlp0", "mlp1", "mlp2"]
    assert data["groups"][0]["merge"]["rules"]


@pytest.mark.parametrize("executor", ["cpu", "isolated", "merged"])
def test_values_that_an_operator_refuses(executor: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Shapes fit, values do not: an error of fusec's own, and nothing printed beside it."""
    model = nn.Embedding(5, 3).eval()
    plan = fusec.compile(
        {"a": model, "b": model},
        examples={"*": torch.zeros(1, 2, dtype=torch.int64)},
        executor=executor,
    )
    good, bad = torch.tensor([[0, 4]]), torch.tensor([[0, 5]])
    with pytest.raises(fusec.KernelError, match=r"running a, b fails: .*out of range"):
        plan.run({"a": bad, "b": good})
    assert capfd.readouterr().err == ""
    assert set(plan.run({"a": good, "b": good})) == {"a", "b"}
