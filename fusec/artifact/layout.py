"""Bytes of a plan file: header, manifest, weights.

 0  magic                          8 bytes
 8  format version                 u32, little-endian like all numbers here
12  zero                           u32
16  length of the file             u64
24  length of the manifest         u64
32  blake2b-256 of bytes 0 to 32 and the manifest
64  manifest                       JSON, UTF-8
    zeros up to a multiple of 64
    weights, each starting at a multiple of 64, in the order of the manifest's table
"""

import hashlib
import struct

from fusec.ir.frozen import dataclass

__all__ = ["ALIGN_BYTES", "FORMAT", "HEADER_BYTES", "MAGIC", "Header", "align", "seal"]

MAGIC = b"\x93FUSEC\r\n"
"""Not text, and damaged by every tool that takes it for text and changes its line ends."""

FORMAT = 4
"""Version of the format that this code writes and the only one it reads."""

HEADER_BYTES = 64
ALIGN_BYTES = 64
"""Cache line; the widest vector load."""

_FIELDS = struct.Struct("<8sIIQQ")


@dataclass(frozen=True, slots=True)
class Header:
    """The first 64 bytes of a plan file, as they claim to be."""

    magic: bytes
    version: int
    reserved: int
    file_bytes: int
    manifest_bytes: int
    digest: bytes

    @staticmethod
    def unpack(data: bytes) -> "Header":
        """Read a header from exactly 64 bytes; nothing is checked."""
        magic, version, reserved, file_bytes, manifest_bytes = _FIELDS.unpack_from(data)
        digest = data[_FIELDS.size : HEADER_BYTES]
        return Header(magic, version, reserved, file_bytes, manifest_bytes, digest)

    @property
    def data_start(self) -> int:
        """Offset of the first weight in the file."""
        return align(HEADER_BYTES + self.manifest_bytes)

    def seals(self, manifest: memoryview | bytes) -> bool:
        """Return whether header and manifest are what was written."""
        head = _FIELDS.pack(
            self.magic, self.version, self.reserved, self.file_bytes, self.manifest_bytes
        )
        return _digest(head, manifest) == self.digest


def seal(manifest: bytes, data_bytes: int) -> bytes:
    """Give the header of a file with this manifest and `data_bytes` of weights after it."""
    file_bytes = align(HEADER_BYTES + len(manifest)) + data_bytes
    head = _FIELDS.pack(MAGIC, FORMAT, 0, file_bytes, len(manifest))
    return head + _digest(head, manifest)


def align(offset: int) -> int:
    """Give the next multiple of 64 at or above an offset."""
    return -(-offset // ALIGN_BYTES) * ALIGN_BYTES


def _digest(head: bytes, manifest: memoryview | bytes) -> bytes:
    digest = hashlib.blake2b(head, digest_size=HEADER_BYTES - _FIELDS.size)
    digest.update(manifest)
    return digest.digest()
