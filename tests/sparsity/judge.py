"""Judges a detected structure by dense derivatives at random points."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr
from scipy import sparse

from anvil_jax.sparsity.detection import hessian_structure, jacobian_structure
from tests.sparsity.functions import Function

POINTS = 60
"""Enough for every branch and every data-dependent index of the table to be taken."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a structure.

    Attributes:
        missing: entries that differ from zero somewhere and are not stored.
        surplus: entries that are stored and zero at all points.
    """

    missing: int
    surplus: int

    @property
    def exact(self) -> bool:
        """Whether nothing is."""
        return not (self.missing or self.surplus)


def traced(fn: Callable[..., Any], *inputs: Any) -> Jaxpr:
    """The function as a closed jaxpr, in 64 bits."""
    with jax.enable_x64(True):
        return jax.make_jaxpr(fn)(*inputs)


def detected(function: Function) -> sparse.csr_array:
    """The structure that is judged."""
    inputs = [np.zeros(s, function.dtype) for s in function.shapes]
    detect = hessian_structure if function.kind == "hess" else jacobian_structure
    return detect(traced(function.fn, *inputs), range(len(inputs)))


def random_points(function: Function, count: int = POINTS) -> list[np.ndarray]:
    """Reproducible points, all inputs of the function in one vector."""
    rng = np.random.default_rng(1)
    size = sum(math.prod(s) for s in function.shapes)
    return [rng.normal(size=size).astype(function.dtype) for _ in range(count)]


def dense(function: Function, points: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The derivative at some points, by JAX; integer outputs have zero rows."""
    sizes = [math.prod(s) for s in function.shapes]

    def flat(x: jax.Array) -> jax.Array:
        parts = jnp.split(x, np.cumsum(sizes)[:-1])
        outputs = function.fn(*(p.reshape(s) for p, s in zip(parts, function.shapes, strict=True)))
        rows = [
            y.reshape(-1) if jnp.issubdtype(y.dtype, jnp.floating) else jnp.zeros(y.size)
            for y in map(jnp.asarray, jax.tree.leaves(outputs))
        ]
        return jnp.concatenate(rows)

    with jax.enable_x64(True):
        if function.kind == "hess":
            derivative = jax.jacfwd(jax.grad(lambda x: flat(x)[0]))
        else:
            derivative = (jax.jacrev if function.reverse else jax.jacfwd)(flat)
        derivative = jax.jit(derivative)
        return [np.asarray(derivative(x)) for x in points]


def coefficients(matrix: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Stored entries as a mask, and their coefficients, zero where nothing is stored."""
    entries = matrix.tocoo()
    values = np.zeros_like(matrix.todense())
    mask = np.zeros(values.shape, bool)
    mask[entries.row, entries.col] = True
    values[entries.row, entries.col] = entries.data
    return mask, values


def judge(matrix: sparse.csr_array, truths: Sequence[np.ndarray]) -> Verdict:
    """Compares a structure with derivatives at some points."""
    mask, _ = coefficients(matrix)
    present = np.any([t != 0 for t in truths], axis=0)
    return Verdict(int((present & ~mask).sum()), int((mask & ~present).sum()))
