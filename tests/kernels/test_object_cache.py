"""The cache gives back what was stored, or nothing; nothing wrong with it is fatal."""

import os
import stat
import subprocess
import sys

import pytest

import fusec.kernels.cache as cache
from fusec.kernels.cache import cache_folder, load_object, store_object
from fusec.kernels.fingerprint import fingerprint, sources_of

KEY, CODE = bytes(range(32)), b"\x7fELF" + bytes(2000)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSEC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_stored_comes_back(folder):
    assert load_object("gemm", KEY) is None
    assert store_object("gemm", KEY, CODE)
    assert load_object("gemm", KEY) == CODE
    assert load_object("conv", KEY) is None
    assert load_object("gemm", KEY[::-1]) is None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("change", ["flip", "truncate", "empty", "foreign", "grow", "other_key"])
def test_a_damaged_file_is_not_used_and_gets_replaced(folder, change):
    store_object("gemm", KEY, CODE)
    (file,) = folder.iterdir()
    data = bytearray(file.read_bytes())
    if change == "flip":
        data[-1] ^= 1
    elif change == "other_key":
        store_object("gemm", KEY[::-1], CODE)
        (other,) = set(folder.iterdir()) - {file}
        data = bytearray(other.read_bytes())
    else:
        changed = {"truncate": data[:-3], "empty": b"", "foreign": b"\x7fELF", "grow": data + b"x"}
        data = bytearray(changed[change])
    file.write_bytes(data)
    assert load_object("gemm", KEY) is None
    assert store_object("gemm", KEY, CODE)
    assert load_object("gemm", KEY) == CODE


def test_no_flipped_bit_and_no_missing_byte_passes(folder):
    store_object("gemm", KEY, CODE)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    head = len(whole) - len(CODE)
    for at in (*range(head + 8), *range(head + 8, len(whole), 61), len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        assert load_object("gemm", KEY) is None, at
    for length in (*range(head + 2), len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert load_object("gemm", KEY) is None, length
    file.write_bytes(whole)
    assert load_object("gemm", KEY) == CODE


def test_what_is_wrong_is_said_once_and_shortly(folder, monkeypatch, caplog):
    monkeypatch.setenv("FUSEC_CACHE_DIR", str(folder / ("x" * 5000)))
    for name in ("gemm", "conv"):
        assert load_object(name, KEY) is None
        assert not store_object(name, KEY, CODE)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(set(said)) == 2
    assert all("File name too long" in text and len(text) < 500 for text in said)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_to_is_refused(folder, mode, caplog):
    store_object("gemm", KEY, CODE)
    folder.chmod(mode)
    assert load_object("gemm", KEY) is None
    assert not store_object("gemm", KEY, CODE)
    assert "other users" in caplog.text


def test_a_file_that_others_can_write_to_is_refused(folder):
    store_object("gemm", KEY, CODE)
    (file,) = folder.iterdir()
    file.chmod(0o666)
    assert load_object("gemm", KEY) is None


def test_a_link_is_refused(folder, tmp_path):
    store_object("gemm", KEY, CODE)
    (file,) = folder.iterdir()
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert load_object("gemm", KEY) is None


def test_another_owner_is_refused(folder, monkeypatch):
    store_object("gemm", KEY, CODE)
    monkeypatch.setattr(cache.os, "geteuid", lambda: os.getuid() + 1)
    assert load_object("gemm", KEY) is None


@pytest.mark.parametrize("kind", ["file", "below_file", "missing", "full"])
def test_an_unusable_folder_is_no_error(folder, kind, monkeypatch):
    if kind == "file":
        folder.write_bytes(b"")
    elif kind == "below_file":
        folder.write_bytes(b"")
        monkeypatch.setenv("FUSEC_CACHE_DIR", str(folder / "below"))
    elif kind == "missing":
        monkeypatch.setenv("FUSEC_CACHE_DIR", "/proc/none")
    else:

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(cache.os, "rename", full)
    assert load_object("gemm", KEY) is None
    assert not store_object("gemm", KEY, CODE)
    assert load_object("gemm", KEY) is None
    assert not folder.is_dir() or not list(folder.iterdir())


def test_old_objects_of_a_library_go(folder):
    for i in range(20):
        store_object("gemm", bytes([i]) * 32, CODE)
    store_object("conv", KEY, CODE)
    assert len(list(folder.iterdir())) == 9
    assert load_object("gemm", bytes([19]) * 32) == CODE


def test_the_environment_names_the_folder(monkeypatch):
    monkeypatch.setenv("FUSEC_CACHE_DIR", "")
    assert cache_folder() is None
    monkeypatch.setenv("FUSEC_CACHE_DIR", "~/mine")
    monkeypatch.setenv("HOME", "/h")
    assert cache_folder() == "/h/mine"
    monkeypatch.delenv("FUSEC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/y")
    assert cache_folder() == "/x/y/fusec"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == "/h/.cache/fusec"
    monkeypatch.setenv("HOME", "relative")
    assert cache_folder() is None


def test_no_cache_stores_nothing(monkeypatch):
    monkeypatch.setenv("FUSEC_CACHE_DIR", "")
    assert not store_object("gemm", KEY, CODE)
    assert load_object("gemm", KEY) is None


def test_the_fingerprint_covers_what_a_module_imports():
    sources = sources_of("fusec.kernels.codegen.memory")
    assert "fusec.kernels.codegen.vectors" in sources
    assert "fusec.kernels.codegen.emit" in sources
    assert fingerprint("fusec.kernels.codegen.memory") != fingerprint("fusec.kernels.codegen.link")
    assert fingerprint("fusec.kernels.nothing") is None


def test_the_fingerprint_covers_the_processor(monkeypatch):
    plain = fingerprint("fusec.kernels.codegen.memory")
    monkeypatch.setenv("FUSEC_CPU_FEATURES", "-avx512f")
    lesser = fingerprint("fusec.kernels.codegen.memory")
    monkeypatch.setenv("FUSEC_CPU_NAME", "haswell")
    assert len({plain, lesser, fingerprint("fusec.kernels.codegen.memory")}) == 3


def test_finding_kernels_imports_neither_numba_nor_torch():
    program = (
        "import sys; from fusec.kernels.library import address, prepare; prepare([])\n"
        "print(sorted({'numba', 'llvmlite', 'torch', 'onnx', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
