"""Many heads on one backbone: time against one batch of the backbone alone, and memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import children
import harness
import models
import numpy as np
import peers
import sessions
import torch
from given import Inputs
from harness import Figure, Impl
from torch import nn

BENCH = "backbone"
WIDTHS = (80, 160, 320, 640)
HEADS = 64


class Headed(nn.Module):
    """A head of its own on features that others use too."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of images [rows, 3, 32, 32]."""
        logits: torch.Tensor = self.head(self.features(x))
        return logits


class Features(nn.Module):
    """Convolutions, then the mean over the image."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = models.Classifier(widths).features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of images [rows, 3, 32, 32]."""
        mean: torch.Tensor = self.layers(x).mean(dim=(2, 3))
        return mean


def cases(smoke: bool) -> Iterable[str]:
    """Name the only case."""
    return ("2 heads, one backbone",) if smoke else (f"{HEADS} heads, one backbone",)


def setup(case: str, threads: int) -> harness.Setup:
    """Make a backbone of 10 MB and heads on it, a request of one row for each."""
    count = int(case.split()[0])
    widths = WIDTHS if count == HEADS else (8,)
    features = Features(widths).eval()
    members = {f"head{n}": Headed(features, widths[-1]).eval() for n in range(count)}
    inputs: Inputs = {name: torch.randn(1, 3, 32, 32) for name in members}
    rows = torch.cat([x for x in inputs.values() if isinstance(x, torch.Tensor)])
    # The exporter names the weights of the features alike in all members.
    contents = sessions.exported(members, inputs)
    plans = peers.Plans(members, rows[:1], threads)
    alone: Inputs = {"backbone": rows}
    backbone = peers.Plans({"backbone": features}, rows[:1], threads)
    impls = {
        "fusec cpu": plans.asked("cpu", inputs),
        "fusec cpu, one batch of the backbone alone": replace(
            backbone.asked("cpu", alone), answers=None
        ),
        "torch": peers.eager(members, inputs),
        "torch, one batch of the backbone alone": replace(
            peers.eager({"backbone": features}, alone), answers=None
        ),
        "torch, one batch, then the heads": _by_hand(features, members, rows),
        "onnxruntime": sessions.onnxruntime_sessions(contents, inputs, threads),
    }
    folder = children.scratch(f"backbone{count}-{threads}")
    np.save(folder / "row.npy", rows[:1].numpy())

    def resident(way: str, where: Callable[[], Path]) -> Callable[[], float]:
        return lambda: children.ask(way, where(), folder / "row.npy", threads)[1] / 1e6

    def plan(kept: peers.Plans, name: str) -> Path:
        kept.of("cpu").save(folder / name)
        return folder / name

    one = peers.Plans({"head0": members["head0"]}, rows[:1], threads)
    first = {"head0": contents["head0"]}
    kinds = {
        "fusec cpu": ("fusec", lambda: plan(plans, "all.fusec")),
        "fusec cpu, one head": ("fusec", lambda: plan(one, "one.fusec")),
        "onnxruntime": ("onnxruntime", lambda: _files(f"all{count}-{threads}", contents)),
        "onnxruntime, one head": ("onnxruntime", lambda: _files(f"one-{threads}", first)),
    }
    return harness.Setup(
        impls=impls,
        truth=peers.truth_of(members, inputs),
        flops=peers.flops(members, inputs),
        moved_bytes=peers.weight_bytes(members, inputs),
        figures=[
            Figure(name, "resident memory", "MB", resident(*kind)) for name, kind in kinds.items()
        ],
    )


def _files(name: str, contents: sessions.Contents) -> Path:
    return children.files(children.scratch(name), contents)


def _by_hand(features: nn.Module, members: dict[str, Headed], rows: torch.Tensor) -> Impl:
    heads = [member.head for member in members.values()]

    def run() -> object:
        with torch.inference_mode():
            middle = features(rows)
            return [head(middle[i : i + 1]) for i, head in enumerate(heads)]

    return Impl(lambda: run, peers.by_position(list(members)))


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
