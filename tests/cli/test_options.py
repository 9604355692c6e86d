"""The small grammars of --bind, --symbol and --batch-axis."""

from collections.abc import Callable, Sequence

import pytest
import typer

from fusec.cli.options import of_model, parse_batch_axes, parse_bind, parse_symbols


def test_bind_values_are_json() -> None:
    table = parse_bind(["sr=16000", "vad/sr=[8000]", "on=true", "x:0=1.5"])
    assert of_model(table, "vad", ["vad"]) == {"sr": [8000], "on": True, "x:0": 1.5}
    assert of_model(table, "other", ["vad", "other"]) == {"sr": 16000, "on": True, "x:0": 1.5}


def test_a_slash_belongs_to_the_input_unless_a_model_stands_before_it() -> None:
    table = parse_bind(["/model/x=1", "a/b/y=2"])
    assert of_model(table, "m", ["m"]) == {"/model/x": 1, "a/b/y": 2}
    assert of_model(table, "a/b", ["m", "a/b"]) == {"/model/x": 1, "y": 2}


def test_symbols_have_names_and_ranges() -> None:
    table = parse_symbols(["ids:1=tokens", "ids:0=batch:2", "m/mask:0:1=tokens:1:512"])
    assert of_model(table, "m", ["m"]) == {
        "ids": {1: "tokens", 0: ("batch", 2, None)},
        "mask:0": {1: ("tokens", 1, 512)},
    }


def test_batch_axes_may_be_none() -> None:
    assert parse_batch_axes(["x=0", "mask=none"]) == {"x": 0, "mask": None}


def test_nothing_said_is_nothing() -> None:
    assert of_model(parse_bind([]), "m", ["m"]) is None


@pytest.mark.parametrize(
    ("parse", "texts"),
    [
        (parse_bind, ["sr"]),
        (parse_bind, ["=1"]),
        (parse_bind, ["sr=abc"]),
        (parse_bind, ["sr=NaN"]),
        (parse_bind, ['sr="text"']),
        (parse_bind, ["sr=1", "sr=2"]),
        (parse_symbols, ["ids=tokens"]),
        (parse_symbols, ["ids:1=2x"]),
        (parse_symbols, ["ids:one=x"]),
        (parse_symbols, ["ids:1=x:1:2:3"]),
        (parse_symbols, ["ids:1=x", "ids:1=y"]),
        (parse_batch_axes, ["x=first"]),
    ],
)
def test_what_does_not_parse_is_a_usage_error(
    parse: Callable[[Sequence[str]], object], texts: list[str]
) -> None:
    with pytest.raises(typer.BadParameter):
        parse(texts)
