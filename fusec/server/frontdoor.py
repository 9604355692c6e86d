"""What REST and gRPC share beside inference: readiness, limits, and control of the repository."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fusec.server.caller import Callers
from fusec.server.control import Control
from fusec.server.errors import Fault, ServerError
from fusec.server.httpbody import Budget
from fusec.server.limits import Limits
from fusec.server.loading import Loader
from fusec.server.models import State
from fusec.server.repository import Repository
from fusec.server.service import Service

__all__ = ["FrontDoor"]


class FrontDoor:
    """The server as its doors see it. All of it runs on one event loop."""

    def __init__(
        self,
        service: Service,
        loader: Loader,
        repository: Repository,
        control: Control,
        limits: Limits,
        say: Callable[[str], None],
        callers: Callers | None = None,
    ) -> None:
        """Take the parts.

        Args:
            service: answers requests.
            loader: loads models.
            repository: has them.
            control: who decides what is loaded.
            limits: of requests.
            say: is told what people should know.
            callers: reads who sends a request.
        """
        self.service, self.table, self.limits, self.say = service, service.table, limits, say
        self.callers = callers or Callers()
        self._loader, self._repository, self._control = loader, repository, control
        self.budget = Budget(limits.all_bodies_bytes)
        self.started = False
        """Whether all models that were to be loaded at the start are."""
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether new requests should come here."""
        return self.started and not self.draining

    async def index(self, *, ready: bool) -> list[dict[str, str]]:
        """List models and their states; with `ready` only those that answer."""
        rows = self.table.index(ready=ready)
        if ready:
            return rows
        known = {row["name"] for row in rows}
        there = await asyncio.to_thread(self._repository.names)
        unseen = [{"name": n, "state": str(State.UNAVAILABLE)} for n in there if n not in known]
        return sorted([*rows, *unseen], key=lambda row: row["name"])

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Load a model because a client asks.

        Args:
            name: of the model.
            parameters: "config" and "file:...", see `Loader.load`.

        Raises:
            ServerError: clients may not, or it cannot be loaded.
        """
        self._need_explicit()
        config = parameters.get("config")
        if config is not None and not isinstance(config, str):
            raise ServerError("parameter 'config' must be a string of JSON")
        files = {}
        for key, value in parameters.items():
            if not key.startswith("file:"):
                continue
            if not isinstance(value, str | bytes):
                raise ServerError(f"parameter {key[:80]!r} must be a string in base64")
            files[key] = value
        # A client that leaves does not stop a load half way.
        await asyncio.shield(self._loader.load(name, config, files))

    async def unload(self, name: str) -> None:
        """Unload a model because a client asks; one that is not there is none, too.

        Raises:
            ServerError: clients may not.
        """
        self._need_explicit()
        await asyncio.shield(self._loader.unload(name))

    def _need_explicit(self) -> None:
        if self._control is not Control.EXPLICIT:
            raise ServerError(
                "explicit model load / unload is not allowed; start the server with "
                "--model-control-mode=explicit",
                Fault.UNAVAILABLE,
            )
