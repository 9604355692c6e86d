"""What was said of inputs in general, for one model: of the inputs that it has."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from fusec.cli.options import PerInput, of_model
from fusec.ir.errors import ConfigError, FusecError

__all__ = ["check_all_used", "said_of"]


def said_of(
    table: PerInput, name: str, path: Path, models: Collection[str]
) -> dict[str, object] | None:
    """Give what was said of one model's inputs, without what is for inputs of other models.

    An input said with a model's name is kept in any case, so that a mistake in it is found.
    """
    said = of_model(table, name, models)
    names = _input_names(path) if said else None
    if said is None or names is None:
        return said
    own = {key.removeprefix(f"{name}/") for key in table if key.startswith(f"{name}/")}
    return {key: value for key, value in said.items() if key in names or key in own} or None


def check_all_used(option: str, table: PerInput, models: Mapping[str, Path]) -> None:
    """Check that every input that was spoken of exists in some model.

    Raises:
        ConfigError: one that is in none.
    """
    if not table:
        return
    names = [_input_names(path) for path in models.values()]
    if any(n is None for n in names):
        return  # import itself will tell
    known = {name for n in names if n is not None for name in n}
    for key in table:
        owners = [m for m in models if key.startswith(f"{m}/")]
        if not owners and key not in known:
            raise ConfigError(
                f"{option}: no model has an input {key!r}; inputs are {', '.join(sorted(known))}"
            )


def _input_names(path: Path) -> Sequence[str] | None:
    """Read the inputs' names of an ONNX file; None for other files, and for damaged ones."""
    if path.suffix.lower() != ".onnx":
        return None
    # An extra, and half a second: only where something was said of inputs.
    from fusec.importers.onnx.load import load_model

    try:
        return [info.name for info in load_model(str(path), check_operators=False).inputs]
    except FusecError:
        return None  # importing it will say what is wrong
