"""JAX functions as CasADi expressions, so that IPOPT solves exactly the problems we solve.

An array becomes a NumPy array of objects, each a scalar ``casadi.SX`` or a float, so that every
primitive that only moves elements is the NumPy function of the same name.

`to_casadi` translates a function, `multistage_program` a whole `MultistageProblem`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import casadi
import jax
import numpy as np
from jax.extend.core import Jaxpr, Literal

from anvil_jax.opti import MultistageProblem
from anvil_jax.opti.multistage_problem import PLACES, Place

type Objects = np.ndarray


def to_casadi(function: Callable[..., Any], *arguments: Any) -> Any:
    """The value of a JAX function at columns of symbols, as a column ``casadi.SX``.

    Args:
        function: from float64 vectors to an array or a tree of them, whose leaves are joined.
        *arguments: columns ``casadi.SX``, (n, 1).

    Raises:
        NotImplementedError: the function's jaxpr holds a primitive that is not translated here.
    """
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(function)(*(np.zeros(x.shape[0]) for x in arguments))
    columns = [_objects([x[i] for i in range(x.shape[0])]) for x in arguments]
    results = _evaluate(closed.jaxpr, closed.consts, columns)
    return casadi.vertcat(*(value for result in results for value in result.ravel()))


@dataclass(frozen=True, slots=True)
class CasadiProgram:
    """A nonlinear program: equalities first, then inequalities, both in the problem's order.

    Attributes:
        nlp: ``x``, ``p``, ``f`` and ``g``, as ``casadi.nlpsol`` takes them.
        problem: where it came from, for bounds and shapes.
    """

    nlp: dict[str, Any]
    problem: MultistageProblem

    def arguments(self, x0: Any, p: Any, eq_rhs: Any) -> dict[str, Any]:
        """What a CasADi solver is called with.

        Args:
            x0: start, (N + 1, nz).
            p: flat parameters.
            eq_rhs: right-hand sides of the equalities, (m_eq,).
        """
        data = self.problem.defaults
        return {
            "x0": np.ravel(x0),
            "p": p,
            "lbx": data.x_lb,
            "ubx": data.x_ub,
            "lbg": np.concatenate([eq_rhs, data.ineq_lb]),
            "ubg": np.concatenate([eq_rhs, data.ineq_ub]),
        }


def multistage_program(problem: MultistageProblem, *, calls: bool = False) -> CasadiProgram:
    """A multistage problem in CasADi.

    Args:
        problem: its functions are JAX functions of float64.
        calls: keep calls of the stage functions (MX) in place of one large expression (SX).

    Raises:
        NotImplementedError: a function holds a primitive that is not translated here.
    """
    kind: Any = casadi.MX if calls else casadi.SX
    stages, nz = problem.x_shape
    x = kind.sym("x", stages * nz)
    p = kind.sym("p", problem.parameters_size)
    z = [x[k * nz : (k + 1) * nz] for k in range(stages)]
    shared, width = p[: problem.global_param_dim], problem.param_dim
    start = problem.global_param_dim
    own = [p[start + k * width : start + (k + 1) * width] for k in range(stages)]

    costs = _translated(problem, problem.costs)
    rows = [
        _translated(problem, rows.functions) for rows in (problem.equalities, problem.inequalities)
    ]
    where: list[tuple[Place, int]] = [("initial", 0)]
    for k in range(stages - 1):
        where.append(("stage", k))
        where.append(("interstage", k))
    where.append(("terminal", stages - 1))

    def values(functions: dict[Place, Any]) -> list[Any]:
        found = []
        for place, k in where:
            if place in functions:
                points = (z[k], z[k + 1]) if place == "interstage" else (z[k],)
                found.append(functions[place](*points, shared, own[k]))
        return found

    cost = reduce(lambda a, b: a + b, values(costs), kind(0))
    constraints = casadi.vertcat(*(row for kinds in rows for row in values(kinds)))
    return CasadiProgram({"x": x, "p": p, "f": cost, "g": constraints}, problem)


def _translated(
    problem: MultistageProblem, functions: dict[Place, Callable[..., Any] | None]
) -> dict[Place, Any]:
    """Each function of a stage as ``casadi.Function``."""
    made = {}
    for place in PLACES:
        fn = functions[place]
        if fn is None:
            continue
        symbols = [casadi.SX.sym(f"a{k}", arg.size) for k, arg in enumerate(problem.specs(place))]
        made[place] = casadi.Function(place, symbols, [to_casadi(fn, *symbols)])
    return made


# ---- the interpreter ----


def _objects(values: Sequence[Any]) -> Objects:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Objects]) -> list[Objects]:
    environment: dict[Any, Objects] = dict(zip(jaxpr.invars, arguments, strict=True))
    environment |= {
        variable: np.asarray(const).astype(object)
        for variable, const in zip(jaxpr.constvars, consts, strict=True)
    }

    def read(atom: Any) -> Objects:
        if isinstance(atom, Literal):
            return np.asarray(atom.val).astype(object)
        return environment[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        results = _apply(equation, operands)
        environment |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: Any, operands: list[Objects]) -> list[Objects]:
    name, params = equation.primitive.name, equation.params
    if name in CALLS:
        inner = params[CALLS[name]]
        return _evaluate(inner.jaxpr, inner.consts, operands)
    if name == "unstack":
        return [_array(part) for part in np.moveaxis(operands[0], params["axis"], 0)]
    if name == "split":
        limits = np.cumsum(params["sizes"])[:-1]
        return np.split(operands[0], limits, params["axis"])
    if name in ELEMENTWISE:
        return [_array(np.frompyfunc(ELEMENTWISE[name], len(operands), 1)(*operands))]
    if name in STRUCTURAL:
        return [_array(STRUCTURAL[name](operands, params, equation.outvars[0].aval.shape))]
    raise NotImplementedError(f"jaxpr_casadi does not translate the primitive {name!r}")


def _array(value: Any) -> Objects:
    """Wrap what NumPy returns for a result of rank 0: the bare object."""
    if isinstance(value, np.ndarray):
        return value
    array = np.empty((), object)
    array[()] = value
    return array


def _integer_pow(operands: list[Objects], params: dict[str, Any], _shape: Any) -> Any:
    return np.frompyfunc(lambda value: value ** params["y"], 1, 1)(operands[0])


def _slice(operands: list[Objects], params: dict[str, Any], _shape: Any) -> Any:
    starts, limits = params["start_indices"], params["limit_indices"]
    strides = params["strides"] or (1,) * len(starts)
    return operands[0][tuple(map(slice, starts, limits, strides))]


def _broadcast_in_dim(operands: list[Objects], params: dict[str, Any], shape: Any) -> Any:
    expanded = [1] * len(shape)
    for source, target in enumerate(params["broadcast_dimensions"]):
        expanded[target] = operands[0].shape[source]
    return np.broadcast_to(operands[0].reshape(expanded), shape)


def _dot_general(operands: list[Objects], params: dict[str, Any], _shape: Any) -> Any:
    contracted, batched = params["dimension_numbers"]
    if any(batched):
        raise NotImplementedError("jaxpr_casadi does not translate a batched dot_general")
    return np.tensordot(operands[0], operands[1], axes=contracted)


def _pad(operands: list[Objects], params: dict[str, Any], shape: Any) -> Any:
    value, filling = operands
    if any(low < 0 or high < 0 for low, high, _ in params["padding_config"]):
        raise NotImplementedError("jaxpr_casadi does not translate a negative pad")
    result = np.full(shape, filling[()], object)
    places = (
        slice(low, low + (size - 1) * (inner + 1) + 1 if size else low, inner + 1)
        for size, (low, _, inner) in zip(value.shape, params["padding_config"], strict=True)
    )
    result[tuple(places)] = value
    return result


def _fold(combine: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def rule(operands: list[Objects], params: dict[str, Any], shape: Any) -> Any:
        axes = tuple(params["axes"])
        front = np.moveaxis(operands[0], axes, range(len(axes)))
        return reduce(combine, front.reshape(-1, *shape))

    return rule


CALLS = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
"""Primitives that evaluate a jaxpr, and the parameter that holds it."""

ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "neg": lambda a: -a,
    "square": lambda a: a * a,
    "max": casadi.fmax,
    "min": casadi.fmin,
    "sqrt": casadi.sqrt,
    "rsqrt": lambda a: 1 / casadi.sqrt(a),
    "exp": casadi.exp,
    "log": casadi.log,
    "sin": casadi.sin,
    "cos": casadi.cos,
    "tan": casadi.tan,
    "atan": casadi.atan,
    "atan2": casadi.atan2,
    "tanh": casadi.tanh,
    "erf": casadi.erf,
    "erfc": lambda a: 1 - casadi.erf(a),
    "convert_element_type": lambda a: a,
    "copy": lambda a: a,
}

STRUCTURAL: dict[str, Callable[..., Any]] = {
    "integer_pow": _integer_pow,
    "slice": _slice,
    "broadcast_in_dim": _broadcast_in_dim,
    "dot_general": _dot_general,
    "pad": _pad,
    "reduce_sum": _fold(lambda a, b: a + b),
    "reduce_prod": _fold(lambda a, b: a * b),
    "stack": lambda operands, params, _: np.stack(operands, params["axis"]),
    "concatenate": lambda operands, params, _: np.concatenate(operands, params["dimension"]),
    "squeeze": lambda operands, _, shape: operands[0].reshape(shape),
    "reshape": lambda operands, _, shape: operands[0].reshape(shape),
    "transpose": lambda operands, params, _: np.transpose(operands[0], params["permutation"]),
    "cumsum": lambda operands, params, _: np.cumsum(operands[0], params["axis"]),
    "rev": lambda operands, params, _: np.flip(operands[0], params["dimensions"]),
}
