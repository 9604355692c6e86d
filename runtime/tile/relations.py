"""What kernels take for granted about the views of one stage: which extents are equal.

    gemm    A [m, k]   B: panels of k x n   C [m, n]
    conv    x [N, H, W, C]   y [N, H', W', O]   ...

The folder of each operation documents its operands; here the same is checked, on integers.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from fusec.ir.frozen import dataclass
from fusec.ir.stage import Stage, TileOp
from fusec.kernels.conv.encode import MOST_TAPS, MOST_TRANSPOSED

__all__ = ["Fit", "Shaped", "check_relations"]

_CONTIGUOUS = (
    TileOp.GEMM, TileOp.MATMUL, TileOp.CONV, TileOp.POOL, TileOp.NORM, TileOp.SOFTMAX,
    TileOp.ATTENTION, TileOp.RNN,
)  # fmt: skip
"""Operations whose results lie one after another along the last axis."""


class Fit(Exception):
    """A stage's views do not fit; becomes a VerifyError that names the stage."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """A view as integers."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    elements: int
    """Of its buffer."""

    @property
    def unit(self) -> bool:
        """Whether its last axis is contiguous."""
        return not self.shape or self.shape[-1] <= 1 or self.strides[-1] == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Views:
    stage: Stage
    reads: Sequence[Shaped]
    writes: Sequence[Shaped]

    def number(self, name: str) -> int:
        """Give an attribute that is a positive integer."""
        number = dict(self.stage.attrs).get(name)
        _need(type(number) is int and number > 0, f"{name} is {number!r}")
        assert isinstance(number, int)
        return number

    def flag(self, name: str) -> bool:
        """Give an attribute that may be missing."""
        return bool(dict(self.stage.attrs).get(name))


def check_relations(
    stage: Stage,
    reads: Sequence[Shaped],
    writes: Sequence[Shaped],
    operands: Sequence[Shaped | None],
    frame: tuple[int, ...],
) -> None:
    """Check one stage.

    Args:
        stage: for its operation and attributes.
        reads: its views as integers, each inside its buffer.
        writes: likewise.
        operands: of its program.
        frame: the program's shape.

    Raises:
        Fit: a relation that the kernel relies on does not hold.
    """
    if stage.op is TileOp.EXTERN:
        return
    _need(len(writes) > 0, "no result")
    views = _Views(stage=stage, reads=reads, writes=writes)
    _RELATIONS[stage.op](views)
    if stage.op in _CONTIGUOUS:
        _need(writes[0].unit, "the result is not contiguous along its last axis")
    if stage.point is not None:
        for view in (*operands, *writes):
            _need(view is None or _squeezed(view.shape) == _squeezed(frame), "views of the program")
        _need(len(frame) <= 4 or stage.op is TileOp.POINTWISE, "axes of the program")


def _need(holds: bool, text: str) -> None:
    if not holds:
        raise Fit(f"{text}: not as its kernel wants it")


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """Drop leading ones."""
    first = next((i for i, n in enumerate(shape) if n != 1), len(shape))
    return tuple(shape[first:])


def _rank(*ranked: tuple[Shaped, int]) -> None:
    _need(all(len(view.shape) == rank for view, rank in ranked), "axes")


def _vector(view: Shaped, n: int, what: str) -> None:
    """Check n contiguous elements, in whatever shape."""
    steps = zip(view.shape, view.strides, strict=True)
    dense, step = True, 1
    for extent, stride in reversed(list(steps)):
        dense = dense and (extent <= 1 or stride == step)
        step *= extent
    _need(math.prod(view.shape) == n and dense, what)


def _gemm(v: _Views) -> None:
    a, b, *bias = v.reads
    (c, *_) = v.writes
    _rank((a, 2), (c, 2))
    k, n, nr = v.number("k"), v.number("n"), v.number("nr")
    _need(nr % 16 == 0, "panel width")
    _vector(b, -(-n // nr) * nr * k, "packed weight")
    _need(a.shape == (c.shape[0], k) and c.shape[1] == n and a.unit, "A and C")
    _need(v.stage.reads[1].dtype in ("float32", "bfloat16", "float16"), "dtype of B")
    for view in bias:
        _vector(view, n, "bias")


def _matmul(v: _Views) -> None:
    a, b, *bias = v.reads
    (c, *_) = v.writes
    rank = len(c.shape)
    _need(2 <= rank <= 4, "axes of C")
    _rank((a, rank))
    _need(len(b.shape) == rank and a.unit, "A and B")
    batch, (m, n), k = c.shape[:-2], c.shape[-2:], a.shape[-1]
    _need(a.shape == (*batch, m, k) and b.shape == (*batch, k, n), "A and B")
    for view in bias:
        _vector(view, n, "bias")


def _conv(v: _Views) -> None:
    x, b, *bias = v.reads
    (y, *_) = v.writes
    _rank((x, 4), (y, 4))
    groups, nr = v.number("groups"), v.number("nr")
    channels, columns = x.shape[3], y.shape[3]
    _need(x.shape[0] == y.shape[0], "images")
    window = _window(v)
    taps = math.prod(window)
    _need(not v.flag("transposed") or max(window) <= MOST_TRANSPOSED, "kernel")
    if v.flag("depthwise"):
        _need(channels == columns and x.unit and taps <= MOST_TAPS, "channels")
        parts, c, n = 1, 1, columns
    else:
        _need(channels % groups == 0 and columns % groups == 0, "groups")
        parts, c, n = groups, channels // groups, columns // groups
    width = -(-n // nr) * nr if v.flag("packed") else n
    _need(nr % 16 == 0, "panel width")
    _vector(b, parts * width * taps * c, "weight")
    _need(v.stage.reads[1].dtype == "float32", "dtype of the weight")
    for view in bias:
        _vector(view, columns, "bias")


def _window(v: _Views) -> tuple[int, int]:
    """Check a sliding window's attributes; give its extents."""
    attrs = dict(v.stage.attrs)
    kernel = (1, 1)
    for name in ("kernel", "stride", "dilation", "padding"):
        a, b = _pair(attrs.get(name, (0, 0) if name == "padding" else (1, 1)), name)
        _need(name == "padding" or min(a, b) > 0, name)
        if name == "kernel":
            kernel = (a, b)
    return kernel


def _pair(value: object, name: str) -> tuple[int, int]:
    _need(isinstance(value, tuple) and len(value) == 2, name)
    assert isinstance(value, tuple)
    a, b = value
    if type(a) is int and type(b) is int and max(abs(a), abs(b)) < 1 << 20:
        return a, b
    raise Fit(f"{name} is {value}")


def _pool(v: _Views) -> None:
    (x,), (y,) = v.reads, v.writes
    _rank((x, 4), (y, 4))
    _need((x.shape[0], x.shape[3]) == (y.shape[0], y.shape[3]), "images and channels")
    _need(x.unit, "x")
    # A position outside is moved to the edge, so that there has to be one.
    _need(math.prod(x.shape) > 0 or math.prod(y.shape) == 0, "pixels")
    _window(v)
    scales = dict(v.stage.attrs).get("scales")
    for scale in scales if isinstance(scales, tuple) else ():
        _need(isinstance(scale, float) and abs(scale) < 1 << 20, "scale")


def _norm(v: _Views) -> None:
    x, *affine = v.reads
    (y, *_) = v.writes
    kind = dict(v.stage.attrs).get("kind")
    _rank((x, {"group": 4, "columns": 3}.get(str(kind), 2)))
    _need(x.shape == y.shape and x.unit and y.unit, "x and y")
    n = x.shape[1] * x.shape[2] if kind == "group" else x.shape[-1]
    _need(kind != "columns" or n % v.number("groups") == 0, "groups")
    _need(len(affine) == v.flag("weight") + v.flag("bias"), "weight and bias")
    for view in affine:
        _vector(view, n, "weight or bias")


def _softmax(v: _Views) -> None:
    (x,), (y,) = v.reads, v.writes
    _rank((x, 2))
    _need(x.shape == y.shape and x.unit, "x and y")


def _attention(v: _Views) -> None:
    q, k, value, *mask = v.reads
    (y,) = v.writes
    _rank((q, 4), (k, 4), (value, 4), (y, 4))
    (b, h, s, d), (t, e) = q.shape, value.shape[2:]
    group = v.number("group")
    _need(h % group == 0, "heads")
    _need(k.shape == (b, h // group, t, d) and value.shape == (b, h // group, t, e), "k and v")
    _need(y.shape == (b, h, s, e) and all(x.unit for x in (q, k, value)), "y")
    _need(len(mask) == (dict(v.stage.attrs).get("mask") != "none"), "mask")
    for view in mask:
        _need(view.shape == (b, h, s, t) and view.unit, "mask")


def _reduce(v: _Views) -> None:
    (x,), form = v.reads, dict(v.stage.attrs).get("form")
    y, *where = v.writes
    if form == "rows":
        _rank((x, 3))
        _need(y.shape == x.shape[:1] and x.unit, "x and y")
    elif form == "columns":
        _rank((x, 4))
        _need(y.shape == (x.shape[0], x.shape[3]) and x.unit and y.unit, "x and y")
    elif form == "scan":
        _rank((x, 3))
        _need(y.shape == x.shape, "x and y")
    elif form == "sort":
        _rank((x, 3), (y, 3))
        (o, n, i), k = x.shape, y.shape[1]
        _need(y.shape == (o, k, i) and k <= n and len(where) == 1, "x and y")
        dtypes = [view.dtype for view in (*v.stage.reads, *v.stage.writes)]
        _need(dtypes[0] == dtypes[1] and dtypes[2] == "int64", "dtypes")
        _need(dtypes[0] in ("float32", "float64", "int64", "int32", "bool"), "dtypes")
    else:
        _need(form in ("where", "scalars"), "form")
        _rank((x, 2))
        _need(y.shape == x.shape[:1] and (form == "scalars" or x.unit), "x and y")
    for view in where:
        _need(view.shape == y.shape, "positions")


def _gather(v: _Views) -> None:
    (x, indices), (y,) = v.reads, v.writes
    form = dict(v.stage.attrs).get("form")
    _rank((y, 3))
    o, j, i = y.shape
    if form == "panels":
        n, k, nr = v.number("n"), v.number("k"), v.number("nr")
        _vector(x, -(-n // nr) * nr * k, "packed weight")
        _need(v.stage.reads[0].dtype == "float32", "dtype of the table")
        _need((o, i) == (1, k) and indices.shape == (j,) and y.unit, "y and indices")
        return
    _rank((x, 3))
    # An index is moved into range, so that there has to be some row.
    _need(x.shape[1] > 0 or math.prod(y.shape) == 0, "rows")
    _need((x.shape[0], x.shape[2]) == (o, i), "x and y")
    if form == "rows":
        _need(indices.shape == (j,) and x.unit and y.unit, "indices")
    else:
        _need(form == "along" and indices.shape == (o, j, i), "indices")


def _rnn(v: _Views) -> None:
    mode, hidden, nr = dict(v.stage.attrs).get("mode"), v.number("hidden"), v.number("nr")
    gates = {"lstm": 4, "gru": 3, "rnn": 1}.get(str(mode), 0)
    x, r, *states = v.reads
    _rank((x, 3))
    steps, rows, columns = x.shape
    _need(gates > 0 and columns == gates * hidden and x.unit and nr % 16 == 0, "gates")
    _vector(r, -(-columns // nr) * nr * hidden, "packed weight")
    _need(v.stage.reads[1].dtype == "float32", "dtype of recurrent weights")
    n_states = 2 if mode == "lstm" else 1
    extra = [n for n in ("bias", "peephole", "lengths") if v.flag(n)]
    _need(len(states) == n_states + len(extra) and len(v.writes) == 1 + n_states, "operands")
    for view in (*states[:n_states], *v.writes[1:]):
        _need(view.shape == (rows, hidden) and view.unit, "states")
    wanted = {"bias": columns, "peephole": 3 * hidden, "lengths": rows}
    for name, view in zip(extra, states[n_states:], strict=True):
        if name == "lengths":
            _need(view.shape == (rows,), name)
        else:
            _vector(view, wanted[name], name)
    _need(v.writes[0].shape == (steps, rows, hidden), "y")


def _pointwise(v: _Views) -> None:
    _need(v.stage.point is not None, "program")


def _same(v: _Views) -> None:
    if dict(v.stage.attrs).get("form") == "arange":
        _need(
            not v.reads and len(v.writes) == 1 and len(v.writes[0].shape) == 1, "a row of numbers"
        )
        return
    (x,), (y,) = v.reads, v.writes
    _need(x.shape == y.shape, "x and y")


_RELATIONS: Mapping[TileOp, Callable[[_Views], None]] = {
    TileOp.GEMM: _gemm,
    TileOp.MATMUL: _matmul,
    TileOp.CONV: _conv,
    TileOp.POOL: _pool,
    TileOp.NORM: _norm,
    TileOp.SOFTMAX: _softmax,
    TileOp.ATTENTION: _attention,
    TileOp.REDUCE: _reduce,
    TileOp.GATHER: _gather,
    TileOp.RNN: _rnn,
    TileOp.POINTWISE: _pointwise,
    TileOp.COPY: _same,
}
