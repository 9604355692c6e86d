"""Graphs, and what outlives what, against a driver of a test's."""

import threading

import pytest
from fusec_testing.fake_cuda import BROKEN, INVALID, FakeLibrary, kernel_of
from hypothesis import given
from hypothesis import strategies as st

from fusec.ir.errors import (
    KernelError,
    VerifyError,
)
from fusec.runtime.cuda.context import Context, open_context
from fusec.runtime.cuda.graph import Graph, capture
from fusec.runtime.cuda.library import Driver
from fusec.runtime.cuda.memory import DeviceMemory, HostMemory, fill, upload
from fusec.runtime.cuda.module import Function, Launch, Module
from fusec.runtime.cuda.stream import Event, Stream


def recorded(stream: Stream, kernel: Function, block: DeviceMemory) -> Graph:
    with capture(stream) as recording:
        kernel.launch(stream, Launch(), [block, 0, 1])
        fill(stream, block)
    return recording.graph()


def test_a_graph_holds_what_it_uses(fake: FakeLibrary, context: Context) -> None:
    stream, home = Stream(context), Stream(context)
    kernel, block = kernel_of(context), DeviceMemory(home, 64)
    graph = recorded(stream, kernel, block)
    assert fake.graphs == {}
    with pytest.raises(VerifyError, match="1 graphs hold"):
        block.free()
    with pytest.raises(VerifyError, match="1 graphs run"):
        kernel.module.close()
    graph.launch(stream)
    graph.close()
    graph.close()
    block.free()
    assert "graph" in fake.kinds()
    fake.finish(stream.handle)
    context.reclaim()
    assert "graph" not in fake.kinds()
    with pytest.raises(VerifyError, match="closed graph"):
        graph.launch(stream)


def test_what_breaks_a_capture_is_refused_before_the_driver_sees_it(
    fake: FakeLibrary, context: Context
) -> None:
    stream, other = Stream(context), Stream(context)
    kernel, block = kernel_of(context), DeviceMemory(other, 64)
    host, spent, event = HostMemory(context, 8), HostMemory(context, 8), Event(context)
    upload(stream, block, spent)
    spent.free()
    graph = recorded(other, kernel, block)
    with capture(stream) as recording:
        fake.calls.clear()
        for refused in (
            lambda: DeviceMemory(other, 8),
            block.free,
            lambda: HostMemory(context, 8),
            host.free,
            stream.synchronize,
            other.synchronize,
            other.done,
            event.done,
            event.synchronize,
            kernel.module.close,
            lambda: Module(context, b"\x7fELF"),
            lambda: graph.launch(stream),
            graph.close,
            context.close,
            lambda: upload(stream, block, memoryview(bytes(8))),
            lambda: capture(stream).__enter__(),
        ):
            with pytest.raises(VerifyError):
                refused()
        assert context.reclaim() == 1
        assert fake.calls == []
        upload(stream, block, host)
    recording.graph().close()
    graph.close()
    block.free()


def test_another_thread_does_as_it_likes_meanwhile(context: Context) -> None:
    stream, other = Stream(context), Stream(context)
    sizes: list[int] = []

    def work() -> None:
        block = DeviceMemory(other, 64)
        other.synchronize()
        sizes.append(block.n_bytes)
        block.free()

    with capture(stream) as recording:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert sizes == [64]
    recording.graph().close()


def test_a_block_that_fails_leaves_nothing_behind(fake: FakeLibrary, context: Context) -> None:
    stream = Stream(context)
    block = DeviceMemory(stream, 64)
    with pytest.raises(ZeroDivisionError), capture(stream):
        fill(stream, block)
        _ = 1 // 0
    assert fake.graphs == {}
    block.free()
    with capture(stream) as again:
        pass
    again.graph().close()


@pytest.mark.parametrize(
    "name, code",
    [("cuStreamEndCapture", BROKEN), ("cuGraphInstantiateWithFlags", INVALID)],
)
def test_a_capture_that_the_driver_breaks_leaves_nothing_behind(
    fake: FakeLibrary, context: Context, name: str, code: int
) -> None:
    stream = Stream(context)
    block = DeviceMemory(stream, 64)
    fake.failing[name] = code
    with pytest.raises(KernelError, match=name):
        recorded(stream, kernel_of(context), block)
    block.free()
    assert not context.capturing
    assert stream.capture is None
    assert not context.capture_lock.locked()


def test_a_forked_stream_is_part_of_the_graph_until_it_joins(
    fake: FakeLibrary, context: Context
) -> None:
    main, side, home = Stream(context), Stream(context), Stream(context)
    block = DeviceMemory(home, 64)
    with capture(main) as recording:
        recording.fork(side)
        with pytest.raises(VerifyError, match="captured already"):
            recording.fork(side)
        fill(side, block)
        recording.join(side)
        with pytest.raises(VerifyError, match="not forked"):
            recording.join(side)
    graph = recording.graph()
    with pytest.raises(VerifyError, match="graphs hold"):
        block.free()
    with pytest.raises(VerifyError, match="no capture"):
        recording.graph()
    graph.close()
    block.free()
    with pytest.raises(VerifyError, match="not joined"), capture(main) as bad:
        bad.fork(side)
    assert side.capture is None
    assert fake.graphs == {}


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["launch", "fill", "upload", "free", "record", "replay", "drop", "finish"]),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    max_size=40,
)


@given(ACTIONS)
def test_whatever_happens_nothing_is_freed_that_may_be_in_use(
    actions: list[tuple[str, int, int]],
) -> None:
    fake = FakeLibrary()
    context = open_context(Driver(fake))
    streams = [Stream(context) for _ in range(3)]
    kernel = kernel_of(context)
    blocks: dict[int, DeviceMemory] = {}
    graphs: dict[int, Graph] = {}
    for action, s, b in actions:
        stream = streams[s]
        block = blocks.get(b) or blocks.setdefault(b, DeviceMemory(streams[b % 3], 64))
        if action == "launch":
            kernel.launch(stream, Launch(), [block, 0, 1])
        elif action == "fill":
            fill(stream, block)
        elif action == "upload":
            host = HostMemory(context, 64)
            upload(stream, block, host)
            host.free()
        elif action == "record" and b not in graphs:
            graphs[b] = recorded(stream, kernel, block)
        elif action == "replay" and b in graphs:
            graphs[b].launch(stream)
        elif action == "drop" and b in graphs:
            graphs.pop(b).close()
        elif action == "free" and b not in graphs:
            blocks.pop(b).free()
        elif action == "finish":
            fake.finish(stream.handle)
        assert fake.faults == []
    for graph in graphs.values():
        graph.close()
    for block in blocks.values():
        block.free()
    kernel.module.close()
    for stream in streams:
        stream.close()
    context.close()
    assert fake.faults == []
    assert fake.kinds() == ["module"]
    assert fake.events == {}
