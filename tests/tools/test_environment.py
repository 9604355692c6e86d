"""The set-up: it leaves a right environment alone and gets every other state right."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Machine:
    """Stands in for pip and venv: notes what was asked for, fails where it is told to."""

    def __init__(self, environment: ModuleType, venv: Path) -> None:
        self.environment = environment
        self.venv = venv
        self.calls: list[str] = []
        self.pip_works = True
        self.imports_work = [True, True]

    def run(self, python: Path, *arguments: str, quiet: bool = False) -> bool:
        """Answer as the interpreter of the environment would."""
        if arguments[:3] == ("-m", "pip", "--version"):
            return python.exists()
        if arguments[:2] == ("-c", self.environment.IMPORTS):
            return self.imports_work.pop(0)
        if arguments[:1] == ("-c",):
            return python.exists()
        self.constraints = Path(arguments[arguments.index("--constraint") + 1]).read_text()
        self.wanted = arguments[arguments.index("--constraint") + 2 :]
        assert (self.venv / ".unfinished").exists()
        assert not (self.venv / ".stamp").exists()
        self.calls.append("pip")
        return self.pip_works

    def make(self, venv: Path) -> Path:
        """Lay an empty environment."""
        self.calls.append("venv")
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin" / "python").touch()
        for mark in (".stamp", ".unfinished"):
            (venv / mark).unlink(missing_ok=True)
        return venv / "bin" / "python"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Return a machine without an environment."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import environment

    machine = Machine(environment, tmp_path / "venv")
    monkeypatch.setattr(environment, "run", machine.run)
    monkeypatch.setattr(environment, "make", machine.make)
    return machine


def set_up(machine: Machine, monkeypatch: pytest.MonkeyPatch, torch: str = "") -> list[str]:
    """Do what make does; return the calls that it took."""
    machine.calls = []
    monkeypatch.setattr(sys, "argv", ["x", "--venv", str(machine.venv), "--torch", torch])
    machine.environment.main()
    return machine.calls


def test_made_once_then_left_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set_up(machine, monkeypatch) == ["venv", "pip"]
    assert set_up(machine, monkeypatch) == []
    assert "torch==2.13.0" in machine.constraints.splitlines()
    assert machine.wanted == ("--editable", f"{ROOT}[dev]")


def test_another_torch_updates_in_place(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(machine, monkeypatch)
    machine.imports_work = [True]
    assert set_up(machine, monkeypatch, "torch==2.14.1") == ["pip"]
    assert machine.wanted[0] == "torch==2.14.1"
    assert not [x for x in machine.constraints.splitlines() if x.startswith("torch==")]
    assert any(line.startswith("onnx==") for line in machine.constraints.splitlines())


def test_an_interrupted_set_up_is_made_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(machine, monkeypatch)
    (machine.venv / ".stamp").unlink()
    (machine.venv / ".unfinished").touch()
    assert set_up(machine, monkeypatch) == ["venv", "pip"]


def test_a_removed_interpreter_is_noticed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(machine, monkeypatch)
    (machine.venv / "bin" / "python").unlink()
    assert set_up(machine, monkeypatch) == ["venv", "pip"]


def test_packages_that_do_not_import_are_made_anew(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.make(machine.venv)
    machine.imports_work = [False, True]
    assert set_up(machine, monkeypatch) == ["pip", "venv", "pip"]


def test_what_stays_broken_is_an_error(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.imports_work = [False, False]
    with pytest.raises(SystemExit, match="still does not work"):
        set_up(machine, monkeypatch)
    machine.pip_works = False
    with pytest.raises(SystemExit, match="pip could not install"):
        set_up(machine, monkeypatch)
    assert not (machine.venv / ".stamp").exists()


def test_the_fingerprint_follows_its_inputs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = machine.environment
    for name in environment.INPUTS:
        (tmp_path / name).write_text("one")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    first = environment.fingerprint("")
    assert environment.fingerprint("") == first
    assert environment.fingerprint("torch==2.14.1") != first
    for name in environment.INPUTS:
        (tmp_path / name).write_text("two")
        assert environment.fingerprint("") != first
        (tmp_path / name).write_text("one")


def test_an_old_interpreter_is_told_apart(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    monkeypatch.setattr(machine.environment.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"needs Python 3\.11"):
        machine.environment.restart_on_newer_python()
