"""Detected structures against dense derivatives at random points."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import core as jax_core
from jax import lax
from jax.extend.core import Jaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad
from scipy import sparse

from anvil_jax.errors import SparsityError
from anvil_jax.sparsity import detection, rows
from anvil_jax.sparsity.detection import (
    detect_hessian,
    detect_jacobian,
    hessian_structure,
    jacobian_structure,
)
from anvil_jax.sparsity.propagation import ConservativeWarning
from anvil_jax.sparsity.rules import control_flow
from tests.sparsity.functions import FUNCTIONS
from tests.sparsity.judge import coefficients, dense, detected, judge, random_points, traced

BY_NAME = {f.name: f for f in FUNCTIONS}
RTOL = {"float64": 1e-12, "float32": 1e-6}


@functools.cache
def found(name: str) -> sparse.csr_array:
    return detected(BY_NAME[name])


@functools.cache
def truths(name: str) -> list[np.ndarray]:
    return dense(BY_NAME[name], random_points(BY_NAME[name]))


@pytest.mark.parametrize("name", BY_NAME)
def test_structure(name):
    matrix = found(name)
    mask, values = coefficients(matrix)
    assert matrix.nnz == mask.sum()
    assert matrix.data.dtype == np.float64
    assert matrix.has_sorted_indices
    rtol = RTOL[BY_NAME[name].dtype]
    constant = ~np.isnan(values)
    for truth in truths(name):
        assert truth.shape == matrix.shape
        assert np.isfinite(truth).all()
        assert not (truth != 0)[~mask].any(), "an entry is missing"
        np.testing.assert_allclose(values[constant], truth[constant], rtol=rtol, atol=rtol)


def test_structures_are_exact():
    declared = {name for name, f in BY_NAME.items() if f.inexact}
    verdicts = {name: judge(found(name), truths(name)) for name in BY_NAME}
    assert {name for name, v in verdicts.items() if not v.exact} <= declared
    assert len(declared) <= 0.05 * len(BY_NAME)


@pytest.mark.parametrize("name", [n for n, f in BY_NAME.items() if f.kind == "hess"])
def test_hessian_patterns_are_symmetric(name):
    mask, _ = coefficients(found(name))
    assert (mask == mask.T).all()


# ------------------------------------------------------------------------------ the program read


def outputs(program: Jaxpr, *arguments) -> np.ndarray:
    with jax.enable_x64(True):
        results = jax.jit(jaxpr_as_fun(program))(*arguments)
    return np.concatenate([np.asarray(r).reshape(-1) for r in results])


def test_program_of_tangents():
    x, u = np.linspace(0.1, 1.3, 13), np.linspace(1.0, 2.0, 4)
    function = BY_NAME["quadrotor_stage"]
    record = detect_jacobian(traced(function.fn, x, u), [0, 1])
    assert not record.transposed
    (truth,) = dense(function, [np.concatenate([x, u])])
    seed = np.arange(1.0, 18.0)
    got = outputs(record.jaxpr, x, u, seed[:13], seed[13:])
    np.testing.assert_allclose(got, truth @ seed, rtol=1e-12)


def test_program_of_cotangents():
    x = np.linspace(0.1, 1.3, 5)
    function = BY_NAME["longer_arm_vjp"]
    record = detect_jacobian(traced(function.fn, x), [0])
    assert record.transposed
    (truth,) = dense(function, [x])
    seed = np.arange(1.0, 6.0)
    np.testing.assert_allclose(outputs(record.jaxpr, x, seed), seed @ truth, rtol=1e-12)


def test_program_of_gradient_tangents():
    x = np.linspace(0.1, 1.3, 12)
    record = detect_hessian(traced(BY_NAME["rosenbrock"].fn, x), [0])
    (truth,) = dense(BY_NAME["rosenbrock"], [x])
    seed = np.arange(1.0, 13.0)
    np.testing.assert_allclose(outputs(record.jaxpr, x, seed), truth @ seed, rtol=1e-12)


# --------------------------------------------------------------------------- what is asked for


def test_order_and_choice_of_inputs():
    def fn(x, k, y, z):
        return x[k] * y, jnp.sum(z) * 3.0 + y[0]

    jaxpr = traced(fn, np.ones(3), np.zeros((), int), np.ones(2), np.ones(2))
    mask, values = coefficients(jacobian_structure(jaxpr, [3, 2]))
    np.testing.assert_array_equal(mask, [[0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 0]])
    assert np.isnan(values[:2, 2:][mask[:2, 2:]]).all()  # depends on an input that is not varied
    np.testing.assert_array_equal(values[2], [3, 3, 1, 0])


def test_no_inputs_no_outputs():
    jaxpr = traced(lambda x: (x > 0, jnp.argmax(x)), np.ones(3))
    assert jacobian_structure(jaxpr, [0]).shape == (4, 3)
    assert jacobian_structure(jaxpr, [0]).nnz == 0
    assert jacobian_structure(traced(jnp.sin, np.ones(3)), []).shape == (3, 0)


@pytest.mark.parametrize("fn", [lambda x: x, lambda x: (x[0], x[1]), lambda x: jnp.argmax(x)])
def test_hessian_needs_one_real_number(fn):
    with pytest.raises(SparsityError, match="only output"):
        hessian_structure(traced(fn, np.ones(2)), [0])


def test_not_differentiable():
    def fn(x):
        return lax.while_loop(lambda c: jnp.sum(c) < 9, lambda c: c * c, x)[0]

    jaxpr = traced(fn, np.ones(2))
    assert jacobian_structure(jaxpr, [0]).nnz == 1
    with pytest.raises(SparsityError, match="cannot differentiate the function: Reverse-mode"):
        hessian_structure(jaxpr, [0])


def test_global_precision_is_left_alone():
    jaxpr = jax.make_jaxpr(lambda x: jnp.sin(x) * 0.1)(np.ones(2, np.float32))
    assert str(jaxpr.out_avals[0]) == "float32[2]"
    assert jacobian_structure(jaxpr, [0]).nnz == 2


# ------------------------------------------------------------------------------------- limits


def random_primitive(name: str) -> Primitive:
    """A primitive that nobody has a rule for; its derivative is another one."""
    primitive, tangent = Primitive(name), Primitive(f"{name}_tangent")
    for p in (primitive, tangent):
        p.def_abstract_eval(lambda x, *_: jax_core.ShapedArray(x.shape, x.dtype))
    ad.primitive_jvps[primitive] = lambda primals, tangents: (
        primitive.bind(*primals),
        tangent.bind(tangents[0], *primals),
    )
    return primitive


def test_unknown_primitive_is_dense_with_one_warning():
    mystery = random_primitive("mystery")
    jaxpr = traced(lambda x, y: (mystery.bind(mystery.bind(x)), y), np.ones(3), np.ones(2))
    with pytest.warns(ConservativeWarning, match=r"mystery_tangent \(test_detection.py") as caught:
        mask, _ = coefficients(jacobian_structure(jaxpr, [0, 1]))
    assert len(caught) == 1
    assert mask[:3, :3].all()
    assert not mask[:3, 3:].any()
    np.testing.assert_array_equal(mask[3:, 3:], np.eye(2))


def test_dense_derivatives_are_declared_dense(monkeypatch):
    monkeypatch.setattr(rows, "DENSE_ENTRIES", 100)
    jaxpr = traced(lambda x: jnp.cumsum(x), np.ones(20))
    assert jacobian_structure(jaxpr, [0]).nnz == 400
    monkeypatch.setattr(detection, "MAX_DENSE", 100)
    with pytest.raises(SparsityError, match="20 x 20 derivative is dense"):
        jacobian_structure(jaxpr, [0])


LOOPS = [n for n in BY_NAME if n.startswith(("while", "fori", "scan", "dynamic", "switch"))]


@pytest.mark.parametrize("name", LOOPS)
def test_long_loops_are_read_once(name, monkeypatch):
    """Beyond the limits a loop's pattern may be too large, never too small."""
    monkeypatch.setattr(control_flow, "MAX_STEPS", 0)
    monkeypatch.setattr(control_flow, "MAX_VALUE_STEPS", 0)
    mask, values = coefficients(detected(BY_NAME[name]))
    constant = ~np.isnan(values)
    for truth in truths(name):
        assert not (truth != 0)[~mask].any()
        np.testing.assert_allclose(values[constant], truth[constant], rtol=1e-12, atol=1e-12)


def test_nothing_is_compiled():
    """Binding primitives on concrete values would cost a compilation each."""
    compilations: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if "backend_compile" in event:
            compilations.append(event)

    functions = [BY_NAME[n] for n in ("quadrotor_scan", "dynamic_slice_counter", "zeroth_power")]
    jaxprs = [traced(f.fn, *(np.zeros(s) for s in f.shapes)) for f in functions]
    jax.monitoring.register_event_duration_secs_listener(listen)
    for jaxpr in jaxprs:
        jacobian_structure(jaxpr, [0])
    jax.monitoring.unregister_event_duration_listener(listen)
    assert compilations == []


def test_cancelled_entries_are_kept():
    left = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, 1.0]])
    right = np.array([[1.0, 2.0, 0.0], [1.0, np.nan, 0.0], [0.0, 0.0, 3.0]])
    operands = [rows.from_matrix(sparse.csr_array(a), 3) for a in (left, right)]
    mask, values = coefficients(rows.product(*operands).matrix())
    np.testing.assert_array_equal(mask, [[1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(values, [[0.0, np.nan, 0.0], [1.0, np.nan, 3.0]])
