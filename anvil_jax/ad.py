"""Derivatives of functions; every result is a function again.

Dense ones return what JAX returns for the same pytrees; sparse ones return the values of a CSC
matrix whose rows are the elements of all outputs and whose columns are the elements of the
differentiated arguments, one leaf after the other in C order.

    gradient, jacobian, hessian, jvp, vjp               NumericalFunction
    spjacobian, sphessian, lagrangian_hessian           SparseNumericalFunction
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp
from jax import numpy as jnp

from anvil_jax.arguments import Arg
from anvil_jax.errors import ArgumentError, SparsityError
from anvil_jax.function import NumericalFunction
from anvil_jax.lowering.derivatives import is_eliminated
from anvil_jax.progress import progress
from anvil_jax.selected import Selected, described, select
from anvil_jax.sparse_function import SparseNumericalFunction
from anvil_jax.sparsity.derivative import MODES, Kind, Mode, SparseDerivative
from anvil_jax.sparsity.pattern import Pattern
from anvil_jax.sparsity.primitive import sparse_values
from anvil_jax.tracing import argument_names

type Argnum = int | Sequence[int]

_DENSE = 0.5
"""Share of entries that exist above which a Jacobian too large for elimination is dense."""


def gradient(
    fn: NumericalFunction[..., Any], argnum: Argnum = 0, *, name: str | None = None
) -> NumericalFunction[..., Any]:
    """The gradient of a function with one scalar output.

    Args:
        fn: a function with one rank-0 floating-point output.
        argnum: the argument to differentiate (any pytree of floating-point arrays), or several.
        name: C++ identifier; default is `fn`'s name with ``_grad``.

    Returns:
        A function of the same arguments; its result has the structure of the argument, or is a
        tuple of those if `argnum` is a sequence.

    Raises:
        ArgumentError: the output is not scalar, or `argnum` is no differentiable argument.
    """
    chosen = select(fn, argnum, "gradient")
    _refuse_non_scalar(fn, "gradient")
    return _like(fn, jax.grad(fn.fn, chosen.argnums), "grad", name)


def jacobian(
    fn: NumericalFunction[..., Any], argnum: Argnum = 0, *, name: str | None = None
) -> NumericalFunction[..., Any]:
    """The dense Jacobian, in JAX's layout.

    Args:
        fn: a function with floating-point outputs of any rank, or a pytree of them.
        argnum: the argument to differentiate, or several.
        name: C++ identifier; default is `fn`'s name with ``_jac``.

    Returns:
        A function of the same arguments; for an output of shape (m...) and an argument of shape
        (n...) its result has the shape (m..., n...), inside the structure of the outputs and
        then of the argument, as `jax.jacobian` has it.

    Raises:
        ArgumentError: `argnum` is no differentiable argument, or an output is no float.
    """
    chosen = select(fn, argnum, "jacobian")
    _refuse_integer_outputs(fn, "jacobian")
    derivative = SparseDerivative("jacobian", fn.traced.jaxpr, chosen.leaves)
    if not is_eliminated(derivative) and derivative.density > _DENSE:
        forward = derivative.cols <= 2 * derivative.rows and not derivative.reverse_only
        dense = (jax.jacfwd if forward else jax.jacrev)(fn.fn, chosen.argnums)
        return _like(fn, dense, "jac", name)

    def evaluate(*args: Any) -> Any:
        matrix = _dense(derivative, sparse_values(derivative, *chosen.flat(args)))
        return _blocks(matrix, fn, chosen)

    return _like(fn, evaluate, "jac", name)


def hessian(
    fn: NumericalFunction[..., Any], argnum: Argnum = 0, *, name: str | None = None
) -> NumericalFunction[..., Any]:
    """The dense, full Hessian, in JAX's layout.

    Args:
        fn: a function; with one scalar output the symmetry is used.
        argnum: the argument to differentiate twice, or several.
        name: C++ identifier; default is `fn`'s name with ``_hess``.

    Returns:
        A function of the same arguments; for an argument of shape (n...) its result has the shape
        (n..., n...), inside the structures `jax.hessian` makes.

    Raises:
        ArgumentError: `argnum` is no differentiable argument, or an output is no float.
    """
    chosen = select(fn, argnum, "hessian")
    _refuse_integer_outputs(fn, "hessian")
    if not _is_scalar(fn):
        return _like(fn, jax.hessian(fn.fn, chosen.argnums), "hess", name)
    derivative = SparseDerivative("hessian", fn.traced.jaxpr, chosen.leaves)

    def evaluate(*args: Any) -> Any:
        upper = _dense(derivative, sparse_values(derivative, *chosen.flat(args)))
        full = upper + jnp.triu(upper, 1).T
        rows = chosen.split(full, axis=0)
        blocks = [
            [b.reshape((*out.shape, *arg.shape)) for b, arg in zip(row, chosen.avals, strict=True)]
            for row, out in zip([chosen.split(r, axis=1) for r in rows], chosen.avals, strict=True)
        ]
        return chosen.unflatten([chosen.unflatten(row) for row in blocks])

    return _like(fn, evaluate, "hess", name)


def jvp(
    fn: NumericalFunction[..., Any], argnum: Argnum = 0, *, name: str | None = None
) -> NumericalFunction[..., Any]:
    """The function with its directional derivative.

    Args:
        fn: a function.
        argnum: the argument to differentiate, or several.
        name: C++ identifier; default is `fn`'s name with ``_jvp``.

    Returns:
        ``(*args, *tangents) -> (outputs, J @ tangents)``, one tangent per argument in `argnum`.

    Raises:
        ArgumentError: `argnum` is no differentiable argument.
    """
    chosen = select(fn, argnum, "jvp")

    def evaluate(*args: Any) -> Any:
        given, tangents = args[: len(fn.specs)], args[len(fn.specs) :]
        return jax.jvp(chosen.of_selected(given), chosen.pick(given), tangents)

    specs = (*fn.specs, *(fn.specs[k] for k in chosen.positions))
    extra = [f"d_{chosen.names[k]}" for k in chosen.positions]
    return _like(fn, evaluate, "jvp", name, specs=specs, extra=extra)


def vjp(
    fn: NumericalFunction[..., Any], argnum: Argnum = 0, *, name: str | None = None
) -> NumericalFunction[..., Any]:
    """The function with its transposed derivative.

    Args:
        fn: a function with floating-point outputs.
        argnum: the argument to differentiate, or several.
        name: C++ identifier; default is `fn`'s name with ``_vjp``.

    Returns:
        ``(*args, cotangent) -> (outputs, cotangent @ J)``; the cotangent has the structure of the
        outputs, the second result that of the argument, or is a tuple if `argnum` is a sequence.

    Raises:
        ArgumentError: `argnum` is no differentiable argument, or an output is no float.
    """
    chosen = select(fn, argnum, "vjp")
    _refuse_integer_outputs(fn, "vjp")

    def evaluate(*args: Any) -> Any:
        given, cotangent = args[: len(fn.specs)], args[len(fn.specs)]
        outputs, pull = jax.vjp(chosen.of_selected(given), *chosen.pick(given))
        found = pull(cotangent)
        return outputs, (found if chosen.several else found[0])

    ports = [Arg(port.shape, port.dtype) for port in fn.traced.outputs]
    cotangent = jax.tree_util.tree_unflatten(fn.traced.out_tree, ports)
    return _like(fn, evaluate, "vjp", name, specs=(*fn.specs, cotangent), extra=["cotangent"])


def spjacobian(
    fn: NumericalFunction[..., Any],
    argnum: Argnum = 0,
    mode: Mode = "auto",
    symmetric: bool = False,
    *,
    pattern: Any = None,
    check: bool = False,
    name: str | None = None,
) -> SparseNumericalFunction[..., Any]:
    """The sparse Jacobian in CSC.

    Args:
        fn: a function. Rows are the elements of all outputs; those of integer outputs are empty.
        argnum: the argument to differentiate, or several; columns are their elements.
        mode: ``auto`` takes the cheapest way; ``fwd``, ``rev``, ``both`` ask for coloured forward
            passes, reverse passes, or a mixture.
        symmetric: the Jacobian is square and symmetric; coloured passes make use of that.
        pattern: matrix or dense array (m, n) whose non-zeros are the entries to compute, instead
            of those found by the tracer. An entry outside is taken to be zero.
        check: compare `pattern` with the traced one.
        name: C++ identifier; default is `fn`'s name with ``_spjac``.

    Returns:
        A function of the same arguments, whose result is a `scipy.sparse.csc_array` (m, n).

    Raises:
        ArgumentError: `argnum` is no differentiable argument, or an option is unknown.
        SparsityError: `check` found an entry that `pattern` misses, or `symmetric` is not true of
            the pattern.
    """
    chosen = select(fn, argnum, "spjacobian")
    derivative = _derivative(fn, "jacobian", chosen, mode, pattern, check, symmetric)
    return _sparse(fn, derivative, chosen, "spjac", name)


def sphessian(
    fn: NumericalFunction[..., Any],
    argnum: Argnum = 0,
    mode: Mode = "auto",
    *,
    pattern: Any = None,
    check: bool = False,
    name: str | None = None,
) -> SparseNumericalFunction[..., Any]:
    """The upper triangle of the sparse Hessian in CSC.

    Args:
        fn: a function with one scalar output.
        argnum: the argument to differentiate, or several; rows and columns are their elements.
        mode: ``auto`` takes the cheapest way; ``star``, ``acyclic`` ask for coloured passes.
        pattern: matrix or dense array (n, n), one or both triangles, whose non-zeros are the
            entries to compute, instead of those found by the tracer.
        check: compare `pattern` with the traced one.
        name: C++ identifier; default is `fn`'s name with ``_sphess``.

    Returns:
        A function of the same arguments, whose result is an upper-triangular
        `scipy.sparse.csc_array` (n, n).

    Raises:
        ArgumentError: the output is not scalar, `argnum` is no differentiable argument, or an
            option is unknown.
        SparsityError: `check` found an entry that `pattern` misses.
    """
    chosen = select(fn, argnum, "sphessian")
    _refuse_non_scalar(fn, "sphessian")
    derivative = _derivative(fn, "hessian", chosen, mode, pattern, check, False)
    return _sparse(fn, derivative, chosen, "sphess", name)


def lagrangian_hessian(
    objective: NumericalFunction[..., Any] | None,
    *constraints: NumericalFunction[..., Any],
    argnum: Argnum = 0,
    objective_factor: bool = False,
    name: str | None = None,
) -> SparseNumericalFunction[..., Any]:
    """The upper triangle of the Hessian of ``objective + sum(multipliers * constraints)``.

    Args:
        objective: a function with one scalar output, or None.
        *constraints: functions of the same arguments as `objective`.
        argnum: the argument to differentiate, or several.
        objective_factor: a scalar argument before the multipliers scales the objective, as
            interior-point solvers want it.
        name: C++ identifier; default is the name of the objective (or first constraint) with
            ``_laghess``.

    Returns:
        A function of the arguments, then the factor if asked for, then one vector of multipliers
        per constraint function, as long as all its outputs together.

    Raises:
        ArgumentError: there is no function, the functions differ in their arguments, the objective
            is not scalar, or `argnum` is no differentiable argument.
    """
    functions = (*(() if objective is None else (objective,)), *constraints)
    if not functions:
        raise ArgumentError("lagrangian_hessian: give an objective, constraints, or both")
    first = functions[0]
    for other in functions[1:]:
        if other.inputs != first.inputs:
            raise ArgumentError(
                f"lagrangian_hessian: {other.name} takes {_listed(other)}, but {first.name} takes "
                f"{_listed(first)}; all functions must have the same arguments"
            )
    if objective is not None:
        _refuse_non_scalar(objective, "lagrangian_hessian")
    for constraint in constraints:
        _refuse_integer_outputs(constraint, "lagrangian_hessian")
    sizes = [sum(output.size for output in c.outputs) for c in constraints]
    count = len(first.specs)

    def lagrangian(*args: Any) -> Any:
        given, rest = args[:count], list(args[count:])
        total: Any = 0.0
        if objective is not None:
            value = _only(objective.fn(*given)).reshape(())
            total = rest.pop(0) * value if objective_factor else value
        elif objective_factor:
            rest.pop(0)
        for constraint, multipliers in zip(constraints, rest, strict=True):
            leaves = jax.tree_util.tree_leaves(constraint.fn(*given))
            values = jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])
            total = total + jnp.vdot(multipliers, values)
        return total

    factor = (Arg((), _real_type(objective or first)),) if objective_factor else ()
    multipliers = (Arg(size, _real_type(c)) for c, size in zip(constraints, sizes, strict=True))
    specs = (*first.specs, *factor, *multipliers)
    names = [*(("factor",) if objective_factor else ())]
    names += [f"multipliers_{c.name}" for c in constraints]
    whole = _like(first, lagrangian, "lagrangian", None, specs=specs, extra=names)
    return sphessian(whole, argnum, name=name or f"{first.name}_laghess")


# ---- pieces ----


def _real_type(fn: NumericalFunction[..., Any]) -> str:
    """The floating-point dtype of what multiplies the results of a function."""
    found = np.result_type(*(output.dtype for output in fn.outputs))
    return found.name if found.kind == "f" else "float64"


def _derivative(
    fn: NumericalFunction[..., Any],
    kind: Kind,
    chosen: Selected,
    mode: Mode,
    pattern: Any,
    check: bool,
    symmetric: bool,
) -> SparseDerivative:
    if mode not in MODES[kind]:
        raise ArgumentError(
            f"{fn.name}: mode {mode!r} is unknown for a {kind}; use one of {', '.join(MODES[kind])}"
        )
    if check and pattern is None:
        raise ArgumentError(f"{fn.name}: check=True needs the pattern= to be checked")
    given = None
    if pattern is not None:
        given = _given_pattern(fn, kind, chosen, pattern)
    derivative = SparseDerivative(kind, fn.traced.jaxpr, chosen.leaves, given, mode, symmetric)
    if symmetric:
        _check_symmetry(fn, derivative)
    with progress(f"sparsity of {fn.name}"):
        if check:
            derivative.check_given()
        _ = derivative.pattern
    return derivative


def _given_pattern(
    fn: NumericalFunction[..., Any], kind: Kind, chosen: Selected, pattern: Any
) -> Any:
    n = sum(aval.size for aval in chosen.avals)
    m = n if kind == "hessian" else sum(output.size for output in fn.outputs)
    if np.shape(pattern) != (m, n):
        raise ArgumentError(
            f"{fn.name}: the given pattern has the shape {np.shape(pattern)}, the {kind} {(m, n)}"
        )
    # A stored entry counts, whatever its value: patterns are often given as matrices of zeros.
    given = Pattern.of(pattern)
    marks = given.matrix(np.ones(given.nnz))
    return sp.csc_array(marks + marks.T) if kind == "hessian" else marks


def _check_symmetry(fn: NumericalFunction[..., Any], derivative: SparseDerivative) -> None:
    rows, cols = derivative.rows, derivative.cols
    if rows != cols:
        raise ArgumentError(f"{fn.name}: a Jacobian of {rows} x {cols} cannot be symmetric")
    pattern = derivative.pattern
    mirrored = np.sort(pattern.key(pattern.columns, pattern.rows))
    if not np.array_equal(mirrored, pattern.keys):
        raise SparsityError(
            f"{fn.name}: symmetric=True, but the pattern of the Jacobian is not symmetric"
        )


def _sparse(
    fn: NumericalFunction[..., Any],
    derivative: SparseDerivative,
    chosen: Selected,
    suffix: str,
    name: str | None,
) -> SparseNumericalFunction[..., Any]:
    pattern = derivative.pattern
    values = described(
        lambda *args: sparse_values(derivative, *chosen.flat(args)), fn, suffix, chosen.names
    )
    return SparseNumericalFunction(
        f"{fn.name}_{suffix}" if name is None else name,
        values,
        fn.specs,
        shape=pattern.shape,
        nnz=pattern.nnz,
        indices=pattern.rows,
        indptr=pattern.starts,
        device=fn.device,
        kernel=fn.kernel,
        derivative=derivative,
    )


def _dense(derivative: SparseDerivative, values: Any) -> Any:
    pattern = derivative.pattern
    zeros = jnp.zeros(pattern.shape, derivative.dtype)
    return zeros.at[pattern.rows, pattern.columns].set(values, unique_indices=True)


def _blocks(matrix: Any, fn: NumericalFunction[..., Any], chosen: Selected) -> Any:
    """Cuts (m, n) into the blocks of each output and argument leaf."""
    shapes = [output.shape for output in fn.outputs]
    ends = np.cumsum([output.size for output in fn.outputs])[:-1]
    outputs = []
    for rows, shape, output in zip(jnp.split(matrix, ends), shapes, fn.outputs, strict=True):
        leaves = [
            block.reshape((*shape, *aval.shape)).astype(output.dtype)
            for block, aval in zip(chosen.split(rows, axis=1), chosen.avals, strict=True)
        ]
        outputs.append(chosen.unflatten(leaves))
    return jax.tree_util.tree_unflatten(fn.traced.out_tree, outputs)


def _like(
    fn: NumericalFunction[..., Any],
    evaluate: Callable[..., Any],
    suffix: str,
    name: str | None,
    *,
    specs: tuple[Any, ...] | None = None,
    extra: Sequence[str] = (),
) -> NumericalFunction[..., Any]:
    """A function on the same device, of the same arguments unless `specs` says otherwise."""
    specs = fn.specs if specs is None else specs
    return NumericalFunction(
        f"{fn.name}_{suffix}" if name is None else name,
        described(evaluate, fn, suffix, [*argument_names(fn.fn, len(fn.specs)), *extra]),
        specs,
        fn.device,
        kernel=fn.kernel,
    )


def _is_scalar(fn: NumericalFunction[..., Any]) -> bool:
    return len(fn.outputs) == 1 and fn.outputs[0].size == 1 and fn.outputs[0].dtype.kind == "f"


def _refuse_non_scalar(fn: NumericalFunction[..., Any], what: str) -> None:
    outputs = fn.outputs
    if len(outputs) == 1 and outputs[0].shape == () and outputs[0].dtype.kind == "f":
        return
    raise ArgumentError(
        f"{what} of {fn.name}: the function must have one scalar floating-point output, but "
        f"returns {', '.join(map(repr, outputs)) or 'nothing'}; use jacobian, or sum the outputs"
    )


def _refuse_integer_outputs(fn: NumericalFunction[..., Any], what: str) -> None:
    for k, output in enumerate(fn.outputs):
        if output.dtype.kind != "f":
            raise ArgumentError(
                f"{what} of {fn.name}: output {k} has dtype {output.dtype.name}, which has no "
                "derivative; return floating-point outputs only, or use spjacobian"
            )


def _only(result: Any) -> Any:
    (leaf,) = jax.tree_util.tree_leaves(result)
    return jnp.asarray(leaf)


def _listed(fn: NumericalFunction[..., Any]) -> str:
    return ", ".join(map(repr, fn.inputs)) or "nothing"
