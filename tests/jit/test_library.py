"""Calls: values, conversions, refusals, threads, pickles, cost."""

import copy
import gc
import pickle
import sys
import threading
import timeit
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.errors import ArgumentError, DtypeError, ToolchainError
from anvil_jax.jit import library
from anvil_jax.jit.interpreter import interpreter_record
from anvil_jax.jit.library import NativeFunction

pytestmark = pytest.mark.compile

X = np.array([1.0, 2.0, 3.0])


@pytest.fixture(params=["native", "plain"])
def both_paths(request, monkeypatch, double, step):
    """`double` and `step` as on CPython, and as where the array layout is unknown."""
    if request.param == "native":
        return double, step
    monkeypatch.setattr(library, "interpreter_record", lambda: None)
    return copy.copy(double).load(), copy.copy(step).load()


def test_this_interpreter_takes_the_fast_path(double):
    assert interpreter_record() is not None
    assert type(double.entry).__name__ == "builtin_function_or_method"


def test_unknown_interpreters_get_the_plain_path(monkeypatch, double):
    interpreter_record.cache_clear()
    monkeypatch.setattr("anvil_jax.jit.interpreter._has_expected_layout", lambda array: False)
    try:
        plain = copy.copy(double)
        assert plain.entry.__name__ == "_convert_and_call"
        np.testing.assert_array_equal(plain(X), 2 * X)
    finally:
        interpreter_record.cache_clear()


def test_results_are_fresh_contiguous_arrays(double):
    first, second = double(X), double(X + 1)
    assert type(first) is np.ndarray
    assert first.flags.c_contiguous
    assert first.flags.owndata
    assert first.flags.writeable
    np.testing.assert_array_equal(first, 2 * X)
    np.testing.assert_array_equal(second, 2 * X + 2)


def test_several_results_are_a_tuple_and_rank_zero_is_a_scalar(both_paths):
    _, step = both_paths
    result = step(np.ones((2, 3)), X, 0.5)
    assert type(result) is tuple
    np.testing.assert_array_equal(result[0], 1 + 0.5 * np.stack([X, X]))
    assert type(result[1]) is np.float64
    assert result[1] == 3.0


@pytest.mark.parametrize(
    "value",
    [
        X,
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        X.astype("float32"),
        X.astype("float16"),
        X.astype("int8"),
        X.astype("uint64"),
        np.array([1.0, 9.0, 2.0, 9.0, 3.0])[::2],
        X[::-1].copy()[::-1],
        X.astype(">f8"),
        np.frombuffer(b"\0" + X.tobytes(), dtype="float64", offset=1),
        np.zeros(3, dtype=np.longdouble) + X,
        X.view(type("Subclass", (np.ndarray,), {})),
        np.ma.masked_array(X),
    ],
    ids=lambda v: f"{type(v).__name__}-{getattr(v, 'dtype', '')}",
)
def test_harmless_conversions(both_paths, value):
    double, _ = both_paths
    result = double(value)
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, 2 * X)


def test_inputs_are_not_written_and_may_be_read_only(double):
    x = X.copy()
    x.flags.writeable = False
    np.testing.assert_array_equal(double(x), 2 * X)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("order", ["F", "strided", "transposed"])
def test_layouts_of_matrices(both_paths, order):
    _, step = both_paths
    x = np.arange(6.0).reshape(2, 3)
    given = {
        "F": np.asfortranarray(x),
        "strided": np.repeat(x, 2, axis=1)[:, ::2],
        "transposed": x.T.copy().T,
    }[order]
    assert not given.flags.c_contiguous
    np.testing.assert_array_equal(step(given, np.zeros(3), 1.0)[0], x)


def test_keyword_arguments(both_paths):
    _, step = both_paths
    x = np.arange(6.0).reshape(2, 3)
    expected = step(x, X, 0.5)
    for result in (step(x, dt=0.5, u=X), step(dt=0.5, u=X, x=x), step(x, u=X, dt=0.5)):
        np.testing.assert_array_equal(result[0], expected[0])
        assert result[1] == expected[1]


@pytest.mark.parametrize(
    "dt", [0.5, np.float64(0.5), np.array(0.5), np.float32(0.5), np.array(0.5, "float32")]
)
def test_scalar_arguments(both_paths, dt):
    _, step = both_paths
    assert step(np.zeros((2, 3)), X, dt)[1] == 3.0


def test_python_integers_and_booleans_are_numbers(step):
    assert step(np.zeros((2, 3)), X, 2)[1] == 12.0
    assert step(np.zeros((2, 3)), X, True)[1] == 6.0


TEXT = "step(x: float64[2, 3], u: float64[3], dt: float64)"
ZEROS = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, f"{TEXT} takes 3 arguments, got 0 (missing: x, u, dt)"),
        ((ZEROS,), {}, f"{TEXT} takes 3 arguments, got 1 (missing: u, dt)"),
        ((ZEROS, X, 1.0, 2.0), {}, f"{TEXT} takes 3 arguments, got 4"),
        ((ZEROS, X), {"h": 1.0}, f"{TEXT} has no argument 'h'"),
        ((ZEROS, X), {"x": 1.0}, f"{TEXT} got argument 'x' twice: by position and by name"),
        (
            (ZEROS, np.zeros(4), 1.0),
            {},
            f"{TEXT}: argument 'u' must have shape (3,), got (4,)",
        ),
        (
            (ZEROS.T, X, 1.0),
            {},
            f"{TEXT}: argument 'x' must have shape (2, 3), got (3, 2)",
        ),
        ((ZEROS, 1.0, 1.0), {}, f"{TEXT}: argument 'u' must have shape (3,), got ()"),
        ((ZEROS, X, [1.0]), {}, f"{TEXT}: argument 'dt' must have shape (), got (1,)"),
        ((ZEROS, [[1], [2, 3]], 1.0), {}, f"{TEXT}: argument 'u' is no array: "),
        (({}, X, 1.0), {}, f"{TEXT}: argument 'x' must have shape (2, 3), got ()"),
    ],
)
def test_mistakes_are_named(both_paths, args, kwargs, message):
    _, step = both_paths
    with pytest.raises(ArgumentError) as caught:
        step(*args, **kwargs)
    assert str(caught.value).startswith(message)


def test_one_argument_is_singular(double):
    with pytest.raises(ArgumentError, match=r"twice\(x: float64\[3\]\) takes 1 argument, got 2"):
        double(X, X)


@pytest.fixture(scope="module")
def pick(make):
    """pick(i: int32[2], b: bool) -> the same."""
    body = "out0[0] = in0[0]; out0[1] = in0[1]; *out1 = *in1;"
    inputs = (("i", "int32", (2,)), ("b", "bool", ()))
    return make("pick", inputs, (("int32", (2,)), ("bool", ())), body)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "uint64", "longlong", "bool"])
def test_integers_that_fit(pick, dtype):
    result = pick(np.array([1, 0], dtype), True)
    assert result[0].dtype == np.int32
    np.testing.assert_array_equal(result[0], [1, 0])
    assert result[1] is np.True_


@pytest.mark.parametrize(
    ("i", "b", "message"),
    [
        ([1.0, 2.0], True, "'i' must have dtype int32, got float64: fractions would be lost"),
        ([2**31, 0], True, "'i' must have dtype int32, got int64: its values do not fit"),
        (np.array([2**63, 0], "uint64"), True, "its values do not fit into int32"),
        ([2**70, 0], True, "'i' must have dtype int32, got object: there is no conversion"),
        (["1", "2"], True, "'i' must have dtype int32, got <U1: there is no conversion"),
        ([1j, 2], True, "'i' must have dtype int32, got complex128: the imaginary part"),
        (np.zeros(2, "m8[s]"), True, "'i' must have dtype int32, got timedelta64[s]"),
        ([1, 2], 1, "'b' must have dtype bool, got int64: there is no conversion"),
    ],
)
def test_lossy_conversions_are_refused(pick, i, b, message):
    with pytest.raises(DtypeError) as caught:
        pick(i, b)
    assert message in str(caught.value)
    assert str(caught.value).startswith("pick(i: int32[2], b: bool): argument ")


def test_complex_is_refused_for_real(double):
    with pytest.raises(DtypeError, match=r"imaginary part would be lost; pass its \.real"):
        double(X + 0j)


@pytest.mark.parametrize("dtype", ELEMENT_TYPES)
@pytest.mark.parametrize("path", ["native", "plain"])
def test_every_dtype_and_zero_size(make, monkeypatch, dtype, path):
    """Identity on a 2 x 2, a scalar and an empty array."""
    body = "for (int i = 0; i < 4; ++i) out0[i] = in0[i];\n*out1 = *in1;"
    inputs = (("a", dtype, (2, 2)), ("s", dtype, ()), ("e", dtype, (3, 0)))
    function = make(f"same_{dtype}", inputs, ((dtype, (2, 2)), (dtype, ()), (dtype, (0, 2))), body)
    if path == "plain":
        monkeypatch.setattr(library, "interpreter_record", lambda: None)
    a = np.array([[0, 1], [1, 0]], dtype) if dtype == "bool" else np.array([[0, 1], [7, 99]], dtype)
    for scalar in (a[0, 1], np.array(1, dtype)):
        same, one, empty = function(a, scalar, np.empty((3, 0), dtype))
        np.testing.assert_array_equal(same, a, strict=True)
        assert type(one) is np.dtype(dtype).type
        assert one == 1
        assert empty.shape == (0, 2)
        assert empty.dtype == dtype


def test_no_arguments_and_no_results(make):
    constant = make("constant", (), (("float64", ()),), "*out0 = 42;")
    assert constant() == 42.0
    with pytest.raises(ArgumentError, match=r"constant\(\) takes 0 arguments, got 1"):
        constant(1.0)
    assert make("nothing", (("x", "float64", (3,)),), (), "")(X) == ()


@pytest.mark.parametrize("nbytes", [64, 256 * 1024, 256 * 1024 + 64, 8 << 20])
@pytest.mark.parametrize("path", ["native", "plain"])
def test_workspaces_are_aligned_and_one_per_thread(make, monkeypatch, nbytes, path):
    """The function parks x in its workspace, dawdles without the GIL and reads it back."""
    if path == "plain":
        monkeypatch.setattr(library, "interpreter_record", lambda: None)
    body = f"""
    volatile double* first = reinterpret_cast<double*>(ws);
    volatile double* last = reinterpret_cast<double*>(ws + {nbytes} - sizeof(double));
    *first = *in0;
    *last = *in0;
    for (int i = 0; i < 20000; ++i) *first = *first + 1;
    out0[0] = *first - 20000;
    out0[1] = *last;
    out0[2] = static_cast<double>(reinterpret_cast<std::uintptr_t>(ws) % 64);
    """
    inputs, outputs = (("x", "float64", ()),), (("float64", (3,)),)
    park = make("park", inputs, outputs, body, nbytes, operations=100_000)
    park.load()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(park, map(float, range(200))))
    np.testing.assert_array_equal(results, [[i, i, 0] for i in range(200)])


def test_lack_of_workspace_is_a_memory_error(make, monkeypatch):
    inputs, outputs = (("x", "float64", ()),), (("float64", ()),)
    huge = make("huge", inputs, outputs, "*out0 = *in0;", workspace_nbytes=1 << 60)
    with pytest.raises(MemoryError):
        huge(1.0)
    monkeypatch.setattr(library, "interpreter_record", lambda: None)
    with pytest.raises(MemoryError, match="bytes of workspace of huge"):
        copy.copy(huge)(1.0)


@pytest.mark.parametrize("operations", [10, library.RELEASE_GIL_OPERATIONS])
def test_many_threads_call_one_function(make, operations):
    body = """
    for (int i = 0; i < 64; ++i) {
        out0[i] = in0[i];
        for (int k = 0; k < 50; ++k) out0[i] += in1[i];
    }
    *out1 = in0[63];"""
    inputs = (("x", "float64", (64,)), ("y", "float64", (64,)))
    function = make("work", inputs, (("float64", (64,)), ("float64", ())), body, 0, operations)
    failures = []

    def use(seed):
        rng = np.random.default_rng(seed)
        for _ in range(300):
            x, y = rng.integers(0, 1000, (2, 64)).astype(float)
            result, last = function(x, y) if seed % 2 else function(list(x), y=y)
            if not (np.array_equal(result, x + 50 * y) and last == x[-1]):
                failures.append(seed)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_large_functions_let_other_threads_run(make):
    """A spinning call ends only because another thread writes the array it is looking at."""
    body = """
    const volatile double* flag = in0;
    long spins = 0;
    while (*flag == 0 && spins < 20000000000L) ++spins;
    *out0 = *flag;"""
    inputs, outputs = (("flag", "float64", (1,)),), (("float64", ()),)
    spin = make("spin", inputs, outputs, body, 0, library.RELEASE_GIL_OPERATIONS).load()
    flag = np.zeros(1)
    timer = threading.Timer(0.05, flag.fill, args=(1.0,))
    timer.start()
    assert spin(flag) == 1.0


def test_nothing_leaks(step):
    x, dtype = np.ones((2, 3)), np.dtype("float64")
    step(x, X, 0.5)
    before = sys.getrefcount(x), sys.getrefcount(X), sys.getrefcount(dtype)
    for _ in range(1000):
        step(x, X, 0.5)
        step(x, X, dt=1)
    after = sys.getrefcount(x), sys.getrefcount(X), sys.getrefcount(dtype)
    assert after[:2] == before[:2]
    assert abs(after[2] - before[2]) < 50
    array, scalar = step(x, X, 0.5)
    fresh = np.empty(3)
    assert sys.getrefcount(array) == sys.getrefcount(scalar) == sys.getrefcount(fresh)


def test_loaded_functions_are_collected(double):
    function = copy.copy(double)
    function(X)
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None


def test_construction_does_not_compile(empty_cache, double):
    function = NativeFunction(double.signature, double.source)
    assert "not loaded" in repr(function)
    assert not empty_cache.exists()
    assert function.load() is function
    assert repr(function) == "<NativeFunction twice(x: float64[3]) -> float64[3], loaded>"
    assert function.library_path.parent == empty_cache


@pytest.mark.parametrize("pickler", ["pickle", "cloudpickle"])
def test_pickles_work_in_a_process_without_jax(python, tmp_path, step, pickler):
    module = pytest.importorskip(pickler)
    step.load()
    path = tmp_path / "step.pickle"
    path.write_bytes(module.dumps(step))
    script = """
import pickle, sys
import numpy as np
step = pickle.load(open(sys.argv[1], "rb"))
print(step(np.zeros((2, 3)), np.ones(3), 2.0)[1])
print(sorted({"jax", "jaxlib", "tinygrad", "jinja2"} & set(sys.modules)))
"""
    assert python(script, path).split("\n")[:2] == ["6.0", "[]"]


def test_the_room_imports_neither_jax_nor_tinygrad(python):
    script = """
import sys
import anvil_jax.jit.library, anvil_jax.jit.shim
print(sorted({"jax", "jaxlib", "tinygrad", "scipy"} & set(sys.modules)))
"""
    assert python(script).strip() == "[]"


def test_text_of_another_version_is_refused(double):
    source = double.source.replace(f"return {library.SHIM_ABI};", "return 999;")
    with pytest.raises(ToolchainError, match=r"generated .* by another version of anvil_jax"):
        NativeFunction(double.signature, source)(X)


def test_copies_share_the_text(double):
    for clone in (copy.copy(double), copy.deepcopy(double), pickle.loads(pickle.dumps(double))):
        assert clone.signature == double.signature
        np.testing.assert_array_equal(clone(X), 2 * X)


@pytest.mark.parametrize("operations", [10, library.RELEASE_GIL_OPERATIONS])
def test_a_call_costs_less_than_a_microsecond(make, operations):
    """Best of seven; about 0.09 us on an idle machine, so the limit is generous."""
    body = "for (int i = 0; i < 3; ++i) out0[i] = 2 * in0[i];"
    cheap = make(
        "cheap", (("x", "float64", (3,)),), (("float64", (3,)),), body, operations=operations
    )
    cheap.load()
    calls = 20_000
    best = min(timeit.repeat(lambda: cheap(X), number=calls, repeat=7)) / calls
    assert best < 1e-6
