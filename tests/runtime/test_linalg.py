"""The factorisation headers against the primitives of jax.lax.linalg.

Factorisations are unique up to what the primitives fix (signs, pivots), so those are compared
element by element; eigenvectors are judged by what they are for.
"""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import linalg

from tests.runtime.harness import DTYPES, FLOATS, symbol

pytestmark = pytest.mark.compile

SIZES = [0, 1, 3, 8]
RECTANGLES = [(1, 1), (6, 6), (7, 3), (3, 7), (5, 1), (1, 5)]
# (N, NRHS, left side, lower, transposed, unit diagonal)
TRIANGULAR = [
    (n, count, *flags)
    for n, count in ((5, 1), (6, 3))
    for flags in itertools.product((True, False), repeat=4)
] + [(1, 1, True, True, False, False), (13, 1, True, False, False, False)]
TRIDIAGONAL = [(1, 1), (2, 1), (3, 2), (9, 4)]


def function(name, parameters, body):
    head = f"void {name}({parameters})"
    return f'extern "C" {head};\n{head} {{ {body}; }}\n'


def sources(kind):
    rt = "anvil_rt::"
    one = f"const {kind}* a, {kind}* x"
    for n in SIZES:
        yield function(symbol("chol", kind, n), one, f"{rt}cholesky<{kind}, {n}>(a, x)")
        yield function(
            symbol("eigen", kind, n),
            f"const {kind}* a, {kind}* v, {kind}* w",
            f"{rt}symmetric_eigen<{kind}, {n}>(a, v, w)",
        )
    for m, n in RECTANGLES:
        yield function(
            symbol("lu", kind, m, n),
            f"{one}, std::int32_t* p, std::int32_t* q",
            f"{rt}lu<{kind}, {m}, {n}>(a, x, p, q)",
        )
        yield function(
            symbol("qr", kind, m, n), f"{one}, {kind}* t", f"{rt}geqrf<{kind}, {m}, {n}>(a, x, t)"
        )
        if m >= n:
            yield function(
                symbol("product", kind, m, n),
                f"const {kind}* a, const {kind}* t, {kind}* q",
                f"{rt}householder_product<{kind}, {m}, {n}, {n}>(a, t, q)",
            )
    for case in TRIANGULAR:
        flags = ", ".join(str(value).lower() for value in case)
        yield function(
            symbol("triangular", kind, *case),
            f"const {kind}* a, const {kind}* b, {kind}* x",
            f"{rt}triangular_solve<{kind}, {flags}>(a, b, x)",
        )
    for n, count in TRIDIAGONAL:
        yield function(
            symbol("tridiagonal", kind, n, count),
            f"const {kind}* l, const {kind}* d, const {kind}* u, const {kind}* b, {kind}* x",
            f"{rt}tridiagonal_solve<{kind}, {n}, {count}>(l, d, u, b, x)",
        )


@pytest.fixture(scope="module")
def library(build):
    return build(
        ["cholesky.hpp", "lu.hpp", "triangular.hpp", "qr.hpp", "eigen.hpp"],
        "\n".join(text for kind in FLOATS for text in sources(kind)),
    )


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def close(got, want, scale=1.0, message=""):
    tolerance = 100 * np.finfo(got.dtype).eps * scale
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=message)


@pytest.mark.parametrize("kind", FLOATS)
def test_cholesky(library, generator, kind):
    for n in SIZES:
        half = generator.normal(size=(n, n + 2)).astype(DTYPES[kind])
        # The primitive does not look at the upper triangle; what it leaves there is its input.
        a = half @ half.T + np.triu(np.ones((n, n), half.dtype), 1)
        got = np.zeros_like(a)
        library(symbol("chol", kind, n), a, got)
        close(got, np.asarray(linalg.cholesky_p.bind(jnp.asarray(a))), 10)


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("diagonal", [[1, -1, 1], [1, 0, 1], [1, np.nan, 1], [-1, 1, 1]])
def test_cholesky_of_an_indefinite_matrix(library, kind, diagonal):
    a = np.diag(np.array(diagonal, DTYPES[kind]))
    got = np.zeros_like(a)
    library(symbol("chol", kind, 3), a, got)
    want = np.asarray(linalg.cholesky_p.bind(jnp.asarray(a)))
    lower = np.tril_indices(3)
    np.testing.assert_array_equal(np.isnan(got)[lower], np.isnan(want)[lower])


@pytest.mark.parametrize("kind", FLOATS)
def test_lu(library, generator, kind):
    for m, n in RECTANGLES:
        full = generator.normal(size=(m, n)).astype(DTYPES[kind])
        singular = full.copy()
        singular[:, 0] = 0
        for a in (full, singular):
            got = np.zeros_like(a)
            pivots = np.zeros(min(m, n), np.int32)
            permutation = np.zeros(m, np.int32)
            library(symbol("lu", kind, m, n), a, got, pivots, permutation)
            want = linalg.lu(jnp.asarray(a))
            close(got, want[0], 10, f"{m} x {n}")
            np.testing.assert_array_equal(pivots, want[1])
            np.testing.assert_array_equal(permutation, want[2])


@pytest.mark.parametrize("kind", FLOATS)
def test_triangular_solve(library, generator, kind):
    for case in TRIANGULAR:
        n, count, left, lower, transposed, unit = case
        # Both triangles are filled: the other one must not be read.
        a = (generator.normal(size=(n, n)) + 3 * np.eye(n)).astype(DTYPES[kind])
        b = generator.normal(size=(n, count) if left else (count, n)).astype(DTYPES[kind])
        got = np.zeros_like(b)
        library(symbol("triangular", kind, *case), a, b, got)
        want = linalg.triangular_solve(
            a, b, left_side=left, lower=lower, transpose_a=transposed, unit_diagonal=unit
        )
        close(got, want, max(1.0, float(np.abs(want).max())) * 10, str(case))


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_qr(library, generator, kind, scale):
    for m, n in RECTANGLES:
        a = (generator.normal(size=(m, n)) * scale).astype(DTYPES[kind])
        packed = np.zeros_like(a)
        taus = np.zeros(min(m, n), a.dtype)
        library(symbol("qr", kind, m, n), a, packed, taus)
        q, r = linalg.qr(a, full_matrices=False)
        close(np.triu(packed)[: min(m, n)] / scale, np.asarray(r) / scale, 10)
        if m >= n:
            product = np.zeros_like(a)
            library(symbol("product", kind, m, n), packed, taus, product)
            close(product, q, 10)
            close(product, linalg.householder_product(packed, taus), 10)


@pytest.mark.parametrize("kind", FLOATS)
def test_qr_of_zeros(library, kind):
    a = np.zeros((7, 3), DTYPES[kind])
    packed, taus, product = np.ones_like(a), np.ones(3, a.dtype), np.ones_like(a)
    library(symbol("qr", kind, 7, 3), a, packed, taus)
    library(symbol("product", kind, 7, 3), packed, taus, product)
    assert not packed.any()
    assert not taus.any()
    np.testing.assert_array_equal(product, np.eye(7, 3))


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("dominant", [True, False])
def test_tridiagonal_solve(library, generator, kind, dominant):
    """Without a dominant diagonal rows must be exchanged."""
    for n, count in TRIDIAGONAL:
        lower, upper = (generator.uniform(1, 2, n).astype(DTYPES[kind]) for _ in range(2))
        main = (generator.uniform(1, 2, n) * (5 if dominant else 0.1)).astype(DTYPES[kind])
        lower[0] = upper[-1] = np.nan  # outside the matrix
        b = generator.normal(size=(n, count)).astype(DTYPES[kind])
        got = np.zeros_like(b)
        library(symbol("tridiagonal", kind, n, count), lower, main, upper, b, got)
        dense = np.diag(main) + np.diag(lower[1:], -1) + np.diag(upper[:-1], 1)
        close(got, np.linalg.solve(dense, b), 10 * np.linalg.cond(dense), f"{n}")
        lower[0] = upper[-1] = 0
        want = linalg.tridiagonal_solve(lower, main, upper, b)
        close(got, want, 10 * np.linalg.cond(dense), f"{n}")


def test_singular_tridiagonal(library):
    zeros, b, got = np.zeros(3), np.ones((3, 2)), np.ones((3, 2))
    library(symbol("tridiagonal", "double", 3, 2), zeros, zeros, zeros, b, got)
    diagonal = jnp.asarray(zeros)
    want = linalg.tridiagonal_solve(diagonal, diagonal, diagonal, jnp.asarray(b))
    assert np.isnan(np.asarray(want)).all()
    assert np.isnan(got).all()


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("repeated", [False, True])
def test_symmetric_eigen(library, generator, kind, repeated):
    for n in SIZES:
        a = generator.normal(size=(n, n))
        a = a + a.T
        if repeated and n:
            basis = np.linalg.qr(a)[0]
            a = basis @ np.diag(np.round(np.linspace(-1, 1, n))) @ basis.T
        a = a.astype(DTYPES[kind])
        vectors, values = np.zeros_like(a), np.zeros(n, a.dtype)
        below = np.ascontiguousarray(np.tril(a))
        library(symbol("eigen", kind, n), below, vectors, values)
        symmetric = np.tril(a) + np.tril(a, -1).T
        close(values, np.linalg.eigvalsh(symmetric), 10)
        close(vectors.T @ vectors, np.eye(n), 10)
        close(symmetric @ vectors, vectors * values, 10)
