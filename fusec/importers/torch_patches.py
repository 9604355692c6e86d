"""What is switched while a model is traced, and put back afterwards."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules import transformer

from fusec.importers.torch_rnn import RnnMode

__all__ = ["tracing"]

# The switches below are process-wide in torch, so one trace runs at a time.
_LOCK = threading.RLock()


def _no_hint(mask: object, is_causal: bool | None = None, size: int | None = None) -> bool:
    """Answer `_detect_is_causal_mask`: the mask itself is applied, so no hint is needed.

    The original compares the mask's values, which a trace cannot.
    """
    return bool(is_causal)


@contextmanager
def tracing() -> Iterator[list[warnings.WarningMessage]]:
    """Trace inside: no gradients, no fused transformer kernels, recurrent layers kept whole.

    Torch's warnings are about what we check ourselves; they are collected and not shown.

    Yields:
        The warnings.
    """
    with _LOCK:
        module: Any = transformer
        fast, detect = torch.backends.mha.get_fastpath_enabled(), module._detect_is_causal_mask
        torch.backends.mha.set_fastpath_enabled(False)
        module._detect_is_causal_mask = _no_hint
        try:
            with torch.no_grad(), RnnMode(), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield caught
        finally:
            module._detect_is_causal_mask = detect
            torch.backends.mha.set_fastpath_enabled(fast)
