"""Functions for CUDA called from Python with arrays of the device, which is emulated."""

import functools
import gc
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import anvil_jax as av
from anvil_jax import Arg, NumericalFunction
from anvil_jax.errors import DeviceError
from anvil_jax.jit.cuda_function import CudaFunction, DeviceArray
from anvil_jax.jit.dlpack import CUDA
from tests.gpu.conftest import InProcess
from tests.gpu.foreign import Consumed, Foreign

pytestmark = [pytest.mark.compile, pytest.mark.usefixtures("device")]

A = np.arange(6.0).reshape(2, 3)
B = np.array([1.0, -2.0, 0.5])
COUNT = np.array([1, 2], np.int32)


def combine(a: Any, b: Any, count: Any) -> Any:
    return a * b + 1.0, a @ b, count * 3


@functools.cache
def function() -> NumericalFunction[..., Any]:
    return NumericalFunction("combine", combine, (Arg((2, 3)), Arg(3), Arg(2, "int32")), "CUDA")


def check(found: Any, a: np.ndarray = A, b: np.ndarray = B, count: np.ndarray = COUNT) -> None:
    product, vector, tripled = (np.asarray(array) for array in found)
    np.testing.assert_allclose(product, a * b + 1.0, rtol=1e-14)
    np.testing.assert_allclose(vector, a @ b, rtol=1e-14)
    np.testing.assert_array_equal(tripled, count * 3)
    assert [array.dtype.name for array in (product, vector, tripled)] == [
        "float64", "float64", "int32",
    ]  # fmt: skip


@pytest.fixture
def make(device: InProcess) -> Any:
    """Makes arrays on the device, which have to be freed by nobody else."""
    made: list[Foreign] = []

    def call(values: Any, **options: Any) -> Foreign:
        made.append(Foreign(device.driver, np.asarray(values), **options))
        return made[-1]

    yield call
    gc.collect()
    for array in made:
        array.free()


# ---- in and out ----


def test_device_arrays_in_and_out(make: Callable[..., Foreign]):
    arrays = [make(A), make(B), make(COUNT)]
    found = function()(*arrays)
    assert all(isinstance(array, DeviceArray) for array in found)
    check(found)
    assert repr(found[0]) == "<DeviceArray float64[2, 3] on CUDA device 0>"
    assert repr(found[2]) == "<DeviceArray int32[2] on CUDA device 0>"
    for array in arrays:
        (stream,) = array.streams  # a real one, not one of the numbers with a meaning
        assert stream > 2
        assert array.deleted == 1


def test_results_are_arguments_again(make: Callable[..., Foreign]):
    twice = NumericalFunction("twice", lambda x: 2.0 * x, (Arg(4),), "CUDA")
    x = make(np.arange(4.0))
    for _ in range(3):
        x = twice(x)
    assert isinstance(x, DeviceArray)
    np.testing.assert_array_equal(np.asarray(x), 8.0 * np.arange(4.0))


def test_mixed_arguments(make: Callable[..., Foreign]):
    on_device = make(B)
    found = function()(A, on_device, COUNT)
    assert all(isinstance(array, DeviceArray) for array in found)
    check(found)
    check(function()(A.tolist(), count=COUNT.astype(np.int64), b=on_device))
    assert on_device.deleted == 2


def test_what_numpy_reads(make: Callable[..., Foreign]):
    array = function()(make(A), B, COUNT)[0]
    assert (array.shape, array.dtype, array.nbytes, array.device) == ((2, 3), np.float64, 48, 0)
    np.testing.assert_allclose(np.asarray(array), A * B + 1.0)
    assert np.asarray(array, dtype=np.float32).dtype == np.float32
    np.testing.assert_allclose(np.array(array) + 1.0, A * B + 2.0)
    with pytest.raises(ValueError, match="cannot be read without a copy"):
        np.array(array, copy=False)


def test_scalars_and_empty_arrays(make: Callable[..., Foreign]):
    specs = (Arg(()), Arg((0, 3)), Arg(2, "bool"))
    odd = NumericalFunction("odd", lambda s, e, m: (s + 1.0, e * 2.0, ~m), specs, "CUDA")
    found = odd(make(np.float64(2.0)), make(np.zeros((0, 3))), make(np.array([True, False])))
    values = [np.asarray(array) for array in found]
    assert [value.shape for value in values] == [(), (0, 3), (2,)]
    assert values[0] == 3.0
    assert values[2].tolist() == [False, True]


def test_pytrees_and_sparse_results(make: Callable[..., Foreign]):
    tree = NumericalFunction.from_callable(
        lambda state: {"sum": state["a"] + state["b"]}, {"a": B, "b": B}, name="add", device="CUDA"
    )
    found = tree({"a": make(B), "b": 2.0 * B})
    assert isinstance(found["sum"], DeviceArray)
    np.testing.assert_array_equal(np.asarray(found["sum"]), 3.0 * B)

    cube = NumericalFunction("cube", lambda x: x**3, (Arg(3),), "CUDA")
    slope = av.spjacobian(cube, name="slope")
    values = slope.values(make(B))
    assert isinstance(values, DeviceArray)
    np.testing.assert_allclose(np.asarray(values), 3.0 * B**2)


# ---- what is refused ----


def test_other_strides(make: Callable[..., Foreign]):
    check(function()(make(A, strides=(3, 1)), B, COUNT))
    transposed = make(A.T.copy().reshape(2, 3), strides=(1, 2))
    with pytest.raises(av.ArgumentError, match="'a' must be C-contiguous; make a contiguous copy"):
        function()(transposed, B, COUNT)
    assert transposed.deleted == 1


def test_strides_that_do_not_matter(make: Callable[..., Foreign]):
    row = NumericalFunction("row", lambda x: x + 1.0, (Arg((1, 3)),), "CUDA")
    np.testing.assert_array_equal(np.asarray(row(make(A[:1], strides=(77, 1)))), A[:1] + 1.0)


def test_offset(make: Callable[..., Foreign]):
    check(function()(make(A, offset=64), B, COUNT))


WHERE = re.escape("combine(a: float64[2, 3], b: float64[3], count: int32[2]): argument ")


@pytest.mark.parametrize(
    ("values", "options", "error", "message"),
    [
        (A.T, {}, av.ArgumentError, r"'a' must have shape \(2, 3\), got \(3, 2\)"),
        (A[0], {}, av.ArgumentError, r"'a' must have shape \(2, 3\), got \(3,\)"),
        (A.astype(np.float32), {}, av.DtypeError, r"dtype float64; .* code 2 with 32 bits"),
        (A.astype(np.int64), {}, av.DtypeError, r"dtype float64; .* code 0 with 64 bits"),
        (A, {"lanes": 2}, av.DtypeError, "dtype float64"),
        (A, {"type_": (4, 64)}, av.DtypeError, "code 4 with 64 bits"),
        (A, {"number": 1}, av.ArgumentError, "'a' is on CUDA device 1, the function on device 0"),
    ],
)
def test_arrays_that_are_refused(
    make: Callable[..., Foreign], values: Any, options: Any, error: Any, message: str
):
    wrong = make(values, **options)
    with pytest.raises(error, match=f"^{WHERE}.*{message}"):
        function()(wrong, B, COUNT)
    assert wrong.deleted == len(wrong.streams)


def test_mistakes_beside_an_array_of_the_device(make: Callable[..., Foreign], device: InProcess):
    on_device = make(B)
    function()(A, on_device, COUNT)
    gc.collect()
    before = device.live()
    for call, message in (
        (
            lambda: function()(A[:1], on_device, COUNT),
            r"'a' must have shape \(2, 3\), got \(1, 3\)",
        ),
        (lambda: function()(A, on_device, COUNT + 0.5), "'count' must have dtype int32, got float"),
    ):
        with pytest.raises((av.ArgumentError, av.DtypeError), match=f"^{WHERE}{message}"):
            call()
    with pytest.raises(av.ArgumentError, match=r"takes 3 arguments, got 2 \(missing: count\)"):
        function()(A, on_device)
    with pytest.raises(av.ArgumentError, match="has no argument 'c'"):
        function()(A, on_device, c=COUNT)
    with pytest.raises(av.ArgumentError, match="'count' must have shape"):
        function()(A, on_device, make(COUNT[:1]))  # after A is on its way to the device
    gc.collect()
    assert device.live() == {**before, "allocations": before["allocations"] + 1}


def test_producer_that_refuses(make: Callable[..., Foreign]):
    class Busy(Foreign):
        def __dlpack__(self, *, stream: Any = None, **_: Any) -> object:
            raise BufferError("not now")

    source = make(B)
    busy = object.__new__(Busy)
    busy.__dict__ = source.__dict__
    with pytest.raises(BufferError, match="not now"):
        function()(A, busy, COUNT)


# ---- failures ----


@pytest.mark.parametrize("name", ["cuLaunchKernel", "cuStreamSynchronize", "cuMemcpyHtoDAsync"])
def test_failures_of_a_call(make: Callable[..., Foreign], device: InProcess, name: str):
    on_device = make(B)
    function()(A, on_device, COUNT)
    gc.collect()
    before = device.live()
    device.fail_next(name, 999)
    with pytest.raises(DeviceError, match=f"^{name}.*: CUDA_ERROR_UNKNOWN"):
        function()(A, on_device, COUNT)
    gc.collect()
    assert device.live() == before
    check(function()(A, on_device, COUNT))


def test_no_memory(make: Callable[..., Foreign], device: InProcess):
    on_device = make(B)
    function()(A, on_device, COUNT)
    gc.collect()
    before = device.live()
    device.fail_next("cuMemAlloc")
    with pytest.raises(MemoryError, match=r"^cuMemAlloc of 48 bytes: CUDA_ERROR_OUT_OF_MEMORY"):
        function()(A, on_device, COUNT)
    gc.collect()
    assert device.live() == before


# ---- who owns what ----


def test_results_outlive_the_function(make: Callable[..., Foreign], device: InProcess):
    native = function().native
    native(make(A), B, COUNT)
    gc.collect()
    before = device.live()
    other = CudaFunction(native.signature, native.source)
    found = other(A, make(B), COUNT)
    del other
    gc.collect()
    check(found)
    assert device.allocations() == before["allocations"] + 1 + 3  # the argument, three results
    del found
    gc.collect()
    assert device.live() == {**before, "allocations": before["allocations"] + 1}


def test_capsules(make: Callable[..., Foreign], device: InProcess):
    on_device = make(B)
    function()(A, on_device, COUNT)
    gc.collect()
    before = device.allocations()
    array = function()(A, on_device, COUNT)[0]
    gc.collect()
    assert device.allocations() == before + 1

    capsules = [array.__dlpack__(), array.__dlpack__(stream=1), array.__dlpack__(stream=-1)]
    del capsules  # nobody consumed them
    assert device.allocations() == before + 1

    taken = [Consumed(array), Consumed(array, stream=2, max_version=(1, 0), copy=None)]
    for found in taken:
        assert found.shape == (2, 3)
        assert found.type == (2, 64, 1)
        assert found.device == (CUDA, 0) == array.__dlpack_device__()
        assert found.address == array.address
    capsule = array.__dlpack__()
    del array
    gc.collect()
    for found in taken:
        assert device.allocations() == before + 1
        found.close()
    del taken
    gc.collect()
    assert device.allocations() == before + 1
    del capsule
    assert device.allocations() == before


def test_what_a_device_array_does_not_hand_out(make: Callable[..., Foreign]):
    array = function()(A, make(B), COUNT)[0]
    assert array.__dlpack__(dl_device=(CUDA, 0)) is not None
    with pytest.raises(BufferError, match="its own memory only, without a copy"):
        array.__dlpack__(copy=True)
    with pytest.raises(BufferError, match="its own memory only"):
        array.__dlpack__(dl_device=(1, 0))


@pytest.mark.parametrize(
    ("home", "converter"),
    [("torch", "torch"), ("cupy._core.core", "cupy"), ("jaxlib._jax", "jax.dlpack")],
)
def test_results_are_arrays_of_the_same_library(
    make: Callable[..., Foreign], monkeypatch: pytest.MonkeyPatch, home: str, converter: str
):
    library = ModuleType(converter)
    monkeypatch.setattr(library, "from_dlpack", lambda array: (converter, array), raising=False)
    monkeypatch.setitem(sys.modules, converter, library)
    source = make(B)
    theirs = object.__new__(type("Tensor", (Foreign,), {"__module__": home}))
    theirs.__dict__ = source.__dict__
    found = function()(A, theirs, make(COUNT))
    assert [name for name, _ in found] == [converter] * 3
    check([array for _, array in found])


def test_arrays_that_are_not_on_the_device():
    """What has a device but is not there goes the way of NumPy arrays."""

    class Host(np.ndarray):
        pass

    class Odd(np.ndarray):
        def __dlpack_device__(self) -> Any:
            raise BufferError("on two devices")

    for kind in (Host, Odd):
        found = function()(A.view(kind), B, COUNT)
        assert all(isinstance(array, np.ndarray) for array in found)
        check(found)
