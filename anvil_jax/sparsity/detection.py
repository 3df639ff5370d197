"""Which entries of a Jacobian or Hessian exist, and which of them are constant.

Not the function is read but its derivative program, ``(x, t) -> jvp(f, (x,), (t,))``, with a seed
on `t` only: derivative rules of the user's, `stop_gradient`, casts to integers and `argmax` are
then right by construction, and only linear operations have to be followed. Start reading at
`propagation`; how a value is represented is told in `structure`.

The idea of propagating index sets is that of Walther, "Getting started with ADOL-C" (2009) and of
SparseConnectivityTracer (Hill and Dalle, 2025); here whole arrays are propagated at once, and
coefficients instead of sets.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend.core import Jaxpr, jaxpr_as_fun
from scipy import sparse

from anvil_jax.errors import SparsityError
from anvil_jax.sparsity.loops import primitive_names
from anvil_jax.sparsity.propagation import Propagation
from anvil_jax.sparsity.rows import (
    DenseError,
    Rows,
    empty,
    from_matrix,
    identity,
    stacked,
)
from anvil_jax.sparsity.structure import NAN, Tangent, Value

type Function = Callable[..., Sequence[jax.Array]]

MAX_DENSE = 1 << 26
"""Entries up to which a matrix that is not sparse is written out."""

ROUNDING = 1e-14
"""Relative difference up to which two constants are the same number."""


@dataclass(frozen=True, slots=True, eq=False)
class Detected:
    """A structure and the program it was read from.

    Attributes:
        matrix: (m, n) coefficients; NaN where an entry varies with the inputs.
        jaxpr: closed; its inputs are those of the function followed by the seed's arrays.
        transposed: False if the seed is a tangent per differentiated input and the results are the
            tangents of the floating-point outputs; True if the seed is a cotangent per
            floating-point output and the results belong to the differentiated inputs.
    """

    matrix: sparse.csr_array
    jaxpr: Jaxpr
    transposed: bool


def jacobian_structure(jaxpr: Jaxpr, wrt: Sequence[int]) -> sparse.csr_array:
    """Structure of the Jacobian of all outputs with respect to some inputs.

    Args:
        jaxpr: a closed, flat function.
        wrt: numbers of the inputs to differentiate with respect to, all floating-point.

    Returns:
        An (m, n) matrix: m elements of all outputs and n elements of the inputs, one after the
        other in C order. A stored number is the coefficient itself, the same for all inputs; NaN
        is an entry that varies. Entries that are not stored are zero for all inputs. Stored zeros
        occur where constant terms cancel. Columns are sorted within rows.

    Raises:
        SparsityError: JAX cannot differentiate the function, or the matrix is dense and too large
            to be written out.
    """
    return detect_jacobian(jaxpr, wrt).matrix


def hessian_structure(jaxpr: Jaxpr, wrt: Sequence[int]) -> sparse.csr_array:
    """Structure of the Hessian of the only output, which has one element.

    Args:
        jaxpr: a closed, flat function.
        wrt: numbers of the inputs to differentiate with respect to, all floating-point.

    Returns:
        An (n, n) matrix as by `jacobian_structure`; its pattern is symmetric.

    Raises:
        SparsityError: the function has other outputs, JAX cannot differentiate it, or the matrix is
            dense and too large.
    """
    return detect_hessian(jaxpr, wrt).matrix


def detect_jacobian(jaxpr: Jaxpr, wrt: Sequence[int]) -> Detected:
    """As `jacobian_structure`, with the program that was read."""
    detected = _detected(jaxpr_as_fun(jaxpr), jaxpr.in_avals, wrt)
    rows, position = [], 0
    for aval in jaxpr.out_avals:
        size = _size(aval)
        if _is_floating(aval):
            rows.append(np.arange(position, position + size))
            position += size
        else:
            rows.append(np.full(size, -1))
    ids = np.concatenate([np.zeros(0, np.int64), *rows])
    if not (ids >= 0).all():
        rows = Tangent(from_matrix(detected.matrix, _count(jaxpr.in_avals, wrt)), ids).rows()
        return Detected(rows.matrix(), detected.jaxpr, detected.transposed)
    return detected


def detect_hessian(jaxpr: Jaxpr, wrt: Sequence[int]) -> Detected:
    """As `hessian_structure`, with the program that was read."""
    if [_size(aval) for aval in jaxpr.out_avals] != [1] or not _is_floating(jaxpr.out_avals[0]):
        outputs = ", ".join(str(aval) for aval in jaxpr.out_avals) or "none"
        raise SparsityError(
            f"a Hessian needs a function with one real number as its only output, not: {outputs}"
        )
    function = jaxpr_as_fun(jaxpr)

    def gradient(*inputs: jax.Array) -> Sequence[jax.Array]:
        def scalar(*variables: jax.Array) -> jax.Array:
            return function(*_with(inputs, wrt, variables))[0].reshape(())

        return jax.grad(scalar, argnums=tuple(range(len(wrt))))(*(inputs[k] for k in wrt))

    detected = _detected(gradient, jaxpr.in_avals, wrt)
    matrix = _symmetric(detected.matrix, _count(jaxpr.in_avals, wrt))
    return Detected(matrix, detected.jaxpr, detected.transposed)


def _detected(function: Function, avals: Sequence[Any], wrt: Sequence[int]) -> Detected:
    """Structure of the floating-point outputs of a function."""
    program, transposed = _derivative_program(function, avals, wrt)
    matrix = _read(program, len(avals)).matrix()
    if transposed:
        matrix = sparse.csr_array(matrix.T)
    matrix.sort_indices()
    return Detected(matrix, program, transposed)


def _derivative_program(
    function: Function, avals: Sequence[Any], wrt: Sequence[int]
) -> tuple[Jaxpr, bool]:
    """The program to read, and whether its seed is a cotangent."""
    inputs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
    try:
        with jax.enable_x64(True):
            program = _tangent_program(function, inputs, wrt)
            if "custom_lin" not in primitive_names(program):
                return program, False
            # A custom_vjp function: only its reverse mode exists.
            return _cotangent_program(function, inputs, wrt), True
    except (TypeError, ValueError, NotImplementedError) as error:
        raise SparsityError(f"JAX cannot differentiate the function: {error}") from error


def _tangent_program(
    function: Function, inputs: Sequence[jax.ShapeDtypeStruct], wrt: Sequence[int]
) -> Jaxpr:
    """``(x, t) -> tangents of the floating-point outputs``."""

    def program(*arguments: jax.Array) -> Sequence[jax.Array]:
        values, tangents = arguments[: len(inputs)], arguments[len(inputs) :]
        variables = [values[k] for k in wrt]
        return jax.jvp(_restricted(function, values, wrt), variables, list(tangents))[1]

    return jax.make_jaxpr(program)(*inputs, *(inputs[k] for k in wrt))


def _cotangent_program(
    function: Function, inputs: Sequence[jax.ShapeDtypeStruct], wrt: Sequence[int]
) -> Jaxpr:
    """``(x, c) -> cotangents of the differentiated inputs``."""
    outputs = [y for y in jax.eval_shape(function, *inputs) if _is_floating(y)]

    def program(*arguments: jax.Array) -> Sequence[jax.Array]:
        values, cotangents = arguments[: len(inputs)], arguments[len(inputs) :]
        restricted = _restricted(function, values, wrt)
        return jax.vjp(restricted, *(values[k] for k in wrt))[1](list(cotangents))

    return jax.make_jaxpr(program)(*inputs, *outputs)


def _restricted(function: Function, values: Sequence[jax.Array], wrt: Sequence[int]) -> Function:
    """The floating-point outputs as a function of some inputs."""

    def restricted(*variables: jax.Array) -> list[jax.Array]:
        return [y for y in function(*_with(values, wrt, variables)) if _is_floating(y)]

    return restricted


def _with(
    values: Sequence[jax.Array], wrt: Sequence[int], variables: Sequence[jax.Array]
) -> list[jax.Array]:
    """`values` with those at `wrt` replaced."""
    replaced = list(values)
    for k, variable in zip(wrt, variables, strict=True):
        replaced[k] = variable
    return replaced


def _is_floating(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.floating)


def _size(aval: Any) -> int:
    return math.prod(aval.shape)


def _count(avals: Sequence[Any], wrt: Sequence[int]) -> int:
    """Number of variables."""
    return sum(_size(avals[k]) for k in wrt)


def _read(program: Jaxpr, first: int) -> Rows:
    """Coefficients of a program's results over its inputs from number `first` on."""
    seeds = [v.aval for v in program.invars[first:]]
    columns = sum(_size(aval) for aval in seeds)
    rows = sum(_size(aval) for aval in program.out_avals)
    base, position = identity(columns), 0
    operands: list[Value] = [None] * first
    for aval in seeds:
        ids = np.arange(position, position + _size(aval)).reshape(getattr(aval, "shape", ()))
        operands.append(Tangent(base, ids) if ids.size else None)
        position += ids.size
    try:
        with np.errstate(all="ignore"):
            results = Propagation(columns).run(program, operands)
        parts = [
            v.rows() if isinstance(v, Tangent) else empty(_size(aval), columns)
            for v, aval in zip(results, program.out_avals, strict=True)
        ]
        return stacked([empty(0, columns), *parts])
    except DenseError:
        return _dense(rows, columns)


def _dense(rows: int, columns: int) -> Rows:
    """All entries vary."""
    if rows * columns > MAX_DENSE:
        raise SparsityError(
            f"the {rows} x {columns} derivative is dense, and too large to be stored; "
            "use products with it (jax.jvp, jax.vjp) instead"
        )
    indices = np.tile(np.arange(columns, dtype=np.int32), rows)
    return Rows(np.full(indices.size, NAN), indices, np.arange(rows + 1) * columns, columns)


def _symmetric(matrix: sparse.csr_array, size: int) -> sparse.csr_array:
    """The union with the transpose.

    Equal constants stay; they may differ by rounding, as the two were summed in different orders.
    """
    mirrored = sparse.csr_array(matrix.T)
    mirrored.sort_indices()
    sides = [from_matrix(m, size) for m in (matrix, mirrored)]
    places = [side.keys() for side in sides]
    keys = places[0] if np.array_equal(places[0], places[1]) else np.union1d(*places)
    values = np.zeros((2, keys.size))
    for k, side in enumerate(sides):
        values[k, np.searchsorted(keys, places[k])] = side.data
    rows, columns = np.divmod(keys, max(1, size))
    upper = np.where(rows <= columns, values[0], values[1])
    equal = np.abs(values[0] - values[1]) <= ROUNDING * np.abs(upper)
    starts = np.searchsorted(rows, np.arange(size + 1))
    return Rows(np.where(equal, upper, NAN), columns, starts, size).matrix()
