"""Code of multistage problems: functions of one stage, and where their derivatives belong.

Three functions are generated, each with values and derivatives: ``stage`` for stages before the
last together with what links them to the next one, ``last``, and ``first`` for additional terms of
stage 0. `OptimalControlForm` finds out whether the built-in Riccati method applies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from anvil_jax.arguments import Arg
from anvil_jax.emit.views import FunctionView
from anvil_jax.errors import SolverError
from anvil_jax.function import NumericalFunction
from anvil_jax.opti.derivatives import (
    Derivative,
    Entries,
    gauss_newton_of,
    hessian_of,
    jacobian_of,
    no_values,
)
from anvil_jax.opti.multistage_problem import MultistageProblem, Place, StageRows
from anvil_jax.opti.problem import flat
from anvil_jax.opti.settings import HessianApproximation

type Part = Literal["first", "stage", "last"]
_PLACES: dict[Part, tuple[Place, ...]] = {
    "first": ("initial",),
    "stage": ("stage", "interstage"),
    "last": ("terminal",),
}


class StagePart:
    """The functions of one kind of stage.

    Attributes:
        part: which stages.
        equality, inequality: Jacobians; columns are the variables of the stage, for ``stage`` then
            those of the next one.
        curvature: Hessian of the Lagrangian with the same columns.
    """

    def __init__(
        self, problem: MultistageProblem, part: Part, approximation: HessianApproximation
    ) -> None:
        """Derive everything."""
        self.problem = problem
        self.part: Part = part
        self.approximation = approximation
        z = Arg(problem.nz, problem.dtype)
        self.stages = 2 if part == "stage" else 1
        self.specs = (
            *((z,) * self.stages),
            Arg(problem.global_param_dim, problem.dtype),
            Arg(problem.param_dim, problem.dtype),
        )
        wrt = tuple(range(self.stages))
        self.equality = jacobian_of(
            f"{part}_equalities", self._rows(problem.equalities), self.specs, self.count("eq"), wrt
        )
        self.inequality = jacobian_of(
            f"{part}_inequalities",
            self._rows(problem.inequalities),
            self.specs,
            self.count("ineq"),
            wrt,
        )
        self.curvature = self._curvature(wrt)

    def count(self, kind: str) -> int:
        """Rows of this part."""
        rows = self.problem.equalities if kind == "eq" else self.problem.inequalities
        return sum(rows.counts[place] for place in _PLACES[self.part])

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to evaluate."""
        has_cost = self.problem.costs[_PLACES[self.part][0]] is not None
        return not has_cost and self.count("eq") == 0 and self.count("ineq") == 0

    def _cost(self, *args: Any) -> Any:
        """Of arguments (z, [z_next,] p_global, p)."""
        cost = self.problem.costs[_PLACES[self.part][0]]
        if cost is None:
            return jnp.zeros((), self.problem.dtype)
        return jnp.reshape(cost(args[0], *args[-2:]), ()).astype(self.problem.dtype)

    def _rows(self, rows: StageRows) -> Callable[..., Any]:
        dtype = self.problem.dtype

        def values(*args: Any) -> Any:
            found = []
            for place in _PLACES[self.part]:
                fn = rows.functions[place]
                if fn is None:
                    continue
                given = args if place == "interstage" else (args[0], *args[-2:])
                found.append(flat(fn(*given)).astype(dtype))
            return jnp.concatenate(found) if found else jnp.zeros(0, dtype)

        return values

    def _curvature(self, wrt: tuple[int, ...]) -> Derivative:
        problem = self.problem
        if self.approximation is HessianApproximation.BFGS:
            return no_values(problem.dtype)
        if self.approximation is HessianApproximation.GAUSS_NEWTON:
            place = _PLACES[self.part][0]
            residual = problem.residuals[place]
            if residual is None and problem.costs[place] is None:
                return no_values(problem.dtype)
            if residual is None:
                raise SolverError(
                    "Gauss-Newton Hessians need an NLSMultistageProblem, whose costs are residuals"
                )
            product = gauss_newton_of(
                f"{place}_residual",
                lambda z, shared, own: flat(residual(z, shared, own)),
                (self.specs[0], *self.specs[-2:]),
            )
            return Derivative(
                product.entries,
                lambda *args: product.values(args[0], *args[self.stages : self.stages + 2]),
                product.coefficients,
            )

        def lagrangian(*args: Any) -> Any:
            given, y, w = args[:-2], args[-2], args[-1]
            total = self._cost(*given)
            if self.count("eq"):
                total = total + jnp.vdot(y, self._rows(problem.equalities)(*given))
            if self.count("ineq"):
                total = total + jnp.vdot(w, self._rows(problem.inequalities)(*given))
            return total

        duals = (Arg(self.count("eq"), problem.dtype), Arg(self.count("ineq"), problem.dtype))
        return hessian_of(f"{self.part}_lagrangian", lagrangian, (*self.specs, *duals), wrt)

    def split(self, derivative: Derivative) -> tuple[Entries, Entries]:
        """Entries in the columns of the stage, and in those of the next one."""
        entries = derivative.entries
        own = entries.columns < self.problem.nz
        return entries.where(own), entries.where(~own, column=self.problem.nz)

    @cached_property
    def hessian_parts(self) -> tuple[Entries, Entries, Entries, NDArray[np.int64]]:
        """Entries of the stage, between it and the next, of the next; and their order."""
        entries, nz = self.curvature.entries, self.problem.nz
        own = entries.columns < nz
        cross = ~own & (entries.rows < nz)
        following = ~own & ~cross
        order = np.concatenate([np.flatnonzero(mask) for mask in (own, cross, following)])
        return (
            entries.where(own),
            entries.where(cross, column=nz),
            entries.where(following, row=nz, column=nz),
            order,
        )

    def kernels(self) -> tuple[FunctionView, FunctionView]:
        """Values ``(z, [z_next,] pg, p) -> f, c, g``, and derivatives with multipliers y, w."""
        problem = self.problem
        equalities, inequalities = self._rows(problem.equalities), self._rows(problem.inequalities)
        order = self.hessian_parts[-1]
        is_ordered = bool((order == np.arange(len(order))).all())

        def values(*args: Any) -> Any:
            return self._cost(*args), equalities(*args), inequalities(*args)

        def derive(*args: Any) -> Any:
            given = args[:-2]
            takes_duals = self.approximation is HessianApproximation.EXACT
            curved = self.curvature.values(*(args if takes_duals else given))
            return (
                jax.grad(lambda z: self._cost(z, *given[1:]))(given[0]),
                self.equality.values(*given),
                self.inequality.values(*given),
                curved if is_ordered else curved[order],
            )

        duals = (Arg(self.count("eq"), problem.dtype), Arg(self.count("ineq"), problem.dtype))
        return (
            NumericalFunction(f"{self.part}_values", values, self.specs).view,
            NumericalFunction(f"derive_{self.part}_values", derive, (*self.specs, *duals)).view,
        )


class StageCode:
    """All parts of a problem.

    Attributes:
        problem: the problem.
        approximation: of the Hessian.
        parts: the functions of first, other and last stages.
    """

    def __init__(self, problem: MultistageProblem, approximation: HessianApproximation) -> None:
        """Derive everything; nothing is lowered yet."""
        self.problem = problem
        self.approximation = approximation
        self.parts: dict[Part, StagePart] = {
            part: StagePart(problem, part, approximation) for part in _PLACES
        }

    @cached_property
    def form(self) -> "OptimalControlForm | str":
        """The form of optimal control, or why the problem does not have it."""
        return find_form(self)

    def entries(self, kind: str) -> dict[str, Entries]:
        """Of the Jacobian of equalities or inequalities: first, own, next, last."""
        name = "equality" if kind == "eq" else "inequality"
        own, following = self.parts["stage"].split(getattr(self.parts["stage"], name))
        return {
            "first": getattr(self.parts["first"], name).entries,
            "own": own,
            "next": following,
            "last": getattr(self.parts["last"], name).entries,
        }

    @property
    def hessian_entries(self) -> dict[str, Entries]:
        """Of the Hessian: first, own, cross, next, last."""
        own, cross, following, _ = self.parts["stage"].hessian_parts
        return {
            "first": self.parts["first"].curvature.entries,
            "own": own,
            "cross": cross,
            "next": following,
            "last": self.parts["last"].curvature.entries,
        }


@dataclass(frozen=True, slots=True)
class RowMap:
    """What becomes of a row: see ``stage_row`` in templates/runtime/sqp_stages.hpp."""

    slot: int
    scale: float


@dataclass(frozen=True)
class OptimalControlForm:
    """How a multistage problem becomes one of optimal control, ``x_next = F(x, u)``.

    Attributes:
        states: number of states.
        place: of each variable of a stage among (x, u).
        is_explicit: whether each link is a next state plus or minus a function of the stage.
        link_state: the state each link is solved for, if explicit.
        link_sign: the next state's coefficient, 1 or -1, if explicit.
        fixes_initial_state: whether the first equalities determine the initial state.
        rows: general rows of a stage, at most.
        equality_map, inequality_map: rows of first, own and last stages.
    """

    states: int
    place: NDArray[np.int64]
    is_explicit: bool
    link_state: NDArray[np.int64]
    link_sign: NDArray[np.int64]
    fixes_initial_state: bool
    rows: int
    equality_map: dict[str, list[RowMap]]
    inequality_map: dict[str, list[RowMap]]


def find_form(code: StageCode) -> OptimalControlForm | str:
    """The form of optimal control of a problem, or why it has none."""
    problem, stage = code.problem, code.parts["stage"]
    own_rows = problem.equalities.counts["stage"]
    links = problem.equalities.counts["interstage"]
    if problem.inequalities.counts["interstage"]:
        return "it has inequalities between stages"
    if links == 0:
        return "it has no equalities between stages"
    _, following = stage.split(stage.equality)
    states = np.unique(following.columns)
    if len(states) != links:
        return (
            f"its {links} equalities between stages contain {len(states)} variables of the next "
            "stage; there must be as many"
        )
    _, cross, curved, _ = stage.hessian_parts
    if not np.isin(cross.columns, states).all() or not np.isin(curved.columns, states).all():
        return "the Lagrangian is curved in variables of the next stage that are no states"
    place = np.empty(problem.nz, np.int64)
    inputs = np.setdiff1d(np.arange(problem.nz), states)
    place[states] = np.arange(links)
    place[inputs] = links + np.arange(len(inputs))
    coefficients = stage.equality.coefficients[stage.equality.entries.columns >= problem.nz]
    is_explicit = (
        following.count == links
        and len(np.unique(following.rows)) == links
        and bool(np.isin(coefficients, (1.0, -1.0)).all())
    )
    link_state, link_sign = np.zeros(links, np.int64), np.ones(links, np.int64)
    if is_explicit:
        link_state[following.rows - own_rows] = place[following.columns]
        link_sign[following.rows - own_rows] = coefficients
    equality_map, general = _row_maps(code, "equality", place, (0, 0))
    inequality_map, general = _row_maps(code, "inequality", place, general)
    fixed = {-1 - row.slot for row in equality_map["first"] if row.slot < 0}
    return OptimalControlForm(
        states=links,
        place=place,
        is_explicit=is_explicit,
        link_state=link_state,
        link_sign=link_sign,
        fixes_initial_state=set(range(links)) <= fixed,
        rows=max(general),
        equality_map=equality_map,
        inequality_map=inequality_map,
    )


def _row_maps(
    code: StageCode, name: str, place: NDArray[np.int64], general: tuple[int, int]
) -> tuple[dict[str, list[RowMap]], tuple[int, int]]:
    """Maps of first, own and last rows; `general` counts the rows of early and last stages."""
    early, last = general
    kind = "eq" if name == "equality" else "ineq"
    maps: dict[str, list[RowMap]] = {}
    parts: tuple[tuple[str, Part], ...] = (("own", "stage"), ("first", "first"), ("last", "last"))
    for key, part in parts:
        derivative: Derivative = getattr(code.parts[part], name)
        count = code.parts[part].count(kind)
        if part == "stage" and kind == "eq":
            count -= code.problem.equalities.counts["interstage"]
        maps[key] = []
        for row in range(count):
            inside = np.flatnonzero(derivative.entries.rows == row)
            scale = derivative.coefficients[inside[0]] if len(inside) == 1 else np.nan
            if np.isfinite(scale) and scale != 0:
                variable = place[derivative.entries.columns[inside[0]]]
                maps[key].append(RowMap(int(-1 - variable), float(scale)))
            elif key == "last":
                maps[key].append(RowMap(last, 1.0))
                last += 1
            else:
                maps[key].append(RowMap(early, 1.0))
                early += 1
    return maps, (early, last)
