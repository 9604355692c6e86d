"""Replacing a file in one step: whoever reads sees the old file or the new one, never a part.

    .fusec-<hash of name>-<random>.tmp   locked while its writer lives
                |  write, fsync
                v
    os.replace -> the file, then fsync of the folder

A writer that was killed leaves a temporary file whose lock is gone; the next writer of the same
name removes it. A reader that has the old file mapped keeps it.
"""

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fusec.ir.errors import ArtifactError, ConfigError

if sys.platform != "win32":
    import fcntl

__all__ = ["BLOCK_BYTES", "replacing"]


BLOCK_BYTES = 1 << 21
"""Written at once. What is written in blocks of a huge page, each at a multiple of it, lies in huge
pages of the file cache, and whoever maps the file has them too: fewer faults, fewer lookups."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends without an error.

    A symbolic link is followed: what it points to is replaced. The mode of a file that is there
    is kept.

    Raises:
        ConfigError: the folder is not there, or `path` is not a regular file.
        ArtifactError: writing failed; what was at `path` is as before.
    """
    target = Path(os.path.realpath(path))
    mode = _mode_of(target, path)
    prefix = f".fusec-{hashlib.blake2b(os.fsencode(target.name), digest_size=8).hexdigest()}-"
    try:
        _remove_stale(target.parent, prefix)
        temporary, file = _create(target.parent, prefix)
    except OSError as e:
        raise ArtifactError(f"{path}: cannot write beside it: {e.strerror or e}") from e
    try:
        with file:
            if mode is not None:
                os.chmod(temporary, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as e:
        raise ArtifactError(f"{path}: not saved, nothing changed: {e.strerror or e}") from e
    finally:
        # Gone already when all went well; the lock keeps others from using its name again.
        with suppress(OSError):
            temporary.unlink()


def _mode_of(target: Path, path: str | os.PathLike[str]) -> int | None:
    try:
        status = target.stat()
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise ConfigError(f"{path}: there is no folder {target.parent}; make it") from None
        return None
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror or e}") from e
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path}: it is not a regular file; name a file")
    return stat.S_IMODE(status.st_mode)


def _create(folder: Path, prefix: str) -> tuple[Path, BinaryIO]:
    """Make and lock a temporary file."""
    while True:
        temporary = folder / f"{prefix}{os.urandom(8).hex()}.tmp"
        file = open(temporary, "xb", BLOCK_BYTES)  # noqa: SIM115  # the caller closes it
        try:
            _lock(file)
        except BlockingIOError:
            pass  # another writer takes it for a stale one and is about to remove it
        except OSError:
            return temporary, file  # no locks on this file system, and so no removal either
        else:
            if temporary.exists():
                return temporary, file
        file.close()


def _remove_stale(folder: Path, prefix: str) -> None:
    """Remove temporary files of writers that are gone."""
    for temporary in folder.glob(f"{prefix}*.tmp"):
        # Locked by a writer that lives, or removed or finished by one in this moment.
        with suppress(OSError), open(temporary, "rb") as file:
            _lock(file)
            temporary.unlink()


def _lock(file: BinaryIO) -> None:
    """Take the file's lock; the system frees it when its holder dies.

    Raises:
        BlockingIOError: somebody has it.
        OSError: the file system has no locks.
    """
    # On Windows an open file cannot be removed, which serves as a lock.
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder: Path) -> None:
    """Make the replacement itself survive a power cut."""
    if sys.platform == "win32":
        return  # folders cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
