"""The driver's layer against a driver of a test's: calls, errors, and what outlives what."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from fusec_testing.cubins import example_device
from fusec_testing.fake_cuda import OUT_OF_MEMORY, FakeLibrary, kernel_of

from fusec.ir.errors import (
    ArtifactError,
    ConfigError,
    KernelError,
    UnsupportedError,
    VerifyError,
)
from fusec.runtime.cuda.context import Context, open_context
from fusec.runtime.cuda.library import Driver, OutOfDeviceMemory, load_driver
from fusec.runtime.cuda.memory import DeviceMemory, HostMemory, copy, download, fill, upload
from fusec.runtime.cuda.module import Launch, Module, load_kernels
from fusec.runtime.cuda.stream import Event, Stream

CODE = example_device()


def test_a_machine_without_a_driver_is_told() -> None:
    with pytest.raises(UnsupportedError, match=r"no NVIDIA driver.*run on the CPU"):
        load_driver(["libcuda_that_nobody_has.so.1"])


def test_a_driver_that_is_too_old_or_does_not_start_is_told() -> None:
    with pytest.raises(UnsupportedError, match="too old: it has no cuLaunchKernelEx"):
        Driver(FakeLibrary(missing=("cuLaunchKernelEx",)))
    with pytest.raises(UnsupportedError, match=r"does not start.*CUDA_ERROR_OF_A_TEST \(100\)"):
        Driver(FakeLibrary(failing={"cuInit": 100}))


@pytest.mark.parametrize("number", [-1, 2])
def test_a_card_that_is_not_there_is_told(number: int) -> None:
    with pytest.raises(ConfigError, match="this machine has 2"):
        open_context(Driver(FakeLibrary(cards=2)), number)


def test_a_card_says_what_it_is(context: Context) -> None:
    found = context.properties
    assert (found.name, found.capability, found.multiprocessors) == ("Card of a test", (9, 0), 132)
    assert (found.memory_bytes, found.block_shared_bytes) == (1 << 30, 232448)
    assert found.priorities == (0, -5)


def test_a_failing_call_names_itself(fake: FakeLibrary, context: Context) -> None:
    fake.failing["cuStreamCreateWithPriority"] = 700
    with pytest.raises(KernelError, match=r"cuStreamCreateWithPriority fails: CUDA_.*as the test"):
        Stream(context)


def test_memory_that_is_not_there_is_told_apart(context: Context) -> None:
    with pytest.raises(OutOfDeviceMemory):
        DeviceMemory(Stream(context), 1 << 31)


def test_every_call_makes_the_context_current(fake: FakeLibrary, context: Context) -> None:
    stream = Stream(context)
    fake.calls.clear()
    thread = threading.Thread(target=stream.done)
    thread.start()
    thread.join()
    assert fake.calls == ["cuCtxSetCurrent", "cuStreamQuery"]


def test_urgency_is_one_of_the_cards_priorities(context: Context) -> None:
    assert [Stream(context, urgency=n).priority for n in (-3, 0, 1, 5, 99)] == [0, 0, -1, -5, -5]


def test_a_launch_passes_arguments_and_zeros_for_hidden_ones(
    fake: FakeLibrary, context: Context
) -> None:
    stream = Stream(context)
    first, second = DeviceMemory(stream, 64), DeviceMemory(stream, 64)
    kernel_of(context).launch(stream, Launch(grid=(7, 1, 1)), [first, second, 5])
    (launch,) = fake.launches
    assert launch["shape"] == [7, 1, 1, 128, 1, 1]
    assert launch["shared"] == 1024
    assert launch["values"][:2] == [first.address, second.address]
    assert launch["values"][2] & 0xFFFFFFFF == 5
    assert launch["values"][3] == 0
    assert fake.calls[-1] == "cuLaunchKernel"


@pytest.mark.parametrize(
    "launch, attributes",
    [
        (Launch(cooperative=True), [2]),
        (Launch(overlapping=True), [6]),
        (Launch(cooperative=True, overlapping=True), [2, 6]),
    ],
)
def test_a_launch_with_attributes_says_them(
    fake: FakeLibrary, context: Context, launch: Launch, attributes: list[int]
) -> None:
    stream = Stream(context)
    kernel_of(context).launch(stream, launch, [0, 0, 1])
    assert fake.launches[0]["attributes"] == attributes
    assert fake.launches[0]["shape"] == [1, 1, 1, 128, 1, 1]
    assert fake.calls[-1] == "cuLaunchKernelEx"


def test_a_launch_that_cannot_be_right_is_refused(context: Context) -> None:
    stream, kernel = Stream(context), kernel_of(context)
    with pytest.raises(VerifyError, match="takes 3 arguments, got 2"):
        kernel.launch(stream, Launch(), [0, 0])
    for grid in ((0, 1, 1), (1, 65536, 1), (1, 1, -1)):
        with pytest.raises(VerifyError, match="no grid"):
            kernel.launch(stream, Launch(grid=grid), [0, 0, 1])


def test_more_shared_memory_than_usual_is_asked_for(fake: FakeLibrary, context: Context) -> None:
    code = next(iter(CODE.codes.values()))
    module = Module(context, code)
    module.function(CODE.kernels[0])
    assert "cuFuncSetAttribute" not in fake.calls
    module.function(replace(CODE.kernels[0], shared_bytes=100_000))
    assert fake.calls[-1] == "cuFuncSetAttribute"


def test_code_for_another_card_or_with_another_hash_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"sm_80, the plan has code for cuda:sm_90"):
        load_kernels(open_context(Driver(FakeLibrary(capability=(8, 0)))), CODE)
    later = open_context(Driver(FakeLibrary(capability=(8, 6))))
    assert load_kernels(later, example_device("cuda:sm_80"))
    with pytest.raises(UnsupportedError):
        load_kernels(later, example_device("cuda:sm_89"))
    lie = replace(CODE, codes=dict.fromkeys(CODE.codes, b"\x7fELF"))
    with pytest.raises(ArtifactError, match="damaged"):
        load_kernels(open_context(Driver(FakeLibrary())), lie)


def test_code_that_the_driver_refuses_is_told(context: Context) -> None:
    with pytest.raises(KernelError, match=r"cuModuleLoadData fails.*\(1\)"):
        Module(context, b"no code")


def test_copies_stay_inside_their_blocks(context: Context) -> None:
    stream = Stream(context)
    block, other = DeviceMemory(stream, 64), DeviceMemory(stream, 32)
    upload(stream, block, memoryview(bytes(16)), 48)
    copy(stream, block, other, 32, target_offset=32)
    fill(stream, block)
    for offset in (-1, 49):
        with pytest.raises(VerifyError, match="not inside"):
            upload(stream, block, memoryview(bytes(16)), offset)
    with pytest.raises(VerifyError):
        copy(stream, block, other, 33)
    with pytest.raises(VerifyError):
        download(stream, HostMemory(context, 65), block)


def test_empty_copies_call_nothing(fake: FakeLibrary, context: Context) -> None:
    stream = Stream(context)
    block = DeviceMemory(stream, 0)
    fake.calls.clear()
    upload(stream, block, memoryview(b""))
    fill(stream, block)
    copy(stream, block, block, 0)
    assert fake.calls == []


def test_memory_is_freed_behind_other_streams_that_use_it(
    fake: FakeLibrary, context: Context
) -> None:
    home, other = Stream(context), Stream(context)
    block = DeviceMemory(home, 64)
    kernel_of(context).launch(other, Launch(), [block, 0, 1])
    fake.calls.clear()
    block.free()
    order = [c for c in fake.calls if c != "cuCtxSetCurrent"]
    assert order == [
        *("cuEventCreate", "cuEventRecord", "cuStreamWaitEvent"),
        *("cuEventDestroy_v2", "cuMemFreeAsync"),
    ]


def test_memory_used_through_a_table_is_named(fake: FakeLibrary, context: Context) -> None:
    home, other = Stream(context), Stream(context)
    block = DeviceMemory(home, 64)
    kernel_of(context).launch(other, Launch(), [0, 0, 1], uses=[block])
    fake.calls.clear()
    block.free()
    assert "cuStreamWaitEvent" in fake.calls


def test_freed_memory_is_not_used_and_not_freed_again(fake: FakeLibrary, context: Context) -> None:
    stream = Stream(context)
    block, host = DeviceMemory(stream, 64), HostMemory(context, 64)
    for memory in (block, host):
        memory.free()
        memory.free()
        with pytest.raises(VerifyError, match="freed"):
            _ = memory.address
    with pytest.raises(VerifyError):
        kernel_of(context).launch(stream, Launch(), [block, 0, 1])
    with pytest.raises(VerifyError):
        upload(stream, block, memoryview(bytes(8)))
    assert fake.calls.count("cuMemFreeAsync") == fake.calls.count("cuMemFreeHost") == 1


def test_host_memory_is_freed_when_copies_are_done(fake: FakeLibrary, context: Context) -> None:
    stream = Stream(context)
    block, host = DeviceMemory(stream, 64), HostMemory(context, 64)
    np.frombuffer(host.view, dtype=np.float32)[:] = 3
    upload(stream, block, host)
    host.free()
    assert "host" in fake.kinds()
    assert context.reclaim() == 1
    fake.finish(stream.handle)
    assert context.reclaim() == 0
    assert "host" not in fake.kinds()


def test_host_memory_that_arrays_look_at_is_not_freed(context: Context) -> None:
    host = HostMemory(context, 64)
    array = np.frombuffer(host.view, dtype=np.float32)
    with pytest.raises(VerifyError, match="arrays look"):
        host.free()
    del array
    host.free()


def test_closing_waits_for_what_is_to_be_freed(fake: FakeLibrary) -> None:
    with open_context(Driver(fake)) as context:
        stream = Stream(context)
        block, host = DeviceMemory(stream, 64), HostMemory(context, 64)
        upload(stream, block, host)
        host.free()
        block.free()
    assert fake.calls[-1] == "cuDevicePrimaryCtxRelease_v2"
    assert fake.kinds() == []
    assert fake.faults == []
    context.close()
    with pytest.raises(VerifyError, match="closed context"):
        Stream(context)


def test_a_stream_that_owns_memory_is_not_closed(context: Context) -> None:
    stream = Stream(context)
    block = DeviceMemory(stream, 64)
    with pytest.raises(VerifyError, match="owns 1 blocks"):
        stream.close()
    block.free()
    stream.close()
    stream.close()
    with pytest.raises(VerifyError, match="closed stream"):
        stream.done()


def test_code_is_unloaded_when_it_has_run(fake: FakeLibrary, context: Context) -> None:
    stream, kernel = Stream(context), kernel_of(context)
    kernel.launch(stream, Launch(), [0, 0, 1])
    kernel.module.close()
    kernel.module.close()
    assert fake.calls.count("cuModuleUnload") == 1
    with pytest.raises(VerifyError, match="unloaded"):
        kernel.launch(stream, Launch(), [0, 0, 1])


def test_events_order_and_time(context: Context) -> None:
    first, then = Event(context, timed=True), Event(context, timed=True)
    stream = Stream(context)
    first.record(stream)
    then.record(stream)
    then.synchronize()
    assert then.done()
    assert then.since_ns(first) == 1_500_000
    then.close()
    then.close()
    with pytest.raises(VerifyError):
        then.done()


def test_work_that_failed_is_told_when_asked_for(fake: FakeLibrary, context: Context) -> None:
    stream = Stream(context)
    assert stream.done()
    fill(stream, DeviceMemory(stream, 8))
    assert not stream.done()
    fake.failing["cuStreamQuery"] = 700
    with pytest.raises(KernelError, match="700"):
        stream.done()


def test_out_of_memory_has_the_code_that_the_driver_gives() -> None:
    fake = FakeLibrary(failing={"cuMemHostAlloc": OUT_OF_MEMORY})
    context = open_context(Driver(fake))
    with pytest.raises(OutOfDeviceMemory):
        HostMemory(context, 8)
