"""Factorisations and triangular systems: calls of hand-written run-time functions."""

import math
from collections.abc import Sequence

import jax
from jax import lax
from jax import numpy as jnp
from jax.extend.core import JaxprEqn

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.errors import LoweringError
from anvil_jax.lowering.avals import aval_dtype, aval_shape
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Pull, Value


def _call_batched(
    lowering: Lowering,
    outputs: Sequence[tuple[tuple[int, ...], str]],
    header: str,
    function: str,
    operands: Sequence[Value],
    ranks: Sequence[int],
    out_ranks: Sequence[int],
    operations: int,
) -> list[Pull]:
    """Calls ``function`` once per batch element.

    Args:
        lowering: the program.
        outputs: shapes and dtypes of the results.
        header: file of the run-time function, without its ending.
        function: instantiated template.
        operands: arrays with any number of leading batch axes.
        ranks: trailing axes that one call consumes, per operand.
        out_ranks: the same per result.
        operations: arithmetic operations of one call.
    """
    reads = [lowering.materialise(lowering.settle(x)) for x in operands]
    results = [
        lowering.view(lowering.allocate(dtype, math.prod(shape)), shape) for shape, dtype in outputs
    ]
    batch = math.prod(outputs[0][0][: len(outputs[0][0]) - out_ranks[0]])

    def flattened(array: Pull, rank: int) -> Pull:
        return array.reshape((batch, *array.shape[len(array.shape) - rank :]))

    with lowering.nest((batch,), parallel=True) as (k,):
        lowering.call(
            function,
            f"{header}.hpp",
            [flattened(a, r).row(k) for a, r in zip(reads, ranks, strict=True)],
            [flattened(a, r).row(k) for a, r in zip(results, out_ranks, strict=True)],
            operations,
        )
    return results


def _results(eqn: JaxprEqn) -> list[tuple[tuple[int, ...], str]]:
    return [(aval_shape(v.aval), aval_dtype(v.aval)) for v in eqn.outvars]


def _ctype(x: Value) -> str:
    return ELEMENT_TYPES[x.dtype].cpp


@register(lax.linalg.cholesky_p)
def cholesky(lowering: Lowering, eqn: JaxprEqn, a: Value) -> Value:
    """Lower Cholesky factor; NaN where the matrix is not positive definite."""
    n = a.shape[-1]
    (result,) = _call_batched(
        lowering, _results(eqn), "cholesky", f"cholesky<{_ctype(a)}, {n}>", [a], [2], [2], n**3 // 3
    )
    return result


@register(lax.linalg.lu_p)
def lu(lowering: Lowering, eqn: JaxprEqn, a: Value) -> list[Pull]:
    """LU factors with partial pivoting, pivots and permutation."""
    m, n = a.shape[-2:]
    return _call_batched(
        lowering,
        _results(eqn),
        "lu",
        f"lu<{_ctype(a)}, {m}, {n}>",
        [a],
        [2],
        [2, 1, 1],
        m * n * min(m, n),
    )


@register(lax.linalg.lu_pivots_to_permutation_p)
def lu_pivots_to_permutation(lowering: Lowering, eqn: JaxprEqn, pivots: Value) -> Value:
    """Row exchanges as one permutation."""
    k, size = pivots.shape[-1], eqn.params["permutation_size"]
    (result,) = _call_batched(
        lowering,
        _results(eqn),
        "lu",
        f"lu_pivots_to_permutation<{k}, {size}>",
        [pivots],
        [1],
        [1],
        k,
    )
    return result


@register(lax.linalg.triangular_solve_p)
def triangular_solve(lowering: Lowering, eqn: JaxprEqn, a: Value, b: Value) -> Value:
    """``op(a) x = b`` or ``x op(a) = b`` for triangular a."""
    p = eqn.params
    n = a.shape[-1]
    other = b.shape[-1] if p["left_side"] else b.shape[-2]
    flags = [p["left_side"], p["lower"], p["transpose_a"], p["unit_diagonal"]]
    spelled = ", ".join("true" if f else "false" for f in flags)
    (result,) = _call_batched(
        lowering,
        _results(eqn),
        "triangular",
        f"triangular_solve<{_ctype(a)}, {n}, {other}, {spelled}>",
        [a, b],
        [2, 2],
        [2],
        n * n * other,
    )
    return result


@register(lax.linalg.householder_product_p)
def householder_product(lowering: Lowering, eqn: JaxprEqn, a: Value, taus: Value) -> Value:
    """The orthogonal factor of a packed QR."""
    m, n = a.shape[-2:]
    k = taus.shape[-1]
    (result,) = _call_batched(
        lowering,
        _results(eqn),
        "qr",
        f"householder_product<{_ctype(a)}, {m}, {n}, {k}>",
        [a, taus],
        [2, 1],
        [2],
        2 * m * n * k,
    )
    return result


@register("qr")
def qr(lowering: Lowering, eqn: JaxprEqn, a: Value) -> Sequence[Value]:
    """Orthogonal and upper triangular factor, from the packed form and its reflectors."""
    if eqn.params["pivoting"]:
        raise LoweringError(f"qr with pivoting is not supported{lowering.where()}")
    m, n = a.shape[-2:]
    k = min(m, n)
    columns = m if eqn.params["full_matrices"] else k

    batch, dtype = a.shape[:-2], a.dtype
    packed, taus = _call_batched(
        lowering,
        [((*batch, m, n), dtype), ((*batch, k), dtype)],
        "qr",
        f"geqrf<{_ctype(a)}, {m}, {n}>",
        [a],
        [2],
        [2, 1],
        2 * m * n * k,
    )

    def widened(matrix: jax.Array) -> jax.Array:
        missing = max(columns - n, 0)
        return jnp.pad(matrix[..., :columns], [(0, 0)] * (len(batch) + 1) + [(0, missing)])

    (wide,) = lowering.run_function(widened, packed)
    (q,) = _call_batched(
        lowering,
        [((*batch, m, columns), dtype)],
        "qr",
        f"householder_product<{_ctype(a)}, {m}, {columns}, {k}>",
        [wide, taus],
        [2, 1],
        [2],
        2 * m * columns * k,
    )
    (r,) = lowering.run_function(lambda matrix: jnp.triu(matrix[..., :columns, :]), packed)
    return [q, r]


@register(lax.linalg.eigh_p)
def eigh(lowering: Lowering, eqn: JaxprEqn, a: Value) -> list[Pull]:
    """Eigenvectors (columns, sign arbitrary) and ascending eigenvalues of a symmetric matrix."""
    n = a.shape[-1]
    outputs = _results(eqn)
    if outputs[1][0][-1] != n:
        raise LoweringError(f"eigh of a subset of the spectrum is not supported{lowering.where()}")
    if not eqn.params["lower"]:
        a = a.transpose([*range(len(a.shape) - 2), len(a.shape) - 1, len(a.shape) - 2])
    return _call_batched(
        lowering,
        outputs,
        "eigen",
        f"symmetric_eigen<{_ctype(a)}, {n}>",
        [a],
        [2],
        [2, 1],
        20 * n**3,
    )


@register(lax.linalg.tridiagonal_solve_p)
def tridiagonal_solve(
    lowering: Lowering, eqn: JaxprEqn, low: Value, diagonal: Value, high: Value, b: Value
) -> Value:
    """A tridiagonal system."""
    n, other = b.shape[-2:]
    (result,) = _call_batched(
        lowering,
        _results(eqn),
        "triangular",
        f"tridiagonal_solve<{_ctype(b)}, {n}, {other}>",
        [low, diagonal, high, b],
        [1, 1, 1, 2],
        [2],
        8 * n * other,
    )
    return result
