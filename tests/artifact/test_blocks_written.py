"""Writing in blocks of a huge page, whatever the sizes of the pieces."""

import io

from hypothesis import given
from hypothesis import strategies as st

from fusec.artifact.atomic import BLOCK_BYTES
from fusec.artifact.write import write_piece


class Recorder(io.BytesIO):
    """Keeps where each write began and ended."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[tuple[int, int]] = []

    def write(self, data: object) -> int:
        start = self.tell()
        n = super().write(data)  # type: ignore[arg-type]
        self.spans.append((start, start + n))
        return n


SIZES = st.one_of(
    st.integers(0, 300),
    st.integers(BLOCK_BYTES - 2, BLOCK_BYTES + 2),
    st.just(2 * BLOCK_BYTES + 1),
)


@given(st.lists(SIZES, max_size=6))
def test_no_write_crosses_the_end_of_a_block(sizes: list[int]) -> None:
    file = Recorder()
    whole = b""
    for n, size in enumerate(sizes):
        piece = bytes([n + 1]) * size
        write_piece(file, memoryview(piece))
        whole += piece
    assert file.getvalue() == whole
    assert all(a // BLOCK_BYTES == (b - 1) // BLOCK_BYTES for a, b in file.spans)
