"""Bad input: one clear error each, and the plan is as good as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fusec
from fusec import ConfigError, ImportFailed

X = torch.zeros(1, 4)


@pytest.fixture(name="plan", scope="module")
def _plan() -> fusec.Plan:
    torch.manual_seed(0)
    return fusec.compile({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3)}, examples={"*": X})


@pytest.fixture(autouse=True)
def _still_usable(plan: fusec.Plan) -> object:
    before = plan.run({"a": np.ones((2, 4), np.float32)})
    yield
    after = plan.run({"a": np.ones((2, 4), np.float32)})
    assert np.array_equal(*(next(iter(r["a"].values())) for r in (before, after)))
    assert set(plan.members) == {"a", "b"}


REQUESTS = {
    "unknown model": ({"z": np.zeros((1, 4), np.float32)}, "no model 'z'; it has 2: 'a', 'b'"),
    "dtype": ({"a": np.zeros((1, 4))}, "is float64, the model takes float32; convert it"),
    "rank": ({"a": np.zeros(4, np.float32)}, r"has shape \[4\], wanted \[rows, 4\]"),
    "extent": ({"a": np.zeros((1, 5), np.float32)}, r"wanted input \[rows, 4\]"),
    "missing input": ({"a": {}}, r"missing: \['input'\]"),
    "unknown input": ({"a": {"input": X, "y": X}}, r"unknown: \['y'\]"),
    "too many": ({"a": (X, X)}, "takes 1 inputs"),
    "text": ({"a": np.array([["a"]])}, "has dtype <U1"),
    "object": ({"a": object()}, "give a NumPy array or a torch tensor"),
    "meta": ({"a": torch.zeros(1, 4, device="meta")}, "meta tensor"),
    "ragged list": ({"a": [[1.0, 2.0], [3.0]]}, "cannot be read as float32"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_bad_request_is_refused_whole(plan: fusec.Plan, case: str) -> None:
    request, text = REQUESTS[case]
    with pytest.raises(ConfigError, match=text):
        plan.run(request)
    with pytest.raises(ConfigError, match=text):
        plan.run({"b": np.zeros((1, 4), np.float32), **request})


def test_run_takes_a_mapping(plan: fusec.Plan) -> None:
    with pytest.raises(ConfigError, match="takes a mapping"):
        plan.run([1])  # type: ignore[arg-type]


def test_names_are_taken_or_free(plan: fusec.Plan) -> None:
    with pytest.raises(ConfigError, match=r"already has a model 'a'; use plan\.replace"):
        plan.add("a", nn.Linear(4, 3), example=X)
    with pytest.raises(ConfigError, match="no model 'z'"):
        plan.replace("z", nn.Linear(4, 3), example=X)
    with pytest.raises(ConfigError, match="no model 'z'"):
        plan.remove("z")
    with pytest.raises(ConfigError, match="non-empty string"):
        plan.add("", nn.Linear(4, 3), example=X)


def test_nan_weights_are_refused_by_name(plan: fusec.Plan) -> None:
    bad = nn.Linear(4, 3)
    bad.weight.data[1, 2] = torch.nan
    text = r"model 'c': weight 'weight' holds NaN \(first at \[1, 2\]\)"
    with pytest.raises(ConfigError, match=text):
        plan.add("c", bad, example=X)
    with pytest.raises(ConfigError, match=text):
        plan.add("c", bad.state_dict(), like="a")


def test_infinite_weights_are_legal(plan: fusec.Plan) -> None:
    masked = nn.Linear(4, 3)
    masked.bias.data[0] = -torch.inf
    other = fusec.compile({"m": masked}, examples={"m": X})
    (answer,) = other.run({"m": X})["m"].values()
    assert answer[0, 0] == -torch.inf


def test_like_must_name_a_model_and_get_weights(plan: fusec.Plan) -> None:
    with pytest.raises(ConfigError, match="no model 'z'"):
        plan.add("c", nn.Linear(4, 3).state_dict(), like="z")
    with pytest.raises(ConfigError, match="give a state dict or mapping"):
        plan.add("c", 7, like="a")
    with pytest.raises(ConfigError, match="weight 'bias' is missing"):
        plan.add("c", {"weight": torch.zeros(3, 4)}, like="a")
    with pytest.raises(ConfigError, match=r"float32\[5, 4\], this form has float32\[3, 4\]"):
        plan.add("c", nn.Linear(4, 5).state_dict(), like="a")


SOURCES = {
    "no such file": ("no/such/file.onnx", ConfigError, "no such file"),
    "a class": (nn.Linear, ConfigError, "is a class; give an instance"),
    "a number": (7, ConfigError, "is no model"),
    "nothing": (None, ConfigError, "is no model"),
    "empty bytes": (b"", ConfigError, "empty"),
    "random bytes": (bytes(range(200)), ConfigError, "not an ONNX model"),
    "no example": (nn.ReLU(), ConfigError, "give example inputs"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_a_bad_source_is_refused(plan: fusec.Plan, case: str) -> None:
    source, kind, text = SOURCES[case]
    with pytest.raises(kind, match=text):
        plan.add("c", source)


def test_files_that_are_no_programs(plan: fusec.Plan, tmp_path: Path) -> None:
    for suffix, text in ((".pt", "not a program"), (".onnx", "not an ONNX model"), (".pt2", "")):
        path = tmp_path / f"m{suffix}"
        path.write_bytes(b"\x00\x01garbage" * 20)
        with pytest.raises((ConfigError, ImportFailed), match=f"m{suffix}.*{text}"):
            plan.add("c", path)
    with pytest.raises(ConfigError, match="folder"):
        plan.add("c", tmp_path)


def test_options_name_what_is_there() -> None:
    model = nn.Linear(4, 3)
    with pytest.raises(ConfigError, match=r"examples names \['z'\]"):
        fusec.compile({"a": model}, examples={"z": X})
    with pytest.raises(ConfigError, match="executor 'gpu' is not known"):
        fusec.compile({"a": model}, examples={"a": X}, executor="gpu")
    with pytest.raises(ConfigError, match="threads must be a positive integer"):
        fusec.compile({"a": model}, examples={"a": X}, threads=0)
    with pytest.raises(ConfigError, match="batch_axes names"):
        fusec.compile({"a": model}, examples={"a": X}, batch_axes={"a": {"q": 0}})
    with pytest.raises(ConfigError, match="symbols names input 'q'"):
        fusec.compile({"a": model}, examples={"a": X}, symbols={"a": {"q": {0: "n"}}})
    with pytest.raises(ConfigError, match="bind fixes inputs of ONNX"):
        fusec.compile({"a": model}, examples={"a": X}, bind={"sr": 1})
    with pytest.raises(ConfigError, match="takes a mapping of models"):
        fusec.compile([model])  # type: ignore[arg-type]
