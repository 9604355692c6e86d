"""Keeps torch's exporters from talking about things that a user of fusec cannot act on."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]

LOGGERS = ("torch.onnx._internal.exporter._registration", "torch.export", "onnxscript")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and the exporters' loggers."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
