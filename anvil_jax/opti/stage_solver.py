"""The solver of a multistage problem as text: `stage_view`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anvil_jax.emit.environment import render_template
from anvil_jax.emit.views import SolverView, TableView
from anvil_jax.errors import SolverError
from anvil_jax.opti.derivatives import Entries
from anvil_jax.opti.multistage_problem import MultistageProblem
from anvil_jax.opti.settings import HessianApproximation
from anvil_jax.opti.solver_view import DefaultsText, cpp_bool, cpp_real, external, solver_view
from anvil_jax.opti.stage_code import OptimalControlForm, RowMap, StageCode
from anvil_jax.opti.tables import named


@dataclass(frozen=True, slots=True)
class EntriesView:
    """Entries of a part of a matrix: the names of their tables."""

    name: str
    count: int
    rows: str
    columns: str


@dataclass(frozen=True, slots=True)
class RowsView:
    """Rows of one kind: how many there are, and the entries of their Jacobian."""

    name: str
    first_rows: int
    own_rows: int
    last_rows: int
    entries: tuple[EntriesView, ...]


@dataclass(frozen=True, slots=True)
class RowMapView:
    """The table that says what becomes of some rows."""

    name: str
    size: int
    rows: tuple[RowMap, ...]


@dataclass(frozen=True, slots=True)
class FormView:
    """The form of optimal control: texts of its members, see ``stage_form.hpp``."""

    states: int
    rows: int
    place: str
    explicit_links: str
    link_state: str
    link_sign: str
    fixes_initial_state: str
    maps: tuple[RowMapView, ...]


@dataclass(frozen=True, slots=True)
class StageModelView:
    """What templates/sqp/stage_model.cpp.j2 prints."""

    real: str
    horizon: int
    size: int
    global_parameters: int
    stage_parameters: int
    scratch: int
    quasi_newton: str
    has_first: str
    tables: tuple[TableView, ...]
    rows: tuple[RowsView, ...]
    hessian: tuple[EntriesView, ...]
    ends: tuple[str, ...]
    form: FormView | None


def stage_view(name: str, code: StageCode, supplier: str) -> SolverView:
    """The solver of a multistage problem.

    Args:
        name: C++ identifier.
        code: its functions.
        supplier: ``riccati``, ``external`` or ``piqp``.

    Raises:
        SolverError: the Riccati method does not apply.
    """
    problem, form = code.problem, code.form
    if supplier == "riccati" and isinstance(form, str):
        raise SolverError(f"{name}: qp='riccati' does not apply to this problem: {form}")
    used = [part for part in code.parts.values() if part.part != "first" or not part.is_empty]
    kernels = tuple(kernel for part in used for kernel in part.kernels())
    matrices = {
        "equality": code.entries("eq"),
        "inequality": code.entries("ineq"),
        "hessian": code.hessian_entries,
    }
    tables = tuple(
        named(f"{kind}_{key}_{axis}", getattr(entries, axis))
        for kind, parts in matrices.items()
        for key, entries in parts.items()
        for axis in ("rows", "columns")
    )
    model = StageModelView(
        real=cpp_real(problem.dtype),
        horizon=problem.N,
        size=problem.nz,
        global_parameters=problem.global_param_dim,
        stage_parameters=problem.param_dim,
        scratch=max(1, *(kernel.workspace_nbytes for kernel in kernels)),
        quasi_newton=cpp_bool(code.approximation is HessianApproximation.BFGS),
        has_first=cpp_bool(not code.parts["first"].is_empty),
        tables=tables,
        rows=(
            _rows_view("equality", problem, matrices["equality"]),
            _rows_view("inequality", problem, matrices["inequality"]),
        ),
        hessian=_entries_views("hessian", matrices["hessian"]),
        ends=("last",) if code.parts["first"].is_empty else ("first", "last"),
        form=None if isinstance(form, str) else _form_view(form),
    )
    convexification = (
        "stage_block_convexification<model>"
        if isinstance(form, str)
        else "stage_convexification<stages>"
    )
    is_built_in = supplier == "riccati"
    return solver_view(
        name,
        problem,
        kernels=kernels,
        model=render_template("sqp/stage_model.cpp.j2", model=model),
        defaults=_defaults(problem),
        subproblem=(
            "anvil_rt::stage_subproblem<stages>"
            if is_built_in
            else external(convexification, supplier)
        ),
        runtime=("sqp_stages.hpp",),
        supplier=supplier,
        initial_equalities=problem.equalities.counts["initial"],
        has_stages=True,
    )


def _entries_views(kind: str, parts: dict[str, Entries]) -> tuple[EntriesView, ...]:
    return tuple(
        EntriesView(key, entries.count, f"{kind}_{key}_rows", f"{kind}_{key}_columns")
        for key, entries in parts.items()
    )


def _rows_view(kind: str, problem: MultistageProblem, parts: dict[str, Entries]) -> RowsView:
    rows = problem.equalities if kind == "equality" else problem.inequalities
    return RowsView(
        kind,
        rows.counts["initial"],
        rows.own,
        rows.counts["terminal"],
        _entries_views(kind, parts),
    )


def _form_view(form: OptimalControlForm) -> FormView:
    maps = []
    for kind, rows in (("equality", form.equality_map), ("inequality", form.inequality_map)):
        for key in ("first", "own", "last"):
            listed = tuple(rows[key]) or (RowMap(0, 1.0),)  # C++ has no empty arrays
            maps.append(RowMapView(f"{kind}_map_{key}", len(listed), listed))
    return FormView(
        states=form.states,
        rows=form.rows,
        place=_listed(form.place),
        explicit_links=cpp_bool(form.is_explicit),
        link_state=_listed(form.link_state),
        link_sign=_listed(form.link_sign),
        fixes_initial_state=cpp_bool(form.fixes_initial_state),
        maps=tuple(maps),
    )


def _listed(numbers: Sequence[int] | np.ndarray) -> str:
    return ", ".join(str(int(number)) for number in numbers)


def _defaults(problem: MultistageProblem) -> DefaultsText:
    variables = ((problem.nz, problem.N + 1),)

    def rows(kind: str) -> tuple[tuple[int, int], ...]:
        counted = problem.equalities if kind == "eq" else problem.inequalities
        return (
            (counted.counts["initial"], 1),
            (counted.own, problem.N),
            (counted.counts["terminal"], 1),
        )

    return DefaultsText.of(problem.defaults, variables, rows("eq"), rows("ineq"))
