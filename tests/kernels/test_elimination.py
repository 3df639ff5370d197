"""Elimination against JAX's own derivatives: values, guards, structure, refusals."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.elimination import NotLinear, hessian, jacobian
from anvil_jax.kernels.expression import Expressions
from anvil_jax.kernels.program import Buffer
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.values import Elements
from tests.kernels.evaluation import evaluate

TOLERANCE = 1e-12

# ---- lowering and evaluation ------------------------------------------------------------------


@dataclass(frozen=True)
class Lowered:
    """A derivative program as scalar expressions."""

    ex: Expressions
    inputs: list[UOp]
    symbols: list[list[UOp]]
    roots: list[UOp]


def lower(program: Callable[..., Any], size: int, sets: int, dtype: str = "float64") -> Lowered:
    """Lowers ``program(x, t)`` or ``program(x, t, s)`` of vectors of `size` elements."""
    with jax.enable_x64(True):
        structs = [jax.ShapeDtypeStruct((size,), dtype)] * (1 + sets)
        traced = jax.make_jaxpr(program)(*structs)
    lowering = Lowering("scalar")
    vectors = []
    for k in range(1 + sets):
        buffer = Buffer(dtype, size, "input", k, scope=lowering.root)
        vector = np.empty(size, dtype=object)
        vector[:] = [lowering.ex.load(buffer, i) for i in range(size)]
        vectors.append(vector)
    operands = [Elements(v, dtype) for v in vectors]
    results = lowering.run(traced.jaxpr, traced.consts, operands)
    roots = [node for value in results for node in lowering.elements(value).reshape(-1)]
    inputs, *symbols = (list(v) for v in vectors)
    return Lowered(lowering.ex, inputs, symbols, roots)


def push(fn: Callable[[Any], Any]) -> Callable[..., Any]:
    """``(x, t) -> J(x) t``."""
    return lambda x, t: jax.jvp(fn, (x,), (t,))[1]


def push_twice(fn: Callable[[Any], Any]) -> Callable[..., Any]:
    """``(x, t, s) -> t' H(x) s`` of a scalar function."""
    return lambda x, t, s: jax.jvp(lambda y: jax.jvp(fn, (y,), (t,))[1], (x,), (s,))[1]


def jacobian_values(low: Lowered, x: Iterable[float]) -> np.ndarray:
    rows = jacobian(low.ex, low.roots, low.symbols[0])
    values = evaluate([n for row in rows for n in row.values()], _known(low, x))
    out = np.zeros((len(rows), len(low.inputs)))
    for i, row in enumerate(rows):
        for j, node in row.items():
            out[i, j] = values[node]
    return out


def hessian_values(low: Lowered, x: Iterable[float]) -> np.ndarray:
    (root,) = low.roots
    entries = hessian(low.ex, root, *low.symbols)
    assert all(i <= j for i, j in entries)
    values = evaluate(entries.values(), _known(low, x))
    out = np.zeros((len(low.inputs),) * 2)
    for (i, j), node in entries.items():
        out[i, j] = out[j, i] = values[node]
    return out


def _known(low: Lowered, x: Iterable[float]) -> dict[UOp, Any]:
    dtype = np.dtype(dtype_name(low.inputs[0])).type
    return {node: dtype(v) for node, v in zip(low.inputs, x, strict=True)}


def assert_close(found: np.ndarray, expected: Any) -> None:
    expected = np.asarray(expected)
    scale = max(float(np.max(np.abs(expected), initial=0.0)), 1.0)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * scale)


# ---- functions --------------------------------------------------------------------------------

_RNG = np.random.default_rng(5)
_A, _B, _C = _RNG.normal(size=(4, 5)), _RNG.normal(size=(5, 5)), _RNG.normal(size=(5, 3))


def _polynomial(x: Any) -> Any:
    return jnp.stack([x[0] * x[1] - 3 * x[2] ** 3, x[1] ** 4 + x[3] * x[4] * x[0], 2 * x[4], x[3]])


def _trigonometry(x: Any) -> Any:
    return jnp.sin(x[:3] * x[1:4]) - jnp.cos(x[2:]) * jnp.tan(x[0]) + jnp.arctan2(x[1], x[2:])


def _quotients(x: Any) -> Any:
    return jnp.stack([x[0] / x[1], (x[2] - x[0]) / (x[1] * x[1] + 2), 1 / x[3] ** 3, x[4] / 3.0])


def _roots(x: Any) -> Any:
    y = x * x + 1
    return jnp.stack([jnp.sqrt(y[0] + y[1]), jnp.linalg.norm(x), lax.rsqrt(y[2]) * x[0]])


def _exponentials(x: Any) -> Any:
    y = jnp.abs(x) + 0.5
    return jnp.exp(x[0] * x[1:]) + jnp.log(y[0] * y[1]) - jnp.log1p(y[2]) * jnp.expm1(x[3])


def _hyperbolic(x: Any) -> Any:
    return jnp.tanh(x[0] * x) + jnp.sinh(x[1]) * jnp.cosh(x[2]) + jax.nn.sigmoid(x[3] - x)


def _powers(x: Any) -> Any:
    y = jnp.abs(x) + 0.5
    return jnp.stack([y[0] ** 1.5, y[1] ** y[2], x[3] ** -2, x[4] ** 5, y[0] ** -0.5, x[1] ** 1])


def _inverse_trigonometry(x: Any) -> Any:
    return jnp.arcsin(x / 10) * x[0] + jnp.arctan(x * x[1])


def _extrema(x: Any) -> Any:
    return jnp.stack(
        [jnp.maximum(x[0] * x[1], x[2]), jnp.minimum(x[3], x[4] ** 2), jnp.abs(x[1]) * x[2],
         jnp.clip(x[0] * x[3], -0.1, 0.2), jnp.max(x * x), jnp.sign(x[0]) * x[1]]
    )  # fmt: skip


def _guards(x: Any) -> Any:
    safe = jnp.where(x > 0, x, 1.0)
    return jnp.where(x > 0, jnp.sqrt(safe), 0.0) * x[::-1] + jnp.where(x > 0.5, x * x[0], x[1])


def _matrices(x: Any) -> Any:
    return jnp.tanh(_A @ jnp.sin(_B @ x)) @ (_A @ x)[:, None] * jnp.ones(2)


def _quadratic(x: Any) -> Any:
    return x @ _B @ x


def _solve(x: Any) -> Any:
    """2 x 2 system by Cramer's rule, 3 x 3 by elimination without pivoting."""
    a, b, c, d, e = x + 3.0
    determinant = a * d - b * c + 10
    return jnp.stack([(d * e - b) / determinant, (a - c * e) / determinant])


def _elimination_without_pivots(x: Any) -> Any:
    matrix = jnp.outer(x[:3], x[1:4]) + 5 * jnp.eye(3)
    right = x[2:]
    for k in range(3):
        factor = matrix[:, k] / matrix[k, k]
        factor = factor.at[: k + 1].set(0.0)
        matrix, right = matrix - jnp.outer(factor, matrix[k]), right - factor * right[k]
    result = jnp.zeros(3)
    for k in (2, 1, 0):
        result = result.at[k].set((right[k] - matrix[k] @ result) / matrix[k, k])
    return result


def _quaternion(x: Any) -> Any:
    w, i, j, k, p = x
    rates = jnp.stack([-i * p - j * w, w * p + j * k - k * p, w * k - i * p, i * j - j * p]) / 2
    moved = x[:4] + 0.1 * rates
    return moved / jnp.linalg.norm(moved)


def _runge_kutta(x: Any) -> Any:
    def rate(y: Any) -> Any:
        return jnp.stack([y[1], jnp.sin(y[0]) - 0.3 * y[1], y[0] * y[2], y[4], -y[3] * y[0]])

    k1 = rate(x)
    k2 = rate(x + 0.05 * k1)
    k3 = rate(x + 0.05 * k2)
    k4 = rate(x + 0.1 * k3)
    return x + 0.1 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _unrolled_scan(x: Any) -> Any:
    step = lambda carry, _: (jnp.sin(carry) * x[0] + 0.1 * carry[::-1], carry[0])  # noqa: E731
    return lax.scan(step, x, length=2, unroll=2)[0]


@jax.custom_jvp
def _scaled(y: Any) -> Any:
    return y * y


@_scaled.defjvp
def _scaled_rule(primals: Any, tangents: Any) -> Any:
    return _scaled(*primals), 3.0 * primals[0] * tangents[0]


def _custom(x: Any) -> Any:
    return _scaled(x * x[0]) + jax.nn.relu(x) * x[1] + jax.nn.silu(x[2])


def _network(x: Any) -> Any:
    hidden = jax.nn.relu(_A @ x)
    hidden = jax.nn.relu(_A.T @ hidden + x)
    return jnp.tanh(_C.T @ hidden)


def _gradient(x: Any) -> Any:
    return jax.grad(lambda y: jnp.sum(jnp.exp(-y * y[::-1]) * jnp.cumprod(y)))(x)


def _moved(x: Any) -> Any:
    return jnp.roll(x, 2) * jnp.cumsum(x) + jnp.pad(x[1:4] ** 2, 1) + x[jnp.array([4, 4, 0, 1, 2])]


def _linear(x: Any) -> Any:
    return 2.0 * x[::-1] - x + jnp.sum(x)


def _sparse(x: Any) -> Any:
    return jnp.stack([x[0] ** 2, jnp.float64(1.0), lax.stop_gradient(x[1]) * x[2], 0.0 * x[3]])


@jax.custom_vjp
def _doubled_backwards(y: Any) -> Any:
    return jnp.sin(y)


_doubled_backwards.defvjp(lambda y: (jnp.sin(y), jnp.cos(y)), lambda cosine, g: (2.0 * cosine * g,))


def _custom_backwards(x: Any) -> Any:
    return jax.grad(lambda y: jnp.sum(_doubled_backwards(y * y[0])))(x)


FUNCTIONS: list[Callable[[Any], Any]] = [
    _polynomial, _trigonometry, _quotients, _roots, _exponentials, _hyperbolic, _powers,
    _inverse_trigonometry, _extrema, _guards, _matrices, _quadratic, _solve,
    _elimination_without_pivots, _quaternion, _runge_kutta, _unrolled_scan, _custom, _network,
    _gradient, _moved, _linear, _sparse, _custom_backwards,
]  # fmt: skip


def points(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.2, 1.2, size=5)


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_jacobian_is_that_of_jax(fn):
    low = lower(push(fn), 5, 1)
    for seed in range(2):
        x = points(seed)
        with jax.enable_x64(True):
            expected = np.asarray(jax.jacfwd(fn)(x))
        assert_close(jacobian_values(low, x), expected.reshape(-1, 5))


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_hessian_is_that_of_jax(fn):
    def weighted(x: Any) -> Any:
        y = jnp.atleast_1d(fn(x))
        return y @ jnp.cos(jnp.arange(1.0, 1.0 + y.size))

    low = lower(push_twice(weighted), 5, 2)
    x = points(0)
    with jax.enable_x64(True):
        expected = jax.jacfwd(jax.jacfwd(weighted))(x)
    assert_close(hessian_values(low, x), expected)


def test_hessian_of_products_between_outputs():
    """Weights that depend on the inputs too."""

    def fn(x: Any) -> Any:
        y = _runge_kutta(x)
        return jnp.sum(y * y) * jnp.sin(y[0]) / (1 + y[1] ** 2)

    low = lower(push_twice(fn), 5, 2)
    with jax.enable_x64(True):
        expected = jax.hessian(fn)(points(1))
    assert_close(hessian_values(low, points(1)), expected)


def test_single_precision_stays_single():
    low = lower(push(_trigonometry), 5, 1, "float32")
    rows = jacobian(low.ex, low.roots, low.symbols[0])
    assert {dtype_name(node) for row in rows for node in row.values()} == {"float32"}
    x = points(0).astype(np.float32)
    expected = jax.jacfwd(_trigonometry)(x)
    np.testing.assert_allclose(jacobian_values(low, x), expected, rtol=2e-5, atol=2e-5)


# ---- guards -----------------------------------------------------------------------------------

GUARDED: list[Callable[[Any], Any]] = [
    lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0),
    lambda x: jnp.where(x > 0, jnp.log(x) * x[::-1], 0.0) * x[0] + x,
    lambda x: jnp.exp(jnp.where(x > 0, 1 / x, 0.0) * x[::-1]) / (1 + x * x),
    lambda x: jnp.where(x[0] > 0, jnp.sqrt(x), 0.0) + jnp.where(x[1] > 0, jnp.sqrt(x) * x[2], 0.0),
    lambda x: jnp.log(1.5 + jnp.where(x[0] > 0, jnp.sqrt(x), 0.0)
                      - jnp.where(x[1] > 0, jnp.sqrt(x) * x[2], 0.0)),
    lambda x: jnp.where(x > 0, jnp.where(x > 1, jnp.sqrt(x - 1), 0.0) * jnp.sqrt(x), 0.0),
    lambda x: jnp.where(x > 0, x, jnp.where(x < -1, jnp.sqrt(-x - 1), 0.0)) ** 2,
    lambda x: jnp.where(x > 0, x ** 1.5, x[0] * x[1]) * jnp.where(x > 0, jnp.log(x), 1.0),
]  # fmt: skip


@pytest.mark.parametrize("fn", GUARDED)
@pytest.mark.parametrize("x", [(0.0, 0.0, 1.0), (-1.0, 0.0, 2.0), (0.0, -0.5, 0.0), (2, 1, 3)])
def test_what_a_guard_switches_off_is_zero(fn, x):
    """Finite wherever JAX's forward mode is, with the same values."""
    x = np.asarray(x, dtype=np.float64)

    def total(y: Any) -> Any:
        return jnp.sum(fn(y) * jnp.arange(1.0, 4.0))

    with jax.enable_x64(True):
        first, second = jax.jacfwd(fn)(x), jax.jacfwd(jax.jacfwd(total))(x)
    _assert_where_finite(jacobian_values(lower(push(fn), 3, 1), x), first)
    _assert_where_finite(hessian_values(lower(push_twice(total), 3, 2), x), second)


def _assert_where_finite(found: np.ndarray, expected: Any) -> None:
    finite = np.isfinite(np.asarray(expected))
    np.testing.assert_allclose(found[finite], np.asarray(expected)[finite], rtol=TOLERANCE)


# ---- structure --------------------------------------------------------------------------------


def test_structural_zeros_are_absent_and_constants_are_literals():
    low = lower(push(_sparse), 5, 1)
    rows = jacobian(low.ex, low.roots, low.symbols[0])
    assert [sorted(row) for row in rows] == [[0], [], [2], []]
    low = lower(push(_linear), 5, 1)
    rows = jacobian(low.ex, low.roots, low.symbols[0])
    assert all(node.op is Ops.CONST for row in rows for node in row.values())
    assert jacobian_values(low, points(0)).tolist() == [
        [1.0 + 2.0 * (j == 4 - i) - (j == i) for j in range(5)] for i in range(5)
    ]


def test_hessian_of_a_linear_function_is_empty():
    low = lower(push_twice(lambda x: jnp.sum(_linear(x))), 5, 2)
    assert hessian(low.ex, low.roots[0], *low.symbols) == {}


def test_values_of_the_program_are_used_as_they_are():
    """The argument of a cosine is the program's expression, not one that is merely equal."""
    low = lower(push(lambda x: jnp.sin(0.5 * (2.0 * x[0] / 3.0 + x[1]))), 2, 1)
    ((row),) = jacobian(low.ex, low.roots, low.symbols[0])
    program = _below([low.roots[0]])
    cosines = [n for n in _below(row.values()) if n.op is Ops.CUSTOM and n.arg == "cos"]
    assert cosines
    assert all(node in program for node in cosines)


def test_one_division_serves_all_entries():
    low = lower(push(lambda x: x[:4] / x[4]), 5, 1)
    rows = jacobian(low.ex, low.roots, low.symbols[0])
    count = Counter(n.op for n in _below(node for row in rows for node in row.values()))
    assert count[Ops.FDIV] == 1


def test_elimination_beats_forward_and_reverse():
    """Columns and rows both outnumber the two values in the middle."""

    def fn(x: Any) -> Any:
        a, b = jnp.sum(jnp.sin(x)), jnp.sum(jnp.cos(x))
        return jnp.sin(a * b * jnp.arange(1.0, 13.0)) * a

    low = lower(push(fn), 12, 1)
    nodes = _below(n for row in jacobian(low.ex, low.roots, low.symbols[0]) for n in row.values())
    products = sum(n.op is Ops.MUL for n in nodes)
    assert products < 12 * 12 * 2 + 12 * 8


def test_the_same_program_gives_the_same_expressions():
    texts = []
    for _ in range(2):
        low = lower(push(_runge_kutta), 5, 1)
        rows = jacobian(low.ex, low.roots, low.symbols[0])
        texts.append([_text(row[j]) for row in rows for j in row])
    assert texts[0] == texts[1]


def _text(node: UOp) -> str:
    if node.op is Ops.LOAD:
        buffer, index = node.src[0].src
        return f"in{buffer.arg.position}[{index.arg}]"
    return f"{node.op.name}({node.arg}; {', '.join(map(_text, node.src))})"


def _below(nodes: Iterable[UOp]) -> set[UOp]:
    seen: set[UOp] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node not in seen:
            seen.add(node)
            pending.extend(node.src)
    return seen


def test_equal_coefficients_are_one_expression():
    low = lower(
        push(lambda x: jnp.stack([jnp.sin(x[0] * x[1]), x[0] + jnp.sin(x[1] * x[0])])), 2, 1
    )
    first, second = jacobian(low.ex, low.roots, low.symbols[0])
    assert first[1] is second[1]


# ---- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    [
        lambda x, t: t * t,
        lambda x, t: jnp.sin(t),
        lambda x, t: x + t,
        lambda x, t: x / t,
        lambda x, t: jnp.where(t > 0, x * t, 0.0),
        lambda x, t: jnp.maximum(t, 0.0),
        lambda x, t: (t.astype(jnp.float32) * 2).astype(jnp.float64),
        lambda x, t: jnp.where(x > 0, t, 1.0),
        lambda x, t: x,
    ],
)
def test_programs_that_are_not_linear_are_refused(program):
    low = lower(program, 2, 1)
    with pytest.raises(NotLinear):
        jacobian(low.ex, low.roots, low.symbols[0])


@pytest.mark.parametrize(
    "program",
    [
        lambda x, t, s: t[0],
        lambda x, t, s: t[0] * s[0] + t[1],
        lambda x, t, s: t[0] * t[1] * s[0],
        lambda x, t, s: t[0] * s[0] + 1.0,
        lambda x, t, s: jnp.sin(t[0] * s[0]),
    ],
)
def test_programs_that_are_not_bilinear_are_refused(program):
    low = lower(program, 2, 2)
    with pytest.raises(NotLinear):
        hessian(low.ex, low.roots[0], *low.symbols)
