"""Models that people use, one instance of each: those whose packages are installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import harness
import models
import numpy as np
import onnx
import peers
import sessions
import torch
from harness import Impl, Outputs
from torch import nn

import fusec

BENCH = "models"
Shapes = Mapping[str, tuple[int, ...]]
MEMBER = "model"


@dataclass(frozen=True, slots=True)
class Known:
    """Where a model lies in its package, and what one request is."""

    package: str
    file: str
    shapes: Shapes
    bind: Mapping[str, int] = field(default_factory=dict)
    """Inputs that fusec is told when it compiles."""


OCR = "models"
KNOWN: Mapping[str, Known] = {
    "silero-vad": Known(
        "silero_vad",
        "data/silero_vad.onnx",
        {"input": (1, 576), "state": (2, 1, 128)},
        {"sr": 16000},
    ),
    "rapidocr-det": Known("rapidocr", f"{OCR}/PP-OCRv6_det_small.onnx", {"x": (1, 3, 320, 320)}),
    "rapidocr-rec": Known("rapidocr", f"{OCR}/PP-OCRv6_rec_small.onnx", {"x": (1, 3, 48, 320)}),
    "rapidocr-cls": Known(
        "rapidocr", f"{OCR}/ch_ppocr_mobile_v2.0_cls_mobile.onnx", {"x": (1, 3, 48, 192)}
    ),
    "magika": Known("magika", "models/standard_v3_3/model.onnx", {"bytes": (1, 2048)}),
    "ddddocr": Known("ddddocr", "common.onnx", {"input1": (1, 1, 64, 160)}),
    "ddddocr-det": Known("ddddocr", "common_det.onnx", {"images": (1, 3, 416, 416)}),
}
FACENET = "facenet"
SMOKE = "a classifier"


def path_of(known: Known) -> Path | None:
    """Return the file of a model, if its package is installed."""
    spec = find_spec(known.package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    paths = [Path(folder) / known.file for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def cases(smoke: bool) -> Iterable[str]:
    """Name the models that are installed."""
    if smoke:
        return (SMOKE,)
    here = [name for name, known in KNOWN.items() if path_of(known) is not None]
    return (*here, *([FACENET] if find_spec("facenet_pytorch") else ()))


def setup(case: str, threads: int) -> harness.Setup:
    """Read a model and draw a request."""
    if case in KNOWN:
        path = path_of(KNOWN[case])
        assert path is not None
        return _of_file(KNOWN[case], path, threads)
    return _of_module(case, threads)


def _of_module(case: str, threads: int) -> harness.Setup:
    model: nn.Module = models.Classifier((4, 8))
    example = torch.randn(1, 3, 32, 32)
    if case == FACENET:
        # Its weights are not in the package; random ones take as long.
        model = importlib.import_module("facenet_pytorch").InceptionResnetV1(pretrained=None)
        example = torch.randn(1, 3, 160, 160)
    model.eval()
    members, inputs = {MEMBER: model}, {MEMBER: example}
    plans = peers.Plans(members, example, threads)
    contents = sessions.exported(members, inputs)
    return peers.side_by_side(
        members,
        plans,
        contents,
        inputs,
        stackable=False,
        torch_executors=False,
    )


def _of_file(known: Known, path: Path, threads: int) -> harness.Setup:
    content = path.read_bytes()
    arrays = _request(known.shapes, content)
    given = tuple(torch.from_numpy(a) for a in arrays.values())
    bound = {name: np.array(value) for name, value in known.bind.items()}
    runtime = sessions.onnxruntime_sessions(
        {MEMBER: content}, {MEMBER: (*given, *map(torch.from_numpy, bound.values()))}, threads
    )

    def build() -> Callable[[], object]:
        # Kept by the note below as well.
        plan = _plan(path, known, threads)
        request = {MEMBER: arrays}
        return lambda: plan.run(request)

    return harness.Setup(
        impls={
            "fusec cpu": Impl(
                build, peers.of_plan, note=lambda: peers.extern_share(_plan(path, known, threads))
            ),
            "onnxruntime": replace(runtime, note=lambda: "the others are compared with this one"),
            "openvino": sessions.openvino_models({MEMBER: content}, {MEMBER: given}, threads),
        },
        truth=_truth(runtime),
        moved_bytes=float(sum(_sizes(content))),
    )


_PLANS: dict[tuple[Path, int], fusec.Plan] = {}


def _plan(path: Path, known: Known, threads: int) -> fusec.Plan:
    if (path, threads) not in _PLANS:
        made = fusec.compile(
            {MEMBER: path}, bind=dict(known.bind) or None, executor="cpu", threads=threads
        )
        made.warm()
        _PLANS[path, threads] = made
    return _PLANS[path, threads]


def _truth(runtime: Impl) -> Outputs:
    """Take ONNX Runtime's float32 answers: nothing runs these files in float64."""
    assert runtime.answers is not None
    answers = runtime.answers(runtime.build()())
    return {name: value.astype(np.float64) for name, value in answers.items()}


def _request(shapes: Shapes, content: bytes) -> Mapping[str, np.ndarray]:
    """Draw inputs of the file's types, in the file's order; those that are bound left out."""
    random = np.random.default_rng(harness.SEED)
    drawn = {}
    for value in onnx.load_from_string(content).graph.input:
        if value.name not in shapes:
            continue
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = shapes[value.name]
        if np.issubdtype(kind, np.integer):
            drawn[value.name] = random.integers(0, 256, shape).astype(kind)
        else:
            drawn[value.name] = (random.standard_normal(shape) * 0.3).astype(kind)
    return drawn


def _sizes(content: bytes) -> Iterable[int]:
    for tensor in onnx.load_from_string(content).graph.initializer:
        yield len(tensor.raw_data)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
