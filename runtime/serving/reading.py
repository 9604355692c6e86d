"""Read what clients submit: every call checked, copied, and sorted by template."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeAlias

import numpy as np

from fusec.ir.frozen import dataclass
from fusec.runtime.arrays import Array, is_tensor
from fusec.runtime.native import given_back, inputs_of, no_rows
from fusec.runtime.request import Request, Target, read_request
from fusec.runtime.serving.answer import Answer, Courier
from fusec.runtime.serving.items import Item, Kind

__all__ = ["Reader"]

FindKind: TypeAlias = Callable[[Request], Kind]


@dataclass(frozen=True, slots=True, eq=False)
class _Owned:
    """A copy of a caller's array."""

    array: Array
    address: int


class Reader:
    """Makes items of calls. Safe from many threads."""

    def __init__(self, target: Callable[[str], Target], kind: FindKind, courier: Courier) -> None:
        """Take what knows the models.

        Args:
            target: model -> its member; raises ConfigError for none.
            kind: of a request.
            courier: for the futures.
        """
        self._target, self._kind, self._courier = target, kind, courier

    def read(
        self, requests: Mapping[str, Any]
    ) -> tuple[dict[str, "Future[dict[str, Any]]"], Sequence[list[Item]]]:
        """Read calls.

        Args:
            requests: model name -> inputs.

        Returns:
            A future for each, those of bad calls done already; and the items of the good ones, by
            template.
        """
        futures: dict[str, Future[dict[str, Any]]] = {}
        groups: dict[str, list[Item]] = {}
        copies: dict[int, _Owned] = {}
        for name, given in requests.items():
            future = futures[name] = Answer(self._courier)
            try:
                request = read_request(self._target(name), given)
                if request.rows == 0 and None not in request.choice.template.output_axes:
                    future.set_result(_nothing(request))
                    continue
                item = self._item(request, copies, future)
            except Exception as e:  # noqa: BLE001  (whoever asked is told, the others go on)
                future.set_exception(e)
                continue
            groups.setdefault(item.kind.name, []).append(item)
        return futures, tuple(groups.values())

    def _item(self, request: Request, copies: dict[int, _Owned], future: Answer) -> Item:
        kind = self._kind(request)
        if kind.binding is None:
            inputs = tuple([_whole_copy(value) for value in request.inputs])
            return Item(_with(request, inputs), kind, (), (), future)
        owned = []
        for given, array in zip(request.inputs, inputs_of(request), strict=True):
            copy = copies.get(id(given)) if request.rows != 0 else None
            if copy is None:
                array = np.array(array, order="C", copy=True)
                copy = _Owned(array, array.ctypes.data)
                if request.rows != 0:
                    copies[id(given)] = copy
            owned.append(copy)
        return Item(request, kind, [o.array for o in owned], [o.address for o in owned], future)


def _whole_copy(value: Array) -> Array:
    """Copy an array or a tensor."""
    return value.clone() if is_tensor(value) else np.array(value, copy=True)


def _with(request: Request, inputs: tuple[Array, ...]) -> Request:
    return Request(
        target=request.target,
        choice=request.choice,
        inputs=inputs,
        rows=request.rows,
        wants_numpy=request.wants_numpy,
        extents=request.extents,
    )


def _nothing(request: Request) -> dict[str, Any]:
    """Give the answer to no rows."""
    names = request.target.member.output_names
    return dict(zip(names, given_back(request, no_rows(request, ())), strict=True))
