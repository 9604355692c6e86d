"""``fusec merge``: the merged file runs elsewhere and answers as the models do."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from fusec_testing.small_onnx import oracle, save_model
from typer.testing import CliRunner, Result

from fusec.cli import app

X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
NAMES = ("a", "b", "tanh")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("models")
    activations = {"a": "Relu", "b": "Relu", "tanh": "Tanh"}
    return [save_model(root / f"{n}.onnx", activation=a) for n, a in activations.items()]


def merge(models: list[Path], *args: object) -> Result:
    words = ["merge", *map(str, models), *map(str, args)]
    return CliRunner().invoke(app, words, prog_name="fusec")


def test_merged_onnx_runs_in_onnx_runtime_on_any_rows(models: list[Path], tmp_path: Path) -> None:
    result = merge(models, "-o", tmp_path / "m.onnx", "--io", "named", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["inputs"] == [f"{n}.x" for n in NAMES]
    assert told["rules"]["linear"] == 1
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for x in (X[:1], X):
        answers = session.run(told["outputs"], {f"{n}.x": x for n in NAMES})
        for path, answer in zip(models, answers, strict=True):
            np.testing.assert_allclose(answer, oracle(path, x), atol=1e-6)
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_merged_pt2_runs_in_torch(models: list[Path], tmp_path: Path) -> None:
    result = merge(models, "-o", tmp_path / "m.pt2", "--io", "stacked")
    assert result.exit_code == 0, result.output
    assert "3 models" in result.stdout
    module = torch.export.load(tmp_path / "m.pt2").module()
    (answers,) = module(torch.from_numpy(np.stack([X] * 3)))
    for path, answer in zip(models, answers, strict=True):
        np.testing.assert_allclose(answer.detach().numpy(), oracle(path, X), atol=1e-6)


def test_a_merge_that_fails_leaves_the_old_file(models: list[Path], tmp_path: Path) -> None:
    odd = save_model(tmp_path / "odd.onnx", activation="Frobnicate", domain="custom")
    (tmp_path / "m.onnx").write_bytes(b"old")
    result = merge([*models, odd], "-o", tmp_path / "m.onnx")
    assert result.exit_code == 1
    assert "Frobnicate" in result.stderr
    assert (tmp_path / "m.onnx").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "odd.onnx"]


def test_one_model_is_nothing_to_merge(models: list[Path], tmp_path: Path) -> None:
    result = merge(models[:1], "-o", tmp_path / "m.onnx")
    assert result.exit_code == 1
    assert "nothing to merge" in result.stderr
