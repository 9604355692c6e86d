"""Saving in one step: killed, full, raced or mapped, the old file stays whole."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fusec_testing.plans import assert_plans_equal, example_plan

from fusec.artifact import read_plan, write_plan
from fusec.artifact.atomic import replacing
from fusec.ir.errors import ArtifactError, ConfigError


def test_saving_over_the_mapped_file_works(tmp_path: Path) -> None:
    path = tmp_path / "a.fusec"
    write_plan(example_plan(n_members=3), path)
    plan = read_plan(path)
    smaller = replace(plan, members=dict(list(plan.members.items())[:1]))
    write_plan(smaller, path)
    assert_plans_equal(read_plan(path), smaller)
    assert_plans_equal(plan, example_plan(n_members=3))


def test_a_killed_save_leaves_the_old_file_and_the_next_save_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "a.fusec"
    write_plan(example_plan(), path)
    code = (
        "import os, signal; from fusec.artifact.atomic import replacing\n"
        f"with replacing({str(path)!r}) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", code])
    assert run.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2
    assert [p.name for p in tmp_path.glob("*.fusec")] == ["a.fusec"]
    assert_plans_equal(read_plan(path), example_plan())
    write_plan(example_plan(seed=1), path)
    assert os.listdir(tmp_path) == ["a.fusec"]


def test_an_error_while_writing_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.fusec"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    with pytest.raises(ArtifactError, match=r"a\.fusec: not saved.*No space"), replacing(path):
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.fusec"]


def test_a_living_writer_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.fusec") as first:
        first.write(b"first")
        with replacing(tmp_path / "a.fusec") as second:
            second.write(b"second")
        assert (tmp_path / "a.fusec").read_bytes() == b"second"
    assert (tmp_path / "a.fusec").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.fusec"]


def test_writers_at_the_same_time_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.fusec"
    threads = [
        threading.Thread(target=write_plan, args=(example_plan(seed=i), path)) for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read_plan(path)
    assert os.listdir(tmp_path) == ["a.fusec"]


def test_links_and_modes_are_kept(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "a.fusec"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link = tmp_path / "link.fusec"
    link.symlink_to(target)
    write_plan(example_plan(), link)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert_plans_equal(read_plan(target), example_plan())


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_plan(example_plan(), tmp_path / "a.fusec")
    assert (tmp_path / "a.fusec").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_name_as_long_as_names_get_can_be_saved(tmp_path: Path) -> None:
    write_plan(example_plan(), tmp_path / ("a" * 249 + ".fusec"))


@pytest.mark.parametrize(
    ("name", "match"), [("no/a.fusec", "no folder"), (".", "not a regular"), ("fifo", "not a reg")]
)
def test_what_cannot_be_a_file_is_refused(name: str, match: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match=match):
        write_plan(example_plan(), tmp_path / name)
