"""Models on a card, made up or real, next to the same plan on processors and to PyTorch.

Import it before triton, see `grouped`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from fusec_testing.accuracy import assert_no_worse
from fusec_testing.card import ComputingCard
from fusec_testing.card_code import build
from torch import nn

import fusec
from fusec.ir.device import DeviceCode
from fusec.plan import Plan
from fusec.runtime.cuda.executor import CudaExecutor, Prepared
from fusec.runtime.cuda.library import Driver, load_driver
from fusec.runtime.cuda.settings import CudaSettings
from fusec.runtime.extern import run_extern
from fusec.runtime.native import inputs_of, wanted_of
from fusec.runtime.request import read_request

__all__ = ["OnCard", "check_accuracy", "head", "on_card"]

Given = Mapping[str, Any]


@dataclass
class OnCard:
    """A plan, and the executor that runs it on a card."""

    plan: Plan
    executor: CudaExecutor
    fake: ComputingCard | None

    def prepare(self, given: Given) -> tuple[Prepared, list[Sequence[np.ndarray]]]:
        """Plan a call; give it with its inputs."""
        registry = self.plan.inside()[0]
        requests = [read_request(registry.target(n), x) for n, x in given.items()]
        return self.executor.prepare([wanted_of(r) for r in requests]), [
            inputs_of(r) for r in requests
        ]

    def run(self, given: Given) -> dict[str, tuple[np.ndarray, ...]]:
        """Answer a call on the card."""
        prepared, inputs = self.prepare(given)
        return dict(zip(given, prepared.run(inputs), strict=True))

    def check(self, given: Given) -> dict[str, tuple[np.ndarray, ...]]:
        """Answer a call on the card, and compare with the same on processors."""
        answers = self.run(given)
        wanted = self.plan.run(given)
        for name, outputs in answers.items():
            for got, plain in zip(outputs, wanted[name].values(), strict=True):
                assert got.dtype == plain.dtype and got.shape == plain.shape
                if got.dtype.kind == "f":
                    np.testing.assert_allclose(got, plain, rtol=2e-5, atol=2e-5)
                else:
                    np.testing.assert_array_equal(got, plain)
        return answers

    def close(self) -> None:
        """Give the card back, and see that nothing went wrong or is left."""
        self.executor.close()
        if self.fake is not None:
            assert self.fake.faults == []
            assert self.fake.kinds() == []
            assert self.fake.events == {}


def on_card(
    plan: Plan,
    *,
    fake: ComputingCard | None,
    codes: Callable[[], Sequence[DeviceCode]] = lambda: (),
    **settings: Any,
) -> OnCard:
    """Put a plan on a card.

    Args:
        plan: of processors.
        fake: the card; None is this machine's own, and the test is left out if there is none.
        codes: that the plan has.
        settings: see `CudaSettings`.
    """
    stages = plan.inside()[1]
    made_up = fake

    def driver() -> Driver:
        return load_driver() if made_up is None else Driver(made_up)

    if fake is None:
        try:
            load_driver()
        except fusec.UnsupportedError as e:
            pytest.skip(str(e))
    executor = CudaExecutor(
        stages.of,
        run_extern,
        CudaSettings(**settings),
        codes,
        driver=driver,
        build=None if fake is None else build,
    )
    return OnCard(plan, executor, fake)


def head(seed: int, width: int = 24, hidden: int = 20) -> nn.Module:
    """Make a small classifier."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 10)).eval()


def check_accuracy(module: nn.Module, x: np.ndarray, got: np.ndarray) -> None:
    """Hold an answer to float64."""
    given = torch.from_numpy(x)
    with torch.no_grad():
        plain = module(given)
        truth = module.double()(given.double())
    module.float()
    assert_no_worse(got, plain, truth)
