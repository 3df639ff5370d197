"""Times of a model on the device, against JAX on the same device and one core of the CPU.

Usage: python benchmarks/gpu_timing.py MODEL DTYPE,... full|small BANDWIDTH RATE64 RATE32

A process of its own for each model, since a failure on the device spoils all that follows in a
process. Prints one line of JSON per dtype, a `Result`.

Inputs and outputs stay on the device; sets of them that are larger together than its cache take
turns. Ours is measured three ways: `device`, calls recorded in a graph and replayed, by events;
`call`, a loop of calls from Python that is waited for at its end; `python`, single calls with JAX
arrays, waited for. JAX's is the best of: single calls waited for, a loop waited for at its end, a
`lax.map` over the sets in one jitted function.
"""

import ctypes
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from gpu_device import Ceilings, Driver
from gpu_models import MODELS, GpuModel, small
from gpu_process import find_compiler, run_script

import anvil_jax as av
from anvil_jax.emit.device import render_kernels
from tests.support.cuda_compilers import compile_seconds

_CACHE_BYTES = 256 << 20
_MOST_SETS = 16
_CPU_INSTANCES = 256
_LOOP = """
#include <chrono>
#include "{header}"
extern "C" double time_calls(const void** in, void** out, long count) {{
  auto ws = {name}::init_ws();
  const auto start = std::chrono::steady_clock::now();
  for (long i = 0; i < count; ++i) {{
    {name}::call({arguments});
    asm volatile("" ::: "memory");
  }}
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}}
"""
_LONG = 10**8
"""Operations that one thread would take seconds for."""


@dataclass(slots=True)
class Timing:
    """What was measured of one model; seconds per call of the whole batch, NaN where nothing was.

    Attributes:
        driver, model: of what.
        device, call, python: ours, see above.
        jax, jax_way: the best of JAX, and how it was called.
        core: one CPU core, the function of one instance for each in turn.
        core_batch: one CPU core, the batched function, which may compute instances side by side.
        error: relative difference from JAX on the CPU, by norms.
        nvrtc: seconds of the run-time compiler.
        notes: what could not be measured, and why.
    """

    driver: Driver
    model: GpuModel
    device: float = math.nan
    call: float = math.nan
    python: float = math.nan
    jax: float = math.nan
    jax_way: str = ""
    core: float = math.nan
    core_batch: float = math.nan
    error: float = math.nan
    nvrtc: float = math.nan
    notes: list[str] = field(default_factory=list)

    @property
    def ours(self) -> float:
        """The better one of graph and loop."""
        return min(self.device, self.call)

    def floor(self, ceilings: Ceilings) -> tuple[float, str]:
        """The least time that the device's ceilings allow, and which of them it is."""
        moving = self.model.bytes_moved / ceilings.bandwidth
        computing = self.model.operations / ceilings.operations[self.model.dtype]
        return (moving, "memory") if moving >= computing else (computing, "arithmetic")

    @property
    def verdict(self) -> str:
        """Whether the requirements are met."""
        model = self.model
        pairs = ((self.jax, model.goal), (self.core, model.cpu_goal))
        required = [(other, goal) for other, goal in pairs if goal is not None]
        found = [self.ours / other <= goal for other, goal in required if not math.isnan(other)]
        if self.error > model.rtol or self.nvrtc > 3.0 or not all(found):
            return "MISSED"
        return "ok" if found and len(found) == len(required) else "-"


def measure(driver: Driver, model: GpuModel) -> Timing:
    """Measures what can be measured; whatever fails becomes a note."""
    timing = Timing(driver, model)
    steps = (_compile, _ours, _from_python, _jax, _one_core)
    for step in steps:
        try:
            step(timing)
        except Exception as error:
            what = step.__name__.strip("_").replace("_", " ")
            timing.notes.append(f"{what}: {type(error).__name__}: {error}"[:300])
    return timing


def _compile(timing: Timing) -> None:
    text = render_kernels([timing.model.function.view])
    timing.nvrtc = compile_seconds(text, timing.driver.architecture)


def _refuse_serial(model: GpuModel) -> None:
    """One thread with all the work would take minutes of a device that is lent."""
    view = model.function.view
    for launch in view.launches:
        if launch.groups * launch.threads == 1 and view.operations > _LONG:
            raise ValueError(
                f"{launch.kernel} is one thread's work of {view.operations:.1e} operations"
            )


def _sets(model: GpuModel) -> list[list[np.ndarray]]:
    """Inputs that exceed the cache together."""
    count = min(max(-(-_CACHE_BYTES // max(model.bytes_moved, 1)), 1), _MOST_SETS)
    if model.bytes_moved < 1 << 16:
        count = 2
    return [model.inputs(seed) for seed in range(count)]


def _ours(timing: Timing) -> None:
    driver, model = timing.driver, timing.model
    _refuse_serial(model)
    native = model.function.native
    native.load()
    sets = _sets(model)
    few = driver.is_emulated
    with ExitStack() as kept:
        stream = kept.enter_context(driver.stream())
        addresses = []
        for arrays in sets:
            places = [kept.enter_context(driver.memory(array.nbytes)) for array in arrays]
            for place, array in zip(places, arrays, strict=True):
                driver.upload(place, array)
            outputs = [np.full(b.shape, -1, b.dtype) for b in model.function.view.outputs]
            places += [kept.enter_context(driver.memory(array.nbytes)) for array in outputs]
            for place, array in zip(places[len(arrays) :], outputs, strict=True):
                driver.upload(place, np.ascontiguousarray(array))
            addresses.append(places)

        def call(k: int) -> None:
            native._run("call_device", addresses[k % len(sets)], ctypes.c_void_p(stream))

        def loop(count: int) -> Callable[[], None]:
            return lambda: [call(k) for k in range(count)] and None

        call(0)
        driver.synchronize()
        found = [np.empty(b.shape, b.dtype) for b in model.function.view.outputs]
        for array, place in zip(found, addresses[0][len(sets[0]) :], strict=True):
            driver.download(array, place)
        timing.error = _difference(found, _reference(model, sets[0]))

        once = float(np.median(driver.seconds(loop(len(sets)), stream, 3))) / len(sets)
        count = 2 if few else len(sets) * max(1, min(50, int(0.02 / once / len(sets))))
        repeats = 2 if few else 15 if once < 0.05 else 3
        try:
            with driver.graph(loop(count), stream) as replay:
                driver.seconds(replay, stream, 2)
                times = driver.seconds(replay, stream, repeats)
                timing.device = float(np.median(times)) / count
        except Exception as error:
            timing.notes.append(f"graph: {error}"[:200])
        driver.synchronize()
        timing.call = _median(lambda: (loop(count)(), driver.synchronize()), repeats) / count
    if math.isnan(timing.device):
        timing.device = timing.call


def _reference(model: GpuModel, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """By JAX on the CPU, for single precision in double."""
    with jax.default_device(jax.devices("cpu")[0]):
        return [np.asarray(array) for array in jax.jit(model.reference)(*inputs)]


def _difference(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> float:
    """The largest relative difference of an output by norms; infinite for NaN."""
    worst = 0.0
    for g, w in zip(got, want, strict=True):
        a, b = g.astype(np.float64).ravel(), w.astype(np.float64).ravel()
        found = float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-300))
        worst = max(worst, math.inf if math.isnan(found) else found)
    return worst


def _median(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _gpu() -> Any:
    try:
        return jax.devices("gpu")[0]
    except RuntimeError as error:
        raise RuntimeError("JAX has no GPU here") from error


def _from_python(timing: Timing) -> None:
    model = timing.model
    if math.isnan(timing.device):
        return
    arrays = [jax.device_put(array, _gpu()) for array in model.inputs(0)]
    repeats = 3 if timing.call > 0.05 else 30
    timing.python = _median(lambda: jax.block_until_ready(model.function.native(*arrays)), repeats)


def _jax(timing: Timing) -> None:
    model = timing.model
    sets = [[jax.device_put(a, _gpu()) for a in arrays] for arrays in _sets(model)]
    ways: dict[str, float] = {}
    for name, function in model.competitors.items():
        try:
            ways |= {f"{name}, {way}": found for way, found in _jax_ways(function, sets).items()}
        except Exception as error:
            timing.notes.append(f"JAX {name}: {type(error).__name__}: {error}"[:200])
    if ways:
        timing.jax_way = min(ways, key=ways.__getitem__)
        timing.jax = ways[timing.jax_way]


def _jax_ways(function: Callable[..., Any], sets: list[list[Any]]) -> dict[str, float]:
    jitted = jax.jit(function)
    once = _median(lambda: jax.block_until_ready(jitted(*sets[0])), 5)
    repeats = 15 if once < 0.05 else 3
    turns = itertools.cycle(sets)
    ways = {"calls": _median(lambda: jax.block_until_ready(jitted(*next(turns))), 2 * repeats)}
    count = len(sets) * max(1, min(20, int(0.02 / once / len(sets))))

    def loop() -> None:
        last = None
        for arrays in itertools.islice(itertools.cycle(sets), count):
            last = jitted(*arrays)
        jax.block_until_ready(last)

    ways["loop"] = _median(loop, repeats) / count
    stacked = [jax.numpy.stack(arrays) for arrays in zip(*sets, strict=True)]
    mapped = jax.jit(lambda *args: jax.lax.map(lambda one: function(*one), args))
    ways["lax.map"] = _median(lambda: jax.block_until_ready(mapped(*stacked)), repeats) / len(sets)
    return ways


def _one_core(timing: Timing) -> None:
    model = timing.model
    if model.instance is None:
        return
    count = min(model.batch, _CPU_INSTANCES)
    function = av.vmap(model.instance, count, in_axes=model.in_axes, name="on_one_core")
    arrays = [
        np.ascontiguousarray(array[:count] if axis == 0 else array)
        for array, axis in zip(model.inputs(0), model.in_axes, strict=True)
    ]
    timing.core_batch = _median(lambda: function.native(*arrays), 7) * model.batch / count
    first = [
        np.ascontiguousarray(array[0] if axis == 0 else array)
        for array, axis in zip(arrays, model.in_axes, strict=True)
    ]
    timing.core = _single_call(model.instance, first) * model.batch


def _single_call(function: Any, inputs: Sequence[np.ndarray]) -> float:
    """Seconds of a call of a function for the CPU, exported and called in a native loop."""
    view = function.view
    outputs = [np.empty(b.shape, b.dtype) for b in view.outputs]
    name = f"ours::{function.name}"
    words = [
        f"{name}::IN{k}_t{{static_cast<const {b.ctype}*>(in[{k}])}}"
        for k, b in enumerate(view.inputs)
    ]
    words += [
        f"{name}::OUT{k}_t{{static_cast<{b.ctype}*>(out[{k}])}}" for k, b in enumerate(view.outputs)
    ]
    with tempfile.TemporaryDirectory() as folder:
        files = av.export(function, module="ours", path=folder)
        loop, library = Path(folder, "loop.cpp"), Path(folder, "loop.so")
        loop.write_text(
            _LOOP.format(header=files.header.name, name=name, arguments=", ".join([*words, "ws"]))
        )
        command = [find_compiler(), "-std=c++17", "-O3", "-march=native", "-w", "-fPIC", "-shared"]
        command += [str(files.source), str(loop), "-o", str(library)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        call = ctypes.CDLL(str(library)).time_calls
    call.restype = ctypes.c_double
    addresses = [
        (ctypes.c_void_p * max(len(arrays), 1))(*(array.ctypes.data for array in arrays))
        for arrays in (inputs, outputs)
    ]
    once = call(*addresses, ctypes.c_long(3)) / 3
    count = max(1, int(5e-3 / max(once, 1e-9)))
    return float(np.median([call(*addresses, ctypes.c_long(count)) / count for _ in range(9)]))


# ---- tables ----


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.1f} us"


def _ratio(other: float, ours: float) -> str:
    value = other / ours
    return "-" if math.isnan(value) else f"{value:.3g}"


SPEED = (
    "model", "dtype", "device", "call", "from Python", "JAX", "JAX / ours", "one CPU core",
    "core / ours", "core, batched", "NVRTC", "difference", "verdict",
)  # fmt: skip
ROOF = ("model", "dtype", "GB/s", "of copy", "GFLOP/s", "of FMA", "of the roof", "roof")


def speed_row(timing: Timing) -> tuple[str, ...]:
    """Cells under `SPEED`."""
    way = f" ({timing.jax_way})" if timing.jax_way else ""
    return (
        timing.model.name, timing.model.dtype, _time(timing.device), _time(timing.call),
        _time(timing.python), f"{_time(timing.jax)}{way}", _ratio(timing.jax, timing.ours),
        _time(timing.core), _ratio(timing.core, timing.ours),
        _time(timing.core_batch), f"{timing.nvrtc:.2f} s",
        "-" if math.isnan(timing.error) else f"{timing.error:.0e}", timing.verdict,
    )  # fmt: skip


def roof_row(timing: Timing, ceilings: Ceilings) -> tuple[str, ...]:
    """Cells under `ROOF`."""
    model, seconds = timing.model, timing.device
    floor, roof = timing.floor(ceilings)
    bandwidth, rate = model.bytes_moved / seconds, model.operations / seconds
    return (
        model.name, model.dtype, f"{1e-9 * bandwidth:.0f}", f"{bandwidth / ceilings.bandwidth:.0%}",
        f"{1e-9 * rate:.0f}", f"{rate / ceilings.operations[model.dtype]:.0%}",
        f"{floor / seconds:.0%}", roof,
    )  # fmt: skip


# ---- processes ----


@dataclass(slots=True)
class Result:
    """What the parent process prints; `roof` is empty where nothing ran."""

    speed: list[str]
    roof: list[str]
    notes: list[str]
    is_missed: bool


def measure_in_process(
    name: str, dtypes: Sequence[str], ceilings: Ceilings, *, is_small: bool
) -> tuple[list[Result], str]:
    """The results of a model, and why some are missing."""
    rates = [ceilings.bandwidth, *(ceilings.operations[d] for d in ("float64", "float32"))]
    words = [name, ",".join(dtypes), "small" if is_small else "full", *rates]
    # JAX would take most of the device's memory at once.
    found, error = run_script(Path(__file__), words, 200.0, XLA_PYTHON_CLIENT_PREALLOCATE="false")
    return [Result(**row) for row in found], error


def main(words: Sequence[str]) -> None:
    """The process of one model."""
    name, dtypes, size, bandwidth, *rates = words
    ceilings = Ceilings(
        float(bandwidth), dict(zip(("float64", "float32"), map(float, rates), strict=True))
    )
    jax.config.update("jax_enable_x64", True)
    # Ours never rounds to TF32; JAX shall not either.
    jax.config.update("jax_default_matmul_precision", "highest")
    driver = Driver()
    for dtype in dtypes.split(","):
        make = MODELS[name]
        found = measure(driver, small(make, dtype) if size == "small" else make(dtype))
        roof = roof_row(found, ceilings) if found.device > 0 else ()
        own = [f"{found.model.name}, {dtype}: {note}" for note in found.notes]
        missed = found.verdict == "MISSED"
        result = Result([*speed_row(found)], [*roof], own, missed)
        print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
