"""Control flow: ``If``, ``Loop``, ``Scan`` and ``Identity``."""

from collections.abc import Mapping
from typing import Final

from fusec.importers.onnx.call import Call
from fusec.importers.onnx.table import Op
from fusec.importers.onnx.values import Value


def _identity(call: Call, value: Value) -> Value:
    return value


OPS: Final[Mapping[str, Op]] = {
    "Identity": Op(run=_identity, either=True),
}
