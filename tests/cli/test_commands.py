"""The commands from end to end, on small ONNX models: exit codes, output, files."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fusec_testing.small_onnx import oracle, save_model
from typer.testing import CliRunner, Result

from fusec.cli import app

X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_model(root / "a.onnx")
    save_model(root / "b.onnx")
    save_model(root / "tanh.onnx", activation="Tanh")
    return root


@pytest.fixture(scope="module")
def plan(folder: Path) -> Path:
    path = folder / "plan.fusec"
    assert fusec("compile", folder, "-o", path).exit_code == 0
    return path


def fusec(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args], prog_name="fusec")


def failed(result: Result, code: int = 1) -> str:
    """Check that a command failed as it should, in words and without a traceback."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.stderr
    return result.stderr


def test_compile_prints_groups_and_explain_says_why_twins_are_apart(
    folder: Path, plan: Path, tmp_path: Path
) -> None:
    result = fusec("compile", folder, "-o", tmp_path / "p.fusec")
    assert result.exit_code == 0
    assert "a, b" in result.stdout
    assert "3 models in 2 groups" in result.stdout
    told = fusec("explain", plan)
    assert told.exit_code == 0
    assert "relu" in told.stdout
    assert "tanh" in told.stdout
    assert told.stdout == fusec("explain", folder).stdout


def test_json_is_all_that_standard_output_holds(folder: Path, tmp_path: Path) -> None:
    made = fusec("compile", folder, "-o", tmp_path / "p.fusec", "--json")
    data = json.loads(made.stdout)
    assert (data["models"], data["failed"]) == (3, [])
    assert data["bytes"] == (tmp_path / "p.fusec").stat().st_size
    sizes = sorted(g["size"] for g in data["explanation"]["groups"])
    assert sizes == [1, 2]
    explained = json.loads(fusec("explain", tmp_path / "p.fusec", "--json").stdout)
    assert explained["groups"] == data["explanation"]["groups"]
    np.savez(tmp_path / "in.npz", x=X)
    ran = fusec(
        "run", tmp_path / "p.fusec", "-i", tmp_path / "in.npz", "-o", tmp_path / "o.npz", "--json"
    )
    assert json.loads(ran.stdout)["arrays"]["a/y"] == {"dtype": "float32", "shape": [5, 4]}


def test_run_answers_as_onnx_runtime_does(folder: Path, plan: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", **{"x": X, "b": X[:2], "tanh/x": X[:1]})  # type: ignore[arg-type]
    result = fusec("run", plan, "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "out.npz") as out:
        assert sorted(out.files) == ["a/y", "b/y", "tanh/y"]
        for name, x in (("a", X), ("b", X[:2]), ("tanh", X[:1])):
            np.testing.assert_allclose(
                out[f"{name}/y"], oracle(folder / f"{name}.onnx", x), atol=1e-6
            )


def test_run_takes_a_subset(plan: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=X)
    args = ("run", plan, "-i", tmp_path / "in.npz", "-o", tmp_path / "o.npz")
    assert fusec(*args, "--member", "b").exit_code == 0
    with np.load(tmp_path / "o.npz") as out:
        assert out.files == ["b/y"]
    assert "no model 'c'" in failed(fusec(*args, "--member", "c"))


def test_wrong_inputs_leave_the_old_output(plan: Path, tmp_path: Path) -> None:
    (tmp_path / "o.npz").write_bytes(b"old")
    for x, match in ((X.astype(np.float64), "is float64"), (X[:, :2], "wanted x [rows, 3]")):
        np.savez(tmp_path / "in.npz", x=x)
        result = fusec("run", plan, "-i", tmp_path / "in.npz", "-o", tmp_path / "o.npz")
        assert match in failed(result)
    assert (tmp_path / "o.npz").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["in.npz", "o.npz"]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    save_model(tmp_path / "m" / "good.onnx")
    save_model(tmp_path / "m" / "odd.onnx", activation="Frobnicate", domain="custom")
    return tmp_path / "m"


def test_a_model_that_fails_stops_all_and_writes_nothing(mixed: Path, tmp_path: Path) -> None:
    message = failed(fusec("compile", mixed, "-o", tmp_path / "p.fusec"))
    assert "odd.onnx" in message.replace("\n", "")
    assert "Frobnicate" in message
    assert os.listdir(tmp_path) == ["m"]


def test_skip_failed_leaves_out_and_lists(mixed: Path, tmp_path: Path) -> None:
    result = fusec("compile", mixed, "-o", tmp_path / "p.fusec", "--skip-failed", "--json")
    assert result.exit_code == 0
    assert "Frobnicate" in result.stderr
    data = json.loads(result.stdout)
    assert data["models"] == 1
    (left_out,) = data["failed"]
    assert (left_out["name"], left_out["kind"]) == ("odd", "ImportFailed")
    assert "Frobnicate" in failed(fusec("explain", mixed))
    (mixed / "good.onnx").unlink()
    message = failed(fusec("compile", mixed, "-o", tmp_path / "q.fusec", "--skip-failed"))
    assert "none of 1 models" in message
    assert not (tmp_path / "q.fusec").exists()


def test_errors_are_json_too_when_asked(tmp_path: Path) -> None:
    result = fusec("explain", tmp_path / "none.fusec", "--json")
    assert "none.fusec" in failed(result).replace("\n", "")
    error = json.loads(result.stdout)["error"]
    assert error["kind"] == "ArtifactError"
    assert "none.fusec" in error["message"]


@pytest.mark.parametrize(
    "args",
    [
        ("compile",),
        ("compile", "x.onnx"),
        ("compile", "x.onnx", "-o", "p.fusec", "--bind", "sr"),
        ("compile", "x.onnx", "-o", "p.fusec", "--executor", "fast"),
        ("compile", "x.onnx", "-o", "p.fusec", "--no-such-option"),
        ("frobnicate",),
        ("run", "p.fusec"),
        ("merge", "a.onnx", "b.onnx", "-o", "m.onnx", "--io", "both"),
    ],
)
def test_a_command_line_that_says_nothing_is_a_usage_error(args: tuple[str, ...]) -> None:
    failed(fusec(*args), code=2)


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (("compile", "none.onnx", "-o", "p.fusec"), "none.onnx: no such file"),
        (("compile", ".", "-o", "none/p.fusec"), "no folder none"),
        (("compile", ".", "-o", "."), "is a folder"),
        (("merge", "a.onnx", "-o", "m.txt"), "end the name with"),
    ],
)
def test_what_cannot_be_done_fails_at_once(args: tuple[str, ...], match: str) -> None:
    assert match in failed(fusec(*args))


def test_bind_must_name_an_input_of_some_model(folder: Path, tmp_path: Path) -> None:
    result = fusec("compile", folder, "-o", tmp_path / "p.fusec", "--bind", "typo=1")
    assert "no model has an input 'typo'; inputs are x" in failed(result)
    result = fusec("compile", folder, "-o", tmp_path / "p.fusec", "--bind", "a/typo=1")
    assert "typo" in failed(result)


def test_bind_reaches_the_models_that_have_the_input(folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "s.onnx", scaled=True)
    args = ("compile", folder / "a.onnx", tmp_path / "s.onnx", "-o", tmp_path / "p.fusec")
    made = fusec(*args, "--bind", "scale=2", "--json")
    assert made.exit_code == 0, made.output
    np.savez(tmp_path / "in.npz", x=X)
    fusec("run", tmp_path / "p.fusec", "-i", tmp_path / "in.npz", "-o", tmp_path / "o.npz")
    model = onnxruntime.InferenceSession(tmp_path / "s.onnx")
    (wanted,) = model.run(None, {"x": X, "scale": np.array(2, np.float32)})
    with np.load(tmp_path / "o.npz") as out:
        assert out.files == ["a/y", "s/y"]
        np.testing.assert_allclose(out["s/y"], wanted, atol=1e-6)


def test_examples_come_from_a_file(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "ex.npz", **{"a/x": X[:2], "x": X})  # type: ignore[arg-type]
    args = ("compile", folder / "a.onnx", folder / "b.onnx", "-o", tmp_path / "p.fusec")
    assert fusec(*args, "--examples", tmp_path / "ex.npz").exit_code == 0
    np.savez(tmp_path / "ex.npz", x=X[:, :2])
    assert "x" in failed(fusec(*args, "--examples", tmp_path / "ex.npz"))
    np.savez(tmp_path / "ex.npz", z=X)
    assert "no model has an input 'z'" in failed(fusec(*args, "--examples", tmp_path / "ex.npz"))


def test_profile_leaves_a_plan_of_another_executor_as_it_is(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "isolated.fusec"
    assert fusec("compile", folder, "-o", path, "--executor", "isolated").exit_code == 0
    before = path.read_bytes()
    told = failed(fusec("profile", path, "--seconds", 0.01))
    assert "--executor cpu" in told.replace("\n", " ")
    asked = fusec("profile", path, "--seconds", 0.01, "--executor", "cpu", "--dry-run", "--json")
    assert asked.exit_code == 0
    assert json.loads(asked.stdout)["templates"]
    assert path.read_bytes() == before


def test_cost_measures_what_has_no_profile_and_takes_what_has(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.fusec"
    assert fusec("compile", folder / "a.onnx", "-o", path, "--executor", "cpu").exit_code == 0
    first = fusec("explain", path, "--cost")
    assert "measured now" in first.stderr
    assert "share" in first.stdout
    assert fusec("profile", path, "--seconds", 0.01).exit_code == 0
    stored, again = (fusec("explain", path, "--cost", "--json") for _ in range(2))
    assert "measured now" not in stored.stderr
    assert json.loads(stored.stdout)["cost"] == json.loads(again.stdout)["cost"]


def test_compile_stores_weights_as_asked(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.fusec"
    assert fusec("compile", folder, "-o", path, "--weights", "bfloat16").exit_code == 0
    assert json.loads(fusec("explain", path, "--json").stdout)["weight_storage"] == "bfloat16"
    failed(fusec("compile", folder, "-o", path, "--weights", "float16"), 2)
    failed(fusec("compile", folder, "-o", path, "--weights", "bfloat16", "--executor", "isolated"))
