"""The ways that a conformance case is run, and what came of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cases
import numpy as np
import onnx
import torch
from onnx import version_converter

import fusec
from fusec import onnx_backend
from fusec.importers.onnx.classify import host_names
from fusec.importers.onnx.load import FIRST_OPSET, load_model
from fusec.importers.onnx.values import has_torch_dtype

Runner = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Result:
    """What came of one case: it passed when there is no reason."""

    kind: str
    name: str
    reason: str | None


def eager(case: cases.Case) -> Result:
    """Interpret the operator table eagerly, through the backend interface."""
    return _result(case, lambda: onnx_backend.prepare(case.model).run)


def program(case: cases.Case) -> Result | None:
    """Compile the model and run the plan; None where an input is structure or no tensor."""
    if not _capturable(case):
        return None
    return _result(case, lambda: _planned(case))


def _capturable(case: cases.Case) -> bool:
    """Say whether all inputs and outputs are tensors, and none is needed while importing."""
    loaded = load_model(case.model, first_opset=1, check_operators=False)
    if any(info.kind != "tensor" for info in (*loaded.inputs, *loaded.outputs)):
        return False
    values = [value for data in case.data for side in data for value in side]
    if not all(isinstance(value, np.ndarray) and has_torch_dtype(value) for value in values):
        return False
    return host_names(loaded.graph, given=False).isdisjoint(loaded.graph.inputs)


def _planned(case: cases.Case) -> Runner:
    """Return a function that runs the model from a plan that holds nothing else."""
    model = _recent(case.model)
    example = tuple(onnx_backend.enter(value) for value in case.data[0][0])
    plan = fusec.compile({"model": model}, examples={"model": example} if example else None)
    names = [value.name for value in model.graph.output]

    def run(inputs: Sequence[Any]) -> list[Any]:
        answers = plan.run({"model": tuple(map(onnx_backend.enter, inputs))})["model"]
        return [onnx_backend.leave(answers[name]) for name in names]

    return run


def _recent(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring a model of an opset before the importer's first up to it, as its message says."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions.get("", FIRST_OPSET) >= FIRST_OPSET:
        return model
    return version_converter.convert_version(model, FIRST_OPSET)


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
