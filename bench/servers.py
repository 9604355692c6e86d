"""Servers of the traffic bench: fusec's runtime, and sessions of ONNX Runtime behind a queue."""

from __future__ import annotations

import gc
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, Literal

from traffic import Call, Inputs

import fusec

Order = Literal["fifo", "edf"]
ORDERS: tuple[Order, ...] = ("fifo", "edf")


def settled() -> None:
    """Keep what is there out of the garbage collector's way, as servers do once they are up.

    Looking through PyTorch's objects stops Python for 0.2 s.
    """
    gc.collect()
    gc.freeze()


class Fusec:
    """A `fusec.Runtime`."""

    def __init__(self, plan: fusec.Plan, **options: Any) -> None:
        """Start it; options are those of `fusec.Runtime`."""
        self.name = f"fusec {options.get('policy', 'slack')}"
        self.runtime = fusec.Runtime(plan, **options)

    def submit(self, call: Call, done: Callable[[bool], None]) -> None:
        """Submit a call as one tick."""
        late_ms = (time.monotonic_ns() - call.at_ns) / 1e6
        due_ms = None if call.due_ns is None else (call.due_ns - call.at_ns) / 1e6 - late_ms
        futures = self.runtime.submit_many(
            {name: x if len(x) > 1 else x[0] for name, x in call.requests.items()},
            deadline_ms=due_ms,
            tenant=call.kind,
        )
        for future in futures.values():
            future.add_done_callback(lambda f: done(_answered(f)))

    def stats(self) -> Any:
        """Give the runtime's figures."""
        return self.runtime.stats()

    def close(self) -> None:
        """Stop at once."""
        self.runtime.close(drain=False)


def _answered(future: Future[Any]) -> bool:
    try:
        return future.exception() is None
    except CancelledError:
        return False


class Sessions:
    """One session per model; workers take the next request from a queue, whole.

    What is late already when its turn comes is given up: nobody would do more for such a queue.
    """

    def __init__(
        self, contents: Mapping[str, bytes | str], order: Order, workers: int, threads: int
    ) -> None:
        """Make all sessions and start the workers.

        Args:
            contents: the models.
            order: first come, first served, or by deadline.
            workers: requests that run at once.
            threads: of the one pool that all sessions of the process share, which does not spin.
        """
        import onnxruntime

        self.name = f"onnxruntime {order}, {workers} at once"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")
        _make_pool(threads)
        options.use_per_session_threads = False
        self._sessions = {
            name: onnxruntime.InferenceSession(content, options)
            for name, content in contents.items()
        }
        self._keys = {n: [i.name for i in s.get_inputs()] for n, s in self._sessions.items()}
        self._order = order
        self._numbers = itertools.count()
        self._queue: list[tuple[float, int, Call, str, Inputs, Callable[[bool], None]]] = []
        self._ready = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Call, done: Callable[[bool], None]) -> None:
        """Queue every request of a call."""
        due = float("inf") if call.due_ns is None else float(call.due_ns)
        rank = due if self._order == "edf" else 0.0
        with self._ready:
            for name, inputs in call.requests.items():
                entry = (rank, next(self._numbers), call, name, inputs, done)
                heapq.heappush(self._queue, entry)
            self._ready.notify_all()

    def close(self) -> None:
        """Stop the workers."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._queue and not self._closed:
                    self._ready.wait()
                if self._closed:
                    return
                _, _, call, name, inputs, done = heapq.heappop(self._queue)
            if call.due_ns is not None and time.monotonic_ns() > call.due_ns:
                done(False)
                continue
            feed = dict(zip(self._keys[name], inputs, strict=True))
            self._sessions[name].run(None, feed)
            done(True)


_POOLS: list[int] = []


def _make_pool(threads: int) -> None:
    """Make the one pool of this process; its size is fixed from then on."""
    import onnxruntime

    if not _POOLS:
        onnxruntime.set_global_thread_pool_sizes(threads, 1)
        _POOLS.append(threads)
