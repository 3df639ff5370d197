"""What cannot be lowered, and how a user adds to what can."""

import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import mlir

import anvil_jax as av
from anvil_jax import Arg, NumericalFunction
from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.errors import DtypeError, LoweringError, TracingError, UnsupportedPrimitiveError
from anvil_jax.lowering import register
from anvil_jax.lowering.avals import aval_shape
from anvil_jax.lowering.registry import RULES
from tests.support.native import make_job, make_view, reference, run_natively

X = np.array([0.5, -1.0, 2.0])
HERE = re.escape("test_errors.py")


def make_primitive(name: str) -> Primitive:
    """A unary primitive of the user's that JAX can trace but not run."""
    primitive = Primitive(name)
    primitive.def_abstract_eval(lambda x: x)
    return primitive


@pytest.fixture
def rules():
    """The registry, as it was before afterwards."""
    before = dict(RULES)
    yield RULES
    RULES.clear()
    RULES.update(before)


def test_unsupported_primitive_names_itself_and_the_users_line():
    opaque = make_primitive("opaque_thing")

    def model(x):
        return opaque.bind(x * 2) + 1

    line = model.__code__.co_firstlineno + 1
    message = f"primitive 'opaque_thing' has no lowering rule .*{HERE}:{line} \\(.*model\\)"
    with pytest.raises(UnsupportedPrimitiveError, match=message):
        make_view("f", model, (X,))
    with pytest.raises(NotImplementedError, match=r"add a rule with anvil_jax\.lowering\.register"):
        _ = NumericalFunction("f", model, (Arg(3),)).source


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint])
def test_line_inside_calls(wrap):
    opaque = make_primitive("opaque_inside")

    @wrap
    def inner(x):
        return opaque.bind(x)

    line = inspect.unwrap(inner).__code__.co_firstlineno + 2
    with pytest.raises(UnsupportedPrimitiveError, match=f"{HERE}:{line} \\(.*inner\\)"):
        make_view("f", lambda x: inner(x) * 2, (X,))


def test_line_inside_loops_and_branches():
    opaque = make_primitive("opaque_in_loop")

    def step(c, _):
        c = jax.lax.cond(c[0] > 0, opaque.bind, lambda c: c, c)
        return c, None

    line = step.__code__.co_firstlineno + 1
    with pytest.raises(UnsupportedPrimitiveError, match=f"{HERE}:{line} \\(.*step\\)"):
        make_view("f", lambda x: jax.lax.scan(step, x, None, length=500)[0], (X,))


def test_unused_unsupported_primitive_is_no_obstacle():
    opaque = make_primitive("opaque_unused")

    def model(x):
        opaque.bind(x)
        return x * 2

    assert make_view("f", model, (X,)).operations == 3


def test_library_call_names_the_users_line():
    def model(x):
        return jnp.fft.fft(x).real

    with pytest.raises(DtypeError, match=f"{HERE}:{model.__code__.co_firstlineno + 1}.*complex128"):
        make_view("f", model, (X,))


@pytest.mark.compile
def test_registered_rule(rules, compilers, tmp_path):
    triple = make_primitive("triple")
    mlir.register_lowering(triple, mlir.lower_fun(lambda x: 3 * x, multiple_results=False))

    @register(triple)
    def lower_triple(lowering, eqn, x):
        ex = lowering.ex
        return lowering.elementwise(lambda a: ex.mul(ex.const(3, x.dtype), a), eqn, x)

    def model(x):
        return jnp.sin(triple.bind(x)) + triple.bind(x[:1])

    assert rules[triple] is lower_triple
    job = make_job("triple_user", model, (X,))
    found = run_natively([job], [compilers[0], "-O1"], tmp_path)["triple_user"]
    np.testing.assert_allclose(found[0], reference(model, (X,))[0], rtol=1e-14)


def test_later_registration_replaces(rules):
    mine = make_primitive("mine")
    register(mine)(lambda lowering, eqn, x: x)
    register(mine)(lambda lowering, eqn, x: lowering.elementwise(lowering.ex.neg, eqn, x))
    assert "-" in make_view("f", mine.bind, (X,)).code


def test_wrong_result_of_a_rule(rules):
    broken = make_primitive("broken")
    register(broken)(lambda lowering, eqn, x: x.slice([0], [1], [1]))
    with pytest.raises(
        LoweringError, match=r"rule of 'broken' gave float64\[1\], JAX says .*\[3\]"
    ):
        make_view("f", broken.bind, (X,))


def test_exception_in_a_rule(rules):
    failing = make_primitive("failing")

    @register(failing)
    def rule(lowering, eqn, x):
        raise KeyError("missing")

    with pytest.raises(
        LoweringError, match=f"cannot lower 'failing' .*{HERE}.*KeyError: 'missing'"
    ):
        make_view("f", lambda x: failing.bind(x), (X,))


@pytest.mark.compile
def test_traceable_implementation_is_lowered_through(compilers, tmp_path):
    composed = make_primitive("composed")
    composed.def_impl(lambda x: jnp.where(x > 0, jnp.sqrt(x), x * x))
    mlir.register_lowering(
        composed,
        mlir.lower_fun(lambda x: jnp.where(x > 0, jnp.sqrt(x), x * x), multiple_results=False),
    )

    def model(x):
        return composed.bind(x) + 1

    job = make_job("composed_user", model, (X,))
    found = run_natively([job], [compilers[0], "-O1"], tmp_path)["composed_user"]
    np.testing.assert_allclose(found[0], reference(model, (X,))[0], rtol=1e-14)


def test_implementation_that_cannot_be_traced():
    opaque = make_primitive("numpy_only")
    opaque.def_impl(lambda x: np.asarray(x) * 2)
    with pytest.raises(UnsupportedPrimitiveError, match="no implementation that JAX can trace"):
        make_view("f", opaque.bind, (X,))


def test_implementation_that_calls_itself():
    circular = make_primitive("circular")
    circular.def_impl(lambda x: circular.bind(x) + 1)
    with pytest.raises(UnsupportedPrimitiveError, match="'circular'"):
        make_view("f", circular.bind, (X,))


def test_dynamic_shape():
    (n,) = jax.export.symbolic_shape("n")
    with pytest.raises(av.ArgumentError, match="static integer sizes"):
        make_view("f", jnp.sin, (jax.ShapeDtypeStruct((n,), np.float64),))
    with pytest.raises(LoweringError, match=r"dynamic shape \[n\]: extents must be known numbers"):
        aval_shape(jax.ShapeDtypeStruct((n,), np.float64))


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (lambda x: (x * 1j).real, "complex128"),
        (lambda x: jnp.real(jnp.exp(1j * x)), "complex128"),
        (lambda x: x.astype("float16").astype("float64"), "float16"),
        (lambda x: x.astype("bfloat16").astype("float64"), "bfloat16"),
    ],
)
def test_unsupported_dtype(function, dtype):
    with pytest.raises(DtypeError, match=f"{HERE}:.*{dtype}, which is not supported") as caught:
        make_view("f", function, (X,))
    assert all(name in str(caught.value) for name in ELEMENT_TYPES)


def test_side_effects():
    def model(x):
        jax.debug.print("{}", x)
        return x

    with pytest.raises(TracingError, match=r"remove the jax\.debug\.print"):
        make_view("f", model, (X,))


def test_callback():
    def model(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct((3,), np.float64), x)

    with pytest.raises(TracingError, match="calls back into Python"):
        make_view("f", model, (X,))


def test_pivoted_qr_is_refused():
    a = np.ones((3, 3))
    with pytest.raises(LoweringError, match=f"qr with pivoting is not supported .*{HERE}"):
        make_view("f", lambda a: jax.lax.linalg.qr(a, pivoting=True)[0], (a,))


def test_unknown_kernel_choice():
    unknown: Any = "vector"
    with pytest.raises(av.ArgumentError, match="kernel must be one of auto, scalar, tensor"):
        make_view("f", jnp.sin, (X,), unknown)


def test_other_random_generators_are_refused():
    with pytest.raises(LoweringError, match="'rbg' are not supported"):
        make_view("f", lambda s: jax.random.uniform(jax.random.key(s, impl="rbg")), (np.array(1),))
