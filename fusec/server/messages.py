"""Requests and answers as codecs give and take them, whatever the wire was."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.server.datatypes import Datatype

__all__ = ["InferRequest", "InferResponse", "Parameters", "Tensor", "Wanted"]

Parameters: TypeAlias = Mapping[str, bool | int | float | str]

NO_PARAMETERS: Parameters = {}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A named tensor; its array may be a view of the request's bytes."""

    name: str
    datatype: Datatype
    array: np.ndarray


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that a request asks for."""

    name: str
    binary: bool = False
    """As bytes behind the JSON, over REST."""
    classes: int = 0
    """The best of so many classes in place of values; 0: values."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferRequest:
    """A request for one answer."""

    id: str
    parameters: Parameters
    inputs: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...]
    """None asked for: all of them."""
    binary: bool
    """How outputs are sent that are not asked for by name; over gRPC, whether inputs were raw."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferResponse:
    """The answer to a request."""

    id: str
    model: str
    version: str
    outputs: tuple[Tensor, ...]
