from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rwkv_edge.errors import BackendError
from rwkv_edge.runtime.device import Device
from tests.conftest import has_cuda_gpu


def test_on_a_standin(on_a_standin: Callable[[str], None]) -> None:
    on_a_standin("cases_device.py")


def test_no_driver() -> None:
    if has_cuda_gpu():
        pytest.skip("this machine has a CUDA driver")
    with pytest.raises(
        BackendError, match=r"driver cannot be used|pip install cuda-python"
    ) as error:
        Device()
    assert "\n" not in str(error.value)


@pytest.mark.gpu
def test_copies_and_recorded_work() -> None:
    with Device() as device, device.active():
        source = device.host_array((1 << 20,), np.uint8)
        target = device.host_array((1 << 20,), np.uint8)
        address = device.allocate(1 << 20)

        def work() -> None:
            device.upload(address, source)
            device.download(target, address)

        source[:] = 3
        work()
        device.synchronize()
        assert (target == 3).all()
        if device.why_no_graphs is None:
            launch = device.record(work)
            source[:] = 4
            launch()
            device.synchronize()
            assert (target == 4).all()
        with pytest.raises(BackendError, match=r"needs \d+ MiB"):
            device.allocate(1 << 50)
