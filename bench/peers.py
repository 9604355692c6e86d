"""The implementations that every merge bench compares, each with inputs bound to it."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from harness import Impl, Outputs, Setup
from torch import nn

import fusec

Models = Mapping[str, nn.Module]
Inputs = Mapping[str, torch.Tensor]
Contents = Mapping[str, bytes]
_POOLS: set[int] = set()


def _by_position(names: list[str]) -> Callable[[object], Outputs]:
    """Return a reader of results that are a list or a stacked tensor in the order of `names`."""

    def read(result: object) -> Outputs:
        return {name: np.asarray(value) for name, value in zip(names, result, strict=True)}  # type: ignore[call-overload]

    return read


def _of_plan(result: object) -> Outputs:
    """Return the first output of every member from what a plan answered."""
    assert isinstance(result, Mapping)
    return {name: np.asarray(next(iter(outputs.values()))) for name, outputs in result.items()}


def truth_of(models: Models, inputs: Inputs) -> Outputs:
    """Return the answers in float64, one model after the other."""
    answers = {}
    for name, model in models.items():
        x = inputs[name]
        double = copy.deepcopy(model).double()
        with torch.inference_mode():
            answers[name] = double(x.double() if x.is_floating_point() else x).numpy()
    return answers


def eager(models: Models, inputs: Inputs) -> Impl:
    """One model after the other, as PyTorch runs them."""

    def build() -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return [model(inputs[name]) for name, model in models.items()]

        return run

    return Impl(build, _by_position(list(models)))


def compiled(models: Models, inputs: Inputs) -> Impl:
    """All members in one function given to ``torch.compile``."""

    def build() -> Callable[[], object]:
        torch.compiler.reset()
        pairs = [(model, inputs[name]) for name, model in models.items()]
        function = torch.compile(lambda: [model(x) for model, x in pairs])

        def run() -> object:
            with torch.inference_mode():
                return function()

        return run

    return Impl(build, _by_position(list(models)))


def stacked(models: Models, inputs: Inputs, *, compile: bool = False) -> Impl:
    """PyTorch's ensembling recipe: stacked weights under ``torch.func.vmap``."""

    def build() -> Callable[[], object]:
        torch.compiler.reset()
        members = [copy.deepcopy(model) for model in models.values()]
        weights, buffers = torch.func.stack_module_state(members)
        shell = members[0]
        x = torch.stack([inputs[name] for name in models])

        def one(w: dict[str, torch.Tensor], b: dict[str, torch.Tensor], x: torch.Tensor) -> object:
            return torch.func.functional_call(shell, (w, b), (x,))

        function = torch.func.vmap(one)
        if compile:
            function = torch.compile(function)

        def run() -> object:
            with torch.inference_mode():
                return function(weights, buffers, x)

        return run

    return Impl(build, _by_position(list(models)))


def onnxruntime_sessions(contents: Contents, inputs: Inputs, threads: int) -> Impl:
    """One session per model, one global pool, threads that do not spin between requests."""

    def build() -> Callable[[], object]:
        import onnxruntime

        # The size of the global pool is fixed once per process; so is a bench's thread count.
        if threads not in _POOLS:
            onnxruntime.set_global_thread_pool_sizes(threads, 1)
            _POOLS.add(threads)
        options = onnxruntime.SessionOptions()
        options.use_per_session_threads = False
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")
        sessions = []
        for name, content in contents.items():
            session = onnxruntime.InferenceSession(content, options)
            feed = {session.get_inputs()[0].name: inputs[name].numpy()}
            sessions.append((session, feed))

        def run() -> object:
            return [session.run(None, feed)[0] for session, feed in sessions]

        return run

    return Impl(build, _by_position(list(contents)))


def exported(models: Models, inputs: Inputs) -> Contents:
    """Return every model as ONNX, by the exporter of PyTorch."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    contents = {}
    for name, model in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(model, (inputs[name],), dynamo=True, verbose=False)
        assert program is not None
        contents[name] = program.model_proto.SerializeToString()
    return contents


def plan(
    sources: Mapping[str, nn.Module | Path],
    inputs: Inputs,
    *,
    executor: str,
    threads: int,
) -> Impl:
    """One plan with one of its executors; requests and answers are arrays."""

    def build() -> Callable[[], object]:
        made = fusec.compile(
            dict(sources),
            examples=dict(inputs),
            threads=threads,
            executor=executor,
        )
        request = {name: inputs[name].numpy() for name in sources}
        return lambda: made.run(request)

    return Impl(build, _of_plan)


def side_by_side(
    models: Models,
    sources: Mapping[str, nn.Module | Path],
    contents: Contents,
    inputs: Inputs,
    *,
    threads: int,
    compilers: bool,
) -> Setup:
    """Put every peer and both executors side by side.

    Args:
        models: the members as modules, for the peers made of PyTorch.
        sources: the members as fusec gets them.
        contents: the members as ONNX.
        inputs: one request of one row for each member.
        threads: for ONNX Runtime's pool and for the plans.
        compilers: also time what ``torch.compile`` makes, which takes a minute to build.
    """
    impls = {
        "torch": eager(models, inputs),
        "torch.func": stacked(models, inputs),
        "onnxruntime": onnxruntime_sessions(contents, inputs, threads),
        "fusec isolated": plan(sources, inputs, executor="isolated", threads=threads),
        "fusec merged": plan(sources, inputs, executor="merged", threads=threads),
    }
    if compilers:
        impls["torch.compile"] = compiled(models, inputs)
        impls["torch.func compiled"] = stacked(models, inputs, compile=True)
    return Setup(impls=impls, truth=truth_of(models, inputs))
