"""One request, whatever the wire: find the model, check, schedule, await, pick the outputs."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from fusec.server.caller import NOBODY, Caller
from fusec.server.checking import check_request, rows_of, wanted_outputs
from fusec.server.classes import best_classes
from fusec.server.errors import Fault, ServerError, as_server_error
from fusec.server.limits import Limits
from fusec.server.messages import InferRequest, InferResponse, Tensor, Wanted
from fusec.server.models import Table, Version
from fusec.server.parameters import read_asks
from fusec.server.queueing import place_of
from fusec.server.statistics import Times, reason_of
from fusec.server.store import Store, wire_array
from fusec.server.tracing import Call, Spans

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
        spans: Spans | None = None,
    ) -> None:
        """Take what is served.

        Args:
            table: models and versions.
            store: runs them.
            limits: of tenants.
            clock: gives nanoseconds.
            spans: writes what happened to each request.
        """
        self.table, self.store, self._clock, self._spans = table, store, clock, spans
        self._most_tenants, self._tenants = limits.tenants, set[str]()

    async def infer(
        self,
        name: str,
        version_name: str | None,
        request: InferRequest,
        *,
        began_ns: int | None = None,
        deadline_ms: float | None = None,
        caller: Caller = NOBODY,
    ) -> tuple[InferResponse, Sequence[Wanted]]:
        """Answer one request; cancelling the task cancels it.

        Args:
            name: of the model.
            version_name: of its version; None or empty: the newest.
            request: as read.
            began_ns: when reading it began.
            deadline_ms: of the connection, from now on.
            caller: who asks.

        Returns:
            The answer, and for each of its outputs how it was asked for.

        Raises:
            ServerError: whatever went wrong.
        """
        began = self._clock() if began_ns is None else began_ns
        model, version = self.table.find(name, version_name)
        tenant = model.settings.tenant or name
        version.enter()
        try:
            wanted = wanted_outputs(request, model, version)
            check_request(request, model, version)
            asks = read_asks(request.parameters)
            tenant = self._tenant(caller.tenant or asks.tenant) or tenant
            place = place_of(model, version, asks, deadline_ms)
            asked = self._clock()
            future, answer = await place.answer(
                partial(
                    self.store.submit,
                    version.key,
                    request.inputs,
                    tenant=tenant,
                    deadline_ms=place.deadline_ms,
                )
            )
            done = self._clock()
            outputs = [_output(answer, w, version) for w in wanted]
        except asyncio.CancelledError as e:
            self._failed(version, Call(name, version.number, tenant, caller.parent), e, began)
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The client still waits: it was somebody else who gave its request up.
            raise ServerError("the request was cancelled", Fault.UNAVAILABLE) from e
        except Exception as e:  # whoever asked is told
            self._failed(version, Call(name, version.number, tenant, caller.parent), e, began)
            raise _told(e, version.key, name) from e
        finally:
            version.leave()
        start = getattr(future, "start", None)
        queued = 0 if start is None else min(done - asked, max(0, start.at_ns - asked))
        times = Times(asked - began, queued, done - asked - queued, self._clock() - done)
        rows = rows_of(request, version)
        version.statistics.answered(rows, times, time.time_ns() // _MS, start)
        if self._spans is not None:
            call = Call(name, version.number, tenant, caller.parent)
            self._spans.answered(call, rows, times)
        response = InferResponse(
            id=request.id, model=name, version=str(version.number), outputs=tuple(outputs)
        )
        return response, wanted

    def _failed(self, version: Version, call: Call, error: BaseException, began: int) -> None:
        """Count a failure."""
        reason, took = reason_of(error), self._clock() - began
        version.statistics.failed(reason, took)
        if self._spans is not None:
            self._spans.failed(call, reason, str(as_server_error(error)), took)

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
