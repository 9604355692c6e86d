"""Make the virtual environment that every make target uses, or leave it alone if it is right.

Standard library only: this runs on the bare interpreter. The environment is described by a
fingerprint (interpreter version, checkout, requirements); a finished one stores it in a stamp file.
A stale but healthy environment is updated in place, a broken or half-made one is made again.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
INPUTS = ("pyproject.toml", "constraints.txt")
# Looked for without importing them, so that the check costs milliseconds.
PROBE = """
import importlib.util, sys
names = "numpy torch networkx numba llvmlite typer rich onnx onnxruntime sklearn".split()
names += ["pytest", "mypy", "ruff", "setuptools"]
missing = [name for name in names if importlib.util.find_spec(name) is None]
spec = importlib.util.find_spec("fusec")
if missing or spec is None or spec.origin is None or not spec.origin.startswith(sys.argv[1]):
    sys.exit(f"missing: {missing}, fusec: {spec}")
"""
IMPORTS = (
    "import fusec, numpy, torch, networkx, numba, typer, rich, onnx, onnxruntime, sklearn, pytest"
)


def restart_on_newer_python() -> None:
    """Replace this process by a newer interpreter if this one is too old for fusec."""
    if sys.version_info >= OLDEST:
        return
    for minor in (13, 12, 11, 14):
        found = shutil.which(f"python3.{minor}")
        if found:
            os.execv(found, [found, *sys.argv])
    sys.exit(
        f"fusec needs Python {OLDEST[0]}.{OLDEST[1]} or newer; {sys.executable} is "
        f"{sys.version.split()[0]}. Install one and say which: make ... PYTHON=/path/to/python3.11"
    )


def fingerprint(torch: str) -> str:
    """Return a digest of everything the environment is made from."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {ROOT} {torch}".encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def run(python: Path, *arguments: str, quiet: bool = False) -> bool:
    """Run `python` away from the checkout, so that only installed packages are found."""
    sink = subprocess.DEVNULL if quiet else None
    try:
        call = [str(python), *arguments]
        return subprocess.run(call, cwd="/", stdout=sink, stderr=sink).returncode == 0
    except OSError:
        return False


def make(venv: Path) -> Path:
    """Create an empty environment in place of whatever is there; return its interpreter."""
    if venv.is_symlink() or venv.is_file():
        venv.unlink()
    # The interpreter may be the one of the environment that is being replaced.
    base = Path(getattr(sys, "_base_executable", sys.executable))
    if not run(base, "-m", "venv", "--clear", str(venv)):
        sys.exit(
            f"{base} could not make a virtual environment in {venv}. On Debian and Ubuntu the "
            "package python3-venv is needed."
        )
    return venv / "bin" / "python"


def install(python: Path, torch: str, *wanted: str) -> bool:
    """Install what is wanted under the constraints; return whether pip succeeded.

    Args:
        python: the interpreter of the environment.
        torch: a pip requirement in place of the pinned one; empty for the pinned one.
        wanted: further arguments for ``pip install``.
    """
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    if torch:
        lines = [line for line in lines if not line.startswith("torch==")]
        wanted = (torch, *wanted)
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join(lines) + "\n")
        pip = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
        return run(python, *pip, "--constraint", str(constraints), *wanted)


def build(venv: Path, torch: str) -> None:
    """Bring the environment up to date, from any state it may be in."""
    python, stamp, unfinished = venv / "bin" / "python", venv / ".stamp", venv / ".unfinished"
    healthy = not unfinished.exists() and run(python, "-m", "pip", "--version", quiet=True)
    print(f"setting up {venv} (minutes the first time) ...", file=sys.stderr, flush=True)
    for attempt in ("update", "anew"):
        if attempt == "anew" or not healthy:
            python = make(venv)
        stamp.unlink(missing_ok=True)
        unfinished.touch()
        if not install(python, torch, "--editable", f"{ROOT}[dev]"):
            unfinished.unlink()
            sys.exit("pip could not install fusec's requirements; its message is above")
        if run(python, "-c", IMPORTS, quiet=attempt == "update"):
            stamp.write_text(fingerprint(torch))
            unfinished.unlink()
            return
    sys.exit(f"{venv} was made anew and still does not work; the import error is above")


def main() -> None:
    """Check the environment and build it where needed."""
    restart_on_newer_python()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--torch", default="", help="pip requirement in place of the pinned one")
    options = parser.parse_args()
    venv = Path(os.path.abspath(options.venv))
    # Two makes at once must not install over each other; the lock ends with the process.
    with (ROOT / "pyproject.toml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = venv / ".stamp"
        right = stamp.is_file() and stamp.read_text() == fingerprint(options.torch)
        probe = ("-c", PROBE, str(ROOT))
        if not right or not run(venv / "bin" / "python", *probe, quiet=True):
            build(venv, options.torch)


if __name__ == "__main__":
    main()
