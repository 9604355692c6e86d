"""Options with a small grammar of their own, shared by `compile` and `explain`.

    --bind        [MODEL/]INPUT=VALUE             sr=16000    vad/sr=[8000]
    --symbol      [MODEL/]INPUT:AXIS=NAME[:MIN[:MAX]]         ids:1=tokens:1:512
    --batch-axis  [MODEL/]INPUT=AXIS|none         mask=none

Inputs may have slashes and colons in their names: what stands before a slash is a model only if
there is one of that name.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from fusec.cli.sources import NameFrom
from fusec.ir.plan import Executor, WeightStorage

__all__ = [
    "BatchAxisOption",
    "BindOption",
    "ExamplesOption",
    "ExecutorOption",
    "NameFromOption",
    "Paths",
    "PerInput",
    "RecursiveOption",
    "SymbolOption",
    "TargetOption",
    "ThreadsOption",
    "WeightsOption",
    "of_model",
    "parse_batch_axes",
    "parse_bind",
    "parse_symbols",
]

PerInput: TypeAlias = Mapping[str, object]
"""Input name, perhaps with a model's name and a slash before it -> what was said of it."""

Paths = Annotated[
    list[Path],
    typer.Argument(help=".onnx and .pt2 files, folders of them, or of one folder per model."),
]
RecursiveOption = Annotated[
    bool, typer.Option("--recursive", "-r", help="Search folders to any depth.")
]
NameFromOption = Annotated[
    NameFrom,
    typer.Option(help="Name models by file (or, if that is model.onnx, folder), or by path."),
]
BindOption = Annotated[
    list[str],
    typer.Option(metavar="[MODEL/]INPUT=VALUE", help="Fix an input for good; value as in JSON."),
]
SymbolOption = Annotated[
    list[str],
    typer.Option(
        metavar="[MODEL/]INPUT:AXIS=NAME[:MIN[:MAX]]",
        help="An extent that varies by request.",
    ),
]
BatchAxisOption = Annotated[
    list[str],
    typer.Option(metavar="[MODEL/]INPUT=AXIS", help="Axis of the rows, or none; found if absent."),
]
ExamplesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npz",
        help='Example inputs, keys "[MODEL/]INPUT"; for files whose shapes do not tell.',
    ),
]
ExecutorOption = Annotated[
    Executor | None,
    typer.Option(
        help="cpu (default): native code; cuda: an NVIDIA card; isolated, merged: PyTorch, row by "
        "row or group by group."
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Threads of a run; all cores, or PyTorch's choice, if absent."),
]

TargetOption = Annotated[
    list[str],
    typer.Option(
        metavar="cuda:sm_NN",
        help="A kind of card, which need not be here; may be given several times.",
    ),
]

WeightsOption = Annotated[
    WeightStorage | None,
    typer.Option(
        help="Store weights of linear layers rounded to this: half the memory and traffic, "
        "answers change a little. Native code only."
    ),
]


def parse_bind(texts: Sequence[str]) -> PerInput:
    """Read `--bind` options.

    Raises:
        typer.BadParameter: no such form, no JSON number, boolean or list, or given twice.
    """
    table: dict[str, object] = {}
    for text in texts:
        name, value = _halves(text, "--bind", "INPUT=VALUE")
        try:
            parsed = json.loads(value, parse_constant=_no_constant)
        except ValueError as e:
            raise _bad("--bind", text, f"{value!r} is not a value as JSON writes it") from e
        if not isinstance(parsed, bool | int | float | list):
            raise _bad("--bind", text, "give a number, true, false, or a list of these")
        _put(table, name, parsed, "--bind", text)
    return table


def parse_batch_axes(texts: Sequence[str]) -> PerInput:
    """Read `--batch-axis` options.

    Raises:
        typer.BadParameter: no such form, no axis, or given twice.
    """
    table: dict[str, object] = {}
    for text in texts:
        name, value = _halves(text, "--batch-axis", "INPUT=AXIS")
        axis = None if value == "none" else _integer(value, "--batch-axis", text)
        _put(table, name, axis, "--batch-axis", text)
    return table


def parse_symbols(texts: Sequence[str]) -> PerInput:
    """Read `--symbol` options: input -> {axis: name or (name, min, max)}.

    Raises:
        typer.BadParameter: no such form, no integer, or an axis given twice.
    """
    table: dict[str, dict[int, object]] = {}
    for text in texts:
        place, value = _halves(text, "--symbol", "INPUT:AXIS=NAME")
        name, colon, axis_text = place.rpartition(":")
        symbol, *ends = value.split(":")
        if not colon or not name or not symbol.isidentifier() or len(ends) > 2:
            raise _bad("--symbol", text, "wanted INPUT:AXIS=NAME[:MIN[:MAX]]")
        axis = _integer(axis_text, "--symbol", text)
        limits = [_integer(end, "--symbol", text) for end in ends]
        if axis in table.setdefault(name, {}):
            raise _bad("--symbol", text, "this axis has a symbol already")
        table[name][axis] = (symbol, *limits, *[None] * (2 - len(limits))) if limits else symbol
    return table


def of_model(table: PerInput, model: str, models: Collection[str]) -> dict[str, object] | None:
    """Give what was said of one model's inputs: of all models, then of this one by name."""
    own = {k.removeprefix(f"{model}/"): v for k, v in table.items() if k.startswith(f"{model}/")}
    said = {k: v for k, v in table.items() if not any(k.startswith(f"{m}/") for m in models)}
    return {**said, **own} or None


def _halves(text: str, option: str, wanted: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise _bad(option, text, f"wanted {wanted}")
    return name, value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON value")


def _put(table: dict[str, object], name: str, value: object, option: str, text: str) -> None:
    if name in table:
        raise _bad(option, text, "this input has a value already")
    table[name] = value


def _integer(text: str, option: str, whole: str) -> int:
    try:
        return int(text)
    except ValueError as e:
        raise _bad(option, whole, f"{text!r} is not an integer") from e


def _bad(option: str, text: str, problem: str) -> typer.BadParameter:
    return typer.BadParameter(f"{text!r}: {problem}", param_hint=option)
