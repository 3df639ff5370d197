"""Factorisations and linear systems."""

# ruff: noqa: E501 - a case is one line

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases.case import Data, case

_data = Data(9)


def _positive(*shape: int) -> np.ndarray:
    a = _data.normal(*shape, shape[-1])
    return a @ a.swapaxes(-1, -2) + shape[-1] * np.eye(shape[-1])


def _lower(n: int) -> np.ndarray:
    return np.tril(_data.normal(n, n)) + 3 * np.eye(n)


def _triangular(left: bool, lower: bool, transposed: bool, unit: bool):
    def solve(a, b):
        return lax.linalg.triangular_solve(
            a, b, left_side=left, lower=lower, transpose_a=transposed, unit_diagonal=unit
        )

    return solve


_FLAGS = [[bool(k >> b & 1) for b in range(4)] for k in range(16)]
_INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]])
_SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])

CASES = (
    *(case(f"cholesky_{n}", jnp.linalg.cholesky, _positive(n)) for n in (1, 2, 5, 12, 33)),
    case("cholesky_batch", jnp.linalg.cholesky, _positive(2, 3, 4)),
    case("cholesky_upper", lambda a: jnp.linalg.cholesky(a, upper=True), _positive(4)),
    case("cholesky_indefinite", jnp.linalg.cholesky, _INDEFINITE),
    case("cholesky_of_computed", lambda a: jnp.linalg.cholesky(a @ a.T + jnp.eye(4)), _data.normal(4, 4)),
    case("cholesky_float32", jnp.linalg.cholesky, _positive(5).astype("float32"), rtol=1e-4),
    case("cholesky_empty", jnp.linalg.cholesky, np.zeros((0, 0))),
    case("cho_solve", lambda a, b: jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a), b), _positive(4), _data.normal(4)),
    *(case(f"triangular_{''.join('fft'[f] if f < 2 else '' for f in flags)}_{k}", _triangular(*flags), _lower(5) if flags[1] else _lower(5).T.copy(), _data.normal(5, 3) if flags[0] else _data.normal(3, 5)) for k, flags in enumerate(_FLAGS)),
    case("triangular_batch", lambda a, b: _triangular(True, True, False, False)(a, b), np.stack([_lower(3), _lower(3)]), _data.normal(2, 3, 4)),
    case("solve_triangular", lambda a, b: (jax.scipy.linalg.solve_triangular(a, b, lower=True), jax.scipy.linalg.solve_triangular(a, b, lower=True, trans=1)), _lower(6), _data.normal(6)),
    *(case(f"solve_{n}", jnp.linalg.solve, _data.normal(n, n), _data.normal(n), rtol=1e-9) for n in (1, 2, 4, 13)),
    case("solve_matrix", jnp.linalg.solve, _data.normal(5, 5), _data.normal(5, 3), rtol=1e-9),
    case("solve_batch", jnp.linalg.solve, _data.normal(4, 3, 3), _data.normal(4, 3, 2), rtol=1e-9),
    case("solve_float32", jnp.linalg.solve, _positive(4).astype("float32"), _data.normal(4, dtype="float32"), rtol=1e-3),
    case("solve_gradient", lambda a, b: jax.grad(lambda a: jnp.linalg.solve(a, b).sum())(a), _positive(4), _data.normal(4), rtol=1e-10),
    case("inverse", jnp.linalg.inv, _positive(5), rtol=1e-10),
    case("determinant", lambda a: (jnp.linalg.det(a), jnp.linalg.slogdet(a)), _data.normal(5, 5), rtol=1e-10),
    case("determinant_singular", jnp.linalg.det, _SINGULAR),
    *(case(f"lu_{m}_{n}", lax.linalg.lu, _data.normal(m, n), rtol=1e-10) for m, n in ((4, 4), (5, 3), (3, 5), (1, 1), (17, 17))),
    case("lu_batch", lax.linalg.lu, _data.normal(3, 4, 4), rtol=1e-10),
    case("lu_pivots", lambda p: lax.linalg.lu_pivots_to_permutation(p, 5), np.array([[2, 3, 2], [4, 1, 2]], "int32")),
    case("lu_scipy", jax.scipy.linalg.lu, _data.normal(4, 4), rtol=1e-10),
    *(case(f"qr_{m}_{n}", jnp.linalg.qr, _data.normal(m, n), rtol=1e-10) for m, n in ((4, 4), (5, 3), (3, 5), (1, 1))),
    case("qr_complete", lambda a: jnp.linalg.qr(a, mode="complete"), _data.normal(5, 3), rtol=1e-10),
    case("qr_r_only", lambda a: jnp.linalg.qr(a, mode="r"), _data.normal(5, 3), rtol=1e-10),
    case("qr_batch", jnp.linalg.qr, _data.normal(2, 4, 3), rtol=1e-10),
    case("householder_product", lax.linalg.householder_product, np.tril(_data.normal(5, 3), -1) * 0.3, _data.uniform(1, 1.5, 3), rtol=1e-10),
    case("tridiagonal_solve", lax.linalg.tridiagonal_solve, np.append(0.0, _data.normal(5)), _data.normal(6) + 5, np.append(_data.normal(5), 0.0), _data.normal(6, 2), rtol=1e-10),
    case("lstsq_normal_equations", lambda a, b: jnp.linalg.solve(a.T @ a, a.T @ b), _data.normal(9, 3), _data.normal(9), rtol=1e-9),
    case("norms", lambda a: (jnp.linalg.norm(a), jnp.linalg.norm(a, 1), jnp.linalg.norm(a, np.inf)), _data.normal(4, 5)),
    case("solve_in_scan", lambda a, x: lax.scan(lambda c, _: (jnp.linalg.solve(a, c) + 1, c), x, None, length=9), _positive(4), _data.normal(4), rtol=1e-9),
    case("cholesky_in_scan", lambda a: lax.scan(lambda c, _: (c + jnp.linalg.cholesky(c), None), a, None, length=5)[0], _positive(4) / 4, rtol=1e-9, ),
    case("eigh_values", jnp.linalg.eigvalsh, _positive(4), rtol=1e-9),
)  # fmt: skip
