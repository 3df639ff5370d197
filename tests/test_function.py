"""NumericalFunction: specification, stages, calls, composition, pickling."""

import copy
import inspect
import pickle
import subprocess
import sys
import threading
import timeit
from typing import Any, assert_type

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

import anvil_jax as av
from anvil_jax import Arg, ArgumentError, NumericalFunction

x3 = np.array([0.5, -1.0, 2.0])


def polynomial(x: jax.Array, a: jax.Array) -> jax.Array:
    return x * x * a + 1.0


@pytest.fixture(scope="module")
def poly() -> NumericalFunction[..., Any]:
    return NumericalFunction("poly", polynomial, (Arg(3), Arg(())))


# ---- Arg ----


def test_arg():
    assert Arg(4).shape == (4,)
    assert Arg(()).shape == ()
    assert Arg((2, 3)).ndim == 2
    assert Arg((2, 3)).size == 6
    assert Arg(0).size == 0
    assert Arg(3) == Arg((3,)) != Arg(3, "float32")
    assert hash(Arg(3)) == hash(Arg([3]))
    assert repr(Arg(3)) == "Arg(3)"
    assert repr(Arg((2, 2), "int32")) == "Arg((2, 2), int32)"
    with pytest.raises(AttributeError):
        setattr(Arg(3), "shape", (4,))  # noqa: B010


@pytest.mark.parametrize("shape", [-1, (2, -3), 1.5, "3", (2, None), True])
def test_arg_refuses(shape):
    with pytest.raises(ArgumentError):
        Arg(shape)


@pytest.mark.parametrize("dtype", ["float16", "complex64", object, "S3"])
def test_arg_refuses_dtype(dtype):
    with pytest.raises(av.DtypeError):
        Arg(3, dtype)


# ---- specification ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("int", polynomial, (Arg(3), Arg(()))), "is a C\\+\\+ keyword"),
        (("a b", polynomial, (Arg(3), Arg(()))), "use for example 'a_b'"),
        (("f", 3, (Arg(3),)), "fn must be callable"),
        (("f", polynomial, Arg(3)), "must be a tuple of Arg"),
        (("f", polynomial, (Arg(3),)), "cannot be called with 1 positional argument"),
        (("f", polynomial, (Arg(3), Arg(())), "TPU"), "device 'TPU' is unknown"),
        (("f", polynomial, (Arg(3, "float32"), Arg(())), "METAL"), "input a has dtype float64"),
    ],
)
def test_specification_is_checked(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        NumericalFunction(*arguments)


def test_metal_refuses_captured_doubles():
    f = NumericalFunction("f", lambda x: x * np.ones(3), (Arg(3, "float32"),), "METAL")
    with pytest.raises(ArgumentError, match="captured array of shape \\(3,\\) has dtype float64"):
        _ = f.outputs


def test_immutable(poly):
    with pytest.raises(AttributeError, match="poly is immutable"):
        poly.name = "other"
    with pytest.raises(AttributeError):
        del poly.name
    assert copy.copy(poly) is poly
    assert copy.deepcopy(poly) is poly


# ---- stages ----


def test_stages(poly):
    assert poly.outputs == (Arg(3),)
    assert [b.name for b in poly.input_buffers] == ["x", "a"]
    assert [b.ctype for b in poly.output_buffers] == ["double"]
    assert poly.traced is poly.traced
    assert poly.view is poly.view
    assert "namespace poly" in poly.source
    assert "void call(" in poly.header
    assert "evaluate(" in poly.kernels
    assert poly.workspace_size % 64 == 0
    assert poly.operations > 0
    assert len(poly.jaxpr.eqns) > 0
    assert poly.constant_buffers == ()
    assert isinstance(poly.intermediate_buffers, tuple)


def test_representations():
    f = NumericalFunction("f", lambda x: (x, x[0] < 1), (Arg(3),))
    assert repr(f) == "<NumericalFunction f(Arg(3)) -> (...) on CPU>"
    assert f.outputs == (Arg(3), Arg((), bool))
    assert repr(f) == "<NumericalFunction f(Arg(3)) -> (Arg(3), Arg((), bool)) on CPU>"
    assert "<td><code>out_1</code></td><td>bool</td>" in f._repr_html_()
    assert "&lt;lambda&gt;" in f._repr_html_()


def test_signature_is_the_functions(poly):
    assert list(inspect.signature(poly).parameters) == ["x", "a"]


@pytest.mark.compile
def test_types_are_known_to_a_checker():
    """The assertions below are for pyright; a wrong number of arguments is an error there."""
    one = NumericalFunction("one", lambda x: jnp.sin(x), (Arg(3),))
    assert_type(one(x3), NDArray[Any])
    two = NumericalFunction("two", lambda x, y: (x, jnp.sin(y)), (Arg(3), Arg(())))
    assert_type(two(x3, 1.0), tuple[NDArray[Any], NDArray[Any]])

    @av.numerical_function("decorated", ((3,), (2, 2)))
    def decorated(x: jax.Array, A: jax.Array) -> jax.Array:
        return x * A[0, 0]

    assert_type(decorated(x3, np.eye(2)), NDArray[Any])


# ---- decorators ----


def test_decorator_spellings():
    def body(x, A):
        return x, A

    expected = (Arg(3), Arg((2, 2)))
    assert av.numerical_function("f", 3, (2, 2))(body).inputs == expected
    assert av.numerical_function("f", ((3,), (2, 2)))(body).inputs == expected
    assert av.numerical_function("f", (3, (2, 2)))(body).inputs == expected
    assert av.numerical_function("f", (Arg(3), (2, 2)))(body).inputs == expected
    assert av.numerical_function("f", Arg(3), (2, 2))(body).inputs == expected
    mixed = av.numerical_function("f", Arg(3, "int32"), (2, 2), dtype="float32")(body)
    assert mixed.inputs == (Arg(3, "int32"), Arg((2, 2), "float32"))
    assert av.numerical_function("f", (2, 2))(lambda A: A).inputs == (Arg((2, 2)),)
    assert av.numerical_function("f", ())(lambda s: s).inputs == (Arg(()),)
    assert av.numerical_function("f", ((), ()))(body).inputs == (Arg(()), Arg(()))
    assert av.numerical_function("f")(lambda: jnp.ones(1)).inputs == ()
    assert av.numerical_function("f", 3, device="CUDA")(lambda x: x).device == "CUDA"


def test_decorator_refuses_names_at_once():
    with pytest.raises(ArgumentError):
        av.numerical_function("1f", 3)


# ---- calls ----


@pytest.mark.compile
def test_call_agrees_with_jax(poly):
    np.testing.assert_allclose(poly(x3, 2.0), x3 * x3 * 2.0 + 1.0, rtol=1e-15)
    np.testing.assert_allclose(poly([0.5, -1, 2], 2), x3 * x3 * 2.0 + 1.0, rtol=1e-15)
    np.testing.assert_allclose(poly(a=2.0, x=x3), x3 * x3 * 2.0 + 1.0, rtol=1e-15)
    np.testing.assert_allclose(poly(jnp.ones(3), 2.0), 3.0)


@pytest.mark.compile
def test_results():
    f = NumericalFunction("f", lambda x: (x[0] + x[1], x.reshape(3, 1).T, x), (Arg(3),))
    scalar, row, same = f(x3)
    assert isinstance(scalar, np.float64)
    assert row.shape == (1, 3)
    assert row.flags.c_contiguous
    assert same is not x3
    assert not np.shares_memory(same, x3)


@pytest.mark.compile
def test_aliases_constants_and_nothing():
    view = NumericalFunction("view", lambda x: x[:2], (Arg(3),))
    np.testing.assert_array_equal(view(x3), x3[:2])
    twice = NumericalFunction("twice", lambda x: (x, x), (Arg(3),))
    first, second = twice(x3)
    assert not np.shares_memory(first, second)
    constant = NumericalFunction("constant", lambda x: jnp.arange(3.0), (Arg(2),))
    np.testing.assert_array_equal(constant(np.zeros(2)), [0, 1, 2])
    empty = NumericalFunction("empty", lambda x, p: x + 1, (Arg(3), Arg(0)))
    np.testing.assert_array_equal(empty(x3, []), x3 + 1)
    none = NumericalFunction("none", lambda: jnp.ones(2), ())
    np.testing.assert_array_equal(none(), 1.0)
    nothing = NumericalFunction("nothing", lambda x: (), (Arg(1),))
    assert nothing(np.ones(1)) == ()
    weights = np.array([[1.0, 2.0], [3.0, 4.0]])
    captured = NumericalFunction("captured", lambda x: weights @ x, (Arg(2),))
    np.testing.assert_array_equal(captured([1.0, 1.0]), [3.0, 7.0])


@pytest.mark.compile
def test_wrong_calls(poly):
    for _ in range(2):  # before and after loading
        with pytest.raises(ArgumentError, match="takes 2 arguments, got 1"):
            poly(x3)
        with pytest.raises(ArgumentError, match="'x' must have shape \\(3,\\), got \\(4,\\)"):
            poly(np.ones(4), 1.0)
        with pytest.raises(av.DtypeError):
            poly(x3 * 1j, 1.0)
        poly(x3, 1.0)


@pytest.mark.compile
def test_pytrees_in_and_out():
    def step(state, u):
        return {"pos": state["pos"] + u, "parts": (state["n"], [u * 2.0])}

    f = NumericalFunction.from_callable(step, {"pos": Arg(3), "n": 1}, x3)
    assert f.name == "step"
    assert f.inputs == (Arg((), "int64"), Arg(3), Arg(3))
    for state in ({"pos": x3, "n": 4}, {"n": 4, "pos": list(x3)}):
        if isinstance(state["pos"], list):
            state["pos"] = np.array(state["pos"])
        result = f(state, x3)
        assert set(result) == {"pos", "parts"}
        np.testing.assert_array_equal(result["pos"], 2 * x3)
        assert result["parts"][0] == 4
        np.testing.assert_array_equal(result["parts"][1][0], 2 * x3)
    np.testing.assert_array_equal(f(u=x3, state={"pos": x3, "n": 4})["pos"], 2 * x3)
    with pytest.raises(ArgumentError, match="have the structure"):
        f((x3, 4), x3)
    with pytest.raises(ArgumentError, match="state_pos"):
        f({"pos": np.ones(4), "n": 4}, x3)


@pytest.mark.compile
def test_one_tuple_and_list_keep_their_structure():
    f = NumericalFunction("f", lambda x: [x], (Arg(3),))
    assert isinstance(f(x3), list)


@pytest.mark.compile
def test_equinox_module_as_function_and_as_argument():
    model = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    f = NumericalFunction.from_callable(model, Arg(3), name="f")
    expected = np.asarray(model.weight, "float64") @ x3 + np.asarray(model.bias, "float64")
    np.testing.assert_allclose(f(x3), expected, rtol=1e-12)
    g = NumericalFunction.from_callable(lambda m, x: m(x), model, Arg(3), name="g")
    np.testing.assert_allclose(g(model, x3), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(lambda x: g(model, x))(x3), expected, rtol=1e-6)


# ---- composition ----


def test_composes_with_transformations_without_compiling():
    f = NumericalFunction("f", polynomial, (Arg(3), Arg(())))
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(f)(x3, 2.0), x3 * x3 * 2.0 + 1.0)
        jacobian = jax.jacobian(f)(jnp.asarray(x3), 2.0)
        batch = jax.vmap(f, in_axes=(0, None))(jnp.stack([x3, x3]), 2.0)
    np.testing.assert_allclose(jacobian, np.diag(4.0 * x3))
    assert batch.shape == (2, 3)
    assert "view" not in f.__dict__


@pytest.mark.compile
def test_composes_inside_another_function(poly):
    @av.numerical_function("outer", 3)
    def outer(x):
        return poly(poly(x, 2.0), a=x[0])

    inner = x3 * x3 * 2.0 + 1.0
    np.testing.assert_allclose(outer(x3), inner * inner * x3[0] + 1.0, rtol=1e-14)


@pytest.mark.compile
def test_composes_after_loading(poly):
    poly(x3, 1.0)
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(poly)(x3, 1.0), x3 * x3 + 1.0)
        with pytest.raises(ArgumentError, match="takes arrays of shapes \\(3,\\), \\(\\), got"):
            jax.jit(poly)(np.ones(4), 1.0)


# ---- pickling, threads, speed ----

WORKER = """
import pickle, sys
import numpy as np
f = pickle.load(sys.stdin.buffer)
sys.stdout.write(repr(f(np.array([0.5, -1.0, 2.0]), 2.0).tolist()))
assert "jax" not in sys.modules and "tinygrad" not in sys.modules
"""


@pytest.mark.compile
def test_pickle_needs_no_jax():
    f = NumericalFunction("f", lambda x, a: x * x * a + 1.0, (Arg(3), Arg(())))
    run = subprocess.run(
        [sys.executable, "-c", WORKER], input=pickle.dumps(f), capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout.decode() == repr((x3 * x3 * 2.0 + 1.0).tolist())


@pytest.mark.compile
def test_pickle_keeps_pytrees():
    f = NumericalFunction.from_callable(lambda p: {"y": p["x"] * 2.0}, {"x": Arg(3)}, name="f")
    again = pickle.loads(pickle.dumps(f))
    np.testing.assert_array_equal(again({"x": x3})["y"], 2.0 * x3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again))({"x": x3})["y"], 2.0 * x3)


@pytest.mark.compile
def test_first_call_from_many_threads():
    f = NumericalFunction("f", lambda x: jnp.sin(x) + 4.0, (Arg(3),))
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(f(x3))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    np.testing.assert_allclose(results, [np.sin(x3) + 4.0] * 8, rtol=1e-15)


@pytest.mark.compile
def test_a_call_is_fast(poly):
    poly(x3, 1.0)
    seconds = min(timeit.repeat(lambda: poly(x3, 1.0), number=10_000, repeat=20)) / 10_000
    assert seconds < 1e-6  # typically 0.12e-6


# ---- the package ----


def test_importing_the_package_loads_neither_jax_nor_tinygrad():
    code = (
        "import sys, anvil_jax, anvil_jax.jit.library, anvil_jax.emit.module; "
        "anvil_jax.CodegenIntConstant, anvil_jax.AnvilError; "
        "assert not {'jax', 'tinygrad'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names():
    for name in av.__all__:
        assert getattr(av, name) is not None
    assert set(av.__all__) <= set(dir(av))
    assert isinstance(av.__version__, str)
    assert callable(av.export)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = av.nonsense
