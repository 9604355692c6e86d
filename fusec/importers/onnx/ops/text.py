"""Strings: object arrays, evaluated while importing only."""

from collections.abc import Mapping
from typing import Final

from fusec.importers.onnx.table import Op

OPS: Final[Mapping[str, Op]] = {}
