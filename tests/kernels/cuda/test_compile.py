"""Compiling for cards: what becomes of answers, reasons, the cache; see also `test_triton`."""

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fusec_testing.cubins import made_cubin

import fusec.kernels.cuda.compile as module
import fusec.kernels.fingerprint as fingerprint
from fusec.ir.device import DroppedKernel, code_hash
from fusec.ir.errors import ArtifactError, UnsupportedError
from fusec.kernels.cuda.compile import Made, compile_jobs
from fusec.kernels.cuda.job import Job

ANSWER = {
    "code": base64.b64encode(made_cubin(arch=90, parameters=(8, 8, 4, 8))).decode(),
    "symbol": "add",
    "warps": 4,
    "shared_bytes": 512,
    "spill_bytes": 0,
    "mma": "",
}
SIGNATURE = (("x", "*fp32"), ("y", "*fp32"), ("n", "i32"), ("BLOCK", "constexpr"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the compiler is asked, in order."""
    jobs: list[dict[str, Any]] = []

    def answers(texts: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        jobs.extend(map(json.loads, texts))
        for i in reversed(range(len(texts))):
            block = dict(json.loads(texts[i])["constants"])["BLOCK"]
            error = {"error": "BLOCK is odd", "lasting": block != 67}
            yield i, error if block % 2 else ANSWER

    monkeypatch.setattr(module, "answers", answers)
    return jobs


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUSEC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(module.metadata, "version", lambda name: "1.2")
    # Tests have no sources that fusec would know.
    monkeypatch.setattr(module, "sources_digest", lambda modules: repr(modules).encode())
    return tmp_path / "cache"


def job(block: int = 128, **changes: object) -> Job:
    given = {
        "name": "add",
        "module": "nowhere",
        "function": "add",
        "signature": SIGNATURE,
        "constants": (("BLOCK", block),),
        "arch": 90,
        **changes,
    }
    return Job(**given)  # type: ignore[arg-type]


def made(given: Job) -> Made:
    (result,) = compile_jobs([given])
    assert isinstance(result, Made), result
    return result


def test_answers_come_in_the_order_of_jobs(asked: list[dict[str, Any]]) -> None:
    told: list[tuple[int, int]] = []
    jobs = [job(64), job(65), job(66)]
    results = compile_jobs(jobs, lambda job, done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    first, odd, last = results
    assert isinstance(first, Made) and isinstance(last, Made)
    assert [r.kernel.constants[0][1] for r in (first, last)] == [64, 66]
    assert odd == DroppedKernel(
        name="add", constants=(("BLOCK", 65),), reason="does not compile: BLOCK is odd"
    )
    kernel = first.kernel
    assert (kernel.parameters, kernel.hidden) == (("*", "*", "i32"), 1)
    assert (kernel.registers, kernel.shared_bytes, kernel.warps) == (32, 512, 4)
    assert kernel.code == code_hash(first.code)


def test_what_is_compiled_is_kept(asked: list[dict[str, Any]], folder: Path) -> None:
    before = compile_jobs([job(64), job(65), job(66)])
    assert len(list(folder.iterdir())) == 3
    asked.clear()
    again = compile_jobs([job(66), job(65), job(64)])
    assert asked == []
    assert [r.kernel for r in again if isinstance(r, Made)] == [
        r.kernel for r in reversed(before) if isinstance(r, Made)
    ]
    assert again[1] == before[1]


def test_a_failure_that_may_pass_is_tried_again(asked: list[dict[str, Any]], folder: Path) -> None:
    before = compile_jobs([job(67)])
    assert isinstance(before[0], DroppedKernel)
    assert not folder.exists()
    assert compile_jobs([job(67)]) == before
    assert len(asked) == 2


@pytest.mark.parametrize("change", ["source", "compiler", "card", "block", "warps", "fusion"])
def test_another_kernel_is_not_taken_for_it(
    change: str, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_jobs([job()])
    asked.clear()
    others = {"block": job(256), "warps": job(warps=8), "fusion": job(fp_fusion=True)}
    if change == "source":
        monkeypatch.setattr(module, "sources_digest", lambda modules: b"other")
    elif change == "compiler":
        monkeypatch.setattr(module.metadata, "version", lambda name: "1.3")
    elif change == "card":
        with pytest.raises(ArtifactError, match="for sm_90, not sm_80"):
            compile_jobs([job(arch=80)])
    compile_jobs([others.get(change, job())])
    assert len(asked) == 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "foreign", "shape", "code"])
def test_a_damaged_entry_is_made_again(
    damage: str, asked: list[dict[str, Any]], folder: Path
) -> None:
    before = made(job())
    (file,) = folder.iterdir()
    data = file.read_bytes()
    key = module._key(job(), module.compiler_name())
    assert key is not None
    if damage in ("shape", "code"):
        # Sealed, and of no use: what another fusec may write.
        bad = {"shape": {}, "code": {**ANSWER, "code": "AAAA"}}[damage]
        module.store_object(module._entry(job()), key, json.dumps(bad).encode())
    else:
        file.write_bytes(
            {"flip": data[:-9] + b"?" + data[-8:], "truncate": data[:-1], "foreign": b"?"}[damage]
        )
    assert made(job()).code == before.code
    assert len(asked) == 2
    assert file.read_bytes() == data


def test_sources_are_those_of_all_modules_that_a_kernel_imports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = ("fusec.kernels.gemm.triton", "fusec.kernels.cuda.worker")
    before = fingerprint.sources_digest(asked)
    assert before == fingerprint.sources_digest(asked)
    assert before not in (None, fingerprint.sources_digest(asked[:1]))
    assert fingerprint.sources_digest((*asked, "fusec.kernels.nobody")) is None
    assert fingerprint.sources_digest(("fusec_testing.small_triton",)) is None
    read = fingerprint._text
    for changed in ("fusec.kernels.grouped.point", *asked):
        monkeypatch.setattr(
            fingerprint,
            "_text",
            lambda module, changed=changed: (
                (read(module) or b"") + b"#" if module == changed else read(module)
            ),
        )
        assert fingerprint.sources_digest(asked) != before


def test_without_sources_nothing_is_kept(
    asked: list[dict[str, Any]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "sources_digest", lambda modules: None)
    made(job())
    made(job())
    assert len(asked) == 2
    assert not folder.exists()


def test_no_compiler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise module.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.metadata, "version", version)
    with pytest.raises(UnsupportedError, match=r"fusec\[triton\]"):
        compile_jobs([job()])
