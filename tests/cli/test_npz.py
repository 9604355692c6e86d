"""Arrays from .npz files to inputs of models, and back."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fusec.cli.npz import assign, read_arrays, write_arrays
from fusec.ir.errors import ConfigError

A, B, C = (np.full(2, i) for i in range(3))
ONE = {"a": ["x"], "b": ["x"]}


def test_a_key_is_for_one_input_or_one_model_or_all() -> None:
    assert assign({"a/x": A}, ONE, []) == {"a": {"x": A}}
    assert assign({"a": A}, ONE, []) == {"a": {"x": A}}
    assert assign({"x": A}, ONE, []) == {"a": {"x": A}, "b": {"x": A}}


def test_the_more_exact_key_wins() -> None:
    given = assign({"x": A, "b": B, "b/x": C}, ONE, [])
    assert given["a"]["x"] is A
    assert given["b"]["x"] is C


def test_only_the_chosen_models_run() -> None:
    assert assign({"x": A}, ONE, ["b"]) == {"b": {"x": A}}
    assert assign({"a/x": A, "b/x": B}, ONE, ["b"]) == {"b": {"x": B}}


def test_a_model_needs_all_its_inputs() -> None:
    two = {"m": ["x", "y"]}
    assert assign({"x": A, "m/y": B}, two, []) == {"m": {"x": A, "y": B}}
    with pytest.raises(ConfigError, match=r"'m' needs m/y"):
        assign({"x": A}, two, [])
    with pytest.raises(ConfigError, match=r"'b' needs b/x"):
        assign({"a/x": A}, ONE, ["a", "b"])


@pytest.mark.parametrize(
    ("keys", "only", "match"),
    [
        (["z"], [], r"key 'z' is for no input.*'a/x', 'b/x'"),
        (["a/y"], [], "'a/y'"),
        (["x"], ["c"], r"no model 'c'; it has 'a', 'b'"),
    ],
)
def test_what_is_for_nothing_is_refused(keys: list[str], only: list[str], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        assign(dict.fromkeys(keys, A), ONE, only)


def test_arrays_come_back(tmp_path: Path) -> None:
    arrays = {"a/file": np.arange(6).reshape(2, 3), "b/y": np.zeros((0, 2), np.float16)}
    write_arrays(tmp_path / "o.npz", arrays)
    back = read_arrays(tmp_path / "o.npz")
    assert list(back) == list(arrays)
    for key, array in arrays.items():
        assert back[key].dtype == array.dtype
        np.testing.assert_array_equal(back[key], array)


def npz_claiming(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            "x.npy", b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.encode()
        )
    return file.getvalue()


def pickled() -> bytes:
    file = io.BytesIO()
    np.savez(file, x=np.array([{}], dtype=object))
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", b"garbage", npz_claiming("(2**31,)"), npz_claiming("(99,)"), pickled()],
)
def test_damaged_inputs_are_one_clear_error(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "in.npz").write_bytes(data)
    with pytest.raises(ConfigError, match=r"in\.npz"):
        read_arrays(tmp_path / "in.npz")


def test_every_truncation_of_inputs_is_refused(tmp_path: Path) -> None:
    write_arrays(tmp_path / "in.npz", {"x": np.arange(10)})
    whole = (tmp_path / "in.npz").read_bytes()
    for n in range(0, len(whole), 7):
        (tmp_path / "in.npz").write_bytes(whole[:n])
        with pytest.raises(ConfigError, match=r"in\.npz"):
            read_arrays(tmp_path / "in.npz")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.npz: No such file"):
        read_arrays(tmp_path / "none.npz")
    np.save(tmp_path / "a.npy", A)
    with pytest.raises(ConfigError, match="without a name"):
        read_arrays(tmp_path / "a.npy")
