"""Arrays in and out: which entry of an .npz file is for which input of which model.

    "alexa/audio"   input `audio` of model `alexa`
    "alexa"         the input of model `alexa`, if it has one
    "audio"         input `audio` of every model that has one

The more exact key wins. A model runs if any key is for it, and then needs all its inputs.
"""

import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from fusec.artifact.atomic import replacing
from fusec.ir.errors import ConfigError

__all__ = ["Arrays", "assign", "read_arrays", "write_arrays"]

Arrays: TypeAlias = Mapping[str, np.ndarray[Any, Any]]


def read_arrays(path: Path) -> Arrays:
    """Read all arrays of an .npz file.

    Raises:
        ConfigError: the file is missing, damaged, no such file, or holds pickled objects.
    """
    try:
        # Opened here: NumPy leaves a file that is damaged open.
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise ConfigError(f"{path}: one array without a name; give an .npz file")
            with loaded:
                return {key: loaded[key] for key in loaded.files}
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror or e}") from e
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as e:
        raise ConfigError(f"{path}: not an .npz file of plain arrays, or damaged: {e}") from e
    except MemoryError as e:
        raise ConfigError(f"{path}: claims an array that does not fit into memory") from e


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays to an .npz file in one step: there is the old file or the whole new one.

    Raises:
        ConfigError: the folder is not there, or `path` is not a regular file.
        ArtifactError: writing failed; what was at `path` is as before.
    """
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def assign(
    arrays: Arrays, inputs: Mapping[str, Collection[str]], only: Collection[str]
) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Give each model its inputs.

    Args:
        arrays: by key.
        inputs: model -> names of its inputs, for all models of the plan.
        only: models to run; empty for all that any key is for.

    Raises:
        ConfigError: an unknown model, a key that is for nothing, or an input that is not given.
    """
    for name in only:
        if name not in inputs:
            raise ConfigError(f"the plan has no model {name!r}; it has {_some(inputs)}")
    wanted = [name for name in inputs if not only or name in only]
    found: dict[str, dict[str, np.ndarray[Any, Any]]] = {name: {} for name in wanted}
    used = set()
    for name in wanted:
        for input_name in inputs[name]:
            keys = [f"{name}/{input_name}", name, input_name]
            if len(inputs[name]) > 1:
                keys.remove(name)
            for key in keys:
                if key in arrays:
                    found[name].setdefault(input_name, arrays[key])
                    used.add(key)
    for key in arrays:
        if key not in used and not (only and _is_for_others(key, inputs, only)):
            raise ConfigError(
                f"key {key!r} is for no input of any model; inputs are "
                f"{_some({f'{m}/{i}': None for m in wanted for i in inputs[m]})}"
            )
    return _complete(
        {n: found[n] for n in wanted if found[n] or n in only or not inputs[n]}, inputs
    )


def _complete(
    found: dict[str, dict[str, np.ndarray[Any, Any]]], inputs: Mapping[str, Collection[str]]
) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    for name, given in found.items():
        missing = [i for i in inputs[name] if i not in given]
        if missing:
            raise ConfigError(
                f"model {name!r} needs {', '.join(f'{name}/{i}' for i in missing)}; "
                "give it, or choose other models with --member"
            )
    return found


def _is_for_others(key: str, inputs: Mapping[str, Collection[str]], only: Collection[str]) -> bool:
    return any(
        key in (name, f"{name}/{i}", i) for name in inputs if name not in only for i in inputs[name]
    )


def _some(names: Collection[str]) -> str:
    listed = list(names)
    return ", ".join(map(repr, listed[:5])) + (
        f", ... ({len(listed)} in all)" if len(listed) > 5 else ""
    )
