"""Damaged, truncated and foreign files: one ArtifactError that names the file, or equal data."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.plans import assert_plans_equal, example_plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusec.artifact import read_plan, write_plan
from fusec.artifact.layout import HEADER_BYTES, MAGIC, Header, align, seal
from fusec.artifact.manifest import _RECORDS
from fusec.ir.errors import ArtifactError

SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a.fusec"
    write_plan(example_plan(), path)
    return path.read_bytes()


def refused(data: bytes, path: Path) -> str:
    """Read a file that must be refused; give the message."""
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        read_plan(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def loads_equal_or_refused(data: bytes, path: Path) -> bool:
    path.write_bytes(data)
    try:
        plan = read_plan(path)
    except ArtifactError as e:
        assert str(path) in str(e)
        return False
    assert_plans_equal(plan, example_plan())
    return True


def test_every_flipped_byte_is_seen_except_in_padding(whole: bytes, tmp_path: Path) -> None:
    missed = [
        i
        for i in range(len(whole))
        if loads_equal_or_refused(
            whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :], tmp_path / "a.fusec"
        )
    ]
    assert all(whole[i] == 0 for i in missed)
    assert len(missed) < 64 * 5


def test_every_truncation_is_refused(whole: bytes, tmp_path: Path) -> None:
    for n in [*range(130), *range(130, len(whole), 97), len(whole) - 1]:
        message = refused(whole[:n], tmp_path / "a.fusec")
        assert "truncated" in message or n < len(MAGIC)


def test_a_longer_file_is_refused(whole: bytes, tmp_path: Path) -> None:
    assert "longer than written" in refused(whole + b"\0", tmp_path / "a.fusec")


@SHARED_FOLDER
@given(st.binary(max_size=300), st.integers(0, 300))
def test_garbage_is_refused(tmp_path: Path, whole: bytes, data: bytes, start: int) -> None:
    loads_equal_or_refused(data, tmp_path / "a.fusec")
    loads_equal_or_refused(whole[:start] + data, tmp_path / "a.fusec")
    loads_equal_or_refused(whole[:start] + data + whole[start + len(data) :], tmp_path / "a.fusec")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "empty"),
        (b"PK\x03\x04 this is a .pt2", "not a plan file"),
        (b"\x08\x07\x12\x07pytorch", "not a plan file"),
        (MAGIC + b"\x01" + bytes(55), "format version 1, this fusec reads 4"),
    ],
)
def test_foreign_files_are_named_as_such(data: bytes, match: str, tmp_path: Path) -> None:
    assert match in refused(data, tmp_path / "a.fusec")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.fusec", tmp_path, Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(ArtifactError, match=r"missing.*No such|regular|zero|null byte"):
            read_plan(path)


def test_a_damaged_weight_is_found_only_by_its_bytes(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.fusec"
    start = Header.unpack(whole[:HEADER_BYTES]).data_start
    damaged = whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1 :]
    assert "weight" in refused(damaged, path)
    assert "1 of 4" in refused(damaged, path)
    read_plan(path, verify=False)


def test_checksums_that_do_not_fit_are_refused(whole: bytes, tmp_path: Path) -> None:
    for sums in ([], [1], ["0" * 32], ["a", "b"]):
        tree = manifest_of(whole)
        tree["sums"] = sums
        assert "checksums" in refused(resealed(tree, whole), tmp_path / "a.fusec")


def resealed(tree: object, whole: bytes) -> bytes:
    """Put another manifest into a file, with a checksum that fits: a liar, not an accident."""
    return resealed_text(json.dumps(tree).encode(), whole)


def resealed_text(text: bytes, whole: bytes) -> bytes:
    data = whole[Header.unpack(whole[:HEADER_BYTES]).data_start :]
    padding = bytes(align(HEADER_BYTES + len(text)) - HEADER_BYTES - len(text))
    return seal(text, len(data)) + text + padding + data


def manifest_of(whole: bytes) -> dict[str, object]:
    n = Header.unpack(whole[:HEADER_BYTES]).manifest_bytes
    tree = json.loads(whole[HEADER_BYTES : HEADER_BYTES + n])
    assert isinstance(tree, dict)
    return tree


def spots(tree: object) -> Iterator[tuple[object, object]]:
    """Every place of a JSON tree, as container and key."""
    if isinstance(tree, list | dict):
        for key in range(len(tree)) if isinstance(tree, list) else list(tree):
            yield tree, key
            yield from spots(tree[key])


def test_a_true_manifest_reseals_to_the_same_file(whole: bytes, tmp_path: Path) -> None:
    assert loads_equal_or_refused(resealed(manifest_of(whole), whole), tmp_path / "a.fusec")


WRONG = (None, True, -1, 10**30, 0.5, "", "zz", [], [[]], {}, {"": "Ref", "index": 77})


def test_no_lie_anywhere_breaks_more_than_the_reading(whole: bytes, tmp_path: Path) -> None:
    """Each value of the manifest in turn becomes each of several wrong ones."""
    free = ("profile", "explain")
    n_spots = sum(1 for _ in spots(manifest_of(whole)))
    refusals = 0
    for i in range(n_spots):
        for wrong in WRONG[i % 3 :: 3]:
            tree = manifest_of(whole)
            container, key = list(spots(tree))[i]
            if key in free:
                continue
            container[key] = wrong  # type: ignore[index]
            (tmp_path / "a.fusec").write_bytes(resealed(tree, whole))
            try:
                read_plan(tmp_path / "a.fusec")
            except ArtifactError as e:
                refusals += 1
                assert str(tmp_path / "a.fusec") in str(e)
    assert refusals > 3 * n_spots


def test_a_field_of_another_type_is_refused_in_every_record(whole: bytes, tmp_path: Path) -> None:
    """A field that the checks forget would pass here."""
    seen = set()
    for i, (container, key) in enumerate(list(spots(manifest_of(whole)))):
        if not isinstance(container, dict) or key == "" or "" not in container:
            continue
        name = container[""]
        if name not in _RECORDS:
            continue
        seen.add((name, key))
        tree = manifest_of(whole)
        spot, _ = list(spots(tree))[i]
        # No field of any record may hold a float, except operands, whose strings are wrong.
        wrong = {"": "Symbol", "name": "s", "min": 1, "max": 1}
        spot[key] = wrong  # type: ignore[index]
        refused(resealed(tree, whole), tmp_path / "a.fusec")
    wanted = {
        (name, f.name)
        for name, record in _RECORDS.items()
        if hasattr(record, "__dataclass_fields__")
        for f in fields(record)  # type: ignore[arg-type]
    }
    assert wanted <= seen


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"templates":' * 50_000,
        b'{"":1}',
        b"\xff\xfe",
        b"NaN",
        b"1" * 5000,
        b"{}",
        b'"\\ud800"',
    ],
)
def test_odd_json_is_refused(text: bytes, whole: bytes, tmp_path: Path) -> None:
    refused(resealed_text(text, whole), tmp_path / "a.fusec")


def test_records_nested_deep_are_refused(whole: bytes, tmp_path: Path) -> None:
    for depth in (70, 300, 900):
        tree = manifest_of(whole)
        arg: object = 1
        for _ in range(depth):
            arg = [arg]
        tree["templates"][0][1]["body"]["rows"][0]["args"][0] = arg  # type: ignore[index]
        assert "deep" in refused(resealed(tree, whole), tmp_path / "a.fusec")


@pytest.mark.parametrize("shape", [[2**31], [2**62, 4], [0, 2**62, 2**62], [1] * 65, ["s0", 3]])
def test_a_small_file_cannot_claim_a_large_weight(
    shape: list[int], whole: bytes, tmp_path: Path
) -> None:
    tree = manifest_of(whole)
    row = tree["weights"][0]  # type: ignore[index]
    tree["kinds"][row[3]][0]["shape"] = shape  # type: ignore[index]
    data = resealed(tree, whole)
    tracemalloc.start()
    assert "weight" in refused(data, tmp_path / "a.fusec")
    row[2] = 2**31
    assert "weight" in refused(resealed(tree, whole), tmp_path / "a.fusec")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def overlap(tree: Any) -> None:
    tree["weights"][1][1] = 0


def past_the_end(tree: Any) -> None:
    tree["weights"][-1][2] += 64


def backwards(tree: Any) -> None:
    tree["weights"][0][2] = -64


def one_less(tree: Any) -> None:
    del tree["weights"][-1]


def twice(tree: Any) -> None:
    tree["members"].append(tree["members"][0])


def weight_twice(tree: Any) -> None:
    tree["weights"][1][0] = tree["weights"][0][0]


@pytest.mark.parametrize(
    ("lie", "match"),
    [
        (overlap, "does not lie where the one before it ends"),
        (past_the_end, "ends at byte"),
        (backwards, "does not lie where"),
        (one_less, "bytes belong to no weight"),
        (twice, "'tenant 0' is there twice"),
        (weight_twice, "is there twice"),
    ],
)
def test_weights_lie_one_after_another_and_names_are_unique(
    lie: Callable[[Any], None], match: str, whole: bytes, tmp_path: Path
) -> None:
    tree = manifest_of(whole)
    lie(tree)
    (tmp_path / "a.fusec").write_bytes(resealed(tree, whole))
    # Not left to the hashes: they are not always looked at.
    with pytest.raises(ArtifactError, match=match):
        read_plan(tmp_path / "a.fusec", verify=False)
