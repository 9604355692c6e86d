"""How servers are asked over HTTP, and what they answer: one row of numbers in, one out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from closed_loop import Answer


@dataclass(frozen=True, slots=True)
class Wire:
    """A way to ask for a model's answer."""

    name: str
    ask: Callable[[str, np.ndarray], bytes]
    read: Callable[[Answer], np.ndarray]


def post(path: str, body: bytes, **headers: str) -> bytes:
    """Make a request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _tensor(x: np.ndarray) -> dict[str, object]:
    return {"name": "input", "shape": list(x.shape), "datatype": "FP32"}


def _ask_binary(model: str, x: np.ndarray) -> bytes:
    tensor = {**_tensor(x), "parameters": {"binary_data_size": x.nbytes}}
    head = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    text = json.dumps(head, separators=(",", ":")).encode()
    header = {"Inference_Header_Content_Length": str(len(text))}
    return post(f"/v2/models/{model}/infer", text + x.tobytes(), **header)


def _ask_json(model: str, x: np.ndarray) -> bytes:
    tensor = {**_tensor(x), "data": x.ravel().tolist()}
    text = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
    return post(f"/v2/models/{model}/infer", text, Content_Type="application/json")


def _ask_plain(path: str) -> Callable[[str, np.ndarray], bytes]:
    def ask(model: str, x: np.ndarray) -> bytes:
        text = json.dumps({"model": model, "x": x.ravel().tolist()}, separators=(",", ":"))
        return post(path, text.encode(), Content_Type="application/json")

    return ask


def _read_protocol(answer: Answer) -> np.ndarray:
    size = answer.headers.get("inference-header-content-length")
    if size is None:
        return np.array(json.loads(answer.body)["outputs"][0]["data"], dtype=np.float32).ravel()
    return np.frombuffer(answer.body[int(size) :], dtype=np.float32)


def _read_plain(answer: Answer) -> np.ndarray:
    return np.array(json.loads(answer.body)["y"], dtype=np.float32)


BINARY = Wire("binary", _ask_binary, _read_protocol)
"""The protocol with tensors as bytes, as tritonclient sends them if told nothing."""
JSON = Wire("JSON", _ask_json, _read_protocol)
PREDICT = Wire("JSON", _ask_plain("/predict"), _read_plain)
ROOT = Wire("JSON", _ask_plain("/"), _read_plain)
RAW = Wire(
    "bytes",
    lambda model, x: post(f"/{model}", x.tobytes()),
    lambda answer: np.frombuffer(answer.body, dtype=np.float32),
)
