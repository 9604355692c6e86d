"""Objects laid out once for all: an image is copied into memory, a few addresses added, and runs.

Loading an object takes a linker, and with it LLVM: a third of a process's start. So sections are
put together when kernels are built, and what is left to the loader is in a list:

    rebased    places that hold an offset into the image, to become an address
    outside    places that hold the address of a function of the C library

    [ sections | stubs of functions outside | slots of addresses ]
"""

import json
import struct
from collections.abc import Mapping

from fusec.ir.frozen import dataclass

__all__ = ["Image", "read_image"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """Code, and what its loader has to do."""

    body: bytes
    rebased: tuple[int, ...]
    outside: Mapping[int, str]
    """Place -> name."""
    symbols: Mapping[str, int]
    """Exported name -> offset."""

    def to_bytes(self) -> bytes:
        """Write an image; see `read_image`."""
        head = {
            "rebased": self.rebased,
            "outside": [[k, v] for k, v in self.outside.items()],
            "symbols": self.symbols,
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        return struct.pack("<Q", len(text)) + text + self.body


def read_image(data: bytes) -> Image:
    """Read what `Image.to_bytes` wrote; it is trusted."""
    (length,) = struct.unpack_from("<Q", data)
    head = json.loads(data[8 : 8 + length])
    return Image(
        body=data[8 + length :],
        rebased=tuple(head["rebased"]),
        outside=dict(head["outside"]),
        symbols=head["symbols"],
    )
