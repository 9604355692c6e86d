"""One request, whatever the wire: find the model, check, schedule, await, pick the outputs."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from fusec.server.checking import check_request, rows_of, wanted_outputs
from fusec.server.classes import best_classes
from fusec.server.errors import Fault, ServerError, as_server_error
from fusec.server.limits import Limits
from fusec.server.messages import InferRequest, InferResponse, Tensor, Wanted
from fusec.server.models import Table, Version
from fusec.server.parameters import read_asks
from fusec.server.queueing import place_of
from fusec.server.statistics import Reason, Times, reason_of
from fusec.server.store import Store, wire_array

__all__ = ["Service"]

_MS = 1_000_000


class Service:
    """Answers infer requests. All of it runs on one event loop."""

    def __init__(
        self,
        table: Table,
        store: Store,
        limits: Limits,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Take what is served.

        Args:
            table: models and versions.
            store: runs them.
            limits: of tenants.
            clock: gives nanoseconds.
        """
        self.table, self.store, self._clock = table, store, clock
        self._most_tenants, self._tenants = limits.tenants, set[str]()

    async def infer(
        self,
        name: str,
        version_name: str | None,
        request: InferRequest,
        *,
        began_ns: int | None = None,
        deadline_ms: float | None = None,
    ) -> tuple[InferResponse, Sequence[Wanted]]:
        """Answer one request; cancelling the task cancels it.

        Args:
            name: of the model.
            version_name: of its version; None or empty: the newest.
            request: as read.
            began_ns: when reading it began.
            deadline_ms: of the connection, from now on.

        Returns:
            The answer, and for each of its outputs how it was asked for.

        Raises:
            ServerError: whatever went wrong.
        """
        began = self._clock() if began_ns is None else began_ns
        model, version = self.table.find(name, version_name)
        statistics = version.statistics
        version.enter()
        try:
            wanted = wanted_outputs(request, model, version)
            check_request(request, model, version)
            asks = read_asks(request.parameters)
            place = place_of(model, asks, deadline_ms)
            asked = self._clock()
            future, answer = await place.answer(
                partial(
                    self.store.submit,
                    version.key,
                    request.inputs,
                    tenant=self._tenant(asks.tenant) or model.settings.tenant or name,
                    deadline_ms=place.deadline_ms,
                )
            )
            done = self._clock()
            outputs = [_output(answer, w, version) for w in wanted]
        except asyncio.CancelledError as e:
            statistics.failed(Reason.CANCELED, self._clock() - began)
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The client still waits: it was somebody else who gave its request up.
            raise ServerError("the request was cancelled", Fault.UNAVAILABLE) from e
        except Exception as e:  # whoever asked is told
            statistics.failed(reason_of(e), self._clock() - began)
            raise _told(e, version.key, name) from e
        finally:
            version.leave()
        start = getattr(future, "start", None)
        queued = 0 if start is None else min(done - asked, max(0, start.at_ns - asked))
        times = Times(asked - began, queued, done - asked - queued, self._clock() - done)
        statistics.answered(rows_of(request, version), times, time.time_ns() // _MS, start)
        response = InferResponse(
            id=request.id, model=name, version=str(version.number), outputs=tuple(outputs)
        )
        return response, wanted

    def _tenant(self, asked: str | None) -> str | None:
        """Give a tenant that clients name; they cannot make the scheduler count ever more."""
        if asked and asked not in self._tenants:
            if len(self._tenants) >= self._most_tenants:
                return None
            self._tenants.add(asked)
        return asked


def _output(answer: dict[str, object], wanted: Wanted, version: Version) -> Tensor:
    tensor = wire_array(wanted.name, answer[wanted.name])
    if not wanted.classes:
        return tensor
    return best_classes(tensor, wanted.classes, version.labels.get(wanted.name, ()))


def _told(error: Exception, key: str, name: str) -> ServerError:
    """Give a client its error, which speaks of the model by the name that it knows."""
    told = as_server_error(error)
    text = str(told)
    if key not in text:
        return told
    return ServerError(text.replace(key, name), told.fault)
