"""Stages that would leave their buffers are refused, whatever made them."""

import random
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from fusec_testing.liars import changed, spots
from fusec_testing.programs import program_from
from torch import nn

from fusec.ir.errors import FusecError, VerifyError
from fusec.ir.extents import of
from fusec.ir.stage import Buffer, BufferKind, Lowered, Stage, TileOp, View, dense
from fusec.ir.template import Ref
from fusec.kernels.table import TILE_OPS
from fusec.passes.canonicalise import canonicalise
from fusec.passes.fuse import fuse
from fusec.passes.lower import lower
from fusec.passes.pack import pack
from fusec.runtime.tile import relations
from fusec.runtime.tile.bounds import check_bounds


def buffer(kind, elements, index=0, dtype="float32"):
    return Buffer(kind=kind, dtype=dtype, elements=of(elements), index=index)


def stages(op, reads, writes, buffers, **attrs):
    stage = Stage(
        op=op,
        reads=tuple(reads),
        writes=tuple(writes),
        attrs=tuple(sorted(attrs.items())),
        point=None,
        extern=None,
        rows=(0,),
    )
    return Lowered(
        buffers=tuple(buffers),
        stages=(stage,),
        inputs=(0,),
        outputs=(1,),
        output_shapes=((),),
        weights=(),
        weight_shapes=(),
        layouts=(),
    )


def copy(read=None, write=None, elements=12, **symbols):
    read = read or dense(0, "float32", ("s0", 3))
    write = write or dense(1, "float32", ("s0", 3))
    buffers = [buffer(BufferKind.INPUT, elements), buffer(BufferKind.OUTPUT, "3*s0")]
    check_bounds(stages(TileOp.COPY, [read], [write], buffers), {"s0": 4, **symbols})


def test_a_stage_inside_its_buffers_passes():
    copy()
    copy(read=View(0, "float32", (of("s0"), 3), (-3, 1), 9))
    copy(read=View(0, "float32", (4, 3), (0, 0), 11))
    copy(s0=0)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"s0": 5}, "elements 0 to 14 of buffer 0, which has 12"),
        ({"elements": 11}, "elements 0 to 11 of buffer 0"),
        ({"s0": -1}, "buffer 1 has -3 elements"),
        ({"elements": 2**60}, "buffer 0 has"),
        ({"read": View(0, "float32", (4, 3), (3, 1), 1)}, "elements 1 to 12"),
        ({"read": View(0, "float32", (4, 3), (-3, 1), 8)}, "elements -1 to 10"),
        ({"read": View(0, "float32", (4, 3), (2**50, 1), 0)}, "stride"),
        ({"read": View(0, "float32", (-4, 3), (3, 1), 0)}, "extent -4"),
        ({"read": View(0, "float32", (4, 3), (3,), 0)}, "other ranks"),
        ({"read": View(7, "float32", (4, 3), (3, 1), 0)}, "no buffer 7"),
        ({"read": View(0, "float64", (4, 3), (3, 1), 0)}, "not float64"),
        ({"read": View(0, "float32", (4, 2), (3, 1), 0)}, "x and y"),
        ({"write": View(1, "float32", (4, 3), (4, 1), 0)}, "elements 0 to 14 of buffer 1"),
        ({"write": View(0, "float32", (4, 3), (3, 1), 0)}, "writes to an input"),
    ],
)
def test_a_stage_that_leaves_its_buffers_is_refused(changes, match):
    with pytest.raises(VerifyError, match=match):
        copy(**changes)


def test_every_operation_has_its_relations():
    assert relations._RELATIONS.keys() == TILE_OPS.keys()


def test_a_product_reads_as_much_of_its_weight_as_there_is():
    buffers = [
        buffer(BufferKind.INPUT, 8),
        buffer(BufferKind.OUTPUT, 20),
        buffer(BufferKind.WEIGHT, 128),
    ]
    a, c = dense(0, "float32", (2, 4)), dense(1, "float32", (2, 10))
    b = dense(2, "float32", (128,))
    check_bounds(stages(TileOp.GEMM, [a, b], [c], buffers, k=4, n=10, nr=32), {})
    for attrs in (
        {"k": 5, "n": 10, "nr": 32},
        {"k": 4, "n": 10, "nr": 48},
        {"k": 4, "n": 11, "nr": 32},
    ):
        with pytest.raises(VerifyError, match="gemm"):
            check_bounds(stages(TileOp.GEMM, [a, b], [c], buffers, **attrs), {})


@pytest.mark.parametrize(
    ("k", "dtypes", "match"),
    [
        (3, ("float32", "float32", "int64"), None),
        (5, ("float32", "float32", "int64"), "x and y"),
        (3, ("float32", "int32", "int64"), "dtypes"),
        (3, ("float16", "float16", "int64"), "dtypes"),
        (3, ("float32", "float32", "int32"), "dtypes"),
    ],
)
def test_a_sort_gives_no_more_than_there_is(k, dtypes, match):
    kinds = (BufferKind.INPUT, BufferKind.OUTPUT, BufferKind.OUTPUT)
    buffers = [replace(buffer(b, 40), dtype=d) for b, d in zip(kinds, dtypes, strict=True)]
    x = dense(0, dtypes[0], (2, 4, 3))
    writes = [dense(i, dtypes[i], (2, k, 3)) for i in (1, 2)]
    lowered = stages(TileOp.REDUCE, [x], writes, buffers, form="sort", kind="sort", largest=True)
    with pytest.raises(VerifyError, match=match) if match else nullcontext():
        check_bounds(lowered, {})


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 12)
        self.table = nn.Embedding(7, 12)

    def forward(self, x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x).flatten(2).transpose(1, 2))
        q = self.fc(x) + self.table(i)
        h = nn.functional.scaled_dot_product_attention(q, q, q)
        return torch.softmax(h @ q.transpose(1, 2), -1).amax(-1)


@pytest.fixture(scope="module")
def template():
    example = (torch.rand(1, 3, 4, 4), torch.zeros(1, 1, dtype=torch.int64))
    canonical, _ = canonicalise(program_from(Net().eval(), *example))
    return pack(canonical)[0]


def test_a_true_template_passes(template):
    lowered = lower(template, strict=True)
    check_bounds(lowered, {})
    check_bounds(fuse(lowered)[0], {})


def references_are_earlier(template):
    count = len(template.body.arguments)
    return all(
        _highest((row.args, row.kwargs)) < count + i for i, row in enumerate(template.body.rows)
    )


def _highest(value):
    if isinstance(value, tuple):
        return max(map(_highest, value), default=-1)
    return value.index if isinstance(value, Ref) else -1


def test_no_lie_about_a_number_gets_out_of_memory(template):
    """Each integer of a true template becomes another: it is refused, or stays in its memory."""
    rng = random.Random(5)
    paths = [p for p in spots(template.body) if "results" not in p]
    refused = 0
    for path in paths:
        for new in (0, 2, 1000, rng.choice([-1, 1, 3, 2**40])):
            lie = replace(template, body=changed(template.body, path, new))
            if new < 0 or not references_are_earlier(lie):
                continue
            try:
                check_bounds(fuse(lower(lie))[0], {})
            except FusecError:
                refused += 1
                continue
            for stage in lower(lie).stages:
                _stays_inside(stage, lower(lie).buffers)
    assert refused > 20


def _stays_inside(stage, buffers):
    for view in (*stage.reads, *stage.writes):
        if 0 not in view.shape:
            steps = zip(view.shape, view.strides, strict=True)
            assert view.offset + sum((n - 1) * s for n, s in steps) < buffers[view.slot].elements


def test_a_malformed_row_is_left_to_torch(template):
    for i, row in enumerate(template.body.rows):
        for bad in (
            replace(row, args=()),
            replace(row, args=row.args[:1]),
            replace(row, args=(None,) * len(row.args)),
            replace(row, args=("x",) * len(row.args)),
            replace(row, kwargs=(("strange", 1),)),
        ):
            rows = (*template.body.rows[:i], bad, *template.body.rows[i + 1 :])
            lower(replace(template, body=replace(template.body, rows=rows)))
