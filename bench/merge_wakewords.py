"""The 122 real wake-word heads, one tick: every head scores the same sixteen frames.

Needs the folder shared/models/wakewords beside the checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import harness
import numpy as np
import onnx
import peers
import torch
from onnx import numpy_helper
from torch import nn

BENCH = "merge_wakewords"
FOLDER = harness.ROOT.parent / "shared" / "models" / "wakewords"


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


def cases(smoke: bool) -> Iterable[str]:
    """All heads, or three."""
    return ("three",) if smoke else ("wakewords",)


def setup(case: str, threads: int) -> harness.Setup:
    """Read the heads and draw one tick's frames."""
    paths = sorted(FOLDER.glob("*.onnx"))[: 3 if case == "three" else None]
    if not paths:
        sys.exit(f"{FOLDER} holds no models")
    files = {path.stem: path for path in paths}
    members = {name: head(path) for name, path in files.items()}
    frames = torch.randn(1, 16, 96)
    inputs = dict.fromkeys(files, frames)
    contents = {name: path.read_bytes() for name, path in files.items()}
    return peers.side_by_side(
        members, files, contents, inputs, threads=threads, compilers=case != "three"
    )


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
