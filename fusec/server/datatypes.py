"""Datatypes by the protocol's names, and what they are in fusec, NumPy and config.pbtxt."""

import numpy as np

from fusec.ir.frozen import dataclass

__all__ = ["BYTES", "BY_CONFIG", "BY_FUSEC", "DATATYPES", "Datatype"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Datatype:
    """A datatype of tensors on the wire."""

    name: str
    config: str
    """Name in config.pbtxt."""
    fusec: str | None
    """Name of a dtype; None: no model takes it."""
    numpy: np.dtype[np.generic]
    """As it is sent, little-endian. Bfloat16 comes as integers, BYTES as objects of `bytes`."""
    contents: str | None
    """Field of typed gRPC contents; None: only raw."""

    @property
    def json(self) -> bool:
        """Whether it can be written as JSON."""
        return self.contents is not None


def _table() -> dict[str, Datatype]:
    rows = [
        ("BOOL", "TYPE_BOOL", "bool", "?", "bool_contents"),
        ("UINT8", "TYPE_UINT8", "uint8", "<u1", "uint_contents"),
        ("UINT16", "TYPE_UINT16", "uint16", "<u2", "uint_contents"),
        ("UINT32", "TYPE_UINT32", "uint32", "<u4", "uint_contents"),
        ("UINT64", "TYPE_UINT64", "uint64", "<u8", "uint64_contents"),
        ("INT8", "TYPE_INT8", "int8", "<i1", "int_contents"),
        ("INT16", "TYPE_INT16", "int16", "<i2", "int_contents"),
        ("INT32", "TYPE_INT32", "int32", "<i4", "int_contents"),
        ("INT64", "TYPE_INT64", "int64", "<i8", "int64_contents"),
        ("FP16", "TYPE_FP16", "float16", "<f2", None),
        ("FP32", "TYPE_FP32", "float32", "<f4", "fp32_contents"),
        ("FP64", "TYPE_FP64", "float64", "<f8", "fp64_contents"),
        ("BF16", "TYPE_BF16", "bfloat16", "<u2", None),
        ("BYTES", "TYPE_STRING", None, "O", "bytes_contents"),
    ]
    return {
        name: Datatype(
            name=name, config=config, fusec=dtype, numpy=np.dtype(numpy), contents=contents
        )
        for name, config, dtype, numpy, contents in rows
    }


DATATYPES: dict[str, Datatype] = _table()
BYTES = DATATYPES["BYTES"]
BY_CONFIG: dict[str, Datatype] = {d.config: d for d in DATATYPES.values()}
BY_FUSEC: dict[str, Datatype] = {d.fusec: d for d in DATATYPES.values() if d.fusec is not None}
