"""What the object code of a library depends on, as one digest, found without importing numba.

The sources are those of the library's module and of every fusec module that it imports, in turn:
read as text, since importing a `cpu` module means importing numba.
"""

import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

import fusec.ir

__all__ = ["fingerprint", "sources_digest", "sources_of"]

_FORMAT = b"2"
_IMPORT = re.compile(
    rb"\n[ \t]*(?:from[ \t]+(fusec[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)"
    rb"|import[ \t]+(fusec[\w.]*))"
)
"""Begins with a fixed byte, which is found three times as fast as the start of a line."""
_SWITCHES = ("FUSEC_CPU_NAME", "FUSEC_CPU_FEATURES")
_NAME = re.compile(rb"\w+")
_KIND = frozenset({
    b"vendor_id", b"cpu family", b"model", b"model name", b"stepping", b"flags",
    b"Features", b"CPU implementer", b"CPU architecture", b"CPU variant", b"CPU part",
})  # fmt: skip
"""Lines of /proc/cpuinfo, of Intel's kind and of ARM's."""


def fingerprint(module: str) -> bytes | None:
    """Give the digest for a module of kernels; `None` where sources cannot be read.

    Args:
        module: full name, such as `fusec.kernels.gemm.cpu`.

    Cost: reading about 20 small files, once per process each: 50 us a file.
    """
    versions = _versions()
    sources = sources_of(module)
    if versions is None or not sources:
        return None
    parts = [_FORMAT, versions, sys.version.encode(), module.encode(), _processor()]
    parts += [os.environ.get(name, "").encode() for name in _SWITCHES]
    for name in sorted(sources):
        text = _text(name)
        assert text is not None
        parts += [name.encode(), text]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def sources_digest(modules: Sequence[str]) -> bytes | None:
    """Give the digest of modules and of all fusec modules that they import, in turn.

    `None` where sources cannot be read.
    """
    digest = hashlib.sha256()
    found = _reached(modules)
    for name in sorted(found):
        text = _text(name) or b""
        digest.update(f"{name}\0{len(text)}\0".encode() + text)
    return digest.digest() if found.issuperset(modules) else None


def sources_of(module: str) -> frozenset[str]:
    """Give the names of a module and of all fusec modules that it imports, in turn."""
    found = _reached([module, "fusec.kernels.codegen.emit"])
    return found if module in found else frozenset()


def _reached(modules: Sequence[str]) -> frozenset[str]:
    found: set[str] = set()
    todo = [*modules]
    while todo:
        name = todo.pop()
        if name in found or _text(name) is None:
            continue
        found.add(name)
        todo += _imports(name)
    return frozenset(found)


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    return tuple(_named(_text(module) or b""))


def _named(text: bytes) -> Iterator[str]:
    for home, names, plain in _IMPORT.findall(b"\n" + text):
        yield (home or plain).decode()
        # A name may be a module of its own.
        for name in _NAME.findall(names):
            yield f"{home.decode()}.{name.decode()}"


@functools.cache
def _text(module: str) -> bytes | None:
    """Read the source of a fusec module; `None` if there is no such module."""
    path = _path(module)
    if path is None:
        return None
    with open(path, "rb", buffering=0) as stream:
        return stream.read()


def _path(module: str) -> str | None:
    # Most names are of functions: listing folders is cheaper than trying to open what is not there.
    base = os.path.dirname(fusec.ir.__path__[0])
    folder, _, last = f"{base}{module[len('fusec') :].replace('.', os.sep)}".rpartition(os.sep)
    names = _listed(folder)
    if last in names and "__init__.py" in _listed(f"{folder}{os.sep}{last}"):
        return f"{folder}{os.sep}{last}{os.sep}__init__.py"
    return f"{folder}{os.sep}{last}.py" if f"{last}.py" in names else None


@functools.cache
def _listed(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


@functools.cache
def _versions() -> bytes | None:
    """Read what numba and llvmlite say about their versions."""
    texts = []
    for package in ("numba", "llvmlite"):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            return None
        try:
            with open(os.path.join(os.path.dirname(spec.origin), "_version.py"), "rb") as stream:
                texts.append(stream.read())
        except OSError:
            return None
    return b"\0".join(texts)


@functools.cache
def _processor() -> bytes:
    """Say what processor this is, without LLVM: what the system tells of it, but for its speed."""
    system = os.uname()
    try:
        with open("/proc/cpuinfo", "rb") as stream:
            # Of the first core; the system makes the rest as it is read.
            first = stream.read(8192).partition(b"\n\n")[0]
    except OSError:
        first = b""
    lines = [line for line in first.splitlines() if line.split(b"\t")[0].strip() in _KIND]
    if not lines:
        from fusec.kernels.codegen.target import processor

        return repr(processor()).encode()
    return b"\n".join([system.sysname.encode(), system.machine.encode(), *lines])
