"""A card for the benches: this machine's, or a made-up one that walks the same path without one.

What PyTorch does on a card is replaced by the same on processors there: it tells nothing about
speed, and shows that every line runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["Card", "Fusec"]

Inputs = tuple[np.ndarray, ...]
Answers = dict[str, np.ndarray]
TESTS = Path(__file__).parents[1] / "tests" / "support"


class Card:
    """Where things run."""

    def __init__(self, dry: bool) -> None:
        """Open it.

        Args:
            dry: make one up; has to be decided before Triton is imported.
        """
        self.dry = dry
        if dry:
            os.environ["TRITON_INTERPRET"] = "1"
            sys.path.insert(0, str(TESTS))
        else:
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.benchmark = True

    @property
    def name(self) -> str:
        """The card's, for files."""
        return "dry-run" if self.dry else torch.cuda.get_device_name().replace(" ", "-")

    @property
    def device(self) -> str:
        """Where PyTorch runs."""
        return "cpu" if self.dry else "cuda"

    def synchronize(self) -> None:
        """Wait for everything."""
        if not self.dry:
            torch.cuda.synchronize()

    def finish(self) -> None:
        """Wait for this thread's stream."""
        if not self.dry:
            torch.cuda.current_stream().synchronize()

    def bytes_per_ns(self) -> float:
        """Measure how fast memory is read."""
        if self.dry:
            return 1.0
        a = torch.zeros(1 << 30, dtype=torch.uint8, device="cuda")
        b = torch.empty_like(a)
        times = []
        for _ in range(10):
            begin, end = _event(), _event()
            begin.record()
            b.copy_(a)
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end) * 1e6)
        return 2 * a.numel() / float(sorted(times)[len(times) // 2])


class Fusec:
    """A fleet compiled for the card, and its executor."""

    def __init__(
        self,
        card: Card,
        models: Mapping[str, nn.Module],
        inputs: Mapping[str, Inputs],
        **options: Any,
    ) -> None:
        """Compile; options are those of `fusec.CudaSettings`."""
        import fusec
        from fusec.runtime.cuda.executor import CudaExecutor
        from fusec.runtime.cuda.library import Driver, load_driver
        from fusec.runtime.cuda.settings import CudaSettings
        from fusec.runtime.extern import run_extern
        from fusec.runtime.native import ThroughNative

        self.plan = fusec.compile(dict(models), examples=dict(inputs), executor="cuda")
        fake: dict[str, Any] = {}
        if card.dry:
            library = import_module("fusec_testing.card").ComputingCard(seed=1)
            build = import_module("fusec_testing.card_code").build
            fake = {"driver": lambda: Driver(library), "build": build}
        self.executor = CudaExecutor(
            self.plan.inside()[1].of,
            run_extern,
            CudaSettings(**options),
            tuple,
            **(fake or {"driver": load_driver}),
        )
        runner = self.plan.inside()[2]
        assert isinstance(runner, ThroughNative)
        runner.executor = self.executor

    def prepare(self, inputs: Mapping[str, Inputs]) -> Callable[[], Answers]:
        """Plan a call; give what runs it."""
        from fusec.runtime.native import inputs_of, wanted_of
        from fusec.runtime.request import read_request

        registry = self.plan.inside()[0]
        requests = [read_request(registry.target(n), _given(x)) for n, x in inputs.items()]
        prepared = self.executor.prepare([wanted_of(r) for r in requests])
        arrays = [inputs_of(r) for r in requests]
        return lambda: {
            name: out[0] for name, out in zip(inputs, prepared.run(arrays), strict=True)
        }

    def close(self) -> None:
        """Give the card back."""
        self.executor.close()


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _given(x: Sequence[np.ndarray]) -> Any:
    return x if len(x) > 1 else x[0]
