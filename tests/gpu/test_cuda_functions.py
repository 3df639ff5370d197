"""Functions for CUDA called from Python with arrays of the host; the device is emulated."""

import functools
import gc
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anvil_jax as av
from anvil_jax import Arg, NumericalFunction
from anvil_jax.__main__ import main
from anvil_jax.errors import DeviceError
from anvil_jax.function import Device
from anvil_jax.jit import cuda_toolkit
from anvil_jax.jit.cuda_function import CudaFunction
from tests.gpu import plant
from tests.gpu.conftest import InProcess
from tests.support.native import reference

pytestmark = [pytest.mark.compile, pytest.mark.usefixtures("device")]

X = np.array([0.5, -0.25, 1.0, 2.0])
U = np.array([0.1, -0.3])
DT = 0.125


@functools.cache
def step(device: Device = "CUDA") -> NumericalFunction[..., Any]:
    return NumericalFunction("step", plant.step, (Arg(4), Arg(2), Arg(())), device)


def check(got: Any, want: Any) -> None:
    """The same structure with the same numbers."""
    got, want = jax.tree.leaves(got), jax.tree.leaves(want)
    assert [np.shape(g) for g in got] == [np.shape(w) for w in want]
    for g, w in zip(got, want, strict=True):
        assert np.asarray(g).dtype == w.dtype
        np.testing.assert_allclose(np.asarray(g), w, rtol=1e-12, atol=1e-12)


def another() -> CudaFunction:
    """The same function once more, not loaded yet."""
    native = step().native
    return CudaFunction(native.signature, native.source)


# ---- what is computed ----


def test_numpy_in_and_out():
    found = step()(X, U, DT)
    assert isinstance(found, tuple)
    assert isinstance(found[0], np.ndarray)
    assert isinstance(found[1], np.float64)
    check(found, reference(plant.step, (X, U, DT)))
    check(found, step("CPU")(X, U, DT))


@pytest.mark.parametrize(
    "call",
    [
        lambda f: f(X, u=U, dt=DT),
        lambda f: f(dt=DT, u=U, x=X),
        lambda f: f(X[::-1][::-1], np.asfortranarray(U), np.float64(DT)),
        lambda f: f([0.5, -0.25, 1.0, 2.0], tuple(U), 0.125),
        lambda f: f(jnp.asarray(X), jnp.asarray(U), jnp.asarray(DT)),
        lambda f: f(X, np.array([1, 2]), 1),
    ],
)
def test_arguments_are_those_of_the_cpu(call: Callable[..., Any]):
    check(call(step()), call(step("CPU")))


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((X, U), {}),
        ((X, U, DT, DT), {}),
        ((X, U), {"d": DT}),
        ((X, U, DT), {"x": X}),
        ((X[:3], U, DT), {}),
        ((X, U[:, None], DT), {}),
        ((X * 1j, U, DT), {}),
        ((["a"] * 4, U, DT), {}),
        ((object(), U, DT), {}),
        ((X, U, "no"), {}),
    ],
)
def test_mistakes_are_explained_as_on_the_cpu(args: tuple[Any, ...], kwargs: dict[str, Any]):
    with pytest.raises(av.AnvilError) as on_cpu:
        step("CPU")(*args, **kwargs)
    with pytest.raises(type(on_cpu.value)) as on_device:
        step()(*args, **kwargs)
    assert str(on_device.value) == str(on_cpu.value)


def test_pytrees():
    def spread(state: Any, gain: Any) -> Any:
        return {"sum": state["a"] + gain * state["b"][0], "mask": state["b"][0] > 0}

    state = {"a": np.arange(3.0), "b": (np.array([1.0, -1.0, 2.0]),)}
    for device in ("CPU", "CUDA"):
        function = NumericalFunction.from_callable(spread, state, 2.0, device=device)
        found = function(state, 3.0)
        assert sorted(found) == ["mask", "sum"]
        check(found, {"mask": np.array([True, False, True]), "sum": np.array([3.0, -2.0, 8.0])})


@pytest.mark.parametrize("name", ["nothing_in", "nothing_out", "mixed"])
def test_shapes_and_dtypes(name: str):
    function = plant.functions()[name]
    inputs = plant.samples(function)
    check(function(*inputs), plant.expected(function, inputs))
    check(function(*inputs), plant.expected(function, inputs))


def test_sparse_function():
    function = plant.functions()["slope"]
    (x,) = plant.samples(function)
    found = function(x)
    assert found.format == "csc"
    np.testing.assert_allclose(found.toarray(), reference(jax.jacobian(plant.residual), (x,))[0])


def test_large_batch():
    count = 100_000
    single = NumericalFunction("tiny", lambda x, y: x * y + 1.0, (Arg(2), Arg(())), "CUDA")
    many = av.vmap(single, count, name="tinies")
    x, y = np.random.default_rng(0).normal(size=(count, 2)), np.arange(float(count))
    np.testing.assert_allclose(many(x, y), x * y[:, None] + 1.0, rtol=1e-15)


# ---- composing ----


def test_composes_like_the_jax_function():
    with jax.enable_x64(True):
        x, u = jnp.asarray(X), jnp.asarray(U)
        check(jax.jit(step())(x, u, DT), reference(plant.step, (X, U, DT)))
        batch = jnp.stack([x, 2.0 * x])
        check(
            jax.vmap(step(), in_axes=(0, None, None))(batch, u, DT),
            [np.asarray(leaf) for leaf in jax.vmap(plant.step, (0, None, None))(batch, u, DT)],
        )
        gradient = jax.grad(lambda x: step()(x, u, DT)[1])(x)
        check(gradient, np.asarray(jax.grad(lambda x: plant.step(x, u, DT)[1])(x)))


def test_four_threads():
    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            x, u = rng.normal(size=4), rng.normal(size=2)
            check(step()(x, u, DT), step("CPU")(x, u, DT))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_first_calls_from_four_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANVIL_JAX_CACHE_DIR", str(tmp_path / "cache"))
    functions = [another() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda function: function(X, U, DT), functions))
    for found in results:
        check(found, step("CPU")(X, U, DT))
    assert not list((tmp_path / "cache").glob("build-*"))


def test_pickles():
    function = pickle.loads(pickle.dumps(step()))
    check(function(X, U, DT), step("CPU")(X, U, DT))
    native = pickle.loads(pickle.dumps(step().native))
    assert isinstance(native, CudaFunction)
    check(native(X, U, DT), step("CPU")(X, U, DT))
    assert native.library_path == step().native.library_path


def test_functions_do_not_share_kernels():
    """Two libraries of the same structure in one process."""
    one = NumericalFunction("same", lambda x: x + 1.0, (Arg(3),), "CUDA")
    two = NumericalFunction("same", lambda x: x * 5.0, (Arg(3),), "CUDA")
    x = np.arange(3.0)
    for _ in range(2):
        np.testing.assert_array_equal(one(x), x + 1.0)
        np.testing.assert_array_equal(two(x), x * 5.0)


def test_another_device(device: InProcess):
    device.set(DEVICES="2")
    native = step().native
    other = CudaFunction(native.signature, native.source, 1)
    check(other(X, U, DT), step("CPU")(X, U, DT))
    with pytest.raises(DeviceError, match="cuDeviceGet: CUDA_ERROR_INVALID_DEVICE"):
        CudaFunction(native.signature, native.source, 2)(X, U, DT)


def test_everything_is_released(device: InProcess):
    check(step()(X, U, DT), step("CPU")(X, U, DT))
    gc.collect()
    before = device.live()
    function = another()
    function(X, U, DT)
    assert device.live()["streams"] == before["streams"] + 1
    del function
    gc.collect()
    assert device.live() == before


# ---- kept code ----


def fresh(cache: Path, monkeypatch: pytest.MonkeyPatch) -> CudaFunction:
    """A function as another process would load it, with a cache of its own."""
    monkeypatch.setenv("ANVIL_JAX_CACHE_DIR", str(cache))
    return another()


def test_kernels_are_compiled_once(
    device: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    want = step("CPU")(X, U, DT)
    check(fresh(tmp_path / "one", monkeypatch)(X, U, DT), want)
    (kept,) = (tmp_path / "one").glob("step-*-sm_80_*.code")
    for name in ("two", "three"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
    device.set(CXX="no-such-compiler")  # NVRTC fails from here on
    check(fresh(tmp_path / "two", monkeypatch)(X, U, DT), want)

    damaged = tmp_path / "three" / kept.name
    damaged.write_bytes(kept.read_bytes()[:-10])
    with pytest.raises(DeviceError, match=r"^nvrtcCompileProgram: NVRTC_ERROR_COMPILATION\n"):
        fresh(tmp_path / "three", monkeypatch)(X, U, DT)
    device.set(CXX="")
    check(fresh(tmp_path / "three", monkeypatch)(X, U, DT), want)
    assert damaged.read_bytes() == kept.read_bytes()


def test_clearing_the_cache_deletes_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from anvil_jax.jit.cache import cache_info, clear_cache

    fresh(tmp_path / "cache", monkeypatch).load()
    assert cache_info().libraries == 1
    assert cache_info().nbytes == sum(p.stat().st_size for p in (tmp_path / "cache").glob("*.*"))
    clear_cache()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == []


def test_device_that_is_newer_than_the_compiler(
    device: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    device.set(SM="13.5")
    want = step("CPU")(X, U, DT)
    check(fresh(tmp_path / "one", monkeypatch)(X, U, DT), want)
    assert list((tmp_path / "one").glob("step-*-sm_135_*.code"))


# ---- failures ----


@pytest.mark.parametrize(
    "name",
    ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuDeviceGetAttribute", "cuStreamCreate"],
)
def test_failures_at_the_first_call(device: InProcess, name: str):
    function = another()
    gc.collect()
    before = device.live()
    device.fail_next(name, 999)
    with pytest.raises(DeviceError, match=f"^{name}: CUDA_ERROR_UNKNOWN"):
        function(X, U, DT)
    assert device.live() == before
    check(function(X, U, DT), step("CPU")(X, U, DT))


@pytest.mark.parametrize("name", ["cuCtxPushCurrent", "cuMemcpyHtoDAsync", "cuLaunchKernel"])
def test_failures_of_a_call(device: InProcess, name: str):
    step()(X, U, DT)
    device.fail_next(name, 999)
    with pytest.raises(DeviceError, match=f"^{name}.*: CUDA_ERROR_UNKNOWN"):
        step()(X, U, DT)
    check(step()(X, U, DT), step("CPU")(X, U, DT))


def test_no_memory(device: InProcess):
    function = another().load()
    device.fail_next("cuMemAlloc")
    with pytest.raises(MemoryError, match=r"^cuMemAlloc of \d+ bytes: CUDA_ERROR_OUT_OF_MEMORY"):
        function(X, U, DT)
    check(function(X, U, DT), step("CPU")(X, U, DT))


def test_no_device(device: InProcess):
    device.set(DEVICES="0")
    with pytest.raises(DeviceError, match=r"^cuInit: CUDA_ERROR_NO_DEVICE"):
        another()(X, U, DT)


def test_no_toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANVIL_JAX_CUDA_ROOT", str(tmp_path))
    with pytest.raises(av.ToolchainError, match="has neither CUDA's headers nor libnvrtc") as error:
        another()(X, U, DT)
    assert "pip install nvidia-cuda-runtime-cu12" in str(error.value)

    for name in cuda_toolkit._ROOT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(cuda_toolkit, "_WHEELS", tmp_path)
    monkeypatch.setattr(cuda_toolkit, "_USUAL", tmp_path / "cuda")
    with pytest.raises(av.ToolchainError, match=r"header cuda\.h was not found"):
        another()(X, U, DT)
    include = tmp_path / "cuda" / "include"
    include.mkdir(parents=True)
    (include / "cuda.h").touch()
    with pytest.raises(av.ToolchainError, match=r"header nvrtc\.h was not found"):
        another()(X, U, DT)
    (include / "nvrtc.h").touch()
    with pytest.raises(av.ToolchainError, match="compiler libnvrtc was not found"):
        another()(X, U, DT)
    library = tmp_path / "cuda" / "lib64" / "libnvrtc.so.12"
    library.parent.mkdir()
    library.touch()
    assert cuda_toolkit.find_cuda_toolkit() == cuda_toolkit.CudaToolkit((include,), library)
    monkeypatch.setattr(cuda_toolkit, "_driver", lambda: tmp_path / "libcuda.so.1")
    with pytest.raises(av.ToolchainError, match="no NVIDIA driver on this machine"):
        another()(X, U, DT)
    monkeypatch.undo()


def test_doctor(device: InProcess, capsys: Any):
    device.monkeypatch.setenv("ANVIL_JAX_CXX", "no-such-compiler")  # nothing is to be compiled
    device.set(DEVICES="2", SM="9.0")
    main(["doctor"])
    text = capsys.readouterr().out
    headers, compiler, driver, *devices = text[text.index("\nCUDA ") + 1 :].splitlines()[:5]
    assert headers.startswith("CUDA       headers: /")
    assert compiler.startswith("           run-time compiler: /")
    assert driver.startswith("           driver: for CUDA 1")
    assert devices == [f"           device {k}: Emulated CUDA device {k}, sm_90" for k in range(2)]
    device.set(DEVICES="0")
    main(["doctor"])
    assert "           no device: cuInit: CUDA_ERROR_NO_DEVICE\n" in capsys.readouterr().out
