"""Models that are served, as one value that is exchanged whole: requests see the old or the new."""

from asyncio import Event
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import Any

from fusec.ir.frozen import dataclass
from fusec.server.errors import Fault, ServerError
from fusec.server.settings import Settings
from fusec.server.signature import Signature
from fusec.server.statistics import Statistics

__all__ = ["Model", "State", "Table", "Version"]


class State(StrEnum):
    """Of a version, as the repository's index tells it."""

    READY = "READY"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


class Version:
    """One version of a model that is served, and how many requests it still owes."""

    def __init__(self, number: int, key: str, signature: Signature, print_: object) -> None:
        """Take what was loaded.

        Args:
            number: of the version.
            key: of the model in the store.
            signature: of the model.
            print_: tells whether its files are still the same.
        """
        self.number, self.key, self.signature, self.print = number, key, signature, print_
        self.labels: Mapping[str, Sequence[str]] = {}
        """Output -> names of its classes."""
        self.statistics = Statistics()
        self.waiting: dict[int, set[Future[Any]]] = {}
        """By level of priority, where so many may wait: who does, and who was not seen to run."""
        self.idle = Event()
        self.idle.set()

    def enter(self) -> None:
        """Count a request in."""
        self.statistics.pending += 1
        self.idle.clear()

    def leave(self) -> None:
        """Count it out."""
        self.statistics.pending -= 1
        if not self.statistics.pending:
            self.idle.set()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A model with its configuration and the versions that answer."""

    name: str
    config: Mapping[str, Any]
    settings: Settings
    versions: Mapping[int, Version]
    failed: Mapping[int, str]
    """Versions that could not be loaded, and why."""
    print: object
    """Of the configuration that it was loaded with."""

    @property
    def newest(self) -> Version:
        """The version that answers where none is named."""
        return self.versions[max(self.versions)]


class Table:
    """All models by name. Changed and read on the event loop only."""

    def __init__(self) -> None:
        """Begin empty."""
        self.models: dict[str, Model] = {}
        self.states: dict[str, tuple[State, str]] = {}
        """Of models that do not answer: loading, unloading or gone, and why."""

    def find(self, name: str, version: str | None) -> tuple[Model, Version]:
        """Find who answers a request.

        Raises:
            ServerError: there is no such model or version.
        """
        model = self.models.get(name)
        if model is None:
            known = "has no available versions" if name in self.states else "is not found"
            raise ServerError(f"Request for unknown model: {name[:200]!r} {known}", Fault.NOT_FOUND)
        if not version:
            return model, model.newest
        number = int(version) if version.isdigit() and len(version) < 19 else -1
        found = model.versions.get(number)
        if found is None:
            raise ServerError(
                f"Request for unknown model: {name!r} version {version[:40]} is not found",
                Fault.NOT_FOUND,
            )
        return model, found

    def index(self, *, ready: bool) -> list[dict[str, str]]:
        """Tell the state of everything in the repository that was looked at."""
        rows: list[dict[str, str]] = []
        for name in sorted({*self.models, *self.states}):
            model = self.models.get(name)
            if model is not None:
                rows += [_row(name, v, State.READY) for v in sorted(model.versions)]
                if not ready:
                    rows += [
                        _row(name, v, State.UNAVAILABLE, why)
                        for v, why in sorted(model.failed.items())
                        if v not in model.versions
                    ]
            elif not ready:
                state, why = self.states[name]
                rows.append(_row(name, None, state, why))
        return rows


def _row(name: str, version: int | None, state: State, reason: str = "") -> dict[str, str]:
    row = {"name": name}
    if version is not None:
        row["version"] = str(version)
    row["state"] = str(state)
    if reason:
        row["reason"] = reason
    return row
