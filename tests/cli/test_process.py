"""The command line as a process of its own: start-up, Ctrl-C, pipes, debug."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fusec

FUSEC = [sys.executable, "-m", "fusec"]


def test_help_and_version_import_no_framework() -> None:
    code = (
        "import sys\n"
        "from fusec.cli import main\n"
        "sys.argv = ['fusec', *sys.argv[1:]]\n"
        "try:\n    main()\n"
        "except SystemExit as e:\n    assert not e.code, e.code\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'sklearn', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for args in (["--help"], ["--version"], ["compile", "--help"], ["demo", "--help"]):
        run = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    assert (
        fusec.__version__
        in subprocess.run([*FUSEC, "--version"], capture_output=True, text=True, check=True).stdout
    )


def test_debug_shows_the_traceback_from_any_place() -> None:
    wrong = ["compile", "none.onnx", "-o", "p.fusec"]
    for args in (["--debug", *wrong], [*wrong, "--debug"]):
        run = subprocess.run([*FUSEC, *args], capture_output=True, text=True)
        assert run.returncode == 1
        assert "Traceback" in run.stderr
    run = subprocess.run([*FUSEC, *wrong], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr == "error: none.onnx: no such file or folder\n"


def test_ctrl_c_ends_it_in_one_line(tmp_path: Path) -> None:
    fifo = tmp_path / "in.npz"
    os.mkfifo(fifo)
    args = [*FUSEC, "run", "none.fusec", "-i", str(fifo), "-o", str(tmp_path / "o.npz")]
    process = subprocess.Popen(args, stderr=subprocess.PIPE, text=True)
    # Opening the pipe returns once the command waits in it for arrays.
    with open(fifo, "wb"):
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "interrupted\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_offered(shell: str) -> None:
    env = {**os.environ, "_FUSEC_COMPLETE": f"source_{shell}"}
    run = subprocess.run([*FUSEC], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "fusec" in run.stdout
