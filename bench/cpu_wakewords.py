"""122 wake-word heads, one tick: every head that is asked scores the same sixteen frames.

The heads are the real ones of shared/models/wakewords beside the checkout, or as many made-up ones
of the same shape.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import harness
import numpy as np
import onnx
import peers
import sessions
import torch
from given import Sources
from onnx import numpy_helper
from torch import nn
from where import ROOT

BENCH = "wakewords"
HEADS = 122
ALL = f"{HEADS} wake words"
ACTIVE = (1, 8, 30, 61)
ROWS = (2, 8, 32)
FOLDER = ROOT.parent / "shared" / "models" / "wakewords"


class Head(nn.Module):
    """Flatten, two linear layers with layer norm and ReLU, one score."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.linear = nn.ModuleList((nn.Linear(1536, 32), nn.Linear(32, 32), nn.Linear(32, 1)))
        self.norm = nn.ModuleList(nn.LayerNorm(32, eps=eps) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores [rows, 1] of frames [rows, 16, 96]."""
        x = x.flatten(1)
        for linear, norm in zip(self.linear, self.norm, strict=False):
            x = torch.relu(norm(linear(x)))
        return torch.sigmoid(self.linear[-1](x))


def head(path: Path) -> nn.Module:
    """Read one file into PyTorch; the files spell the same mathematics in several ways."""
    graph = onnx.load(path).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            held[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    linear: list[tuple[np.ndarray, np.ndarray]] = []
    scales: list[np.ndarray] = []
    shifts: list[np.ndarray] = []
    eps = 1e-5
    for node in graph.node:
        constants = [held[name] for name in node.input if name in held]
        if node.op_type == "Gemm":
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            linear.append((constants[0] if turned else constants[0].T, constants[1]))
        elif node.op_type in ("Add", "Sub", "Mul") and constants:
            if constants[0].size == 1:
                eps = float(constants[0].item())
            else:
                (scales if node.op_type == "Mul" else shifts).append(constants[0].reshape(-1))
    made = Head(eps)
    for layer, (weight, bias) in zip(made.linear, linear, strict=True):
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    for layer, scale, shift in zip(made.norm, scales, shifts, strict=True):
        layer.load_state_dict({"weight": torch.tensor(scale), "bias": torch.tensor(shift)})
    return made.eval()


@cache
def heads(count: int) -> tuple[Mapping[str, nn.Module], Sources, Mapping[str, bytes]]:
    """Return so many heads as modules, as fusec gets them, and as ONNX."""
    paths = sorted(FOLDER.glob("*.onnx"))[:count]
    if paths:
        files = {path.stem: path for path in paths}
        contents = {name: path.read_bytes() for name, path in files.items()}
        return {name: head(path) for name, path in files.items()}, files, contents
    made = {f"head{n}": Head(1e-5).eval() for n in range(count)}
    frames = torch.zeros(1, 16, 96)
    return made, made, sessions.exported(made, dict.fromkeys(made, frames))


@cache
def plans(count: int, threads: int) -> peers.Plans:
    """Return the plans of so many heads; the cases ask subsets of one plan."""
    return peers.Plans(heads(count)[1], torch.zeros(1, 16, 96), threads)


def cases(smoke: bool) -> Iterable[str]:
    """One tick of all heads, of some of them, and of all with several rows; or three heads."""
    if smoke:
        return ("three",)
    return (ALL, *(f"{k} of {ALL}" for k in ACTIVE), *(f"{ALL}, {b} rows" for b in ROWS))


def setup(case: str, threads: int) -> harness.Setup:
    """Read the heads and draw one tick's frames."""
    count, active, rows = (3, 3, 1) if case == "three" else (HEADS, HEADS, 1)
    if " of " in case:
        active = int(case.split()[0])
    if "," in case:
        rows = int(case.split(", ")[1].split()[0])
    models, _, contents = heads(count)
    # Spread over the folder, as whoever is asked would be.
    names = [list(models)[i * count // active] for i in range(active)]
    inputs = dict.fromkeys(names, torch.randn(rows, 16, 96))
    axis = {"active share": active / count} if " of " in case else {}
    axis |= {"batch": rows} if rows > 1 else {}
    made = plans(count, threads)
    whole = case in (ALL, "three")
    return peers.side_by_side(
        models, made, contents, inputs, axis=axis, torch_executors=whole, compilers=whole
    )


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
