"""Recovery: the entries from the products, against dense random matrices."""

import jax
import numpy as np
import pytest
import scipy.sparse as sp
from jax import numpy as jnp

from anvil_jax.errors import SparsityError
from anvil_jax.sparsity.coloring import Coloring, color_hessian, color_jacobian
from anvil_jax.sparsity.recovery import Recovery, recovery, symmetric_recovery
from tests.sparsity import patterns

METHODS = ("star", "acyclic")
MODES = ("auto", "fwd", "rev", "both")


def random_matrix(pattern: sp.csc_array, symmetric: bool = False, seed: int = 0) -> np.ndarray:
    """Dense, integers: then sums are exact."""
    matrix = np.random.default_rng(seed).integers(1, 100, pattern.shape).astype(float)
    if symmetric:
        matrix = np.triu(matrix) + np.triu(matrix, 1).T
    return matrix * (pattern.toarray() != 0)


def csc_values(matrix: np.ndarray, pattern: sp.csc_array) -> np.ndarray:
    mask = pattern.toarray() != 0
    return matrix.T[mask.T]


def products(found: Recovery, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return found.column_seeds @ matrix.T, found.row_seeds @ matrix


def check_jacobian(pattern: sp.csc_array, coloring: Coloring) -> Recovery:
    matrix = random_matrix(pattern)
    found = recovery(pattern, coloring)
    assert found.depth == 0
    assert found.nnz == pattern.nnz
    values = found.values(*products(found, matrix))
    assert isinstance(values, np.ndarray)
    np.testing.assert_array_equal(values, csc_values(matrix, pattern))
    return found


def check_hessian(pattern: sp.csc_array, coloring: Coloring) -> Recovery:
    matrix = random_matrix(pattern, symmetric=True)
    both = symmetric_recovery(pattern, coloring, upper=False)
    np.testing.assert_array_equal(both.values(*products(both, matrix)), csc_values(matrix, pattern))
    upper = sp.csc_array(sp.triu(pattern))
    found = symmetric_recovery(pattern, coloring)
    assert found.nnz == upper.nnz
    assert found.depth == both.depth
    np.testing.assert_array_equal(found.values(*products(found, matrix)), csc_values(matrix, upper))
    return found


@pytest.mark.parametrize("mode", MODES)
def test_random_jacobians(mode):
    rng = np.random.default_rng(1)
    for seed in range(100):
        m, n = rng.integers(0, 25, 2)
        pattern = patterns.random(m, n, rng.choice([0.0, 0.3, 1.0, 2.0, 5.0]), seed)
        if seed % 2 and m * n:
            pattern = pattern.tolil()
            pattern[rng.integers(m), :] = 1
            pattern = patterns.pattern(pattern)
        check_jacobian(pattern, color_jacobian(pattern, mode=mode))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("diagonal", [0.0, 0.5, 1.0])
def test_random_hessians(method, diagonal):
    rng = np.random.default_rng(2)
    for seed in range(50):
        pattern = patterns.random_graph(
            int(rng.integers(0, 30)), rng.choice([0.5, 1.5, 3.0, 8.0]), seed, diagonal
        )
        found = check_hessian(pattern, color_hessian(pattern, method=method))
        assert method == "acyclic" or found.depth == 0


@pytest.mark.parametrize(
    "pattern",
    [
        patterns.quadrotor_shooting(3),
        patterns.heat(9, 8),
        patterns.brusselator(5),
        patterns.arrow_head(40),
    ],
    ids=["quadrotor", "heat", "Brusselator", "arrow head"],
)
def test_known_jacobians(pattern):
    for mode in MODES:
        check_jacobian(pattern, color_jacobian(pattern, mode=mode))


@pytest.mark.parametrize("n", [1, 2, 3, 8, 33, 200])
def test_depth_of_a_path(n):
    """Substitution goes from both ends to the middle, in logarithmically many steps."""
    pattern = patterns.banded(n, 1, 1)
    found = check_hessian(pattern, color_hessian(pattern, method="acyclic"))
    assert found.depth == max(0, (n - 2) // 2)
    assert len(found.steps) == found.depth.bit_length()


def test_large_path():
    n = 20_000
    pattern = patterns.banded(n, 1, 1)
    coloring = color_hessian(pattern, method="acyclic")
    found = symmetric_recovery(pattern, coloring)
    random = np.random.default_rng(0)
    upper = sp.diags_array(random.normal(size=n)) + sp.diags_array(
        random.normal(size=n - 1), offsets=1
    )
    matrix = sp.csc_array(upper + sp.triu(upper, 1).T)
    values = found.values((matrix @ found.column_seeds.T).T, np.zeros((0, n)))
    np.testing.assert_allclose(values, sp.csc_array(upper).data, atol=1e-11)


@pytest.mark.parametrize("mode", ["fwd", "rev", "both"])
def test_under_jax_transformations(mode):
    pattern = patterns.arrow_head(6)
    matrix = random_matrix(pattern)
    found = recovery(pattern, color_jacobian(pattern, mode=mode))
    with jax.enable_x64(True):
        columns, rows = (jnp.asarray(x) for x in products(found, matrix))
        values = jax.jit(found.values)(columns, rows)
        assert isinstance(values, jax.Array)
        np.testing.assert_array_equal(values, csc_values(matrix, pattern))
        batch = jax.vmap(found.values)(
            jnp.stack([columns, 2 * columns]), jnp.stack([rows, 2 * rows])
        )
        np.testing.assert_array_equal(batch, np.stack([values, 2 * values]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("upper", [False, True])
def test_symmetric_under_jax_transformations(method, upper):
    pattern = patterns.banded(12, 1, 1)
    matrix = random_matrix(pattern, symmetric=True)
    wanted = csc_values(matrix, sp.csc_array(sp.triu(pattern)) if upper else pattern)
    coloring = color_hessian(pattern, method=method)
    found = symmetric_recovery(pattern, coloring, upper=upper)
    with jax.enable_x64(True):
        columns, rows = (jnp.asarray(x) for x in products(found, matrix))
        np.testing.assert_array_equal(jax.jit(found.values)(columns, rows), wanted)
        batch = jax.vmap(lambda c: found.values(c, rows))(jnp.stack([columns, 3 * columns]))
        np.testing.assert_array_equal(batch, np.stack([wanted, 3 * wanted]))
        weights = jnp.arange(1.0, found.nnz + 1)
        gradient = jax.grad(lambda c: weights @ found.values(c, rows))(columns)
        # The values are linear in the products.
        np.testing.assert_allclose(jnp.vdot(gradient, columns), weights @ wanted)
        tangent = jax.jvp(lambda c: found.values(c, rows), (columns,), (columns,))[1]
        np.testing.assert_array_equal(tangent, wanted)


def test_jacobian_of_a_function():
    def f(x):
        return jnp.concatenate([x[1:] * x[:-1] ** 2, jnp.sum(jnp.sin(x))[None]])

    pattern = patterns.pattern(np.vstack([np.eye(9, 10) + np.eye(9, 10, 1), np.ones(10)]))
    found = recovery(pattern, color_jacobian(pattern, mode="both"))
    assert found.coloring.passes == 3
    with jax.enable_x64(True):
        x = jnp.linspace(0.5, 1.5, 10)
        columns = jax.vmap(lambda t: jax.jvp(f, (x,), (t,))[1])(jnp.asarray(found.column_seeds))
        _, pull = jax.vjp(f, x)
        rows = jax.vmap(lambda w: pull(w)[0])(jnp.asarray(found.row_seeds))
        np.testing.assert_allclose(
            found.values(columns, rows), csc_values(np.asarray(jax.jacobian(f)(x)), pattern)
        )


def test_one_gather_for_direct_reads():
    pattern = patterns.banded(8, 1, 1)
    for found in (
        recovery(pattern, color_jacobian(pattern)),
        symmetric_recovery(pattern, color_hessian(pattern, method="star"), upper=False),
    ):
        jaxpr = jax.make_jaxpr(found.values)(np.ones((3, 8), np.float32), np.ones((0, 8)))
        assert str(jaxpr).count("gather[") == 1
        assert "scatter" not in str(jaxpr)
        assert found.index.dtype == np.int32


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (4, 5)])
def test_no_entries(shape):
    pattern = sp.csc_array(shape)
    for mode in MODES:
        found = recovery(pattern, color_jacobian(pattern, mode=mode))
        assert found.column_seeds.shape == (0, shape[1])
        assert found.row_seeds.shape == (0, shape[0])
        empty = np.zeros((0, shape[0])), np.zeros((0, shape[1]))
        assert found.values(*empty).shape == (0,)
        assert jax.jit(found.values)(*empty).shape == (0,)


def test_pattern_in_any_order():
    pattern = sp.csc_array((np.ones(4), [1, 0, 1, 0], [0, 2, 4]), shape=(2, 2))
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]])
    found = recovery(pattern, color_jacobian(pattern))
    np.testing.assert_array_equal(found.values(*products(found, matrix)), [1, 3, 2, 4])


def test_foreign_colorings_are_refused():
    chain, dense = patterns.banded(6, 1, 1), patterns.pattern(np.ones((6, 6)))
    with pytest.raises(SparsityError, match="does not determine every entry"):
        recovery(dense, color_jacobian(chain))
    for method in METHODS:
        with pytest.raises(SparsityError, match="does not determine every entry"):
            symmetric_recovery(dense, color_hessian(chain, method=method))
    with pytest.raises(SparsityError, match="does not fit"):
        recovery(patterns.banded(5, 1, 1), color_jacobian(chain))
    with pytest.raises(SparsityError, match="got one of kind 'star'"):
        recovery(chain, color_hessian(chain, method="star"))
    with pytest.raises(SparsityError, match="got one of kind 'columns'"):
        symmetric_recovery(chain, color_jacobian(chain))


def test_wrong_products_are_refused():
    pattern = patterns.banded(6, 1, 1)
    found = recovery(pattern, color_jacobian(pattern))
    with pytest.raises(SparsityError, match=r"columns must have shape \(3, 6\), not \(6, 3\)"):
        found.values(np.zeros((6, 3)), np.zeros((0, 6)))
    with pytest.raises(SparsityError, match=r"rows must have shape \(0, 6\)"):
        found.values(np.zeros((3, 6)), np.zeros((1, 6)))
