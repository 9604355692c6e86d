"""Object code on disk, so that only the first process on a machine compiles kernels.

    $FUSEC_CACHE_DIR, else $XDG_CACHE_HOME/fusec, else ~/.cache/fusec        empty string: no cache

What is loaded from here is run, so the folder must be this user's alone, and each file says what it
is the answer to and carries a digest. Nothing that is wrong with the cache stops fusec: a file that
cannot be used is built again, and without a folder code stays in memory.

Several processes may build at once: files appear whole, by renaming.
"""

import functools
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["cache_folder", "load_object", "store_object"]

_MAGIC = b"fusec-object 1\n"
_DIGEST_BYTES = 32
_KEPT = 8
"""Objects of one library that stay: of other versions, processors, settings."""
_SHOWN = 200
"""Letters of a folder in a message."""


def cache_folder() -> str | None:
    """Give the folder that the environment names; `None` where there is to be no cache."""
    named = os.environ.get("FUSEC_CACHE_DIR")
    if named is not None:
        return os.path.abspath(os.path.expanduser(named)) if named else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "fusec") if os.path.isabs(base) else None


def load_object(name: str, key: bytes) -> bytes | None:
    """Give the object stored under a name for a key; `None` if it must be built.

    Args:
        name: a library's.
        key: digest of all that the code depends on.

    Cost: reading and hashing the file, well under a millisecond.
    """
    try:
        with _opened(create=False) as folder:
            if folder is None:
                return None
            file = os.open(_file(name, key), os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
            with open(file, "rb") as stream:
                _check_private(file, stat.S_ISREG)
                data = stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        _warn(f"cannot read cached kernels in {_shown(cache_folder())}: {error.strerror or error}")
        return None
    code = data[len(_MAGIC) + _DIGEST_BYTES :]
    return code if data == _sealed(key, code) else None


def store_object(name: str, key: bytes, code: bytes) -> bool:
    """Keep an object for later processes; tell whether that worked."""
    try:
        with _opened(create=True) as folder:
            if folder is None:
                return False
            _write(folder, _file(name, key), _sealed(key, code))
            _prune(folder, name)
    except OSError as error:
        _warn(
            f"kernels will be compiled again in the next process, {_shown(cache_folder())} cannot "
            f"keep them: {error.strerror or error}; set FUSEC_CACHE_DIR to a folder of your own"
        )
        return False
    return True


def _shown(folder: str | None) -> str:
    text = str(folder)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@functools.cache
def _warn(text: str) -> None:
    """Say it once in a process, not again for every library."""
    import logging  # 5 ms that a process with a good cache does not spend

    logging.getLogger("fusec").warning("fusec: %s", text)


def _file(name: str, key: bytes) -> str:
    return f"{name}-{key.hex()[:32]}.o"


def _sealed(key: bytes, code: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(key + code).digest() + code


@contextmanager
def _opened(create: bool) -> Iterator[int | None]:
    """Open the folder; everything in it is then reached through this descriptor."""
    path = cache_folder()
    if path is None:
        yield None
        return
    if create:
        os.makedirs(path, mode=0o700, exist_ok=True)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _check_private(folder, stat.S_ISDIR)
        yield folder
    finally:
        os.close(folder)


def _check_private(descriptor: int, kind: object) -> None:
    assert callable(kind)
    found = os.fstat(descriptor)
    if not kind(found.st_mode):
        raise PermissionError("not a plain folder with plain files in it")
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{cache_folder()} or a file in it can be changed by other users")


def _write(folder: int, file: str, data: bytes) -> None:
    temporary = f"{file}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, mode=0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
        os.rename(temporary, file, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _prune(folder: int, name: str) -> None:
    """Remove the oldest objects of a library beyond the number kept."""
    files = [f for f in os.listdir(folder) if f.startswith(f"{name}-") and f.endswith(".o")]
    with suppress(FileNotFoundError):  # another process prunes too
        files.sort(key=lambda f: os.stat(f, dir_fd=folder).st_mtime_ns)
        for file in files[:-_KEPT]:
            os.unlink(file, dir_fd=folder)
