"""Triton compiles for cards where there is none, in processes that may die."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import fusec.kernels.cuda.children as children
import fusec.kernels.cuda.compile as module
from fusec.ir.device import DroppedKernel, code_hash
from fusec.ir.errors import KernelError
from fusec.kernels.cuda.compile import Made, compile_jobs
from fusec.kernels.cuda.cubin import read_cubin
from fusec.kernels.cuda.job import Job

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="no Triton to compile with")
"""Not imported: in this process it may have to be Triton's interpreter."""

HOME = "fusec_testing.small_triton"
ADD = (("x", "*fp32"), ("y", "*fp32"), ("out", "*fp32"), ("n", "i32"), ("BLOCK", "constexpr"))
PRODUCTS = (*ADD[:3], ("BLOCK", "constexpr"))
SHARES = (("x", "*fp32"), ("BLOCK", "constexpr"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("FUSEC_CACHE_DIR", str(tmp_path / "cache"))
    # Not a module of fusec's, so it has no sources that fusec would know.
    monkeypatch.setattr(module, "sources_digest", lambda modules: repr(modules).encode())
    return tmp_path / "cache"


def job(block: int = 128, arch: int = 90, **changes: object) -> Job:
    given = {
        "name": "add",
        "module": HOME,
        "function": "add",
        "signature": ADD,
        "constants": (("BLOCK", block),),
        "aligned": ("x", "y", "out"),
        "arch": arch,
        **changes,
    }
    return Job(**given)  # type: ignore[arg-type]


def products() -> Job:
    return job(16, function="products", signature=PRODUCTS)


def made(given: Job) -> Made:
    (result,) = compile_jobs([given])
    assert isinstance(result, Made), result
    return result


def reason(given: Job) -> str:
    (result,) = compile_jobs([given])
    assert isinstance(result, DroppedKernel)
    return result.reason


def test_kernels_compile_for_cards_that_are_not_here() -> None:
    jobs = [job(arch=80), job(arch=90), products()]
    told: list[tuple[int, int]] = []
    results = compile_jobs(jobs, lambda job, done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    for given, result in zip(jobs, results, strict=True):
        assert isinstance(result, Made)
        kernel, cubin = result.kernel, read_cubin(result.code)
        assert cubin.arch == given.arch
        assert kernel.code == code_hash(result.code)
        (said,) = cubin.kernels
        assert (kernel.symbol, kernel.registers) == (said.symbol, said.registers)
        assert kernel.registers > 8
        assert said.threads == kernel.warps * 32 == 128
        assert len(said.parameter_bytes) == len(kernel.parameters) + kernel.hidden
        assert kernel.spill_bytes == kernel.stack_bytes == 0
        assert HOME.rpartition(".")[2].encode() not in result.code
    first, _, last = (r.kernel for r in results if isinstance(r, Made))
    assert first.parameters == ("*", "*", "*", "i32")
    assert first.shared_bytes == 0 < last.shared_bytes


def test_too_large_a_block_spills_and_says_so() -> None:
    shares = job(16384, function="shares", signature=SHARES, aligned=("x",), warps=1)
    kernel = made(shares).kernel
    assert kernel.spill_bytes > 0
    assert kernel.stack_bytes > 0


def test_a_function_need_not_be_decorated() -> None:
    signature = (("out", "*fp32"), ("n", "i32"), ("VALUE", "constexpr"))
    given = job(function="plain", signature=signature, constants=(("VALUE", 3),), aligned=())
    assert made(given).kernel.parameters == ("*", "i32")


@pytest.mark.parametrize(
    "bad, text, lasting",
    [
        (job(100), "power of 2", True),
        (job(signature=ADD[::-1]), "its signature has", True),
        (job(function="nobody"), "nobody", True),
        (job(module="fusec_testing.not_there"), "not_there", False),
        (job(module="fusec_testing.dying_module"), "ended with code 7", False),
    ],
)
def test_what_does_not_compile_says_why_in_one_line(
    bad: Job, text: str, lasting: bool, folder: Path
) -> None:
    """And is not tried again, if it would end so again."""
    assert text in reason(bad)
    assert "\n" not in reason(bad)
    assert folder.exists() == lasting


def test_a_process_that_dies_takes_only_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    results = compile_jobs([job(64), job(module="fusec_testing.dying_module"), job(128)])
    assert [type(r) for r in results] == [Made, DroppedKernel, Made]


def test_a_compiler_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_JOB_SECONDS", 0.05)
    assert "ended with code -9" in reason(job())


def test_no_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    with pytest.raises(KernelError, match="no process"):
        compile_jobs([job(), job(64), job(256)])
