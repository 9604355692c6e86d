"""Building a plan from what the command line names, one model after another."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import fusec
from fusec.cli.inputs import check_all_used, said_of
from fusec.cli.options import PerInput
from fusec.cli.output import progress
from fusec.cli.sources import Found
from fusec.ir.errors import ConfigError, FusecError
from fusec.ir.plan import Executor, WeightStorage

__all__ = ["Built", "Choices", "Failure", "build"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Everything said about how to compile."""

    bind: PerInput
    symbols: PerInput
    batch_axes: PerInput
    examples: PerInput
    executor: Executor | None
    threads: int | None
    weights: WeightStorage | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A model that was left out."""

    name: str
    path: str
    kind: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Give the failure as JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """A plan, and what did not get into it."""

    plan: "fusec.Plan"
    failures: tuple[Failure, ...]


def build(found: Found, choices: Choices, *, skip_failed: bool) -> Built:
    """Compile the models that were found.

    Raises:
        FusecError: a model cannot be imported and `skip_failed` is false, or none can.
    """
    failures: list[Failure] = []
    with progress(len(found.models)) as show:
        show("loading PyTorch", 0)
        plan = fusec.compile(
            {}, executor=choices.executor, threads=choices.threads, weights=choices.weights
        )
        check_all_used("--bind", choices.bind, found.models)
        check_all_used("--symbol", choices.symbols, found.models)
        check_all_used("--batch-axis", choices.batch_axes, found.models)
        check_all_used("--examples", choices.examples, found.models)
        for done, (name, path) in enumerate(found.models.items()):
            show(name, done)
            try:
                _add(plan, name, path, found.models, choices)
            except FusecError as e:
                failures.append(Failure(name, str(path), type(e).__name__, str(e)))
                if not skip_failed:
                    raise type(e)(_with_path(str(e), path)) from e
    if not plan.members:
        raise ConfigError(f"none of {len(failures)} models can be imported: {_reasons(failures)}")
    return Built(plan, tuple(failures))


def _add(
    plan: "fusec.Plan", name: str, path: Path, models: Mapping[str, Path], choices: Choices
) -> None:
    plan.add(
        name,
        path,
        example=said_of(choices.examples, name, path, models),
        bind=said_of(choices.bind, name, path, models),
        symbols=said_of(choices.symbols, name, path, models),
        batch_axes=said_of(choices.batch_axes, name, path, models),  # type: ignore[arg-type]
    )


def _with_path(text: str, path: Path) -> str:
    return text if str(path) in text else f"{path}: {text}"


def _reasons(failures: Sequence[Failure]) -> str:
    return "; ".join(dict.fromkeys(f.message for f in failures[:3]))
