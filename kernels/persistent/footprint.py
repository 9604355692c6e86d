"""Which elements the tiles of a stage read and write, element by element, as its kernel does.

Computed from the same words that the kernel reads, so views, strides and windows need no rules of
their own. Each operand gives one `Access`: addresses of elements, and for each of them which tiles
touch it, by number of the block of rows, of columns and the layer; -1 stands for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusec.ir.dtypes import itemsize_bytes
from fusec.ir.frozen import dataclass
from fusec.kernels.grouped.bind import Bound
from fusec.kernels.triton_table import Special

__all__ = ["ALL", "Access", "footprint"]

ALL = -1
"""In place of a block's number: all blocks."""

_Array: TypeAlias = "NDArray[np.int64]"
_Part: TypeAlias = "NDArray[np.int64] | int"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Access:
    """Elements of one operand; the arrays broadcast to each other."""

    addresses: _Array
    size_bytes: int
    """Of an element."""
    writes: bool
    row: _Array
    column: _Array
    layer: _Array


def footprint(
    special: Special, bound: Bound, moving: Callable[[int], bool]
) -> tuple[Access, ...] | None:
    """Give what the tiles of one row of a stage's table read and write.

    Args:
        special: the kernel with its constants.
        bound: the row.
        moving: address -> whether it is in a buffer that stages write to; others are left out.

    Returns:
        None where tiles of the kernel may read or write anything of their operands.

    Cost: some nanoseconds per element.
    """
    found = _FOOTPRINTS.get(special.kernel.function)
    if found is None:
        return None
    book = _Book(special, bound, moving)
    found(book)
    return tuple(book.accesses)


class _Book:
    """Takes down accesses of one row of a table."""

    def __init__(self, special: Special, bound: Bound, moving: Callable[[int], bool]) -> None:
        self.words: list[int] = bound.words.tolist()
        self.lines, self.layers = bound.column_blocks, bound.layers
        self.constants = dict(special.constants)
        blocks = dict(special.config.blocks)
        self._m, self._n = blocks.get("BLOCK_M", 1), blocks.get("BLOCK_N", 1)
        self._moving = moving
        self.accesses: list[Access] = []

    def text(self, name: str) -> str:
        """Give a constant."""
        return str(self.constants[name])

    def moves(self, word: int) -> bool:
        """Tell whether stages write to where an operand is."""
        return self._moving(self.words[word])

    def rows(self, numbers: _Array) -> _Array:
        """Give the blocks that rows are in."""
        return numbers // self._m

    def columns(self, numbers: _Array) -> _Array:
        """Give the blocks that columns are in."""
        return numbers // self._n

    def add(
        self,
        word: int,
        dtype: str,
        offsets: _Array,
        tile: Sequence[_Part],
        *,
        writes: bool = False,
    ) -> None:
        """Take down an operand.

        Args:
            word: where its address is.
            dtype: of its elements.
            offsets: of elements.
            tile: row, column, layer.
            writes: or reads.
        """
        address = self.words[word]
        if self.moves(word):
            size = itemsize_bytes(dtype)
            row, column, layer = (np.asarray(part, np.int64) for part in tile)
            self.accesses.append(
                Access(
                    addresses=address + offsets * size,
                    size_bytes=size,
                    writes=writes,
                    row=row,
                    column=column,
                    layer=layer,
                )
            )

    def finish(self, at: int, name: str, frame: Sequence[_Array], tile: Sequence[_Part]) -> None:
        """Take down what a pointwise program loads and stores: see `grouped.program`."""
        loads, _, results = self.text(name).split("|")
        for part, writes in ((loads, False), (results, True)):
            for spelled in filter(None, part.split(",")):
                if spelled.startswith("self"):
                    continue
                dtype, near = spelled.split(":")[:2]
                steps = [*self.words[at + 1 : at + 1 + len(frame)]]
                if near == "1":
                    steps[-1] = 1
                self.add(at, dtype, _offsets(steps, frame), tile, writes=writes)
                at += 1 + len(frame)


def _offsets(steps: Sequence[int], frame: Sequence[_Array]) -> _Array:
    total = np.zeros((), np.int64)
    for step, coordinate in zip(steps, frame, strict=True):
        total = total + coordinate * step
    return total


def _upto(count: int, axis: int = 0, axes: int = 1) -> _Array:
    """Count along one of several axes."""
    shape = [1] * axes
    shape[axis] = count
    return np.arange(count, dtype=np.int64).reshape(shape)


def _gemm(book: _Book) -> None:
    m, k, n, step, nr = book.words[3:8]
    rows, columns = _upto(m, 0, 2), _upto(n, 1, 2)
    tile = (book.rows(rows), book.columns(columns), ALL)
    book.add(0, book.text("A_DTYPE"), rows * step + _upto(k, 1, 2), (tile[0], ALL, ALL))
    if book.moves(1):
        book.add(1, book.text("B_DTYPE"), _upto(-(-n // nr) * nr * k), (ALL, ALL, ALL))
    if book.text("BIAS"):
        book.add(2, book.text("BIAS"), columns, (ALL, tile[1], ALL))
    book.finish(8, "POINT", (rows, columns), tile)


def _matmul(book: _Book) -> None:
    m, k, n, inner = book.words[3:7]
    rows, columns, layer = _upto(m, 1, 3), _upto(n, 2, 3), _upto(book.layers, 0, 3)
    first, second = layer // max(inner, 1), layer % max(inner, 1)
    a, b = [*book.words[7:10], 1], book.words[10:14]
    tile = (book.rows(rows), book.columns(columns), layer)
    offsets = _offsets(a, (first, second, rows, _upto(k, 2, 3)))
    book.add(0, book.text("A_DTYPE"), offsets, (tile[0], ALL, layer))
    offsets = _offsets(b, (first, second, _upto(k, 1, 3), columns))
    book.add(1, book.text("B_DTYPE"), offsets, (ALL, tile[1], layer))
    if book.text("BIAS"):
        book.add(2, book.text("BIAS"), columns, (ALL, tile[1], ALL))
    book.finish(14, "POINT", (first, second, rows, columns), tile)


def _attention(book: _Book) -> None:
    w, dtype = book.words, book.text("X_DTYPE")
    s, t, heads, group, d, e = w[4:10]
    layer, rows = _upto(book.layers, 0, 3), _upto(s, 1, 3)
    sample, head = layer // max(heads, 1), layer % max(heads, 1)
    shared, keys = head // group, _upto(t, 1, 3)
    block = book.rows(rows)
    for word, at, number, line, width, row in (
        (0, 11, head, rows, d, block),
        (1, 14, shared, keys, d, ALL),
        (2, 17, shared, keys, e, ALL),
    ):
        offsets = _offsets([*w[at : at + 3], 1], (sample, number, line, _upto(width, 2, 3)))
        book.add(word, dtype, offsets, (row, ALL, layer))
    if book.text("MASK"):
        offsets = _offsets(w[20:24], (sample, head, rows, _upto(t, 2, 3)))
        book.add(3, book.text("MASK"), offsets, (block, ALL, layer))
    book.finish(24, "POINT", (sample, head, rows, _upto(e, 2, 3)), (block, ALL, layer))


def _pointwise(book: _Book) -> None:
    axes = int(book.constants["AXES"])
    rows, columns = _upto(book.words[0], 0, 2), _upto(book.words[1], 1, 2)
    frame: tuple[_Array, ...] = (columns,)
    rest = rows
    for extent in reversed(book.words[2:axes]):
        frame = (rest % max(extent, 1), *frame)
        rest = rest // max(extent, 1)
    tile = (book.rows(rows), book.columns(columns), ALL)
    book.finish(axes, "POINT", (rest, *frame), tile)


def _softmax(book: _Book) -> None:
    rows, columns = _upto(book.words[0], 0, 2), _upto(book.words[1], 1, 2)
    tile = (book.rows(rows), ALL, ALL)
    book.add(2, book.text("X_DTYPE"), rows * book.words[3] + columns, tile)
    book.finish(5, "POINT", (rows, columns), tile)


def _norm(book: _Book) -> None:
    count, n, groups, inner = book.words[:4]
    axes, kind = int(book.constants["AXES"]), book.text("KIND")
    rows, columns = _upto(count, 0, 2), _upto(n, 1, 2)
    groups, inner = max(groups, 1), max(inner, 1)
    frame: tuple[_Array, ...] = (rows, columns)
    channel = columns
    if kind == "group":
        channel = (rows % groups) * (n // inner) + columns // inner
        frame = (rows // groups, rows % groups, columns // inner, columns % inner)
    elif kind == "columns":
        channel = (rows % groups) * inner + columns % inner
        frame = (rows // groups, columns // inner, channel)
    tile = (book.rows(rows), ALL, ALL)
    steps = [*book.words[8 : 8 + axes - 1], 1]
    book.add(7, book.text("X_DTYPE"), _offsets(steps, frame), tile)
    for word, name in ((4, "WEIGHT"), (5, "BIAS")):
        if book.text(name):
            book.add(word, book.text(name), channel, tile)
    book.finish(8 + axes, "POINT", frame, tile)


def _reduce(book: _Book) -> None:
    results, n, inner = book.words[:3]
    start, outer_step, inner_step, step = book.words[5:9]
    columns = bool(book.constants["COLUMNS"])
    line, result = _upto(book.lines if columns else 1, 0, 3), _upto(results, 1, 3)
    number = _upto(n, 2, 3)
    inner = max(inner, 1)
    inner_step = 1 if book.constants["NEAR"] else inner_step
    # With one axis of the two, its numbers are those of the sum.
    offsets = (number // inner) * outer_step + (number % inner) * inner_step
    if book.constants["FLAT"]:
        offsets = number * inner_step
    offsets = offsets + line * start + result * (1 if columns else step)
    tile = (book.rows(result), line if columns else ALL, ALL)
    book.add(4, book.text("X_DTYPE"), offsets, tile)
    line, result = line[:, :, 0], result[:, :, 0]
    tile = (book.rows(result), line if columns else ALL, ALL)
    book.finish(9, "POINT", (line, result) if columns else (result,), tile)
    if book.text("SECOND"):
        book.finish(int(book.constants["SECOND_AT"]), "SECOND", (result,), tile)


def _gather(book: _Book) -> None:
    w, dtype = book.words, book.text("X_DTYPE")
    count, inner, limit = w[2:5]
    if book.text("FORM") == "panels":
        # Rows of a packed weight, which nobody writes.
        limit = 0
    sample, rows, columns = _upto(book.layers, 0, 3), _upto(count, 1, 3), _upto(inner, 2, 3)
    along = book.text("FORM") == "along"
    offsets = _offsets((w[5], w[6], w[7] if along else 1), (sample, _upto(limit, 1, 3), columns))
    book.add(0, dtype, offsets, (ALL, ALL, sample))
    tile = (book.rows(rows), book.columns(columns), sample)
    offsets = _offsets((w[8], w[9], w[10] if along else 0), (sample, rows, columns))
    book.add(1, book.text("INDEX"), offsets, tile)
    book.finish(13, "POINT", (sample, rows, columns), tile)


def _conv(book: _Book) -> None:
    w = book.words
    pixels, n, channels, groups, height, width, out_width = w[3:10]
    depthwise = "C_MULTIPLE" not in book.constants
    row, column, live = _taps(
        _upto(pixels) // max(out_width, 1),
        _upto(pixels) % max(out_width, 1),
        w[10:18],
        (height, width),
        bool(book.constants["TRANSPOSED"]),
    )
    block = np.broadcast_to(book.rows(_upto(pixels))[:, None], live.shape)
    block, place = _windows(block[live], row[live] * width + column[live])
    layer = _upto(book.layers, 0, 3)
    image, group = layer // max(groups, 1), layer % max(groups, 1)
    channel = _upto(n if depthwise else channels, 2, 3)
    near = 1 if book.constants["NEAR"] else w[21]
    offsets = image * w[18] + (place // max(width, 1))[None, :, None] * w[19]
    offsets = offsets + (place % max(width, 1))[None, :, None] * w[20]
    offsets = offsets + (channel if depthwise else group * channels + channel) * near
    tile = (block[None, :, None], book.columns(channel) if depthwise else ALL, layer)
    book.add(0, book.text("A_DTYPE"), offsets, tile)
    rows, columns = _upto(pixels, 1, 3), _upto(n, 2, 3)
    out = group * n + columns
    tile = (book.rows(rows), book.columns(columns), layer)
    if book.text("BIAS"):
        book.add(2, book.text("BIAS"), out, (ALL, *tile[1:]))
    frame = (image, rows // max(out_width, 1), rows % max(out_width, 1), out)
    book.finish(26, "POINT", frame, tile)


def _pool(book: _Book) -> None:
    w = book.words
    pixels, channels, height, width, _, out_width = w[1:7]
    number = _upto(pixels)
    if book.text("MODE") in ("max", "avg"):
        y, x = number // max(out_width, 1), number % max(out_width, 1)
        row, column, live = _taps(y, x, w[7:15], (height, width), False)
        block = np.broadcast_to(book.rows(number)[:, None], live.shape)
        block, place = _windows(block[live], row[live] * width + column[live])
    else:
        place = _upto(height * width)
        block = np.full_like(place, ALL)
    layer, channel = _upto(book.layers, 0, 3), _upto(channels, 2, 3)
    offsets = layer * w[18] + (place // max(width, 1))[None, :, None] * w[19]
    offsets = offsets + (place % max(width, 1))[None, :, None] * w[20]
    offsets = offsets + channel * (1 if book.constants["NEAR"] else w[21])
    across = book.columns(channel)
    book.add(0, book.text("X_DTYPE"), offsets, (block[None, :, None], across, layer))
    rows = _upto(pixels, 1, 3)
    frame = (layer, rows // max(out_width, 1), rows % max(out_width, 1), channel)
    book.finish(22, "POINT", frame, (book.rows(rows), across, layer))


def _taps(
    y: _Array, x: _Array, window: Sequence[int], extents: tuple[int, int], transposed: bool
) -> tuple[_Array, _Array, NDArray[np.bool_]]:
    """Give the pixels that each output pixel reads [pixels, taps], and which of them there are.

    Args:
        y: rows of output pixels.
        x: their columns.
        window: kernel y, x; stride y, x; padding y, x; dilation y, x.
        extents: of the input.
        transposed: pixels are those that are spread to the output's.
    """
    taps = np.arange(window[0] * window[1], dtype=np.int64)[None, :]
    found, live = [], np.ones((1, 1), np.bool_)
    numbers = (taps // max(window[1], 1), taps % max(window[1], 1))
    for axis, (at, tap) in enumerate(zip((y, x), numbers, strict=True)):
        stride, padding, dilation = (window[part + axis] for part in (2, 4, 6))
        if transposed:
            spread = at[:, None] + padding - tap * dilation
            place = spread // stride
            live = live & (spread % stride == 0)
        else:
            place = at[:, None] * stride - padding + tap * dilation
        live = live & (place >= 0) & (place < extents[axis])
        found.append(place)
    return (*np.broadcast_arrays(*found), live)  # type: ignore[return-value]


def _windows(block: _Array, place: _Array) -> tuple[_Array, _Array]:
    """Give each block's pixels once."""
    most = int(place.max(initial=0)) + 1
    pairs = np.unique(block * most + place)
    return pairs // most, pairs % most


_FOOTPRINTS: Mapping[str, Callable[[_Book], None]] = {
    "gemm": _gemm,
    "matmul": _matmul,
    "attention": _attention,
    "pointwise": _pointwise,
    "softmax": _softmax,
    "norm": _norm,
    "reduce": _reduce,
    "gather": _gather,
    "conv": _conv,
    "depthwise": _conv,
    "pool": _pool,
}
"""By kernel; of those that run through time in one tile, all is read and written by each."""
