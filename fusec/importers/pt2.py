"""Load .pt2 files without ever unpickling objects that could run code."""

import json
import zipfile
from pathlib import Path

import torch
from torch.export import ExportedProgram

from fusec.ir.errors import ConfigError, FusecError, ImportFailed

__all__ = ["load_pt2"]


def load_pt2(path: Path) -> ExportedProgram:
    """Load an exported program.

    Raises:
        ConfigError: no such file, or one that is damaged or no .pt2 archive.
        ImportFailed: an archive that holds compiled code or pickled objects.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            _check(path, archive)
            damaged = archive.testzip()
    except FusecError:
        raise
    except Exception as e:
        raise ConfigError(
            f"{path}: not a .pt2 file, or a damaged one ({e}); write it again with "
            "torch.export.save"
        ) from e
    if damaged is not None:
        raise ConfigError(f"{path}: damaged, checksum of {damaged} is wrong; write it again")
    try:
        return torch.export.load(path)
    except Exception as e:
        text = str(e).strip().splitlines()
        raise ConfigError(
            f"{path}: torch cannot read this program ({type(e).__name__}: "
            f"{text[0] if text else ''}); write it again with torch.export.save"
        ) from e


def _check(path: Path, archive: zipfile.ZipFile) -> None:
    if min((i.header_offset for i in archive.infolist()), default=0) != 0:
        # The end of a truncated archive can look like a smaller one that lay inside.
        raise ConfigError(f"{path}: not a .pt2 file, or a damaged one; write it again")
    names = [n.partition("/")[2] for n in archive.namelist()]
    if any(n in ("data.pkl", "constants.pkl") for n in names):
        raise ImportFailed(
            f"{path}: a pickled model (torch.save or TorchScript), which could run any code when "
            "read; load it yourself and give the module, or write it with torch.export.save"
        )
    if not any(n.startswith("models/") for n in names):
        compiled = any("aotinductor" in n for n in names)
        raise ImportFailed(
            f"{path}: holds compiled code only (AOTInductor), no graph; write the exported "
            "program itself with torch.export.save"
            if compiled
            else f"{path}: a zip file without a program in it; write it with torch.export.save"
        )
    for name in archive.namelist():
        last = name.rpartition("/")[2]
        if last.startswith(("custom_obj_", "opaque_obj_")):
            raise ImportFailed(f"{path}: holds a pickled object ({last}), which is never read")
        if last.endswith("_config.json") and _uses_pickle(path, archive.read(name)):
            raise ImportFailed(
                f"{path}: holds pickled weights (tensor subclasses), which are never read; "
                "save plain tensors"
            )


def _uses_pickle(path: Path, data: bytes) -> bool:
    try:
        entries = json.loads(data).get("config", {})
        return any(bool(entry.get("use_pickle")) for entry in entries.values())
    except (ValueError, AttributeError, RecursionError) as e:
        raise ConfigError(f"{path}: damaged, an index in it cannot be read ({e})") from e
