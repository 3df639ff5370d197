"""The JAX primitive that stands for the values of a `SparseDerivative`.

Lowering meets it as an equation and computes it in the cheapest way, inside whatever function it
is used in, so that work is shared with the rest of that function. For JAX itself it is the
function `SparseDerivative.compressed`: differentiated, jitted or run eagerly, it is those coloured
passes; batched, it is a `lax.map`, so that one instance stays one small kernel.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax import core as jax_core
from jax import lax
from jax import numpy as jnp
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from anvil_jax.sparsity.derivative import SparseDerivative

sparse_derivative_p = core.Primitive("sparse_derivative")


def sparse_values(derivative: SparseDerivative, *args: Any) -> Any:
    """The values of `derivative` at flat inputs, an array (nnz,) in CSC order."""
    with jax.enable_x64(True):
        return sparse_derivative_p.bind(*args, derivative=derivative)


@sparse_derivative_p.def_abstract_eval
def _shape(*_: Any, derivative: SparseDerivative) -> Any:
    return jax_core.ShapedArray((derivative.nnz,), derivative.dtype)


@sparse_derivative_p.def_impl
def _run(*args: Any, derivative: SparseDerivative) -> Any:
    return jax.jit(derivative.compressed)(*args)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, derivative: SparseDerivative) -> Any:
    moving = [k for k, t in enumerate(tangents) if not isinstance(t, ad.Zero)]

    def of_moving(*values: Any) -> Any:
        args = list(primals)
        for k, value in zip(moving, values, strict=True):
            args[k] = value
        return derivative.compressed(*args)

    _, tangent = jax.jvp(
        of_moving, tuple(primals[k] for k in moving), tuple(tangents[k] for k in moving)
    )
    return sparse_values(derivative, *primals), tangent


def _batch(args: Sequence[Any], dims: Sequence[Any], *, derivative: SparseDerivative) -> Any:
    batched = [k for k, dim in enumerate(dims) if dim is not None]
    stacked = [jnp.moveaxis(args[k], dims[k], 0) for k in batched]

    def one(slices: Sequence[Any]) -> Any:
        filled = list(args)
        for k, value in zip(batched, slices, strict=True):
            filled[k] = value
        return sparse_values(derivative, *filled)

    return lax.map(one, stacked), 0


ad.primitive_jvps[sparse_derivative_p] = _jvp
batching.primitive_batchers[sparse_derivative_p] = _batch
mlir.register_lowering(
    sparse_derivative_p,
    mlir.lower_fun(lambda *args, derivative: derivative.compressed(*args), multiple_results=False),
)
