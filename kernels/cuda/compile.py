"""Compiling kernels for cards, in processes beside this one, with a cache on disk.

Triton generates the code and brings the assembler; neither needs a card or a driver.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

from fusec.ir.device import DeviceKernel, DroppedKernel, code_hash
from fusec.ir.errors import ArtifactError, UnsupportedError
from fusec.ir.frozen import dataclass
from fusec.kernels.cache import load_object, store_object
from fusec.kernels.cuda.children import WORKER, answers
from fusec.kernels.cuda.cubin import read_cubin
from fusec.kernels.cuda.job import Job
from fusec.kernels.fingerprint import sources_digest

__all__ = ["Made", "compile_jobs", "compiler_name"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """A compiled kernel and its code."""

    kernel: DeviceKernel
    code: bytes


def compiler_name() -> str:
    """Name the compiler with its version.

    Raises:
        UnsupportedError: there is none.
    """
    try:
        return f"triton {metadata.version('triton')}"
    except metadata.PackageNotFoundError as e:
        raise UnsupportedError(
            "compiling for a card needs Triton (no card, no driver): pip install 'fusec[triton]'"
        ) from e


def compile_jobs(
    jobs: Sequence[Job], progress: Callable[[Job, int, int], None] | None = None
) -> list[Made | DroppedKernel]:
    """Compile kernels, as many at a time as there are processors; in order.

    A configuration that does not compile, such as one whose registers do not suffice, is dropped
    with the compiler's reason, which is kept as code is: it is not tried again.

    Args:
        jobs: what to compile.
        progress: told a job, how many are done by then, and how many are to be.

    Raises:
        UnsupportedError: there is no compiler here.
        KernelError: compiling processes do not start or do not live.

    Cost: 0.1 to 1 s a job and processor, 1 s for the first; from the cache, 0.2 ms.
    """
    compiler = compiler_name()
    keys = [_key(job, compiler) for job in jobs]
    results: list[Made | DroppedKernel | None] = [
        _stored(job, key) for job, key in zip(jobs, keys, strict=True)
    ]
    missing = [i for i, result in enumerate(results) if result is None]
    texts = [jobs[i].to_json() for i in missing]
    for done, (i, answer) in enumerate(answers(texts), start=1):
        at = missing[i]
        results[at] = _take(jobs[at], answer)
        key = keys[at]
        if key is not None and answer.get("lasting", "code" in answer):
            store_object(_entry(jobs[at]), key, json.dumps(answer).encode())
        if progress is not None:
            progress(jobs[at], done, len(missing))
    return [result for result in results if result is not None]


def _take(job: Job, answer: dict[str, Any]) -> Made | DroppedKernel:
    if "error" in answer:
        reason = f"does not compile: {answer['error']}"
        return DroppedKernel(name=job.name, constants=job.constants, reason=reason)
    return _made(job, answer)


def _made(job: Job, answer: dict[str, Any]) -> Made:
    """Put together what a compiling process said and what its code says.

    Raises:
        ArtifactError: the code is none, or for something else.
    """
    code = base64.b64decode(answer["code"], validate=True)
    cubin = read_cubin(code)
    (said,) = [k for k in cubin.kernels if k.symbol == answer["symbol"]]
    if cubin.arch != job.arch:
        raise ArtifactError(f"{job.name} is compiled for sm_{cubin.arch}, not sm_{job.arch}")
    kernel = DeviceKernel(
        name=job.name,
        constants=job.constants,
        symbol=said.symbol,
        code=code_hash(code),
        parameters=job.parameters,
        hidden=len(said.parameter_bytes) - len(job.parameters),
        warps=answer["warps"],
        shared_bytes=answer["shared_bytes"],
        registers=said.registers,
        stack_bytes=said.stack_bytes,
        spill_bytes=answer["spill_bytes"],
        mma=answer["mma"],
    )
    return Made(kernel=kernel, code=code)


def _stored(job: Job, key: bytes | None) -> Made | DroppedKernel | None:
    data = load_object(_entry(job), key) if key else None
    try:
        return None if data is None else _take(job, json.loads(data))
    except (ArtifactError, KeyError, TypeError, ValueError):
        # Sealed by this user, yet of another shape: made by another fusec.
        return None


def _entry(job: Job) -> str:
    """Name a job in the cache: one entry for each configuration and card."""
    own = hashlib.sha256(job.to_json().encode()).hexdigest()[:16]
    return f"cubin-{job.name}-{own}-sm_{job.arch}"


def _key(job: Job, compiler: str) -> bytes | None:
    sources = sources_digest((job.module, WORKER))
    if sources is None:
        return None
    return hashlib.sha256(sources + f"{compiler}\0{job.to_json()}".encode()).digest()
