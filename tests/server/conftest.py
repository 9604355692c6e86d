"""One server for the tests of a module; what a test changes in its store ends with it."""

from collections.abc import Iterator

import pytest
from fusec_testing.live_server import Live, live, model
from fusec_testing.serving import FakeStore

from fusec.server.control import Control
from fusec.server.limits import Limits
from fusec.server.running import Options

CONFIG = """
max_batch_size: 8
dynamic_batching {
  priority_levels: 3 default_priority_level: 2
  default_queue_policy {
    default_timeout_microseconds: 500000 allow_timeout_override: true max_queue_size: 2
  }
}
parameters { key: "tenant" value { string_value: "acme" } }
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, FakeStore]]:
    store, folder = FakeStore(), tmp_path_factory.mktemp("repository")
    for name in ("plain", "left", "counted"):
        model(folder, name)
    model(folder, "m", 3, config=CONFIG)
    model(folder, "strict", config=CONFIG.replace("allow_timeout_override: true", ""))
    options = Options(
        repositories=[folder],
        control=Control.EXPLICIT,
        load=["*"],
        limits=Limits(body_bytes=1 << 20, tenants=20),
    )
    with live(options, store) as running:
        yield running, store


@pytest.fixture
def store(started: tuple[Live, FakeStore]) -> FakeStore:
    store = started[1]
    store.hold = store.error = None
    store.calls.clear()
    store.waiting.clear()
    return store


@pytest.fixture
def server(started: tuple[Live, FakeStore], store: FakeStore) -> Live:
    return started[0]
