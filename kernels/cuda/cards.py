"""What multiprocessors of NVIDIA cards have, and what of it a block takes.

Numbers are those of "Technical Specifications per Compute Capability" in NVIDIA's CUDA C++
Programming Guide.
"""

import re
from collections.abc import Mapping

from fusec.ir.device import DeviceKernel
from fusec.ir.errors import ConfigError
from fusec.ir.frozen import dataclass

__all__ = ["CARDS", "Card", "blocks_per_multiprocessor", "card_of", "why_not"]

_KIB = 1024
_WARP_THREADS = 32
_REGISTER_GRAIN = 256
"""Registers come to warps in such portions."""
_SHARED_GRAIN = 128
_MAX_BLOCK_WARPS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A compute capability: limits of a multiprocessor, and of a block or thread on it."""

    arch: int
    """Such as 90."""
    shared_bytes: int
    """Of a multiprocessor."""
    block_shared_bytes: int
    """Of a block that opts in to more than 48 KiB."""
    warps: int
    blocks: int
    registers: int = 65536
    thread_registers: int = 255
    reserved_bytes: int = _KIB
    """Shared memory that the system takes for each block."""

    @property
    def target(self) -> str:
        """Name of the target, such as "cuda:sm_90"."""
        return f"cuda:sm_{self.arch}"


def _card(arch: int, shared_kib: int, warps: int, blocks: int) -> Card:
    return Card(
        arch=arch,
        shared_bytes=shared_kib * _KIB,
        block_shared_bytes=(shared_kib - 1) * _KIB,
        warps=warps,
        blocks=blocks,
    )


CARDS: Mapping[str, Card] = {
    card.target: card
    for card in (
        _card(80, 164, warps=64, blocks=32),
        _card(86, 100, warps=48, blocks=16),
        _card(89, 100, warps=48, blocks=24),
        _card(90, 228, warps=64, blocks=32),
    )
}
"""By target: A100; RTX 30, A10; RTX 40, L4; H100, H200."""


def card_of(target: str) -> Card:
    """Give the card of a target's name.

    Raises:
        ConfigError: no such target.
    """
    # What people write who know compilers: sm_90a.
    found = CARDS.get(re.sub(r"\Acuda:sm_90a\Z", "cuda:sm_90", target))
    if found is None:
        raise ConfigError(f"target {target!r} is not known; give one of {', '.join(CARDS)}")
    return found


def why_not(kernel: DeviceKernel, card: Card) -> str | None:
    """Say why a kernel is not to be used on a card, None if it can be.

    A kernel that spills runs, but another configuration does the same without.
    """
    if kernel.shared_bytes > card.block_shared_bytes:
        return (
            f"takes {kernel.shared_bytes} bytes of shared memory, a block on {card.target} has "
            f"{card.block_shared_bytes}"
        )
    if kernel.registers > card.thread_registers:
        return f"takes {kernel.registers} registers of {card.thread_registers}"
    if not 1 <= kernel.warps <= _MAX_BLOCK_WARPS:
        return f"takes {kernel.warps} warps, a block has 1 to {_MAX_BLOCK_WARPS}"
    if blocks_per_multiprocessor(kernel, card) < 1:
        return (
            f"{kernel.registers} registers in {kernel.warps} warps are more than a "
            f"multiprocessor's {card.registers}"
        )
    if kernel.spill_bytes:
        return f"spills {kernel.spill_bytes} bytes of registers"
    return None


def blocks_per_multiprocessor(kernel: DeviceKernel, card: Card) -> int:
    """Count the blocks of a kernel that are resident on a multiprocessor at once."""
    warp_registers = _up(max(kernel.registers, 1) * _WARP_THREADS, _REGISTER_GRAIN)
    block_bytes = _up(kernel.shared_bytes + card.reserved_bytes, _SHARED_GRAIN)
    return min(
        card.blocks,
        card.warps // kernel.warps,
        card.registers // warp_registers // kernel.warps,
        card.shared_bytes // block_bytes,
    )


def _up(number: int, grain: int) -> int:
    return -(-number // grain) * grain
