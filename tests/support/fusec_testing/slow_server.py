"""A server whose requests of two rows wait for a file; run as a process of its own.

python -m fusec_testing.slow_server REPOSITORY FILE
"""

import asyncio
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from fusec_testing.serving import FakeStore

from fusec.server.messages import Tensor
from fusec.server.running import Options, serve


class SlowStore(FakeStore):
    """Holds requests of two rows until a file is there."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.held = threading.Event()
        threading.Thread(target=self._watch, args=(file,), daemon=True).start()

    def submit(self, key: str, inputs: tuple[Tensor, ...], **how: Any) -> "Future[dict[str, Any]]":
        self.hold = self.held if len(inputs[0].array) == 2 else None
        return super().submit(key, inputs, **how)

    def _watch(self, file: Path) -> None:
        while not file.exists():
            time.sleep(0.01)
        self.held.set()


def main() -> None:
    options = Options(
        repositories=[Path(sys.argv[1])],
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        delay_s=60.0,
        exit_s=60.0,
    )
    store = SlowStore(Path(sys.argv[2]))
    asyncio.run(serve(options, store, lambda text: print(text, file=sys.stderr, flush=True)))


if __name__ == "__main__":
    main()
