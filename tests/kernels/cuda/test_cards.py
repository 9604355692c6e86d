"""What a kernel takes of a card, against figures of NVIDIA's occupancy calculator."""

from dataclasses import replace

import pytest
from fusec_testing.cubins import example_device

from fusec.ir.device import DeviceKernel
from fusec.ir.errors import ConfigError
from fusec.kernels.cuda.cards import CARDS, blocks_per_multiprocessor, card_of, why_not

SMALL = example_device().kernels[0]
H100, A100, L4 = (card_of(f"cuda:sm_{n}") for n in (90, 80, 89))


def kernel(registers: int, warps: int, shared_bytes: int = 0, spill_bytes: int = 0) -> DeviceKernel:
    return replace(
        SMALL,
        registers=registers,
        warps=warps,
        shared_bytes=shared_bytes,
        spill_bytes=spill_bytes,
    )


def test_targets_have_names() -> None:
    assert card_of("cuda:sm_90a") is H100
    assert {card.target for card in CARDS.values()} == set(CARDS)
    for bad in ("sm_90", "cuda:sm_70", "cuda:sm_90ab", "", "cuda", "cuda:sm_80a"):
        with pytest.raises(ConfigError, match=r"give one of cuda:sm_80, .*cuda:sm_90"):
            card_of(bad)


@pytest.mark.parametrize(
    "registers, warps, shared_bytes, blocks",
    [
        (32, 4, 0, 16),  # warps
        (32, 1, 0, 32),  # blocks
        (64, 8, 0, 4),  # registers
        (65, 8, 0, 3),  # registers come in portions of 8 a thread
        (255, 8, 0, 1),
        (32, 4, 48 * 1024, 4),  # shared memory, with the system's KiB
        (32, 4, 227 * 1024, 1),
        (32, 32, 0, 2),
    ],
)
def test_blocks_of_an_h100(registers: int, warps: int, shared_bytes: int, blocks: int) -> None:
    assert blocks_per_multiprocessor(kernel(registers, warps, shared_bytes), H100) == blocks


def test_other_cards_have_less() -> None:
    assert blocks_per_multiprocessor(kernel(32, 4, 48 * 1024), A100) == 3
    assert blocks_per_multiprocessor(kernel(32, 4, 48 * 1024), L4) == 2
    assert blocks_per_multiprocessor(kernel(32, 4), L4) == 12


@pytest.mark.parametrize(
    "bad, reason",
    [
        (kernel(32, 4, 227 * 1024 + 1), "232449 bytes of shared memory, a block on cuda:sm_90 has"),
        (kernel(256, 4), "256 registers of 255"),
        (kernel(200, 16), "200 registers in 16 warps"),
        (kernel(32, 33), "33 warps"),
        (kernel(32, 0), "0 warps"),
        (kernel(32, 4, spill_bytes=8), "spills 8 bytes"),
    ],
)
def test_what_does_not_fit_is_told(bad: DeviceKernel, reason: str) -> None:
    found = why_not(bad, H100)
    assert found is not None
    assert reason in found


def test_what_fits_fits() -> None:
    assert why_not(kernel(255, 8, 227 * 1024), H100) is None
    assert why_not(kernel(128, 16), H100) is None
