from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.faults.processes import write_cheap_model, write_stream


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `live.mp4`, what the server sends, four seconds over and over."""
    if importlib.util.find_spec("aio_rtsp_toolkit") is None:
        pytest.skip("no aio-rtsp-toolkit: no RTSP server, and no fault of one is tried")
    folder = tmp_path_factory.mktemp("media")
    write_stream(folder / "live.mp4", 4)
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    write_cheap_model(tmp_path / "cheap.onnx")
    return tmp_path


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow_fault: takes minutes; `make faults` runs it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless -m names it."""
    if "slow_fault" in (config.option.markexpr or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("slow_fault")]
    items[:] = [item for item in items if item not in left_out]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
