"""A model repository in Triton's layout, as it is on disk at one moment.

repo/alexa/config.pbtxt          optional
repo/alexa/1/model.onnx          or model.pt2, or a folder model.onnx/ with model.onnx in it
repo/alexa/2/model.onnx
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusec.ir.errors import ConfigError
from fusec.ir.frozen import dataclass
from fusec.server.configread import Warn, config_of_json, config_of_text

__all__ = ["Folder", "Repository", "files_print", "model_file", "read_labels", "write_override"]

_NAMES = ("model.onnx", "model.pt2")
_OVERRIDE = re.compile(r"file:([1-9][0-9]{0,17})/([A-Za-z0-9_][A-Za-z0-9_.-]{0,200})")
_MOST_FILES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Folder:
    """What is known of a model before any of it is loaded."""

    name: str
    config: Mapping[str, Any]
    versions: Mapping[int, Path]
    """Version -> its folder."""
    print: object
    """Of the configuration: another one when it changed."""


class Repository:
    """One or more folders of models; of equal names the first counts."""

    def __init__(self, roots: Sequence[Path], warn: Warn) -> None:
        """Take folders.

        Args:
            roots: of models.
            warn: is told of what has no effect.

        Raises:
            ConfigError: one of them is no folder.
        """
        for root in roots:
            if not root.is_dir():
                raise ConfigError(f"{root}: there is no such folder; give a model repository")
        self._roots, self._warn = tuple(roots), warn

    def names(self) -> list[str]:
        """Give all models' names."""
        found: dict[str, None] = {}
        for root in self._roots:
            for path in sorted(root.iterdir()):
                if not path.name.startswith(".") and path.is_dir():
                    found.setdefault(path.name)
        return list(found)

    def has(self, name: str) -> bool:
        """Tell whether there is a folder for a model."""
        return self._path(name) is not None

    def folder(self, name: str) -> Folder:
        """Read a model's configuration and find its versions.

        Raises:
            ConfigError: there is no such folder, or its configuration cannot be read.
        """
        path = self._path(name)
        if path is None:
            raise ConfigError(
                f"failed to load {name[:200]!r}, failed to poll from model repository"
            )
        try:
            versions = {int(p.name): p for p in path.iterdir() if _is_version(p)}
            file = path / "config.pbtxt"
            text = file.read_text() if file.is_file() else ""
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"model {name!r}: {e}") from e
        config = config_of_text(text, str(file), self._warn)
        return Folder(name=name, config=config, versions=versions, print=text)

    def overridden(self, name: str, text: str, files: Path | None) -> Folder:
        """Take a configuration in place of the file's, and perhaps other files.

        Args:
            name: of the model.
            text: JSON.
            files: a folder of versions in place of the repository's.

        Raises:
            ConfigError: no JSON, or no configuration.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise ConfigError(f"model {name!r}: 'config' is no JSON: {e}") from e
        config = config_of_json(data, f"model {name!r}: config", self._warn)
        if files is None:
            versions = self.folder(name).versions
        else:
            versions = {int(p.name): p for p in files.iterdir() if _is_version(p)}
        return Folder(name=name, config=config, versions=versions, print=(text, str(files)))

    def _path(self, name: str) -> Path | None:
        if not name or name.startswith(".") or "/" in name or "\\" in name or "\0" in name:
            return None
        return next((root / name for root in self._roots if (root / name).is_dir()), None)


def model_file(folder: Path, filename: str | None) -> Path:
    """Find the model of a version's folder.

    Raises:
        ConfigError: there is none of a format that can be imported.
    """
    for name in (filename,) if filename else _NAMES:
        for file in (folder / name, folder / name / name):
            if file.is_file():
                return file
    there = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
    wanted = filename or " or ".join(_NAMES)
    raise ConfigError(f"{folder}: wanted {wanted}, there is {there}")


def read_labels(folder: Path, files: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Read the names of classes, one a line.

    Args:
        folder: of the model.
        files: output and file.

    Raises:
        ConfigError: a file cannot be read.
    """
    found = {}
    for output, name in files:
        try:
            found[output] = (folder / name).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"labels of output {output!r}: {e}") from e
    return found


def files_print(folder: Path) -> object:
    """Tell files apart by their times and sizes, without reading them.

    Raises:
        ConfigError: there are too many to be a model.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.stat()
            found.append((str(path), stat.st_mtime_ns, stat.st_size))
        if len(found) > _MOST_FILES:
            raise ConfigError(f"{folder}: has more than {_MOST_FILES} files; that is no model")
    return tuple(found)


def write_override(files: Mapping[str, str | bytes], folder: Path) -> None:
    """Write files that came with a load request.

    Args:
        files: "file:1/model.onnx" -> its bytes, or those in base64.
        folder: to write to.

    Raises:
        ConfigError: a name that is none of these, or no base64.
    """
    for name, content in files.items():
        match = _OVERRIDE.fullmatch(name)
        if match is None:
            raise ConfigError(f"{name[:80]!r} must be as 'file:<version>/<file name>'")
        try:
            data = (
                content if isinstance(content, bytes) else base64.b64decode(content, validate=True)
            )
        except (binascii.Error, ValueError) as e:
            raise ConfigError(f"{name!r} is no base64: {e}") from e
        target = folder / match[1] / match[2]
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)


def _is_version(path: Path) -> bool:
    name = path.name
    return name.isascii() and name.isdigit() and name[0] != "0" and len(name) < 19 and path.is_dir()
