"""Device code in a plan file: it comes back equal, or the file is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.cubins import example_device, made_cubin
from fusec_testing.plans import assert_plans_equal, example_plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusec.artifact import read_plan_file, write_plan
from fusec.artifact.device import check_device
from fusec.artifact.layout import HEADER_BYTES, Header, align, seal
from fusec.ir.device import code_hash
from fusec.ir.errors import ArtifactError, VerifyError

BOTH = (example_device("cuda:sm_80"), example_device("cuda:sm_90"))
SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a.fusec"
    write_plan(example_plan(), path, device=BOTH)
    return path.read_bytes()


def refused(data: bytes, path: Path) -> str:
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        read_plan_file(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def resealed(whole: bytes, change: Callable[[Any], None], code: bytes | None = None) -> bytes:
    """Change the device part of a file, seals and all; with `code`, the bytes behind it."""
    header = Header.unpack(whole[:HEADER_BYTES])
    manifest = json.loads(whole[HEADER_BYTES : HEADER_BYTES + header.manifest_bytes])
    change(manifest["device"])
    text = json.dumps(manifest, separators=(",", ":")).encode()
    data = whole[header.data_start :] if code is None else code
    start = align(HEADER_BYTES + len(text))
    return seal(text, len(data)) + text + bytes(start - HEADER_BYTES - len(text)) + data


def test_device_code_comes_back_and_can_be_written_again(tmp_path: Path) -> None:
    write_plan(example_plan(), tmp_path / "a.fusec", device=BOTH)
    file = read_plan_file(tmp_path / "a.fusec")
    assert_plans_equal(file.plan, example_plan())
    assert file.device == BOTH
    write_plan(file.plan, tmp_path / "b.fusec", device=file.device)
    assert (tmp_path / "a.fusec").read_bytes() == (tmp_path / "b.fusec").read_bytes()


def test_a_plan_without_device_code_is_as_before(tmp_path: Path) -> None:
    write_plan(example_plan(), tmp_path / "a.fusec")
    write_plan(example_plan(), tmp_path / "b.fusec", device=())
    assert (tmp_path / "a.fusec").read_bytes() == (tmp_path / "b.fusec").read_bytes()
    assert b'"device"' not in (tmp_path / "a.fusec").read_bytes()
    assert read_plan_file(tmp_path / "a.fusec").device == ()


def test_a_plan_without_weights_carries_code_too(tmp_path: Path) -> None:
    empty = replace(example_plan(n_members=0), weights={})
    write_plan(empty, tmp_path / "a.fusec", device=BOTH)
    assert read_plan_file(tmp_path / "a.fusec").device == BOTH


def test_every_flipped_byte_of_code_is_seen(whole: bytes, tmp_path: Path) -> None:
    for one in BOTH:
        for code in map(bytes, one.codes.values()):
            start = whole.index(code)
            for i in range(start, start + len(code), 7):
                bad = whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :]
                assert "code" in refused(bad, tmp_path / "a.fusec")


def set_field(field: str, value: object) -> Callable[[Any], None]:
    def change(device: Any) -> None:
        device["targets"][1][2][0][field] = value

    return change


def in_target(index: int, value: object) -> Callable[[Any], None]:
    def change(device: Any) -> None:
        device["targets"][1][index] = value

    return change


def in_code(index: int, value: object) -> Callable[[Any], None]:
    def change(device: Any) -> None:
        device["codes"][1][index] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        *[set_field("registers", v) for v in (33, -1, True, None, "32", 1 << 40)],
        *[set_field("shared_bytes", v) for v in (1 << 20, -1, 1.0)],
        *[set_field("hidden", v) for v in (0, 2, 1 << 31, -1)],
        *[set_field("warps", v) for v in (8, 0, 64)],
        *[set_field("symbol", v) for v in ("sub", None, [])],
        *[set_field("code", v) for v in ("", None, [], "0" * 64)],
        *[set_field("name", v) for v in (None, 3, ["add"])],
        *[set_field("parameters", v) for v in ([], None, ["*", "*", "i64"], ["*", "*", []])],
        *[set_field("constants", v) for v in (None, [["BLOCK"]], [[1, 2]], [["BLOCK", [1]]])],
        *[set_field("stack_bytes", v) for v in (8, None)],
        *[set_field("spill_bytes", v) for v in (8, None)],
        set_field("other", 1),
        *[in_target(0, v) for v in ("cuda:sm_80", "cuda:sm_70", "cpu", None, 90, "cuda:sm_86")],
        *[in_target(1, v) for v in (None, 3, ["x"])],
        *[in_target(2, v) for v in (None, {}, [None], [[]], [{"": "Template"}], "x")],
        *[in_target(3, v) for v in (None, [None], [{"": "DroppedKernel"}], 3)],
        *[in_code(0, v) for v in ("0" * 64, None, 3)],
        *[in_code(1, v) for v in (0, None, 64.0, -64, 1 << 60)],
        *[in_code(2, v) for v in (0, None, 3, -3, 1 << 60, True)],
        lambda device: device.clear(),
        lambda device: device.update(more=[]),
        lambda device: device.update(targets={}),
        lambda device: device.update(codes=None),
        lambda device: device["targets"].append(device["targets"][0]),
        lambda device: device["targets"].pop(),
        lambda device: device["codes"].pop(),
        lambda device: device["targets"][0][2].append(device["targets"][0][2][0]),
        lambda device: device["targets"][0][3].append(device["targets"][0][2][0]),
    ],
)
def test_a_device_part_that_lies_is_refused(
    whole: bytes, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    refused(resealed(whole, change), tmp_path / "a.fusec")


def test_a_number_in_the_file_does_not_decide_how_much_memory_a_check_takes(
    whole: bytes, tmp_path: Path
) -> None:
    bad = resealed(whole, set_field("hidden", 1 << 24))
    assert "hidden parameters" in refused(bad, tmp_path / "a.fusec")


def test_an_unchanged_part_resealed_is_read(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.fusec").write_bytes(resealed(whole, lambda device: None))
    assert read_plan_file(tmp_path / "a.fusec").device == BOTH


@SHARED_FOLDER
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    ),
    st.sampled_from(["codes", "targets", None]),
)
def test_any_json_in_its_place_is_refused(
    whole: bytes, tmp_path: Path, data: Any, part: str | None
) -> None:
    def change(device: Any) -> None:
        device[part or "codes"] = data
        if part is None:
            device["targets"] = data

    if data != []:
        refused(resealed(whole, change), tmp_path / "a.fusec")


def test_what_does_not_fit_the_card_is_not_written(tmp_path: Path) -> None:
    one = example_device()
    big = replace(one.kernels[0], shared_bytes=300_000)
    with pytest.raises(VerifyError, match="shared memory"):
        write_plan(
            example_plan(),
            tmp_path / "a.fusec",
            device=[replace(one, kernels=(big, *one.kernels[1:]))],
        )
    assert not (tmp_path / "a.fusec").exists()


@pytest.mark.parametrize("bad", [b"", b"\x7fELF", made_cubin()[:200], made_cubin(arch=80)])
def test_code_that_is_none_is_refused(bad: bytes) -> None:
    one = example_device()
    kernel = replace(one.kernels[0], code=code_hash(bad))
    with pytest.raises(ValueError, match="code"):
        check_device([replace(one, kernels=(kernel,), codes={code_hash(bad): bad})])
