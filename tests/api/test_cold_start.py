"""A new process that loads and runs a plan: neither torch nor onnx nor numba is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import fusec

CHILD = """
import builtins
import sys

FORBIDDEN = {"torch", "onnx", "onnxscript", "numba", "ml_dtypes", "networkx", "sympy", "typer"}


def refuse(name, *rest, real=builtins.__import__):
    if name.partition(".")[0] in FORBIDDEN:
        raise AssertionError(f"{name} is imported")
    return real(name, *rest)


builtins.__import__ = refuse

import numpy as np

import fusec

plan = fusec.load(sys.argv[1], executor="cpu", threads=2)
x = np.load(sys.argv[2])
answers = plan.run({name: x for name in plan.members})
answers = plan.run({name: {"input": x} for name in plan.members})
assert not set(sys.modules) & FORBIDDEN
np.savez(sys.argv[3], **{name: outputs["output"] for name, outputs in answers.items()})
try:
    plan.run({"m0": x.astype(np.float64)})
except fusec.ConfigError as error:
    print(error)
plan.remove("m0")
plan.save(sys.argv[1])
"""


def test_loading_and_running_imports_nothing_heavy(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    models = {
        f"m{i}": nn.Sequential(nn.Linear(6, 40), nn.LayerNorm(40), nn.ReLU(), nn.Linear(40, 3))
        for i in range(3)
    }
    for model in models.values():
        model.eval()
    plan = fusec.compile(models, examples={"*": torch.zeros(1, 6)}, executor="cpu")
    path, inputs, outputs = (tmp_path / n for n in ("p.fusec", "x.npy", "y.npz"))
    plan.save(path)
    x = rng.standard_normal((3, 6)).astype(np.float32)
    np.save(inputs, x)
    wanted = plan.run(dict.fromkeys(models, x))  # kernels are in the cache now
    command = [sys.executable, "-c", CHILD, str(path), str(inputs), str(outputs)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "input 'input' of model 'm0' is float64, the model takes float32" in run.stdout
    with np.load(outputs) as given:
        for name in models:
            assert np.array_equal(given[name], wanted[name]["output"])
    assert set(fusec.load(path).members) == {"m1", "m2"}
