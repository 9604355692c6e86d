"""Say where in the user's model something was found."""

import linecache
import os
import traceback
from collections.abc import Iterable
from types import TracebackType

import torch
from torch import fx

__all__ = ["place_of_error", "place_of_node"]

_TORCH = os.path.dirname(torch.__file__)
_STANDARD = os.path.dirname(os.__file__)
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def place_of_node(node: fx.Node) -> str:
    """Give "module path, file:line: code" of a traced node, as far as known."""
    parts: list[str] = []
    stack = node.meta.get("nn_module_stack")
    if stack:
        path, kind = list(stack.values())[-1]
        name = kind if isinstance(kind, str) else kind.__name__
        path = str(path).removeprefix("inner.").removeprefix("inner")
        parts.append(f"module {path or 'itself'} ({name.rpartition('.')[2]})")
    lines = str(node.meta.get("stack_trace") or "").splitlines()
    for at in range(len(lines) - 1, -1, -1):
        text = lines[at].strip()
        if text.startswith("File ") and not _foreign(text.split('"')[1]):
            code = lines[at + 1].strip() if at + 1 < len(lines) else ""
            parts.append(_line(text.split('"')[1], text.partition("line ")[2].split(",")[0], code))
            break
    return ", ".join(parts) or f"node {node.name}"


def place_of_error(error: BaseException) -> str:
    """Give "file:line: code" of the innermost frame that is the user's own."""
    frames = list(_frames(error.__traceback__))
    for filename, number in reversed(frames):
        if not _foreign(filename):
            code = linecache.getline(filename, number).strip()
            return _line(filename, str(number), code)
    return "a place inside torch"


def _line(filename: str, number: str, code: str) -> str:
    return f"{filename}:{number}" + (f": {code}" if code else "")


def _foreign(filename: str) -> bool:
    standard = filename.startswith(_STANDARD) and "site-packages" not in filename
    return standard or filename.startswith((_TORCH, _OURS, "<")) or filename == ""


def _frames(trace: TracebackType | None) -> Iterable[tuple[str, int]]:
    for frame, number in traceback.walk_tb(trace):
        yield frame.f_code.co_filename, number
