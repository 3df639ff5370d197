"""NVIDIA's driver by ctypes: memory, launches, events, graphs, ceilings."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from anvil_jax.jit.cuda_toolkit import (
    driver_version,
    find_cuda_toolkit,
    find_devices,
    load_driver,
    load_libraries,
)
from tests.support.cuda_compilers import compile_text, nvrtc_version

_MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED
_CHAINS, _UNROLLED = 8, 16

# Every thread has independent chains of multiplications with additions; nothing is optimised away,
# since the result depends on a parameter.
_FMA = """
extern "C" __global__ void __launch_bounds__(256) chains(T* out, T a, T b, int count) {
  T x[CHAINS];
  for (int k = 0; k < CHAINS; ++k) x[k] = a + (T)(threadIdx.x + k);
  for (int i = 0; i < count; ++i) {
#pragma unroll
    for (int j = 0; j < UNROLLED; ++j) {
#pragma unroll
      for (int k = 0; k < CHAINS; ++k) x[k] = FMA(x[k], a, b);
    }
  }
  T sum = 0;
  for (int k = 0; k < CHAINS; ++k) sum += x[k];
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
"""


class DriverError(RuntimeError):
    """The driver refused."""


class Driver:
    """The first device in this thread; its primary context, which others in the process share.

    Attributes:
        name: the device's.
        architecture: 90 for sm_90.
        is_emulated: whether it is no device, so that no time means anything.
    """

    def __init__(self) -> None:
        first = find_devices()[0]
        self.name, self.architecture = first.name, first.architecture
        self.is_emulated = first.name.startswith("Emulated")
        self._driver = load_driver()
        load_libraries(find_cuda_toolkit())
        context = ctypes.c_void_p()
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self("cuCtxSetCurrent", context)

    def __call__(self, name: str, *arguments: Any) -> None:
        """Calls a function of the driver."""
        status = getattr(self._driver, name)(*arguments)
        if status != 0:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorName(status, ctypes.byref(text))
            raise DriverError(f"{name}: {(text.value or str(status).encode()).decode()}")

    @property
    def description(self) -> str:
        """Device, driver and run-time compiler."""
        return (
            f"{self.name} (sm_{self.architecture}), driver for CUDA {driver_version()}, "
            f"NVRTC {nvrtc_version()}"
        )

    @property
    def multiprocessors(self) -> int:
        """How many the device has."""
        count = ctypes.c_int()
        self("cuDeviceGetAttribute", ctypes.byref(count), _MULTIPROCESSORS, 0)
        return count.value

    @contextmanager
    def memory(self, nbytes: int) -> Iterator[int]:
        """The address of memory of the device."""
        address = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(nbytes, 1)))
        try:
            yield address.value
        finally:
            self("cuMemFree_v2", address)

    def upload(self, address: int, array: np.ndarray) -> None:
        """Copy an array to the device."""
        self("cuMemcpyHtoD_v2", ctypes.c_uint64(address), ctypes.c_void_p(array.ctypes.data),
             ctypes.c_size_t(array.nbytes))  # fmt: skip

    def download(self, array: np.ndarray, address: int) -> None:
        """Copy to an array on the host."""
        self("cuMemcpyDtoH_v2", ctypes.c_void_p(array.ctypes.data), ctypes.c_uint64(address),
             ctypes.c_size_t(array.nbytes))  # fmt: skip

    @contextmanager
    def stream(self) -> Iterator[int]:
        """A stream that does not wait for the default one."""
        stream = ctypes.c_void_p()
        self("cuStreamCreate", ctypes.byref(stream), 1)
        try:
            yield stream.value or 0
        finally:
            self("cuStreamDestroy_v2", stream)

    def synchronize(self) -> None:
        """Wait for everything."""
        self("cuCtxSynchronize")

    def seconds(self, work: Callable[[], object], stream: int, repeats: int) -> list[float]:
        """Durations of `work` put on a stream, by events around it."""
        events = [ctypes.c_void_p() for _ in range(2)]
        for event in events:
            self("cuEventCreate", ctypes.byref(event), 0)
        times = []
        try:
            for _ in range(repeats):
                self("cuEventRecord", events[0], ctypes.c_void_p(stream))
                work()
                self("cuEventRecord", events[1], ctypes.c_void_p(stream))
                self("cuEventSynchronize", events[1])
                elapsed = ctypes.c_float()
                self("cuEventElapsedTime", ctypes.byref(elapsed), *events)
                times.append(1e-3 * elapsed.value)
        finally:
            for event in events:
                self("cuEventDestroy_v2", event)
        return times

    @contextmanager
    def graph(self, work: Callable[[], object], stream: int) -> Iterator[Callable[[], None]]:
        """What `work` puts on a stream, recorded; calling it replays that."""
        graph, program = ctypes.c_void_p(), ctypes.c_void_p()
        self("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), _RELAXED)
        try:
            work()
        finally:
            self("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        self("cuGraphInstantiateWithFlags", ctypes.byref(program), graph, ctypes.c_ulonglong(0))
        try:
            yield lambda: self("cuGraphLaunch", program, ctypes.c_void_p(stream))
        finally:
            self("cuGraphExecDestroy", program)
            self("cuGraphDestroy", graph)


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the device reaches with simple code.

    Attributes:
        bandwidth: bytes per second of a copy, read and written ones together.
        operations: per second by dtype, in multiplications with additions, each counted as two.
    """

    bandwidth: float
    operations: dict[str, float]

    def text(self) -> str:
        """For a table."""
        rates = ", ".join(f"{1e-12 * v:.1f} TFLOP/s {k}" for k, v in self.operations.items())
        return f"copy {1e-9 * self.bandwidth:.0f} GB/s, {rates}"


def measure_ceilings(driver: Driver) -> Ceilings:
    """Measures them; takes about a second."""
    small = driver.is_emulated
    nbytes = 1 << 16 if small else 1 << 31
    with driver.stream() as stream, driver.memory(nbytes) as a, driver.memory(nbytes) as b:
        filling = np.random.default_rng(0).bytes(1 << 16)
        piece = np.frombuffer(filling, np.uint8)
        for at in range(0, nbytes, 1 << 26):
            driver.upload(a + at, piece)

        def copy() -> None:
            driver("cuMemcpyDtoDAsync_v2", ctypes.c_uint64(b), ctypes.c_uint64(a),
                   ctypes.c_size_t(nbytes), ctypes.c_void_p(stream))  # fmt: skip

        driver.seconds(copy, stream, 2)
        bandwidth = 2 * nbytes / float(np.median(driver.seconds(copy, stream, 2 if small else 20)))
    return Ceilings(
        bandwidth, {dtype: _fma_rate(driver, dtype, small) for dtype in ("float64", "float32")}
    )


def _fma_rate(driver: Driver, dtype: str, small: bool) -> float:
    blocks, count = (2, 2) if small else (8 * driver.multiprocessors, 2000)
    names = {"T": "double", "FMA": "fma"} if dtype == "float64" else {"T": "float", "FMA": "fmaf"}
    head = "".join(
        f"#define {key} {value}\n"
        for key, value in {**names, "CHAINS": _CHAINS, "UNROLLED": _UNROLLED}.items()
    )
    code, _ = compile_text(head + _FMA, driver.architecture)
    real = ctypes.c_double if dtype == "float64" else ctypes.c_float
    module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    driver("cuModuleLoadData", ctypes.byref(module), code)
    driver("cuModuleGetFunction", ctypes.byref(kernel), module, b"chains")
    try:
        with driver.stream() as stream, driver.memory(blocks * 256 * 8) as out:
            values = (ctypes.c_uint64(out), real(0.999), real(1e-3), ctypes.c_int(count))
            pointers = (ctypes.c_void_p * 4)(*(ctypes.addressof(value) for value in values))

            def run() -> None:
                driver("cuLaunchKernel", kernel, blocks, 1, 1, 256, 1, 1, 0,
                       ctypes.c_void_p(stream), pointers, None)  # fmt: skip

            driver.seconds(run, stream, 3)
            seconds = float(np.median(driver.seconds(run, stream, 2 if small else 10)))
    finally:
        driver("cuModuleUnload", module)
    return 2.0 * blocks * 256 * count * _CHAINS * _UNROLLED / seconds
