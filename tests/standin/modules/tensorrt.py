"""TensorRT without a GPU, for tests: an engine is the ONNX file, run by ONNX Runtime.

It works in the streams of the stand-in driver beside it, so what the runner does around an engine
(memory, copies, recording, order of release) is done for real.

    STANDIN_REFUSES  what fails: 'runtime', 'deserialize', 'context', 'execute', 'capture'
    STANDIN_SPOILS   what the engine returns: 'nan', or the 'opposite'
"""

from __future__ import annotations

import ctypes
import os
import weakref
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

__version__ = "10.3.0"
_MAGIC = b"stand-in"
_driver = ctypes.CDLL("libcuda.so.1")
_CALL = ctypes.CFUNCTYPE(None)
released: list[str] = []
"""Objects in the order of their release."""


def _refuses(what: str) -> bool:
    return os.environ.get("STANDIN_REFUSES") == what


class DataType(Enum):
    FLOAT, HALF, UINT8 = range(3)


class TensorIOMode(Enum):
    NONE, INPUT, OUTPUT = range(3)


class MemoryPoolType(Enum):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class ILogger:
    class Severity(IntEnum):
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    pass


class _Registry:
    loaded: list[str] = []  # noqa: RUF012

    def get_creator(self, *_: str) -> object | None:
        return self.loaded[0] if self.loaded else None

    def load_library(self, path: str) -> object:
        self.loaded.append(path)
        return path


def get_plugin_registry() -> _Registry:
    return _Registry()


def Dims4(*sides: int) -> tuple[int, ...]:  # noqa: N802
    return sides


class _Made:
    """Notes when it is released, and whether its GPU was still there."""

    kind = ""

    def __del__(self) -> None:
        context = ctypes.c_void_p()
        _driver.cuCtxGetCurrent(ctypes.byref(context))
        released.append(self.kind if context.value else f"{self.kind} without a GPU")


class Runtime(_Made):
    kind = "runtime"

    def __new__(cls, logger: ILogger) -> Runtime:
        if _refuses("runtime"):  # before there is an object
            raise TypeError("factory function returned nullptr")
        return super().__new__(cls)

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if _refuses("deserialize") or not plan.startswith(_MAGIC):
            self._logger.log(ILogger.Severity.ERROR, "Error Code 1: magicTag is wrong")
            return None
        return Engine(plan, self._logger)


class Engine(_Made):
    kind = "engine"
    num_io_tensors = 2
    device_memory_size_v2 = 64 << 20

    def __init__(self, plan: bytes, logger: ILogger) -> None:
        least, most = (int(n) for n in plan[len(_MAGIC) :].split(b" ", 3)[1:3])
        self.model = onnx.ModelProto.FromString(plan.split(b" ", 3)[3])
        self._logger, self._range = logger, (least, most)
        graph = self.model.graph
        self._values = {value.name: value for value in (*graph.input, *graph.output)}

    def get_tensor_name(self, index: int) -> str:
        return list(self._values)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        first = name == self.get_tensor_name(0)
        return TensorIOMode.INPUT if first else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        kinds = {onnx.TensorProto.UINT8: DataType.UINT8, onnx.TensorProto.FLOAT: DataType.FLOAT}
        return kinds.get(self._values[name].type.tensor_type.elem_type, DataType.HALF)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sides = [d.dim_value or -1 for d in self._values[name].type.tensor_type.shape.dim]
        return tuple(sides)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        least, most = self._range
        rest = self.get_tensor_shape(name)[1:]
        return [(least, *rest), (most, *rest), (most, *rest)]

    def create_execution_context(self) -> Context | None:
        if _refuses("context"):
            self._logger.log(ILogger.Severity.ERROR, "Error Code 2: OutOfMemory")
            return None
        return Context(self, self._logger)


class Context(_Made):
    kind = "context"

    def __init__(self, engine: Engine, logger: ILogger) -> None:
        self._logger = logger
        self._session = ort.InferenceSession(engine.model.SerializeToString())
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()
        self._calls = 0
        run = weakref.WeakMethod(self._run)  # no cycle: released when the last reference goes
        self._call = _CALL(lambda: run()())  # type: ignore[misc]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self._calls += 1
        # the second call is the one that is captured
        if _refuses("execute") or (_refuses("capture") and self._calls == 2):
            self._logger.log(ILogger.Severity.ERROR, "Error Code 1: stand-in refuses")
            return False
        return _driver.standin_enqueue(ctypes.c_void_p(stream), self._call) == 0

    def _run(self) -> None:
        size = int(np.prod(self._shape))
        raw = ctypes.string_at(self._addresses["image"], size)
        image = np.frombuffer(raw, np.uint8).reshape(self._shape)
        (result,) = self._session.run(None, {"image": image})
        spoilt = os.environ.get("STANDIN_SPOILS")
        if spoilt is not None:
            result = np.full_like(result, np.nan) if spoilt == "nan" else 1 - result
        ctypes.memmove(self._addresses["probability"], result.tobytes(), result.nbytes)


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Any, logger: ILogger) -> None:
        self._network = network

    def parse(self, model: bytes) -> bool:
        self._network.model = onnx.ModelProto.FromString(model)
        value = self._network.model.graph.input[0]
        sides = [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]
        self._network.image = SimpleNamespace(name=value.name, shape=sides)
        return True


class _Network:
    model: onnx.ModelProto
    image: SimpleNamespace

    @property
    def num_layers(self) -> int:
        return len(self.model.graph.node)

    def get_layer(self, index: int) -> SimpleNamespace:
        node = self.model.graph.node[index]
        kind = "PLUGIN_V3" if node.domain == "rwkv_edge" else node.op_type.upper()
        return SimpleNamespace(name=node.name, type=SimpleNamespace(name=kind))

    def get_input(self, index: int) -> SimpleNamespace:
        return self.image


class _Profile:
    sizes = (0, 0)

    def set_shape(self, name: str, least: Any, likeliest: Any, most: Any) -> None:
        self.sizes = (least[0], most[0])


class _Config:
    profile: _Profile | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        pass

    def add_optimization_profile(self, profile: _Profile) -> None:
        self.profile = profile


class Builder:
    def __init__(self, logger: ILogger) -> None:
        pass

    def create_network(self, flags: int) -> _Network:
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes:
        least, most = config.profile.sizes if config.profile else (network.image.shape[0],) * 2
        return _MAGIC + b" %d %d " % (least, most) + network.model.SerializeToString()
