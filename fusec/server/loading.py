"""Load and unload models while others answer: load beside, warm up, switch, drain, drop.

A version that fails to load takes nothing away: what answered before goes on.
"""

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from fusec.ir.errors import ConfigError, FusecError
from fusec.server.errors import Fault, ServerError
from fusec.server.models import Model, State, Table, Version
from fusec.server.repository import (
    Folder,
    Repository,
    files_print,
    model_file,
    read_labels,
    write_override,
)
from fusec.server.settings import Settings, read_settings
from fusec.server.signature import check_config
from fusec.server.store import Store
from fusec.server.tidying import Tidying
from fusec.server.warmup import warm_up

__all__ = ["Loader"]

Say = Callable[[str], None]


class Loader:
    """Brings models from a repository into the table and out of it. Runs on the event loop."""

    def __init__(
        self, table: Table, store: Store, repository: Repository, say: Say, *, drain_s: float = 30.0
    ) -> None:
        """Take what to load from and to.

        Args:
            table: that requests look into.
            store: imports and runs models.
            repository: on disk.
            say: is told what happens.
            drain_s: how long requests to what is dropped may go on.
        """
        self._table, self._store, self._repository = table, store, repository
        self._say, self._drain_s = say, drain_s
        self._locks: dict[str, asyncio.Lock] = {}
        # Tracing changes global state of PyTorch's, so imports go one by one.
        self._importing = asyncio.Semaphore(1)
        self._generation = itertools.count(1)
        self._drains: set[asyncio.Task[None]] = set()
        self._tidying = Tidying()
        self._seen: dict[str, object] = {}
        """What polling found of each folder the last time."""

    async def load(
        self,
        name: str,
        config: str | None = None,
        files: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Load a model, or bring it up to date: versions whose files did not change stay.

        Args:
            name: of the model.
            config: JSON in place of its config.pbtxt.
            files: in place of the repository's, see `write_override`; needs a config.

        Raises:
            ServerError: it cannot be loaded; versions that answered before still do.
        """
        if files and config is None:
            raise ServerError(f"failed to load {name!r}: files are given without 'config'")
        async with self._lock(name):
            self._mark(name, State.LOADING)
            with tempfile.TemporaryDirectory(prefix="fusec-") as temporary:
                try:
                    folder = await self._folder(name, config, files, Path(temporary))
                    await self._exchange(folder)
                except (FusecError, OSError) as e:
                    self._mark(name, State.UNAVAILABLE, str(e))
                    self._say(f"model {name!r} cannot be loaded: {e}")
                    fault = e.fault if isinstance(e, ServerError) else Fault.INVALID
                    raise ServerError(f"failed to load {name[:200]!r}: {e}", fault) from e
                finally:
                    self._tidying.soon()

    async def unload(self, name: str) -> None:
        """Stop serving a model: new requests are refused at once, those that run are answered."""
        async with self._lock(name):
            model = self._table.models.pop(name, None)
            if model is not None:
                self._table.states[name] = (State.UNLOADING, "")
                self._drop(model, list(model.versions.values()), gone=True)
                self._say(f"model {name!r} is unloaded")

    async def poll(self) -> None:
        """Look at the whole repository once, and load and unload what changed."""
        names = await asyncio.to_thread(self._repository.names)
        for name in names:
            try:
                if await asyncio.to_thread(self._changed, name, self._table.models.get(name)):
                    await self.load(name)
            except ServerError as e:
                # Said by then; it is tried again when its files change.
                self._table.states.setdefault(name, (State.UNAVAILABLE, str(e)))
        for name in [n for n in self._table.models if n not in names]:
            await self.unload(name)

    async def settle(self) -> None:
        """Wait for what is being dropped."""
        if self._drains:
            await asyncio.wait(self._drains)

    def serve(self, name: str, key: str) -> None:
        """Serve a model that is in the store already, as version 1.

        Raises:
            FusecError: it does not fit the protocol.
        """
        signature = self._store.there(key)
        if signature is None:
            raise ServerError(f"there is no model {key!r}")
        version = Version(1, key, signature, None)
        self._table.models[name] = Model(
            name=name, config={}, settings=Settings(), versions={1: version}, failed={}, print=None
        )
        self._tidying.soon()

    async def _folder(
        self, name: str, config: str | None, files: Mapping[str, str | bytes] | None, place: Path
    ) -> Folder:
        if config is None:
            return await asyncio.to_thread(self._repository.folder, name)
        if files:
            await asyncio.to_thread(write_override, files, place)
        return await asyncio.to_thread(
            self._repository.overridden, name, config, place if files else None
        )

    async def _exchange(self, folder: Folder) -> None:
        """Load what a folder has and the table lacks, then put the new model in one step."""
        name = folder.name
        settings = read_settings(folder.config, name)
        old = self._table.models.get(name)
        same = old is not None and old.print == folder.print
        wanted = settings.chosen(list(folder.versions))
        if not wanted:
            raise ConfigError(f"model {name!r}: at least one version must be available")
        versions: dict[int, Version] = {}
        failed: dict[int, str] = {}
        problem: BaseException | None = None
        fresh: list[Version] = []
        for number in wanted:
            kept = old.versions.get(number) if old is not None and same else None
            try:
                path = folder.versions[number]
                print_ = await asyncio.to_thread(files_print, path)
                if kept is None or kept.print != print_:
                    kept = await self._fresh(folder, settings, number, path, print_)
                    fresh.append(kept)
                versions[number] = kept
            except (FusecError, OSError) as e:
                failed[number], problem = str(e), e
        if problem is not None and old is not None:
            # All of the new configuration or nothing of it.
            for version in fresh:
                await asyncio.to_thread(self._store.remove, version.key)
            self._table.models[name] = Model(
                name=name,
                config=old.config,
                settings=old.settings,
                versions=old.versions,
                failed=failed,
                print=old.print,
            )
            raise problem
        if versions:
            self._table.models[name] = Model(
                name=name,
                config=folder.config,
                settings=settings,
                versions=versions,
                failed=failed,
                print=folder.print,
            )
            self._table.states.pop(name, None)
            self._say(f"model {name!r}: {', '.join(map(str, versions))} ready")
        if old is not None:
            keys = {version.key for version in versions.values()}
            self._drop(old, [v for v in old.versions.values() if v.key not in keys], gone=False)
        if problem is not None:
            raise problem

    async def _fresh(
        self, folder: Folder, settings: Settings, number: int, path: Path, print_: object
    ) -> Version:
        """Import a version, check it and warm it up."""
        key = f"{folder.name}/{number}#{next(self._generation)}"
        file = await asyncio.to_thread(model_file, path, settings.filename)
        labels = await asyncio.to_thread(read_labels, path.parent, settings.labels)
        async with self._importing:
            try:
                signature = await asyncio.to_thread(self._store.add, key, file)
            except FusecError as e:
                # Nobody knows the key but the store.
                text = str(e).replace(key, f"{folder.name}/{number}")
                raise ServerError(text) from e
        try:
            check_config(folder.config, signature, folder.name)
            await asyncio.to_thread(
                warm_up, self._store, key, signature, settings, path.parent / "warmup"
            )
        except BaseException:
            await asyncio.to_thread(self._store.remove, key)
            raise
        version = Version(number, key, signature, print_)
        version.labels = labels
        return version

    def _drop(self, model: Model, versions: list[Version], *, gone: bool) -> None:
        """Let go of versions once nobody waits for them."""
        task = asyncio.ensure_future(self._dropped(model.name, versions, gone))
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)

    async def _dropped(self, name: str, versions: list[Version], gone: bool) -> None:
        for version in versions:
            try:
                await asyncio.wait_for(version.idle.wait(), self._drain_s)
            except TimeoutError:
                self._say(f"model {name!r}: requests to version {version.number} are still open")
            await asyncio.to_thread(self._store.remove, version.key)
        self._tidying.soon()
        if gone and name not in self._table.models:
            self._table.states[name] = (State.UNAVAILABLE, "unloaded")

    def _changed(self, name: str, model: Model | None) -> bool:
        """Tell whether a model's folder is not what was loaded, or what failed."""
        try:
            folder = self._repository.folder(name)
            chosen = read_settings(folder.config, name).chosen(list(folder.versions))
            now = (folder.print, tuple((v, files_print(folder.versions[v])) for v in chosen))
        except (FusecError, OSError) as e:
            now = (None, ((0, str(e)),))
        changed = self._seen.get(name) != now
        self._seen[name] = now
        return changed and not _same(model, now)

    def _mark(self, name: str, state: State, reason: str = "") -> None:
        if name not in self._table.models and (state is State.LOADING or self._known(name)):
            self._table.states[name] = (state, reason)

    def _known(self, name: str) -> bool:
        if self._repository.has(name):
            return True
        # Names that clients make up are not remembered.
        self._table.states.pop(name, None)
        return False

    def _lock(self, name: str) -> asyncio.Lock:
        if len(self._locks) > 10_000:
            self._locks = {n: lock for n, lock in self._locks.items() if lock.locked()}
        return self._locks.setdefault(name, asyncio.Lock())


def _same(model: Model | None, now: tuple[object, tuple[tuple[int, object], ...]]) -> bool:
    if model is None:
        return False
    served = tuple((n, v.print) for n, v in sorted(model.versions.items()))
    return (model.print, served) == now
