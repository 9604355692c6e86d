"""Finding models: files, folders of files, and a folder per model.

    en-alexa.onnx                      "en-alexa"     file stem
    alexa/model.onnx                   "alexa"        a file called model takes its folder's name
    alexa/1/model.onnx                 "alexa"        Triton model repository: the highest version
    alexa/3/model.onnx/model.onnx      "alexa"        ... whose model has several files

A folder stands for the model files in it and the model folders in it; files further down count with
`recursive`. Hidden files and folders never count.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fusec.ir.errors import ConfigError

__all__ = ["Found", "NameFrom", "find_models"]

SUFFIXES = (".onnx", ".pt2")
_FOREIGN = (".pt", ".pth", ".ts", ".tflite", ".h5", ".keras", ".pb", ".engine", ".plan")


class NameFrom(StrEnum):
    """What names a model."""

    FILE = "file"
    """The file's stem, or its folder's name if it is called model."""

    PATH = "path"
    """The path below the folder that was given, without suffix."""


@dataclass(frozen=True, slots=True)
class Found:
    """Models by name, and what was left out and why."""

    models: Mapping[str, Path]
    notes: tuple[str, ...]


def find_models(
    paths: Sequence[Path], *, recursive: bool = False, name_from: NameFrom = NameFrom.FILE
) -> Found:
    """Find and name the models under paths.

    Raises:
        ConfigError: a path is not there, is no model, or holds none; two files have one name.
    """
    notes: list[str] = []
    models: dict[str, Path] = {}
    for path in paths:
        found = _under(path, recursive, notes)
        if not found:
            raise ConfigError(f"{path}: no {' or '.join(SUFFIXES)} file in it{_hint(path)}")
        for file in found:
            base = path if name_from is NameFrom.PATH and path.is_dir() else None
            name = _name(file, base)
            other = models.setdefault(name, file)
            if other.absolute() != file.absolute():
                raise ConfigError(
                    f"two models are called {name!r}: {other} and {file}; rename one"
                    + ("" if name_from is NameFrom.PATH else ", or give --name-from path")
                )
    return Found(models, tuple(notes))


def _under(path: Path, recursive: bool, notes: list[str]) -> list[Path]:
    try:
        if path.is_dir():
            return _in_folder(path, recursive, notes)
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder")
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path}: {e}") from e
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"{path}: cannot tell what it is from {path.suffix!r}; wanted {' or '.join(SUFFIXES)}"
        )
    return [path]


def _in_folder(folder: Path, recursive: bool, notes: list[str]) -> list[Path]:
    own = _model_folder(folder, notes)
    if own is not None:
        return [own]
    children = _visible(folder)
    files = [p for p in children if p.suffix.lower() in SUFFIXES and p.is_file()]
    foreign = [p.name for p in children if p.suffix.lower() in _FOREIGN and p.is_file()]
    if foreign:
        notes.append(f"{folder}: not a format of fusec's, left out: {_some(foreign)}")
    passed = []
    for child in children:
        if not child.is_dir():
            continue
        model = _model_folder(child, notes)
        if model is not None:
            files.append(model)
        elif recursive and not child.is_symlink():
            files += _in_folder(child, recursive, notes)
        elif any(p.suffix.lower() in SUFFIXES for p in _visible(child)):
            passed.append(child.name)
    if passed:
        notes.append(f"{folder}: not searched without --recursive: {_some(passed)}")
    return files


def _model_folder(folder: Path, notes: list[str]) -> Path | None:
    """Give the model of a folder that stands for one model, or None."""
    versions = [
        (int(p.name), model)
        for p in _visible(folder)
        if p.name.isascii() and p.name.isdigit() and p.is_dir()
        for model in (_model_file(p),)
        if model is not None
    ]
    model = max(versions)[1] if versions else _model_file(folder)
    if model is None:
        return None
    if len(versions) > 1:
        notes.append(f"{folder}: version {max(versions)[0]} of {len(versions)}")
    if (folder / "config.pbtxt").is_file():
        notes.append(f"{folder}: config.pbtxt is not read")
    return model


def _model_file(folder: Path) -> Path | None:
    for name in (f"model{suffix}" for suffix in SUFFIXES):
        for file in (folder / name, folder / name / name):
            if file.is_file():
                return file
    return None


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _name(file: Path, base: Path | None) -> str:
    """Name a model by its file, or by its path below a folder."""
    parts = list(file.absolute().parts if base is None else file.relative_to(base).parts)
    parts[-1] = file.stem
    # Triton's levels below a model's folder say nothing about which model it is.
    if file.stem == "model" and len(parts) > 1:
        del parts[-1]
        while len(parts) > 1 and (parts[-1].isdigit() or parts[-1] == file.name):
            del parts[-1]
    return parts[-1] if base is None else "/".join(parts)


def _hint(path: Path) -> str:
    if path.is_dir() and any(next(path.rglob(f"*{suffix}"), None) for suffix in SUFFIXES):
        return "; there are some further down: give --recursive"
    return ""


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (f", ... ({len(listed)} in all)" if len(listed) > 5 else "")
