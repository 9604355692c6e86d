"""What a compiling process does: jobs come in as lines of JSON, answers leave the same way.

    {"name": ..., "module": ..., ...}                                  a `Job`
    {"code": base64, "shared_bytes": ..., "spill_bytes": ..., "mma": ..., ...}
    {"error": "...", "lasting": true}                                  it would end so again

Triton reads its settings from the environment when it is imported, prints what a failing assembler
was given to standard output, and can end the process: none of that should happen to a user's own.
"""

import base64
import contextlib
import importlib
import inspect
import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["main"]

_SPILLS = re.compile(r"(\d+) bytes spill stores")
_ERROR_CHARS = 400
_MATRICES = re.compile(r"\b(?:wgmma\.mma_async|mma)\.sync\.aligned\.m\d+n\d+k\d+[\w.]*")
_COLUMNS = re.compile(r"(?<=^wgmma\.mma_async\.sync\.aligned\.m64)n\d+")
"""Of a warpgroup's instruction: how many there are at once says nothing of the order of sums."""


def main() -> None:
    """Answer jobs until there are no more."""
    answers = sys.stdout
    for line in sys.stdin:
        # Whatever is printed while compiling is not an answer.
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            answer = _answer(json.loads(line), printed)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(job: Mapping[str, Any], printed: io.StringIO) -> dict[str, Any]:
    try:
        return _compile(job, printed)
    except Exception as error:  # noqa: BLE001  # it goes to the parent, which decides
        text = " ".join(f"{type(error).__name__}: {error}".split())
        # What the machine lacked at the time, or an assembler that was ended, is not the kernel's.
        passing = isinstance(error, MemoryError | OSError | ImportError) or "error code -" in text
        return {"error": text[:_ERROR_CHARS], "lasting": not passing}


def _compile(job: Mapping[str, Any], printed: io.StringIO) -> dict[str, Any]:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import JITFunction

    found = getattr(importlib.import_module(job["module"]), job["function"])
    function = found if isinstance(found, JITFunction) else JITFunction(_plain(found))
    names = list(function.arg_names)
    signature = dict(job["signature"])
    if list(signature) != names:
        raise TypeError(f"{job['function']} takes {names}, its signature has {list(signature)}")
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in job["aligned"]}
    source = ASTSource(
        fn=function, signature=signature, constexprs=dict(job["constants"]), attrs=attributes
    )
    options = {
        "num_warps": job["warps"],
        "num_stages": job["stages"],
        "enable_fp_fusion": job["fp_fusion"],
    }
    made = triton.compile(source, target=GPUTarget("cuda", job["arch"], 32), options=options)
    scratch = [getattr(made.metadata, f"{kind}_scratch_size", 0) for kind in ("global", "profile")]
    if any(scratch):
        raise NotImplementedError(f"it wants {scratch} bytes of scratch memory")
    spills = [int(n) for n in _SPILLS.findall(printed.getvalue())]
    if not spills:
        raise RuntimeError("the assembler did not say what it spills")
    return {
        "code": base64.b64encode(made.asm["cubin"]).decode(),
        "symbol": made.metadata.name,
        "warps": made.metadata.num_warps,
        "shared_bytes": made.metadata.shared,
        "spill_bytes": sum(spills),
        "mma": _matrices(made.asm["ptx"]),
    }


def _matrices(code: str) -> str:
    """Name the matrix instructions in assembly."""
    return " ".join(sorted({_COLUMNS.sub("", found) for found in _MATRICES.findall(code)}))


def _plain(function: object) -> Callable[..., object]:
    """Give what was decorated, however it was."""
    while not inspect.isfunction(function):
        function = function.fn  # type: ignore[attr-defined]
    return function


if __name__ == "__main__":
    main()
