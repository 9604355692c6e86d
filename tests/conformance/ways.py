"""The ways that a conformance case is run, and what came of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cases
import numpy as np
import torch

from fusec import onnx_backend
from fusec.importers.onnx.classify import host_names
from fusec.importers.onnx.load import load_model
from fusec.importers.onnx.module import OnnxModule
from fusec.importers.onnx.values import has_torch_dtype

Runner = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Result:
    """What came of one case: passed when there is no reason, left out when it does not apply."""

    kind: str
    name: str
    reason: str | None


def eager(case: cases.Case) -> Result:
    """Interpret the operator table eagerly, through the backend interface."""
    return _result(case, lambda: onnx_backend.prepare(case.model).run)


def program(case: cases.Case) -> Result | None:
    """Capture the model and run what was captured; None where an input is structure."""
    if not _capturable(case):
        return None
    return _result(case, lambda: capture(case))


def _capturable(case: cases.Case) -> bool:
    """Say whether all inputs are tensors whose values no operator needs while importing."""
    inputs = [value for data in case.data for value in data[0]]
    if not all(isinstance(value, np.ndarray) and has_torch_dtype(value) for value in inputs):
        return False
    outputs = [value for data in case.data for value in data[1]]
    if not all(isinstance(value, np.ndarray) and has_torch_dtype(value) for value in outputs):
        return False
    loaded = load_model(case.model, first_opset=1, check_operators=False)
    needed = host_names(loaded.graph, given=False)
    return needed.isdisjoint(loaded.graph.inputs)


def capture(case: cases.Case) -> Runner:
    """Return a function that runs the captured model."""
    module = OnnxModule(load_model(case.model, first_opset=1))
    example = tuple(onnx_backend.enter(value) for value in case.data[0][0])
    with torch.no_grad():
        captured = torch.export.export(module, example, strict=False).module()

    def run(inputs: Sequence[Any]) -> list[Any]:
        with torch.no_grad():
            return [
                onnx_backend.leave(value) for value in captured(*map(onnx_backend.enter, inputs))
            ]

    return run


def _result(case: cases.Case, prepare: Callable[[], Runner]) -> Result:
    # Random operators must fail the same way each time.
    torch.manual_seed(0)
    try:
        run = prepare()
        found = (
            cases.difference(tuple(run(inputs)), tuple(outputs), case.rtol, case.atol)
            for inputs, outputs in case.data
        )
        reason = next((text for text in found if text), None)
    except Exception as error:  # noqa: BLE001  (whatever goes wrong is the result)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Result(case.kind, case.name, reason)
