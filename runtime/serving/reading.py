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
from fusec.runtime.serving.ticks import Ticks

__all__ = ["Reader"]

FindKind: TypeAlias = Callable[[Request], Kind]
Futures: TypeAlias = "dict[str, Future[dict[str, Any]]]"


@dataclass(frozen=True, slots=True, eq=False)
class _Owned:
    """A copy of a caller's array."""

    array: Array
    address: int


class Reader:
    """Makes items of calls. Safe from many threads."""

    def __init__(
        self,
        target: Callable[[str], Target],
        version: Callable[[], int],
        kind: FindKind,
        courier: Courier,
    ) -> None:
        """Take what knows the models.

        Args:
            target: model -> its member; raises ConfigError for none.
            version: changes whenever a member comes or goes.
            kind: of a request.
            courier: for the futures.
        """
        self._target, self._version, self._kind = target, version, kind
        self._courier = courier
        self._ticks = Ticks(courier)

    def read(self, requests: Mapping[str, Any]) -> tuple[Futures, Sequence[Sequence[Item]]]:
        """Read calls.

        Args:
            requests: model name -> inputs.

        Returns:
            A future for each, those of bad calls done already; and the items of the good ones, by
            template.
        """
        if len(requests) == 1:
            return self._read(requests)
        version = self._version()
        known = self._ticks.read(requests, version)
        if known is not None:
            return known
        futures, groups = self._read(requests)
        self._ticks.remember(tuple(requests), groups, version)
        return futures, groups

    def _read(self, requests: Mapping[str, Any]) -> tuple[Futures, Sequence[Sequence[Item]]]:
        futures: Futures = {}
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
            return Item(request.having(inputs), kind, (), (), future)
        owned = []
        for given, array in zip(request.inputs, inputs_of(request), strict=True):
            copy = copies.get(id(given)) if request.rows != 0 else None
            if copy is None:
                array = np.array(array, order="C", copy=True)
                copy = _Owned(array, array.ctypes.data)
                if request.rows != 0:
                    copies[id(given)] = copy
            owned.append(copy)
        arrays, addresses = [o.array for o in owned], [o.address for o in owned]
        return Item(request.having(()), kind, arrays, addresses, future)


def _whole_copy(value: Array) -> Array:
    """Copy an array or a tensor."""
    return value.clone() if is_tensor(value) else np.array(value, copy=True)


def _nothing(request: Request) -> dict[str, Any]:
    """Give the answer to no rows."""
    names = request.target.member.output_names
    return dict(zip(names, given_back(request, no_rows(request, ())), strict=True))
