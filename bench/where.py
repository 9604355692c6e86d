"""Where results come from: the machine, its class, the sources, and where the rows go."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
PACKAGES = ("torch", "triton", "onnx", "onnxruntime", "openvino", "numpy", "numba")


def environment() -> dict[str, object]:
    """Return where and from what state of the sources the rows come."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = ""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": gpu or cpu_name(),
        "driver": str(torch.version.cuda or "") if gpu else "",
        "cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **versions,
    }


def machine_class(cpu: str | None = None, cores: int | None = None) -> str:
    """Name machines whose figures compare: processor and number of cores, fit for a file name."""
    name = f"{cpu or cpu_name()} {cores or os.cpu_count() or 1} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def cpu_name() -> str:
    """Return what the processor calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str:
    call = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(call, capture_output=True, text=True).stdout.strip()
