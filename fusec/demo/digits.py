"""The tenants' data: real handwritten digits, each tenant with its own view of them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from fusec.ir.errors import ConfigError

__all__ = ["Digits", "Task", "load_digits", "tasks"]

LABELS_PER_SET = 5
TEST_SHARE = 3
"""One image in so many is for testing."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a tenant recognises: some of the digits, or all of them turned by an angle."""

    name: str
    labels: tuple[int, ...]
    degrees: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Digits:
    """Images [n, 1, 8, 8] in 0..1 with labels as indices into the task's labels."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def tasks(count: int, seed: int) -> tuple[Task, ...]:
    """Return different tasks: one half turns the images, the other keeps some labels."""
    turned = count - count // 2
    made = [
        Task(f"turned {360 * n // turned} deg", tuple(range(10)), 360.0 * n / turned)
        for n in range(turned)
    ]
    random = np.random.default_rng(seed)
    while len(made) < count:
        chosen = sorted(random.choice(10, LABELS_PER_SET, replace=False).tolist())
        task = Task("only " + "".join(map(str, chosen)), tuple(chosen))
        if task not in made:
            made.append(task)
    return tuple(made)


def load_digits(task: Task) -> Digits:
    """Return the 1,797 digits that scikit-learn ships, as this task sees them.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ConfigError(
            "the demo needs scikit-learn for its digits; install fusec with its demo extra: "
            "pip install 'fusec[demo]'"
        ) from error
    raw = datasets.load_digits()
    images = torch.from_numpy(raw.images.astype(np.float32))[:, None] / 16
    labels = torch.from_numpy(raw.target.astype(np.int64))
    index = torch.full((10,), -1)
    index[list(task.labels)] = torch.arange(len(task.labels))
    labels = index[labels]
    if task.degrees:
        images = _turned(images, task.degrees)
    test = torch.arange(len(images)) % TEST_SHARE == 0
    kept = labels >= 0
    train, test = kept & ~test, kept & test
    return Digits(images[train], labels[train], images[test], labels[test])


def _turned(images: torch.Tensor, degrees: float) -> torch.Tensor:
    """Turn images about their middle, bilinear, zeros outside."""
    angle = torch.deg2rad(torch.tensor(degrees))
    cos, sin = float(torch.cos(angle)), float(torch.sin(angle))
    matrix = torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]]).expand(len(images), 2, 3)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
