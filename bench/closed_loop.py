"""Clients that ask, wait for the answer and ask again, over HTTP, the same for any server.

All connections are watched by one thread, and requests are bytes made before; so a request costs
the client some 20 us of a core, whoever answers it.

"""

from __future__ import annotations

import gc
import random
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_PATIENCE_S = 30.0


@dataclass(slots=True)
class Tally:
    """What came of a window."""

    seconds: float = 0.0
    latencies_ns: list[int] = field(default_factory=list)
    """Of those that were answered with 200."""
    failures: dict[str, int] = field(default_factory=dict)
    """By status, or what happened to the connection."""
    client_s: float = 0.0
    """Processor time of the clients."""

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.latencies_ns) / self.seconds if self.seconds else 0.0

    def quantile_ms(self, share: float) -> float:
        """Give a quantile of the latencies; NaN if there are none."""
        ordered = sorted(self.latencies_ns)
        if not ordered:
            return float("nan")
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e6


@dataclass(slots=True)
class Answer:
    """One answer of a server."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection that asks one thing at a time."""

    def __init__(self, port: int) -> None:
        """Connect."""
        self._port = port
        self._received = bytearray()
        self._whole = 0
        """Bytes of the answer that comes; 0: not known yet."""
        self.began_ns = 0
        self.socket = self._connected()

    def ask(self, request: bytes) -> None:
        """Send a request."""
        self.began_ns = time.perf_counter_ns()
        self.socket.sendall(request)

    def hear(self) -> bytes | None:
        """Read what there is; give the answer once it is whole.

        Raises:
            ConnectionError: the server has closed the connection.
        """
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError("closed by the server")
        received = self._received
        received += data
        if not self._whole:
            self._whole = _length_of(received)
        if not self._whole or len(received) < self._whole:
            return None
        answer = bytes(received[: self._whole])
        del received[: self._whole]
        self._whole = 0
        return answer

    def again(self) -> None:
        """Connect anew."""
        self.close()
        self._received.clear()
        self._whole = 0
        self.socket = self._connected()

    def close(self) -> None:
        """Leave."""
        self.socket.close()

    def _connected(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self._port), timeout=_PATIENCE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made


def ask_once(port: int, request: bytes) -> Answer:
    """Ask on a connection of its own.

    Raises:
        OSError: there is no server, or it does not answer.
    """
    client = Client(port)
    try:
        client.ask(request)
        while (data := client.hear()) is None:
            pass
    finally:
        client.close()
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    if "chunked" in headers.get("transfer-encoding", ""):
        body = _joined(body)
    return Answer(int(first.split()[1]), headers, body)


def closed_loop(
    port: int, requests: Sequence[bytes], clients: int, seconds: float, seed: int
) -> Tally:
    """Keep clients asking; each draws what it asks from all requests.

    Args:
        port: of the server on this machine.
        requests: what can be asked.
        clients: connections, each with one request at a time.
        seconds: until no more is asked; what is on its way then is awaited and counted.
        seed: of the draws.
    """
    draw, tally = random.Random(seed), Tally()
    order = [draw.randrange(len(requests)) for _ in range(1 << 14)]
    made = [Client(port) for _ in range(clients)]
    by_file = {client.socket.fileno(): client for client in made}
    poll = select.epoll()
    for file in by_file:
        poll.register(file, select.EPOLLIN)
    turn, open_requests = 0, 0
    gc.collect()
    gc.disable()
    worked = time.thread_time()
    begin = time.perf_counter_ns()
    end = begin + int(seconds * 1e9)
    try:
        for client in made:
            client.ask(requests[order[turn % len(order)]])
            turn, open_requests = turn + 1, open_requests + 1
        while open_requests:
            events = poll.poll(_PATIENCE_S)
            if not events:
                tally.failures["no answer"] = open_requests
                break
            for file, _ in events:
                client = by_file[file]
                try:
                    answer = client.hear()
                except ConnectionError as error:
                    answer = None
                    _count(tally, type(error).__name__)
                    poll.unregister(file)
                    del by_file[file]
                    client.again()
                    by_file[client.socket.fileno()] = client
                    poll.register(client.socket.fileno(), select.EPOLLIN)
                else:
                    if answer is None:
                        continue
                    now = time.perf_counter_ns()
                    if answer[9:12] == b"200":
                        tally.latencies_ns.append(now - client.began_ns)
                    else:
                        _count(tally, answer[9:12].decode("latin-1"))
                open_requests -= 1
                if time.perf_counter_ns() < end:
                    client.ask(requests[order[turn % len(order)]])
                    turn, open_requests = turn + 1, open_requests + 1
    finally:
        gc.enable()
        tally.seconds = (time.perf_counter_ns() - begin) / 1e9
        tally.client_s = time.thread_time() - worked
        poll.close()
        for client in made:
            client.close()
    return tally


def _count(tally: Tally, what: str) -> None:
    tally.failures[what] = tally.failures.get(what, 0) + 1


def _length_of(received: bytearray) -> int:
    """Give the length of an answer with its head; 0 if that cannot be told yet."""
    ends = received.find(b"\r\n\r\n")
    if ends < 0:
        return 0
    head = bytes(received[: ends + 2]).lower()
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        return ends + 4 + int(head[at + 17 : head.index(b"\r\n", at + 2)])
    if b"\r\ntransfer-encoding: chunked" not in head:
        return ends + 4
    last = received.find(b"\r\n0\r\n\r\n", ends + 2)
    return last + 7 if last >= 0 else 0


def _joined(body: bytes) -> bytes:
    """Join chunks."""
    parts: list[bytes] = []
    at = 0
    while True:
        line = body.index(b"\r\n", at)
        size = int(body[at:line].split(b";")[0], 16)
        if not size:
            return b"".join(parts)
        parts.append(body[line + 2 : line + 2 + size])
        at = line + 4 + size
