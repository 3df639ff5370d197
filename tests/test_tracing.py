"""Tracing: names, dtypes, captured arrays, and what is refused with the user's line."""

import functools
import inspect
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core as jex_core

from anvil_jax import Arg, ArgumentError, DtypeError, TracingError
from anvil_jax.tracing import describe_specs, source_name, trace, user_location, walk_equations

X = jax.ShapeDtypeStruct((3,), np.float64)


class State(NamedTuple):
    pos: Any
    vel: Any


@functools.partial(jax.tree_util.register_dataclass, data_fields=["w", "b"], meta_fields=["name"])
class Layer:
    def __init__(self, w: Any, b: Any, name: str = "layer") -> None:
        self.w, self.b, self.name = w, b, name


def line_of(marker: str) -> int:
    """Line in this file that ends with a marker comment."""
    source = inspect.getsource(inspect.getmodule(line_of) or line_of).split("\n")
    return next(i for i, line in enumerate(source, 1) if line.endswith(f"# {marker}"))


def inputs(traced) -> list[str]:
    return [port.name for port in traced.inputs]


def outputs(traced) -> list[str]:
    return [port.name for port in traced.outputs]


# ---- names ----


def many(params, x, *rest):
    return {"force": params["w1"] @ x, "θ": x, "1": rest, "class": State(x, None), "list": [x, x]}


def test_names_come_from_pytree_paths():
    traced = trace(many, ({"w1": jax.ShapeDtypeStruct((2, 3), "float64")}, X, 1.0, State(1, 2.0)))
    assert inputs(traced) == ["params_w1", "x", "rest_0", "rest_1_pos", "rest_1_vel"]
    assert outputs(traced) == [
        "out_1_0", "out_1_1_pos", "out_1_1_vel", "out_class_pos", "out_force", "out_list_0",
        "out_list_1", "out_theta",
    ]  # fmt: skip
    assert traced.source == f"{__name__}.many"


@pytest.mark.parametrize(
    ("fn", "specs", "names", "results"),
    [
        (lambda x: x, (X,), ["x"], ["out"]),
        (lambda x: (x, x), (X,), ["x"], ["out_0", "out_1"]),
        (lambda out, ws: (out, ws), (1.0, 1.0), ["out", "ws_"], ["out_0", "out_1"]),
        (lambda out: out, (1.0,), ["out"], ["out_2"]),
        (lambda class_, x: x, ({"ws": 1.0, "a-b": 1.0, "a.b": 1.0}, X), None, ["out"]),
        (lambda *, k=1: k, (), [], ["out"]),
        (lambda x, y=2.0: x * y, (X,), ["x"], ["out"]),
        (jnp.sin, (X,), ["x"], ["out"]),
        (functools.partial(lambda a, b: a + b, 1.0), (X,), ["b"], ["out"]),
        (lambda layer, x: layer.w @ x, (Layer(np.eye(3), np.ones(3)), X), None, ["out"]),
        (lambda: jnp.ones(2), (), [], ["out"]),
        (lambda x: (), (X,), ["x"], []),
        (lambda x: None, (X,), ["x"], []),
    ],
)
def test_names(fn, specs, names, results):
    traced = trace(fn, specs)
    assert names is None or inputs(traced) == names
    assert outputs(traced) == results
    everything = inputs(traced) + outputs(traced)
    assert len(set(everything)) == len(everything)


def test_colliding_paths_get_numbers():
    traced = trace(lambda p: p["a-b"] + p["a.b"], ({"a-b": 1.0, "a.b": 2.0},))
    assert inputs(traced) == ["p_a_b", "p_a_b_2"]


def test_dataclass_fields_are_names():
    traced = trace(lambda net: net.w @ net.b, (Layer(np.eye(3), np.ones(3)),))
    assert inputs(traced) == ["net_w", "net_b"]


def test_equinox_module_is_captured_or_passed():
    model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    captured = trace(model, (X,))
    assert inputs(captured) == ["x"]
    assert {c.dtype.name for c in captured.jaxpr.consts} == {"float32"}
    assert captured.source == "equinox.nn._mlp.MLP"

    passed = trace(lambda m, x: m(x), (model, X))
    assert inputs(passed)[:2] == ["m_layers_0_weight", "m_layers_0_bias"]
    assert sum(static is not None for static in passed.statics) > 0  # activation functions
    assert [port.dtype for port in passed.outputs] == ["float64"]


def test_source_has_no_path_and_no_address():
    assert source_name(functools.partial(many, 1)) == f"{__name__}.many"
    assert source_name(jnp.sin) == "jax.numpy.sin"
    assert "0x" not in source_name(eqx.nn.MLP(1, 1, 1, 1, key=jax.random.key(0)))


# ---- dtypes ----


def test_sixty_four_bits_inside_and_the_users_configuration_outside():
    before = jax.config.read("jax_enable_x64")
    traced = trace(lambda x, n: (x + jnp.ones(3), n + 1, 2, 2.5, True), (X, 3))
    assert [p.dtype for p in traced.outputs] == ["float64", "int64", "int64", "float64", "bool"]
    assert jax.config.read("jax_enable_x64") == before
    assert jnp.ones(1).dtype == (np.float64 if before else np.float32)


def test_captured_arrays_keep_their_dtype():
    small, large = jnp.ones(3, "float32"), np.ones(3)
    traced = trace(lambda x: x * small * large, (jax.ShapeDtypeStruct((3,), "float32"),))
    assert sorted(c.dtype.name for c in traced.jaxpr.consts) == ["float32", "float64"]


@pytest.mark.parametrize(
    ("spec", "shape", "dtype"),
    [
        (Arg(3), (3,), "float64"),
        (Arg((2, 0), "int8"), (2, 0), "int8"),
        (1.5, (), "float64"),
        (1, (), "int64"),
        (True, (), "bool"),
        (np.float32(1), (), "float32"),
        (np.ones((2, 1), "uint16"), (2, 1), "uint16"),
        (jnp.ones(2, "float32"), (2,), "float32"),
        (jax.ShapeDtypeStruct((), "bool"), (), "bool"),
    ],
)
def test_specs(spec, shape, dtype):
    (port,) = trace(lambda x: x, (spec,)).inputs
    assert (port.shape, port.dtype) == (shape, dtype)
    assert describe_specs(lambda x: x, (spec,)) == (("x", shape, np.dtype(dtype)),)


def test_jaxpr_computes_the_function():
    traced = trace(many, ({"w1": np.zeros((2, 3))}, X, 1.0))
    evaluate = jex_core.jaxpr_as_fun(traced.jaxpr)
    w, x = np.arange(6.0).reshape(2, 3), np.array([1.0, 2.0, 3.0])
    with jax.enable_x64(True):
        results = dict(zip(outputs(traced), evaluate(w, x, 4.0), strict=True))
    np.testing.assert_array_equal(results["out_force"], w @ x)
    np.testing.assert_array_equal(results["out_1_0"], 4.0)


# ---- refusals ----


def branches(x):
    if x > 0:  # branch line
        return x
    return -x


def deep(x):
    def body(i, carry):
        jax.debug.print("{}", carry)  # print line
        return carry

    return jax.lax.fori_loop(0, 3, body, x)


def calls_numpy(x):
    return np.sin(x)  # numpy line


def masks(x):
    return x[x > 0]  # mask line


def casts(x):
    return x.astype("bfloat16").sum()  # cast line


def mismatch(x):
    return x @ jnp.ones(4)  # matmul line


def host(x):
    return jax.pure_callback(np.sin, X, x)  # callback line


def host_io(x):
    return jax.experimental.io_callback(np.sin, X, x)  # io line


@pytest.mark.parametrize(
    ("fn", "spec", "error", "marker", "advice"),
    [
        (branches, 1.0, TracingError, "branch line", "jax.lax.cond"),
        (deep, 1.0, TracingError, "print line", "remove the jax.debug.print"),
        (calls_numpy, X, TracingError, "numpy line", "jax.numpy function of the same name"),
        (masks, X, TracingError, "mask line", "jnp.where"),
        (casts, X, DtypeError, "cast line", "bfloat16"),
        (mismatch, X, TracingError, "matmul line", "contracting dimensions"),
        (host, X, TracingError, "callback line", "pure_callback"),
        (host_io, X, TracingError, "io line", "io_callback"),
    ],
)
def test_refused_with_the_users_line(fn, spec, error, marker, advice):
    with pytest.raises(error) as caught:
        trace(fn, (spec,))
    assert f"test_tracing.py:{line_of(marker)} (" in str(caught.value)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("fn", "specs", "error", "message"),
    [
        (lambda x: "text", (X,), TracingError, r"returns 'text' \(str\) as out"),
        (lambda x: {"a": object()}, (X,), TracingError, r"as out\['a'\]"),
        (lambda x: x, (np.zeros(2, "complex64"),), DtypeError, "real and imaginary parts"),
        (lambda x: x * 1j, (X,), DtypeError, "complex128"),
        (lambda x: x, (np.zeros(2, "float16"),), DtypeError, "argument x of .* float16"),
        (lambda x: x, (np.array(["a"]),), DtypeError, "not supported"),
        (lambda x: x, ([1.0, {"a": 1j}],), DtypeError, r"argument x\[1\]\['a'\]"),
        (lambda x: x, (range(3),), ArgumentError, "use an array, a jax.ShapeDtypeStruct"),
        (lambda x, y: x, (X,), ArgumentError, "cannot be called with 1 positional argument"),
        (lambda x: x, (X, X), ArgumentError, "cannot be called with 2 positional arguments"),
        (lambda x: np.zeros(2, "complex64"), (X,), DtypeError, "result out of"),
        (lambda key: 1.0, (jax.random.key(0),), DtypeError, "argument key of .*wrap_key_data"),
        (lambda x: {"k": jax.random.key(0)}, (X,), DtypeError, r"result out\['k'\]"),
    ],
)
def test_refused(fn, specs, error, message):
    with pytest.raises(error, match=message):
        trace(fn, specs)


def test_dynamic_shapes_are_refused():
    (n,) = jax.export.symbolic_shape("n")
    with pytest.raises(ArgumentError, match="static integer sizes"):
        trace(lambda x: x, (jax.ShapeDtypeStruct((n,), "float64"),))


def test_users_errors_keep_their_cause():
    with pytest.raises(TracingError, match="ZeroDivisionError") as caught:
        trace(lambda x: 1 / 0, (X,))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# ---- locations ----


def inner(x):
    return jnp.sin(x)  # sin line


def outer(x):
    return jnp.sort(inner(x))  # sort line


def test_locations_are_the_users():
    traced = trace(outer, (X,))
    (sin,) = (eqn for eqn in traced.jaxpr.eqns if eqn.primitive.name == "sin")
    assert user_location(sin) == f"test_tracing.py:{line_of('sin line')} (inner)"


def test_equations_inside_library_calls_inherit_the_callers_line():
    found = {eqn.primitive.name: where for eqn, where in walk_equations(trace(outer, (X,)).jaxpr)}
    assert found["sort"] == f"test_tracing.py:{line_of('sort line')} (outer)"
