"""The originals: each tenant's model as its owner ran it before, one call at a time."""

import statistics
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from fusec.demo.report import Timing
from fusec.ir.errors import ConfigError

__all__ = ["Runner", "in_turn", "onnxruntime_runner", "torch_runner"]

Runner = Callable[[np.ndarray], np.ndarray]
"""Images [rows, 1, 8, 8] to logits [rows, classes]."""


def torch_runner(model: nn.Module) -> Runner:
    """Run a module as it is."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: torch.Tensor = model(torch.from_numpy(images))
        return logits.numpy()

    return run


def onnxruntime_runner(model: bytes) -> Runner:
    """Run ONNX bytes in a session of their own, on one thread.

    Raises:
        ConfigError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "the demo compares with ONNX Runtime; install fusec with its demo extra: "
            "pip install 'fusec[demo]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {"image": images})[0])

    return run


def in_turn(
    rounds: Mapping[str, Callable[[], object]],
    *,
    requests: int,
    budget_ns: int,
    clock: Callable[[], int],
) -> tuple[Timing, ...]:
    """Time several ways to serve one round of requests, in turn, until the budget is used.

    Args:
        rounds: by name, a function that serves `requests` requests.
        requests: by how many a round's time is divided.
        budget_ns: for all of them together; everyone gets at least five rounds.
        clock: nanoseconds.
    """
    samples: dict[str, list[int]] = {name: [] for name in rounds}
    for serve in rounds.values():
        serve()
    end = clock() + budget_ns
    turn = 0
    while clock() < end or turn < 5:
        for name, serve in rounds.items():
            begin = clock()
            serve()
            samples[name].append(clock() - begin)
        turn += 1
    timings = []
    for name, values in samples.items():
        fifths = statistics.quantiles([v / 1e3 / requests for v in values], n=5)
        middle = statistics.median(values) / 1e3 / requests
        timings.append(
            Timing(name=name, p20_us=fifths[0], p50_us=middle, p80_us=fifths[3], rounds=turn)
        )
    return tuple(timings)
