"""Libraries are built once per machine, in any process, and found by the names of kernels."""

import json
import os
import subprocess
import sys

import pytest

from fusec.ir.errors import KernelError
from fusec.kernels.library import LIBRARIES, address, library_of
from fusec.kernels.table import TILE_OPS

PREPARE = """
import json, sys
from fusec.kernels.library import address, prepare
seen = []
prepare(["arrays_read", "gather"], lambda *told: seen.append(told))
assert address("arrays_read") and address("gather_rows")
print(json.dumps([seen, sorted({"numba", "llvmlite", "torch"} & sys.modules.keys())]))
"""

ONE = """
import sys
from fusec.kernels.library import address
assert address("arrays_read")
print("numba" in sys.modules)
"""


def start(program, cache):
    environment = {**os.environ, "FUSEC_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def output(child):
    out, err = child.communicate()
    assert child.returncode == 0, err
    return out


def test_what_is_prepared_is_not_built_again(tmp_path):
    """Two at once first: neither may see a half of what the other writes."""
    first, second = (start(PREPARE, tmp_path / "cache") for _ in range(2))
    for child in (first, second):
        told, loaded = json.loads(output(child))
        assert sorted(name for name, _, _ in told) in ([], ["arrays", "gather"], ["gather"])
        assert [done for _, done, _ in told] == list(range(1, len(told) + 1))
        # Two or more are built elsewhere; one alone is built in this process.
        assert loaded == [] or len(told) == 1
    files = (tmp_path / "cache").iterdir()
    assert sorted(f.name.split("-")[0] for f in files) == ["arrays", "gather"]
    assert json.loads(output(start(PREPARE, tmp_path / "cache"))) == [[], []]


@pytest.mark.parametrize("cache", ["read-only", "damaged", "none"])
def test_kernels_run_whatever_the_cache_is(cache, tmp_path):
    folder = tmp_path / "cache"
    if cache == "none":
        assert output(start(ONE, "")).strip() == "True"
        return
    folder.mkdir(mode=0o700)
    if cache == "read-only":
        folder.rmdir()
        folder.write_text("a file where the folder should be")
        assert output(start(ONE, folder)).strip() == "True"
        return
    assert output(start(ONE, folder)).strip() == "True"
    (file,) = folder.iterdir()
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert output(start(ONE, folder)).strip() == "True"
    assert file.read_bytes() == good
    assert output(start(ONE, folder)).strip() == "False"


def test_every_operation_has_a_library():
    assert {f"{folder.package}.cpu" for folder in TILE_OPS.values()} <= set(LIBRARIES.values())
    assert library_of("gemm_f32") == library_of("gemm") == "gemm"


def test_unknown_kernels_are_named():
    with pytest.raises(KernelError, match="'strange_f32'"):
        address("strange_f32")
    with pytest.raises(KernelError, match="no kernel 'arrays_strange'"):
        address("arrays_strange")
