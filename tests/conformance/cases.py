"""The test cases that the installed onnx generates or ships, and how an answer is compared."""

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

Data = list[tuple[list[Any], list[Any]]]

KINDS: Final = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")
_ROOT: Final = Path(onnx.backend.test.__file__).parent / "data"
# Minutes and gigabytes: these run in `make conformance` only.
SLOW: Final = frozenset({"test_vgg19"})


@dataclass(frozen=True)
class Case:
    """One test: a model and what it answers to what."""

    kind: str
    name: str
    model: onnx.ModelProto
    data: Data
    rtol: float
    atol: float


def cases(kind: str, pattern: str = "", slow: bool = True) -> Iterator[Case]:
    """Yield the cases of a kind whose name matches a regular expression."""
    if kind == "node":
        found = _node_cases(pattern)
    elif kind == "light":
        found = _light_cases(pattern, slow)
    else:
        found = _stored_cases(kind, pattern)
    yield from found


def _node_cases(pattern: str) -> Iterator[Case]:
    with warnings.catch_warnings():
        # The generators overflow and divide by zero on purpose.
        warnings.simplefilter("ignore")
        generated = load_model_tests(kind="node")
    for case in generated:
        if re.search(pattern, case.name):
            data = [(list(map(_plain, i)), list(map(_plain, o))) for i, o in case.data_sets]
            yield Case("node", case.name, case.model, data, case.rtol, case.atol)


def _stored_cases(kind: str, pattern: str) -> Iterator[Case]:
    for folder in sorted((_ROOT / kind).iterdir()):
        if not (folder / "model.onnx").exists() or not re.search(pattern, folder.name):
            continue
        model = onnx.load(folder / "model.onnx")
        settings = _settings(folder)
        data = [
            (
                _read(sets, "input", model.graph.input),
                _read(sets, "output", model.graph.output),
            )
            for sets in sorted(folder.glob("test_data_set_*"))
        ]
        yield Case(kind, folder.name, model, data, *settings)


def _light_cases(pattern: str, slow: bool) -> Iterator[Case]:
    """Yield real networks whose weights are made when they run, on the runner's own input."""
    for folder in sorted((_ROOT / "real").iterdir()):
        if not folder.is_dir() or not re.search(pattern, folder.name):
            continue
        if folder.name in SLOW and not slow:
            continue
        path = _ROOT.parents[3] / json.loads((folder / "data.json").read_text())["url"]
        model = onnx.load(path)
        stored = {tensor.name for tensor in model.graph.initializer}
        inputs = [_ramp(value) for value in model.graph.input if value.name not in stored]
        outputs = [
            _tensor(path.with_name(f"{path.stem}_output_{index}.pb"))
            for index in range(len(model.graph.output))
        ]
        yield Case("light", folder.name, model, [(inputs, outputs)], *_settings(folder))


def _ramp(value: onnx.ValueInfoProto) -> np.ndarray:
    shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def _settings(folder: Path) -> tuple[float, float]:
    path = folder / "data.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    return settings.get("rtol", 1e-3), settings.get("atol", 1e-7)


def _read(folder: Path, stem: str, values: Any) -> list[Any]:
    """Read a data set; the signature tells what kind of value each file holds."""
    found = []
    for index in range(len(list(folder.glob(f"{stem}_*.pb")))):
        path = folder / f"{stem}_{index}.pb"
        if values[index].type.HasField("sequence_type"):
            sequence = onnx.SequenceProto()
            sequence.ParseFromString(path.read_bytes())
            found.append(numpy_helper.to_list(sequence))
        else:
            found.append(_tensor(path))
    return found


def _tensor(path: Path) -> np.ndarray:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def _plain(value: Any) -> Any:
    """Turn what a data set holds into an array, a list, a dict or None."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, onnx.SequenceProto):
        return numpy_helper.to_list(value)
    if isinstance(value, onnx.OptionalProto):
        return numpy_helper.to_optional(value)
    if isinstance(value, (list, dict, np.ndarray)) or value is None:
        return value
    return np.asarray(value)


def difference(got: Any, want: Any, rtol: float, atol: float, path: str = "output") -> str | None:
    """Return what is different between an answer and the expected one, or None."""
    if isinstance(want, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(want):
            return f"{path}: wanted a sequence of {len(want)}, got {_short(got)}"
        pairs = enumerate(zip(got, want, strict=True))
        found = (difference(g, w, rtol, atol, f"{path}[{i}]") for i, (g, w) in pairs)
        return next((text for text in found if text), None)
    if isinstance(want, dict) or want is None:
        return None if got == want else f"{path}: wanted {want}, got {_short(got)}"
    if not isinstance(got, np.ndarray):
        return f"{path}: wanted an array, got {_short(got)}"
    return _array_difference(got, np.asarray(want), rtol, atol, path)


def _array_difference(
    got: np.ndarray, want: np.ndarray, rtol: float, atol: float, path: str
) -> str | None:
    if got.shape != want.shape:
        return f"{path}: wanted shape {want.shape}, got {got.shape}"
    if want.dtype == object or want.dtype.kind in "US":
        equal = [str(a) for a in got.ravel()] == [str(b) for b in want.ravel()]
        return None if equal else f"{path}: wanted {want.tolist()}, got {got.tolist()}"
    if got.dtype != want.dtype:
        return f"{path}: wanted dtype {want.dtype}, got {got.dtype}"
    if want.dtype.name == "bfloat16":
        # As the runner of onnx does: two units in the last place.
        rtol = max(rtol, 2**-6)
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    if want.dtype.kind in "iub":
        same = np.array_equal(got, want)
    else:
        # Small formats have NaNs that warn when they are widened.
        with np.errstate(invalid="ignore"):
            got, want = got.astype(wide), want.astype(wide)
        same = np.allclose(got, want, rtol, atol, equal_nan=True)
    return None if same else f"{path}: values differ: wanted {_short(want)}, got {_short(got)}"


def _short(value: Any) -> str:
    return " ".join(str(value).split())[:160]
