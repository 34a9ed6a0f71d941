"""The device layer through NVIDIA's real bindings; run by tests/runtime/test_device.py."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import numpy as np
import pytest

from rwkv_edge.errors import BackendError
from rwkv_edge.runtime.cuda import open_driver
from rwkv_edge.runtime.device import Device
from tests.standin.conftest import Standin

OUT_OF_MEMORY, ILLEGAL_ADDRESS, UNJOINED = 2, 700, 901


def round_trip(device: Device, value: int = 7, size: int = 1000) -> bool:
    with device.active():
        source = device.host_array((size,), np.uint8)
        target = device.host_array((size,), np.uint8)
        address = device.allocate(size)
        source[:] = value
        device.upload(address, source)
        device.download(target, address)
        device.synchronize()
        return bool((target == value).all())


def test_copies(driver: Standin) -> None:
    with Device() as device:
        assert round_trip(device)
        with device.active():
            floats = device.host_array((2, 3, 4), np.float32)
        assert floats.shape == (2, 3, 4)
        assert floats.dtype == np.float32
        assert not floats.any()
    device.close()  # again does no harm
    with pytest.raises(BackendError, match="was closed before"), device.active():
        pass


def test_what_is_taken_last_is_released_first(driver: Standin) -> None:
    order: list[str] = []
    device = Device()
    device.at_close(lambda: order.append("first"))
    device.at_close(lambda: order.append(f"second, {driver.alive} alive"))
    device.close()
    assert order == ["second, 2 alive", "first"]


def test_several_devices(driver: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "2")
    monkeypatch.setenv("STANDIN_MEMORY", str(3 << 20))
    with Device() as one, Device() as same, Device(1) as other:
        with one.active():
            one.allocate(2 << 20)
            with other.active():
                other.allocate(2 << 20)  # on its own GPU
            with pytest.raises(BackendError, match="GPU is full"), same.active():
                same.allocate(2 << 20)
            one.allocate(1 << 20)  # what was current before is so again
        one.close()
        assert round_trip(same)
        assert round_trip(other)


def test_another_thread(driver: Standin) -> None:
    found: list[bool] = []
    with Device() as device:
        thread = threading.Thread(target=lambda: found.append(round_trip(device)))
        thread.start()
        thread.join()
    assert found == [True]


def test_no_memory(driver: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_MEMORY", str(8 << 20))
    with Device() as device, device.active():
        device.allocate(5 << 20)
        with pytest.raises(BackendError) as caught:
            device.allocate((4 << 20) - 1)
        assert str(caught.value) == (
            "the GPU is full: a buffer needs 4 MiB, 3 MiB of 8 MiB are free; close other programs "
            "or lower --imgsz or --batch"
        )
        device.allocate(3 << 20)
        driver.fail("cuMemHostAlloc", OUT_OF_MEMORY)
        with pytest.raises(BackendError, match="pinned memory needs 2 MiB"):
            device.host_array((2 << 20,), np.uint8)


def test_recorded_work(driver: Standin) -> None:
    with Device() as device, device.active():
        source = device.host_array((4,), np.uint8)
        target = device.host_array((4,), np.uint8)
        address = device.allocate(4)

        def work() -> None:
            device.upload(address, source)
            device.download(target, address)

        source[:] = 1
        launch = device.record(work)
        device.synchronize()
        assert not target.any()  # recorded, not run
        for value in (1, 2):
            source[:] = value
            launch()
            device.synchronize()
            assert (target == value).all()


@pytest.mark.parametrize(
    "function", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"]
)
def test_what_cannot_be_recorded(function: str, driver: Standin) -> None:
    with Device() as device:
        driver.fail(function, UNJOINED)
        with pytest.raises(BackendError, match="a CUDA graph: CUDA failed"), device.active():
            device.record(lambda: None)
        assert round_trip(device)


def test_work_that_fails_while_it_is_recorded(driver: Standin) -> None:
    def work() -> None:
        raise ZeroDivisionError

    with Device() as device:
        with pytest.raises(ZeroDivisionError), device.active():
            device.record(work)
        assert round_trip(device)  # the stream runs again


@pytest.mark.parametrize("index", [1, 7])
def test_no_such_gpu(index: int, driver: Standin) -> None:
    with pytest.raises(BackendError, match=f"GPU {index}: .*INVALID_DEVICE"):
        Device(index)


def test_no_gpu(driver: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "0")
    with pytest.raises(BackendError, match=r"driver cannot be used .*NO_DEVICE"):
        Device()


class OtherPackage(ModuleType):
    """pycuda, as far as it is opened."""

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.Error = OSError
        self.init = lambda: None


def test_the_package_with_graphs_goes_first(
    driver: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", OtherPackage())
    assert open_driver().package == "cuda-python"
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    assert open_driver().package == "pycuda"


def test_no_package(driver: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycuda.driver", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match="pip install cuda-python"):
        Device()


def test_a_lost_gpu(driver: Standin) -> None:
    """The last: what a lost GPU held is not to be had back in this process."""
    device = Device()
    driver.fail("cuStreamSynchronize", ILLEGAL_ADDRESS)
    for _ in range(2):  # nothing works any more
        with pytest.raises(
            BackendError, match=r"stopped answering .*; restart the program"
        ) as error:
            round_trip(device)
        assert "\n" not in str(error.value)
    device.close()
    with pytest.raises(BackendError, match="driver cannot be used"):
        Device()
    driver.forget()
