"""Green contexts: equal shares of a card's multiprocessors, one for each lane.

All lanes have one or none has: kernels of a stream without one run on everybody's multiprocessors.
What a share does not separate is memory and its caches.
"""

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_uint

from fusec.ir.errors import UnsupportedError
from fusec.ir.frozen import dataclass
from fusec.runtime.cuda.context import Context
from fusec.runtime.cuda.library import OPTIONAL

__all__ = ["Share", "shares_of"]

_MULTIPROCESSORS = 1
"""Number of the kind of resource."""
_DEFAULT_STREAM = 1
_RESOURCE_BYTES = 512
"""Of a CUdevResource, generously: newer drivers have longer ones."""
_COUNT_AT = 96
"""Where in it the number of multiprocessors is."""


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """Some multiprocessors of a card."""

    context: Context
    handle: int
    """Of the green context."""
    multiprocessors: int

    def close(self) -> None:
        """Give it back; its streams are closed by then."""
        self.context.call("cuGreenCtxDestroy", self.handle)


class _Resource:
    """A CUdevResource, of which only kind and number are read."""

    def __init__(self) -> None:
        self.memory = ctypes.create_string_buffer(_RESOURCE_BYTES)

    @property
    def address(self) -> int:
        return ctypes.addressof(self.memory)

    @property
    def kind(self) -> int:
        return int.from_bytes(self.memory.raw[:4], "little")

    @property
    def multiprocessors(self) -> int:
        return int.from_bytes(self.memory.raw[_COUNT_AT : _COUNT_AT + 4], "little")


def shares_of(context: Context, count: int) -> Sequence[Share]:
    """Cut a card into equal shares, all of them or none.

    Args:
        context: of the card.
        count: how many.

    Raises:
        UnsupportedError: the driver has no green contexts, or the card not that many
            multiprocessors; says what to do.
        KernelError: the driver refuses.
    """
    missing = context.lacks(OPTIONAL)
    if missing:
        raise UnsupportedError(
            f"lanes cannot have multiprocessors of their own: the driver has no {missing[0]} "
            "(CUDA 12.5 or newer has); leave green out"
        )
    major = context.properties.capability[0]
    # Of which the driver makes shares, and the least one.
    grain, least = (8, 8) if major >= 9 else (2, 4)
    whole = _Resource()
    context.call("cuDeviceGetDevResource", context.device, whole.address, _MULTIPROCESSORS)
    share = whole.multiprocessors // count // grain * grain
    if whole.kind != _MULTIPROCESSORS or share < least:
        raise UnsupportedError(
            f"{count} lanes cannot have multiprocessors of their own: the card has "
            f"{whole.multiprocessors}, a share has {least} at least; take fewer lanes or leave "
            "green out"
        )
    made: list[Share] = []
    try:
        rest = whole
        for _ in range(count):
            own, rest = _cut(context, rest, share)
            made.append(_share(context, own))
    except BaseException:
        for one in made:
            one.close()
        raise
    return made


def _cut(context: Context, source: _Resource, wanted: int) -> tuple[_Resource, _Resource]:
    """Take a share off; give it, and what is left."""
    own, rest, groups = _Resource(), _Resource(), c_uint(1)
    context.call(
        *("cuDevSmResourceSplitByCount", own.address, byref(groups)),
        *(source.address, rest.address, 0, wanted),
    )
    found = own.multiprocessors
    if groups.value != 1 or own.kind != _MULTIPROCESSORS or not wanted <= found <= 2 * wanted:
        raise UnsupportedError(
            f"the driver gives {found} multiprocessors where {wanted} were asked for; leave green "
            "out"
        )
    return own, rest


def _share(context: Context, own: _Resource) -> Share:
    description = context.create("cuDevResourceGenerateDesc", own.address, 1)
    handle = context.create("cuGreenCtxCreate", description, context.device, _DEFAULT_STREAM)
    return Share(context, handle, own.multiprocessors)
