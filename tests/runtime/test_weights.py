"""Weights that lie together: the same bytes, behind one another, freed with the last of a block."""

import gc
import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fusec
from fusec.ir.plan import Blob, plain_blob
from fusec.ir.template import TensorSpec
from fusec.runtime import weights as memory
from fusec.runtime.weights import ALIGN_BYTES, Pages


def _blob(values: np.ndarray) -> Blob:
    spec = TensorSpec("float32", values.shape)
    return plain_blob(spec, values.view(np.uint8).data if values.size else memoryview(b""))


def _address(blob: Blob) -> int:
    return np.frombuffer(blob.data, dtype=np.uint8).ctypes.data


@given(st.lists(st.integers(0, 3000), max_size=12), st.integers(0, 20_000))
def test_the_same_bytes_in_order_on_lines(sizes: list[int], said_bytes: int) -> None:
    pages = Pages(said_bytes)  # which may be wrong
    blobs = [_blob(np.full(n, i, dtype=np.float32)) for i, n in enumerate(sizes)]
    moved = [pages.put(blob) for blob in blobs]
    assert [bytes(b.data) for b in moved] == [bytes(b.data) for b in blobs]
    assert all(b.spec == a.spec and b.layout == a.layout for a, b in zip(blobs, moved, strict=True))
    spans = sorted((_address(b), _address(b) + b.data.nbytes) for b in moved if b.data.nbytes)
    assert all(start % ALIGN_BYTES == 0 for start, _ in spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_block_lives_as_long_as_its_last_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_BLOCK_BYTES", 4096)
    pages = Pages(1 << 20)
    first, second = (pages.put(_blob(np.ones(256, dtype=np.float32))) for _ in range(2))
    block = weakref.ref(pages._block)
    for _ in range(4):
        pages.put(_blob(np.ones(256, dtype=np.float32)))
    assert _address(second) == _address(first) + 1024
    del first
    gc.collect()
    assert block() is not None
    del second
    gc.collect()
    assert block() is None


def test_compiled_members_lie_together_and_answer_as_before() -> None:
    torch.manual_seed(0)
    models = {f"m{n}": torch.nn.Linear(40, 33).eval() for n in range(4)}
    x = np.random.default_rng(0).random((3, 40), dtype=np.float32)
    plan = fusec.compile(models, examples={"*": x[:1]}, executor="cpu")
    held = plan._registry.target("m0").choices[0].weights
    before = {n: plan.run({n: x})[n]["output"].tobytes() for n in models}
    plan.add("late", torch.nn.Linear(40, 33).eval().state_dict(), like="m0")
    plan.gather()
    assert {n: plan.run({n: x})[n]["output"].tobytes() for n in models} == before
    own = [b for n in plan.members for b in plan._registry.target(n).choices[0].weights]
    spans = sorted((_address(b), -(-b.data.nbytes // ALIGN_BYTES) * ALIGN_BYTES) for b in own)
    assert all(a + size == b for (a, size), (b, _) in pairwise(spans))
    assert _address(held[0]) != _address(plan._registry.target("m0").choices[0].weights[0])
