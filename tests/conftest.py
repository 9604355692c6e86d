"""Fixtures of every test: fixed seeds, one thread, the shared folder, golden text."""

from __future__ import annotations

import importlib.metadata
import os
import random
import sys
import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from fusec_testing import Golden, assert_no_worse, golden_path

ROOT = Path(__file__).resolve().parents[1]

# Triton decides when it is imported, by whomever, whether its kernels run without a card.
os.environ.setdefault("TRITON_INTERPRET", "1")

# `python -m pytest` puts the checkout on the path, where transformers, which asks whether there is
# a package named kernels, finds this project's folder. An installed fusec needs no such entry.
_elsewhere = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
if any(importlib.metadata.distributions(name="fusec", path=_elsewhere)):
    sys.path[:] = _elsewhere

# A failing example must fail again, here and elsewhere; tests never time.
hypothesis.settings.register_profile("fusec", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("fusec")
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch that rewrites golden files."""
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Shuffle the tests the same way every time, where pytest-randomly is installed."""
    if getattr(config.option, "randomly_seed", None) == "default":
        config.option.randomly_seed = 0
        config.option.randomly_reset_seed = False


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    """Give each test its own fixed random numbers, whatever ran before."""
    seed = zlib.crc32(request.node.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Return a generator seeded by the test's name."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with real models beside the checkout; skip where there is none."""
    folder = ROOT.parent / "shared"
    if not (folder / "models").is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(name="assert_no_worse")
def _assert_no_worse() -> object:
    """Return the accuracy rule for tests that prefer a fixture to an import."""
    return assert_no_worse


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Return the golden text of this test."""
    update = bool(request.config.getoption("--update-golden"))
    return Golden(golden_path(request.path, request.node.name), update=update)
