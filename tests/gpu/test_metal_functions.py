"""Functions for Metal called from Python, without a Mac.

The text is parsed against stubs of Apple's frameworks. What Python does around a call is tried with
a library in plain C++ in its place, whose function doubles.
"""

import functools
import gc
import pickle
import platform
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anvil_jax as av
from anvil_jax import Arg, NumericalFunction
from anvil_jax.__main__ import _metal, main
from anvil_jax.errors import ArgumentError, DeviceError, DtypeError, ToolchainError
from anvil_jax.jit import metal_function
from anvil_jax.jit.metal_function import MetalFunction
from anvil_jax.jit.signature import ArraySpec, Signature
from tests.support import metal_shim

pytestmark = pytest.mark.compile

SINGLE = "float32"
X, V = np.array([0.5, -0.25], SINGLE), np.array([1.0, 2.0], SINGLE)
DT = np.float32(0.125)
elsewhere = pytest.mark.skipif(platform.system() == "Darwin", reason="Metal is here")


def move(x: Any, v: Any, dt: Any) -> Any:
    v = v - dt * jnp.sin(x)
    return x + dt * v, v @ v


@functools.cache
def moving() -> NumericalFunction[..., Any]:
    inputs = (Arg(2, SINGLE), Arg(2, SINGLE), Arg((), SINGLE))
    return NumericalFunction("move", move, inputs, "METAL")


# ---- the text ----


@pytest.mark.parametrize(
    ("name", "function", "inputs"),
    [
        ("move", move, (Arg(2, SINGLE), Arg(2, SINGLE), Arg((), SINGLE))),
        ("called", lambda queue, nil: queue @ nil, (Arg((70, 33), SINGLE), Arg((33, 9), SINGLE))),
        ("integers", lambda n, b: (n * 2, ~b), (Arg(6, "int64"), Arg((), "bool"))),
        ("nothing_in", lambda: jnp.arange(7, dtype=SINGLE) ** 2, ()),
        ("nothing_out", lambda x: (x[:0], x + 1), (Arg(3, SINGLE),)),
        ("nothing", lambda: (), ()),
    ],
)
def test_source_is_objective_cpp(name: str, function: Any, inputs: Any, tmp_path: Path):
    native = NumericalFunction(name, function, inputs, "METAL").native
    assert isinstance(native, MetalFunction)
    path = tmp_path / "function.mm"
    path.write_text(native.source, encoding="utf-8")
    metal_shim.check_host(path, "-Wno-pragma-once-outside-header")


# ---- without a device ----


def check(got: Any, want: Any) -> None:
    got, want = jax.tree.leaves(got), jax.tree.leaves(want)
    for g, w in zip(got, want, strict=True):
        assert np.shape(g) == np.shape(w)
        np.testing.assert_allclose(g, w, rtol=1e-6)


def test_composes_like_the_jax_function():
    for f in (moving(), moving().native):
        check(jax.jit(f)(X, V, DT), move(X, V, DT))
        batch = np.stack([X, 2 * X])
        check(
            jax.vmap(f, in_axes=(0, None, None))(batch, V, DT),
            jax.vmap(move, in_axes=(0, None, None))(batch, V, DT),
        )
        gradient = jax.grad(lambda x, f=f: f(x, V, DT)[1])(X)
        check(gradient, jax.grad(lambda x: move(x, V, DT)[1])(X))


@elsewhere
def test_pytrees():
    def spread(state: Any) -> Any:
        return {"sum": state["a"] + state["b"][0]}

    state = {"a": X, "b": (V,)}
    function = NumericalFunction.from_callable(spread, state, device="METAL")
    check(jax.jit(function)(state), spread(state))
    copy = pickle.loads(pickle.dumps(function))
    for f in (function, copy):
        with pytest.raises(ToolchainError, match="called on macOS only"):
            f(state)


def test_pickles_as_text():
    for f in (moving(), moving().native):
        copy = pickle.loads(pickle.dumps(f))
        assert type(copy) is MetalFunction
        assert (copy.signature, copy.source) == (moving().native.signature, moving().native.source)


@elsewhere
def test_other_systems_say_so():
    message = "^functions for METAL can be generated and exported here, but called on macOS only$"
    native = moving().native
    assert isinstance(native, MetalFunction)
    for call in (moving(), native, lambda *_: native.load(), lambda *_: native.library_path):
        with pytest.raises(ToolchainError, match=message):
            call(X, V, DT)
    assert [text.partition(":")[0] for text in _metal()] == ["functions cannot be called"]


@elsewhere
def test_doctor_is_silent_elsewhere(monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setenv("ANVIL_JAX_CXX", "no-such-compiler")  # nothing is to be compiled
    main(["doctor"])
    assert "Metal" not in capsys.readouterr().out


def test_gcc_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gcc = tmp_path / "g++"
    gcc.write_text("#!/bin/sh\necho 'g++ 14.2 (Free Software Foundation)'\n")
    gcc.chmod(0o755)
    monkeypatch.setenv("ANVIL_JAX_CXX", str(gcc))
    monkeypatch.setattr(metal_function.platform, "system", lambda: "Darwin")
    with pytest.raises(ToolchainError, match=r"by clang\+\+, not by g\+\+ 14\.2 .* ANVIL_JAX_CXX"):
        moving()(X, V, DT)


@pytest.mark.skipif(platform.system() != "Darwin", reason="needs macOS")
def test_on_a_mac():
    try:
        _ = moving().native.entry
    except DeviceError as error:
        pytest.skip(str(error))
    check(moving()(X, V, DT), move(X, V, DT))


# ---- what Python does around a call ----

_DOUBLES = """
#include <atomic>
#include <cstddef>
#include <cstdio>
#define ANVIL_EXPORT extern "C" __attribute__((visibility("default")))
static std::atomic<int> opened{0}, running{0};
ANVIL_EXPORT int live() { return opened; }
ANVIL_EXPORT int anvil_metal_abi() { return 1; }
ANVIL_EXPORT void* anvil_metal_open(char*, std::size_t) { ++opened; return new int; }
ANVIL_EXPORT void anvil_metal_close(void* w) { --opened; delete static_cast<int*>(w); }
ANVIL_EXPORT int anvil_metal_call(void*, void* const* arrays, char* message, std::size_t size) {
    const float* const x = static_cast<const float*>(arrays[0]);
    const int k = *static_cast<const int*>(arrays[1]);
    static const char* const reasons[] = {"command buffer: page fault", "newBuffer: no memory", ""};
    if (k < 0) return std::snprintf(message, size, "%s", reasons[-1 - k]), 1;
    if (++running != 1) return std::snprintf(message, size, "two at a time"), 1;
    for (int i = 0; i < 4; ++i) static_cast<float*>(arrays[2])[i] = 2 * x[i];
    *static_cast<int*>(arrays[3]) = k + 1;
    return --running, 0;
}
"""
_SIGNATURE = Signature(
    "doubles",
    (ArraySpec("x", SINGLE, (2, 2)), ArraySpec("k", "int32", ())),
    (ArraySpec("y", SINGLE, (2, 2)), ArraySpec("next", "int32", ())),
    0,
    4,
)
M = np.arange(4, dtype=SINGLE).reshape(2, 2)


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> MetalFunction:
    monkeypatch.setattr(metal_function, "_check_system", lambda: None)
    monkeypatch.setattr(metal_function, "_FLAGS", ("-x", "c++"))
    return MetalFunction(_SIGNATURE, _DOUBLES)


class OnDevice:
    """An array of a library that shares memory, on a device or on the host."""

    def __init__(self, kind: int | None) -> None:
        self.kind = kind

    def __dlpack_device__(self) -> tuple[int, int]:
        if self.kind is None:
            raise ValueError("unknown device")
        return self.kind, 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.kind is None:
            raise TypeError("copy it to the host first")
        return M


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((M, 3), {}),
        ((M.astype("float64"),), {"k": 3}),
        ((M.tolist(),), {"k": np.int64(3)}),
        ((M.T.copy().T, 3), {}),
        ((jnp.asarray(M), jnp.asarray(3)), {}),
        ((OnDevice(1), 3), {}),
    ],
)
def test_numpy_in_and_out(doubles: MetalFunction, args: tuple[Any, ...], kwargs: Any):
    y, following = doubles(*args, **kwargs)
    assert isinstance(y, np.ndarray)
    assert (y.dtype, y.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(y, 2 * M)
    assert following.dtype == np.int32
    assert following == 4


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((M,), ArgumentError, r"takes 2 arguments, got 1 \(missing: k\)"),
        ((M[0], 1), ArgumentError, r"'x' must have shape \(2, 2\), got \(2,\)"),
        ((M, 1.5), DtypeError, "'k' must have dtype int32, got float64"),
        ((OnDevice(8), 1), ArgumentError, "'x' is on a device; .* for example with numpy.asarray"),
        ((M, OnDevice(2)), ArgumentError, "'k' is on a device"),
        ((OnDevice(None), 1), ArgumentError, "'x' is no array: copy it to the host first"),
        ((M, -1), DeviceError, "^command buffer: page fault$"),
        ((M, -2), MemoryError, "^newBuffer: no memory$"),
        ((M, -3), MemoryError, "^no memory$"),
    ],
)
def test_failures(doubles: MetalFunction, args: tuple[Any, ...], error: Any, message: str):
    with pytest.raises(error, match=message):
        doubles(*args)
    np.testing.assert_array_equal(doubles(M, 0)[0], 2 * M)


def test_calls_take_turns(doubles: MetalFunction):
    start = threading.Barrier(4)

    def work(seed: int) -> None:
        start.wait()
        for k in range(200):
            y, following = doubles(M + seed, k)
            np.testing.assert_array_equal(y, 2 * (M + seed))
            assert following == k + 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_everything_is_released(doubles: MetalFunction):
    doubles(M, 0)
    library = doubles._loaded()
    gc.collect()
    before = library._functions.live()
    other = pickle.loads(pickle.dumps(doubles))
    other(M, 0)
    assert other.library_path == doubles.library_path
    assert library._functions.live() == before + 1
    del other
    gc.collect()
    assert library._functions.live() == before


@pytest.mark.usefixtures("doubles")
def test_device_that_is_missing():
    reason = "MTLCreateSystemDefaultDevice: no device for Metal"
    fails = f'std::snprintf(text, size, "{reason}"); return nullptr;'
    text = _DOUBLES.replace("open(char*, std::size_t)", "open(char* text, std::size_t size)")
    text = text.replace("++opened; return new int;", fails)
    function = MetalFunction(_SIGNATURE, text)
    for _ in range(2):
        with pytest.raises(DeviceError, match=f"^{reason}$"):
            function(M, 0)


@pytest.mark.usefixtures("doubles")
def test_shim_of_another_version():
    function = MetalFunction(_SIGNATURE, _DOUBLES.replace("return 1;", "return 0;", 1))
    with pytest.raises(ToolchainError, match="another version of anvil_jax"):
        function(M, 0)


def test_sparse_function_for_metal():
    pairs = NumericalFunction("pairs", lambda x: x[::2] * x[1::2], (Arg(8, SINGLE),), "METAL")
    slope = av.spjacobian(pairs, name="slope")
    if platform.system() != "Darwin":
        with pytest.raises(ToolchainError, match="called on macOS only"):
            slope(np.ones(8, SINGLE))
