"""The two ways to a plan: compile models, or load a plan file."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fusec.artifact import read_plan_file
from fusec.ir.errors import ConfigError
from fusec.ir.plan import Executor, PlanData, WeightStorage
from fusec.plan import Plan
from fusec.running import default_executor, native_supported, read_executor

if TYPE_CHECKING:
    from fusec.importers.importing import Source

__all__ = ["compile", "load"]


def compile(
    models: "Mapping[str, Source]",
    *,
    examples: Mapping[str, Any] | None = None,
    symbols: Mapping[str, Any] | None = None,
    batch_axes: Mapping[str, Any] | None = None,
    bind: Mapping[str, Any] | None = None,
    threads: int | None = None,
    executor: str | None = None,
    weights: str | None = None,
) -> Plan:
    """Compile models together: like ones share one template, each keeps its own weights.

    Args:
        models: name -> model: an `nn.Module`, `fx.GraphModule`, `ExportedProgram`, a path to an
            .onnx or .pt2 file, ONNX bytes or a `ModelProto`.
        examples: name -> example inputs (array, tuple, or mapping by input name); needed for
            modules, optional for files that describe their inputs. The key "*" is for all others.
        symbols: name -> {input name: {axis: symbol}}: extents that vary between requests. A symbol
            is a name, or (name, min, max). Named ONNX dimensions are symbols by themselves.
        batch_axes: name -> {input name: axis or None}; found by running the model if not given.
        bind: input name -> value, for all models that have this input; or name -> {input: value}.
            The input leaves the signature and what depends on it is decided while importing.
        threads: while this plan runs; None takes all cores, or with PyTorch its own number.
        executor: "cpu" (default where it can run): native code, bytes never depend on company;
            "isolated": PyTorch, the same promise; "merged": PyTorch, bits may depend on company;
            "cuda": an NVIDIA card, opened at the first run; see `Plan.to` for its settings.
        weights: None: as the models have them. "bfloat16", with native code only: float32 weights
            of linear layers are rounded to it and take half the memory and traffic; sums stay
            float32. Answers change by what the weights are rounded by, some 0.2 %. The plan keeps
            to it: members added later and plans loaded from its file, too.

    Raises:
        ConfigError: bad input. ImportFailed: a model cannot be imported; the message names it.
    Cost: a trace per distinct raw structure of ONNX files; of modules one for all that differ in
        their weights only, and some runs of each to check that its answers are those of the trace.
    """
    if not isinstance(models, Mapping):
        raise ConfigError(f"compile takes a mapping of models, got {type(models).__name__}")
    options = {
        "example": _by_model("examples", examples, models),
        "symbols": _by_model("symbols", symbols, models),
        "batch_axes": _by_model("batch_axes", batch_axes, models),
    }
    plan = Plan(_empty(threads, executor, weights))
    for name, source in models.items():
        given = {key: table.get(name, table.get("*")) for key, table in options.items()}
        plan.add(name, source, bind=_bound(name, bind, models), **given)
    plan.gather()
    return plan


def load(
    path: str | os.PathLike[str], *, executor: str | None = None, threads: int | None = None
) -> Plan:
    """Load a plan file; weights are mapped, not read.

    Args:
        path: a .fusec file.
        executor: as in `compile`; None takes what the file says.
        threads: as in `compile`; None takes what the file says.

    Raises:
        ArtifactError: the file is missing, damaged, truncated, foreign or of another version.
    """
    file = read_plan_file(path)
    data = file.plan
    chosen = read_executor(executor) if executor is not None else data.executor
    if executor is None and chosen is Executor.CPU and not native_supported():
        chosen = default_executor()
    return Plan(
        replace(
            data, executor=chosen, threads=data.threads if threads is None else _threads(threads)
        ),
        file.profile,
        file.device,
    )


def _empty(threads: int | None, executor: str | None, weights: str | None) -> PlanData:
    chosen = default_executor() if executor is None else read_executor(executor)
    return PlanData(
        templates={},
        forms={},
        structures={},
        members={},
        weights={},
        executor=chosen,
        threads=None if threads is None else _threads(threads),
        weight_storage=None if weights is None else _storage(weights, chosen),
    )


def _storage(name: str, executor: Executor) -> WeightStorage:
    try:
        storage = WeightStorage(name)
    except ValueError as e:
        known = ", ".join(repr(str(x)) for x in WeightStorage)
        raise ConfigError(f"weights {name!r} is not known; give {known}, or nothing") from e
    if not executor.packs:
        raise ConfigError(
            f"weights {name!r} needs native code, but the executor is {str(executor)!r}; compile "
            'with executor="cpu", or leave weights out'
        )
    return storage


def _threads(threads: int) -> int:
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ConfigError(f"threads must be a positive integer, got {threads!r}")
    return threads


def _by_model(
    what: str, table: Mapping[str, Any] | None, models: "Mapping[str, Source]"
) -> Mapping[str, Any]:
    if table is None:
        return {}
    if not isinstance(table, Mapping):
        raise ConfigError(f"{what} must map model names to values, got {type(table).__name__}")
    unknown = sorted(set(table) - set(models) - {"*"})
    if unknown:
        raise ConfigError(f"{what} names {unknown}, which are not among the models")
    return table


def _bound(
    name: str, bind: Mapping[str, Any] | None, models: "Mapping[str, Source]"
) -> Mapping[str, Any] | None:
    """Give the values to bind in one model: those for all models, then its own."""
    if not bind:
        return None
    shared = {k: v for k, v in bind.items() if not isinstance(v, Mapping)}
    own = bind.get(name)
    unknown = sorted(k for k, v in bind.items() if isinstance(v, Mapping) and k not in models)
    if unknown:
        raise ConfigError(f"bind names {unknown}, which are not among the models")
    return {**shared, **(own if isinstance(own, Mapping) else {})}
