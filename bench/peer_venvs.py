"""Other servers, each in an environment of its own in the cache: fusec needs none of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from live import Kind, Served, free_port
from wires import BINARY, JSON, PREDICT, RAW, ROOT

from fusec.kernels.cache import cache_folder

SCRIPTS = Path(__file__).with_name("peer_servers")
ONNXRUNTIME = "onnxruntime==1.32.0"
FLOOR = "uvicorn and onnxruntime"


@dataclass(frozen=True, slots=True)
class Environment:
    """What a peer is installed from."""

    name: str
    requirements: tuple[str, ...]
    python: tuple[str, ...] = ()
    """Interpreters to prefer, the first that is there."""

    def there(self, install: bool) -> Path:
        """Give its interpreter; make the environment if that is wanted.

        Raises:
            RuntimeError: it is not there, or cannot be installed; with the reason.
        """
        base = cache_folder()
        if base is None:
            raise RuntimeError("there is no cache folder to install it in")
        folder = Path(base) / "bench" / self.name
        python, stamp = folder / "venv" / "bin" / "python", folder / "installed.json"
        wanted = json.dumps([sys.version_info[:2], *self.requirements])
        if stamp.is_file() and stamp.read_text() == wanted:
            return python
        if not install:
            raise RuntimeError("not installed; --peers installs it")
        chosen = next((p for p in self.python if Path(p).exists()), sys.executable)
        # Debian's Python may lack what puts pip into an environment; another's pip will do.
        _run([chosen, "-m", "venv", "--clear", "--without-pip", str(folder / "venv")])
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
        _run([*pip, "install", "--quiet", *self.requirements])
        stamp.write_text(wanted)
        return python


def _run(call: Sequence[str]) -> None:
    done = subprocess.run(call, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise RuntimeError(f"cannot be installed: {lines[-1]}")


# The stub of Triton's Python backend holds an interpreter of its own, which wants a standard
# library of its age: that of Debian's Python 3.11.
TRITON = Environment("triton", ("nvidia-pytriton==0.7.0", ONNXRUNTIME), ("/usr/bin/python3.11",))
LITSERVE = Environment("litserve", ("litserve==0.2.19", ONNXRUNTIME))
MLSERVER = Environment("mlserver", ("mlserver==1.7.1", ONNXRUNTIME))
RAY = Environment("ray", ("ray[serve]==2.60.0", ONNXRUNTIME))


def floor() -> Kind:
    """Plain ONNX Runtime behind the HTTP server that fusec uses: nothing could be thinner."""

    def command(served: Served, port: int, folder: Path) -> Sequence[str]:
        return [sys.executable, str(SCRIPTS / "uvicorn_server.py"), str(served.folder), str(port)]

    return Kind(FLOOR, RAW, command, {}, "no protocol, no checks, no scheduling; one thread")


def litserve(install: bool) -> Kind:
    """LitServe with a worker process per core."""
    python = LITSERVE.there(install)

    def command(served: Served, port: int, folder: Path) -> Sequence[str]:
        return [str(python), str(SCRIPTS / "litserve_server.py"), str(served.folder), str(port)]

    return Kind("LitServe", PREDICT, command, {})


def ray(install: bool) -> Kind:
    """Ray Serve with a replica per core."""
    python = RAY.there(install)

    def command(served: Served, port: int, folder: Path) -> Sequence[str]:
        return [str(python), str(SCRIPTS / "ray_server.py"), str(served.folder), str(port)]

    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(SCRIPTS)}
    return Kind("Ray Serve", ROOT, command, quiet)


def mlserver(install: bool) -> Kind:
    """MLServer in one process: its parallel workers cost a small model more than they bring."""
    python = MLSERVER.there(install)

    def command(served: Served, port: int, folder: Path) -> Sequence[str]:
        settings = {
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": free_port(),
            "metrics_port": free_port(),
            "metrics_endpoint": None,
            "parallel_workers": 0,
            "debug": False,
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        for name in served.inputs:
            own = {
                "name": name,
                "implementation": "mlserver_model.OnnxModel",
                "parameters": {"uri": str(served.folder / f"{name}.onnx")},
            }
            (folder / name).mkdir()
            (folder / name / "model-settings.json").write_text(json.dumps(own))
        return [str(python.with_name("mlserver")), "start", str(folder)]

    return Kind("MLServer", JSON, command, {"PYTHONPATH": str(SCRIPTS)})


_TRITON_CONFIG = """name: "{name}"
backend: "python"
max_batch_size: 32
input [ {{ name: "input" data_type: TYPE_FP32 dims: [ {inputs} ] }} ]
output [ {{ name: "output" data_type: TYPE_FP32 dims: [ {outputs} ] }} ]
dynamic_batching {{ }}
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
"""


def triton(install: bool) -> Kind:
    """Triton itself, as it comes with PyTriton, with its dynamic batching and Python backend."""
    python = TRITON.there(install)
    packages = next(python.parents[1].glob("lib/python3.*/site-packages"))
    version = packages.parent.name.removeprefix("python")
    home = packages / "pytriton" / "tritonserver"

    def command(served: Served, port: int, folder: Path) -> Sequence[str]:
        stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
        placed = home / "backends" / "python" / stub.name
        placed.write_bytes(stub.read_bytes())
        placed.chmod(0o755)
        for name, x in served.inputs.items():
            place = folder / "repository" / name / "1"
            place.mkdir(parents=True)
            config = _TRITON_CONFIG.format(
                name=name, inputs=x.shape[1], outputs=served.truth[name].shape[1]
            )
            (place.parent / "config.pbtxt").write_text(config)
            (place / "model.py").symlink_to(SCRIPTS / "triton_model.py")
            (place / "model.onnx").symlink_to(served.folder / f"{name}.onnx")
        return [
            str(home / "bin" / "tritonserver"),
            f"--model-repository={folder / 'repository'}",
            f"--backend-directory={home / 'backends'}",
            "--http-address=127.0.0.1",
            f"--http-port={port}",
            "--allow-grpc=false",
            "--allow-metrics=false",
        ]

    environment = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(packages),
    }
    note = "dynamic_batching {}, ONNX Runtime in the Python backend"
    return Kind("Triton", BINARY, command, environment, note)


PEERS = {"Triton": triton, "LitServe": litserve, "MLServer": mlserver, "Ray Serve": ray}
