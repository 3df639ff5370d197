"""`DenseSQPFunction` and `SparseSQPFunction`: a problem with its compiled solver.

problem -> view (functions, patterns, C++ model) -> source, header, library -> call
"""

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anvil_jax.emit.module import ModuleText, render_module, render_solver_library
from anvil_jax.emit.names import check_identifier
from anvil_jax.emit.views import SolverView
from anvil_jax.errors import ArgumentError, SolverError
from anvil_jax.opti.multistage_problem import MultistageProblem
from anvil_jax.opti.native_solver import SOLVER_ABI, SolverLibrary, Workspace, refuse_stages
from anvil_jax.opti.piqp_native import PiqpInstallation, find_piqp
from anvil_jax.opti.problem import DenseProblem, ProblemData, SparseProblem, check_sides
from anvil_jax.opti.settings import SQPIteration, SQPResult, SQPSettings, SQPStatus
from anvil_jax.progress import progress

if TYPE_CHECKING:
    from anvil_jax.opti.piqp_supplier import PiqpSupplier
    from anvil_jax.opti.stage_code import StageCode

type Supplier = Literal["auto", "riccati", "dense", "piqp"]

_NAMESPACE = "anvil_module"
_HEADER = "iter     objective   stationary   infeasible  complement.    |step|   length  qp  ls"


class SQPFunction:
    """What both kinds of solvers share; make a `DenseSQPFunction` or a `SparseSQPFunction`.

    The first call generates and compiles the solver (later ones, and other processes, find it in
    the cache). A solver keeps its last solution and multipliers for warm starts; calls from
    several threads wait for each other, `clone` gives each its own.

    Attributes:
        name: C++ identifier.
        problem: what is solved.
        settings: unless a call says otherwise.
    """

    _problems: ClassVar[tuple[type, ...]]
    _suppliers: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        name: str,
        problem: Any,
        settings: SQPSettings | None = None,
        *,
        qp: Supplier = "auto",
    ) -> None:
        """Record what to solve; nothing is generated yet.

        Args:
            name: C++ identifier.
            problem: the problem.
            settings: default settings; ``settings.hessian`` decides what is generated.
            qp: who solves the quadratic programs, see docs/explanation/solver.md.

        Raises:
            ArgumentError: a name or option is not usable, or the problem is of the wrong kind.
        """
        check_identifier(name, "solver")
        if not isinstance(problem, self._problems):
            kinds = " or ".join(kind.__name__ for kind in self._problems)
            raise ArgumentError(f"{type(self).__name__} solves a {kinds}, got {problem!r}")
        if qp not in self._suppliers:
            raise ArgumentError(
                f"{type(self).__name__}: qp={qp!r} is not one of {', '.join(self._suppliers)}"
            )
        self.name = name
        self.problem = problem
        self.settings = SQPSettings() if settings is None else _settings(settings)
        self._qp: Supplier = qp

    @functools.cached_property
    def qp(self) -> str:
        """Who solves the quadratic programs: ``riccati``, ``dense`` or ``piqp``."""
        return self._supplier() if self._qp == "auto" else self._qp

    def _supplier(self) -> str:
        """What ``auto`` means."""
        raise NotImplementedError

    def _view(self, supplier: str) -> SolverView:
        raise NotImplementedError

    # ---- stages ----

    @functools.cached_property
    def view(self) -> SolverView:
        """The generated solver, before it is put into a module.

        Raises:
            SolverError: the problem does not have the form that `qp` needs.
            LoweringError: a function cannot be turned into native code.
        """
        with progress(f"generating code for {self.name}"):
            return self._view("external" if self.qp == "piqp" else self.qp)

    @functools.cached_property
    def exported_view(self) -> SolverView:
        """The solver as modules contain it: PIQP is called through its C library."""
        if self.qp != "piqp":
            return self.view
        with progress(f"generating code for {self.name}"):
            return self._view("piqp")

    @functools.cached_property
    def module(self) -> ModuleText:
        """The files of a module that has the name of this solver and contains it alone."""
        return render_module(self.name, (), solvers=(self.exported_view,))

    @property
    def source(self) -> str:
        """C++ source file."""
        source = self.module.source
        assert source is not None  # solvers are for CPUs
        return source

    @property
    def header(self) -> str:
        """C++ header file."""
        return self.module.header

    @functools.cached_property
    def linked_piqp(self) -> PiqpInstallation | None:
        """PIQP's C library, if calls use it; None where they go back to the piqp package.

        The package has a multistage solver, the library only where it was built with BLASFEO.

        Raises:
            ToolchainError: ANVIL_JAX_PIQP_ROOT names a folder without PIQP's C interface.
        """
        found = find_piqp() if self.qp == "piqp" else None
        has_stages = isinstance(self.problem, MultistageProblem)
        return None if found and has_stages and not found.has_multistage else found

    @functools.cached_property
    def library(self) -> SolverLibrary:
        """The compiled solver.

        Raises:
            ToolchainError: it cannot be compiled.
        """
        linked = self.linked_piqp
        view = self.exported_view if linked else self.view
        arguments = linked.arguments if linked else ()
        text = render_solver_library(_NAMESPACE, view, SOLVER_ABI)
        return SolverLibrary(self.name, text, arguments)

    @functools.cached_property
    def _workspace(self) -> Workspace:
        problem = self.problem
        size = int(np.prod(problem.x_shape))
        sizes = {"x": size, "lam_eq": problem.m_eq, "lam_ineq": problem.m_ineq, "lam_box": size}
        outputs = {name: np.zeros(count, problem.dtype) for name, count in sizes.items()}
        workspace = Workspace(self.library, outputs)
        if self._calls_back:
            workspace.use_qp(self._qp_supplier.callback)
        return workspace

    @property
    def _calls_back(self) -> bool:
        return self.qp == "piqp" and self.linked_piqp is None

    @functools.cached_property
    def _qp_supplier(self) -> "PiqpSupplier":
        from anvil_jax.opti.piqp_supplier import PiqpSupplier

        return PiqpSupplier()

    def _raise_failures(self) -> None:
        """Errors of the piqp package must not get lost on their way through native code."""
        if self._calls_back:
            self._qp_supplier.reraise()

    def clone(self) -> Self:
        """A solver of the same code with a workspace of its own."""
        other = type(self)(self.name, self.problem, self.settings, qp=self._qp)
        for name in ("qp", "linked_piqp", "library"):
            other.__dict__[name] = getattr(self, name)
        return other

    # ---- calling ----

    def __call__(
        self,
        x0: ArrayLike | None = None,
        p: ArrayLike | None = None,
        *,
        x_lb: ArrayLike | None = None,
        x_ub: ArrayLike | None = None,
        eq_rhs: ArrayLike | None = None,
        ineq_lb: ArrayLike | None = None,
        ineq_ub: ArrayLike | None = None,
        lam_eq: ArrayLike | None = None,
        lam_ineq: ArrayLike | None = None,
        lam_box: ArrayLike | None = None,
        warm_start: bool | None = None,
        settings: SQPSettings | None = None,
        verbose: int = 0,
        history: bool = False,
    ) -> SQPResult:
        """Solve from a start.

        Args:
            x0: start, shaped like the problem's x; None continues from the last solution.
            p: parameters (parameters_size,); may be left out if there are none.
            x_lb: lower bounds in place of the problem's own, shaped like x, or scalar.
            x_ub: upper bounds, likewise.
            eq_rhs: right-hand sides (m_eq,), in place of the problem's own.
            ineq_lb: lower sides of the inequalities (m_ineq,), likewise.
            ineq_ub: upper sides of the inequalities (m_ineq,), likewise.
            lam_eq: multipliers of the equalities to start from, (m_eq,).
            lam_ineq: multipliers of the inequalities, (m_ineq,).
            lam_box: multipliers of the bounds, shaped like x.
            warm_start: start from multipliers: those given, or of the last solution. Default: if
                any are given, or `x0` is None.
            settings: in place of the solver's own.
            verbose: 1 prints a table of the iterations.
            history: keep all iterations in the result.

        Returns:
            The best iterate, with multipliers and statistics.

        Raises:
            ArgumentError: a shape is wrong, a number is NaN, or bounds cross.
        """
        settings = self._checked(settings)
        given = self._inputs(
            {"x": x0, "p": p, "x_lb": x_lb, "x_ub": x_ub, "eq_rhs": eq_rhs, "ineq_lb": ineq_lb}
            | {"ineq_ub": ineq_ub, "lam_eq": lam_eq, "lam_ineq": lam_ineq, "lam_box": lam_box}
        )
        if warm_start is None:
            multipliers = ("lam_eq", "lam_ineq", "lam_box")
            warm_start = x0 is None or any(given[name] is not None for name in multipliers)
        lines: list[SQPIteration] = []
        monitor = _watch(lines, verbose, self.name) if verbose or history else None
        status, statistics, outputs = self._workspace.call(given, settings, warm_start, monitor)
        self._raise_failures()
        if verbose:
            sys.stdout.write(f"{self.name}: {status.name} in {1e3 * statistics['time']:.3g} ms\n")
        return self._result(status, statistics, outputs, tuple(lines) if history else ())

    def prepare(
        self,
        p: ArrayLike | None = None,
        *,
        x0: ArrayLike | None = None,
        x_lb: ArrayLike | None = None,
        x_ub: ArrayLike | None = None,
        eq_rhs: ArrayLike | None = None,
        ineq_lb: ArrayLike | None = None,
        ineq_ub: ArrayLike | None = None,
        settings: SQPSettings | None = None,
    ) -> SQPStatus:
        """Real-time iteration, first part: all that can be done before the state is measured.

        Args:
            p: parameters; default those of the last call.
            x0: iterate to start from; default the present one.
            x_lb: as in a call.
            x_ub: as in a call.
            eq_rhs: as in a call.
            ineq_lb: as in a call.
            ineq_ub: as in a call.
            settings: in place of the solver's own.

        Returns:
            SOLVED, or EVALUATION_FAILED.

        Raises:
            SolverError: the problem has no stages.
            ArgumentError: as in a call.
        """
        self._require_stages()
        given = self._inputs(
            {"x": x0, "p": p, "x_lb": x_lb, "x_ub": x_ub, "eq_rhs": eq_rhs}
            | {"ineq_lb": ineq_lb, "ineq_ub": ineq_ub},
            continues=True,
        )
        return self._workspace.prepare(given, self._checked(settings), warm_start=True)

    def feedback(self, x_measured: ArrayLike) -> SQPResult:
        """Real-time iteration, second part: one full step for the measured state.

        Args:
            x_measured: right-hand side of the initial equalities.

        Returns:
            The new iterate; SOLVED means that the quadratic program was. Objective and residuals
            are those of the iterate before the step, for the measured state.

        Raises:
            SolverError: the problem has no stages, or no initial equalities.
            ArgumentError: the shape is wrong or a number is not finite.
        """
        self._require_stages()
        count = self.problem.equalities.counts["initial"]
        if count == 0:
            raise SolverError(f"{self.name}: feedback needs eq_initial_fn, which nobody gave")
        measured = np.ascontiguousarray(x_measured, self.problem.dtype)
        if measured.shape != (count,) or not np.isfinite(measured).all():
            raise ArgumentError(
                f"{self.name}: x_measured must be {count} finite numbers, got {x_measured!r}"
            )
        status, statistics, outputs = self._workspace.feedback(measured)
        self._raise_failures()
        return self._result(status, statistics, outputs, ())

    def shift(self) -> None:
        """Move the iterate on by one stage, as time does; the last stage stays.

        Raises:
            SolverError: the problem has no stages.
        """
        self._require_stages()
        self._workspace.shift()

    def _require_stages(self) -> None:
        if not isinstance(self.problem, MultistageProblem):
            raise refuse_stages(self.name)

    def _checked(self, settings: SQPSettings | None) -> SQPSettings:
        if settings is None:
            return self.settings
        settings = _settings(settings)
        if settings.hessian is not self.settings.hessian:
            raise ArgumentError(
                f"{self.name} was made for {self.settings.hessian.name} Hessians; make another "
                f"solver for {settings.hessian.name}"
            )
        return settings

    def _inputs(
        self, given: dict[str, ArrayLike | None], continues: bool = False
    ) -> dict[str, NDArray[Any] | None]:
        problem = self.problem
        size = int(np.prod(problem.x_shape))
        sizes = {"p": problem.parameters_size, "eq_rhs": problem.m_eq, "lam_eq": problem.m_eq}
        sizes |= dict.fromkeys(("ineq_lb", "ineq_ub", "lam_ineq"), problem.m_ineq)
        arrays: dict[str, NDArray[Any] | None] = {}
        for name, value in given.items():
            if value is None:
                arrays[name] = None
                continue
            array = np.ascontiguousarray(value, problem.dtype)
            count = sizes.get(name, size)
            if array.ndim == 0 and name in ("x_lb", "x_ub", "ineq_lb", "ineq_ub", "eq_rhs"):
                array = np.full(count, array)
            shape = (count,) if name in sizes else problem.x_shape
            if name in ("x_lb", "x_ub") and array.shape == shape[1:]:
                array = np.ascontiguousarray(np.broadcast_to(array, shape))
            if array.shape not in (shape, (count,)):
                what = "x0" if name == "x" else name
                raise ArgumentError(
                    f"{self.name}: {what} has the shape {array.shape}, expected {shape}"
                )
            if np.isnan(array).any():
                raise ArgumentError(f"{self.name}: {'x0' if name == 'x' else name} contains NaN")
            arrays[name] = array.reshape(-1)
        if arrays.get("p") is None and problem.parameters_size and not continues:
            raise ArgumentError(f"{self.name} needs p: {problem.parameters_size} parameters")
        self._check_sides(arrays)
        return arrays

    def _check_sides(self, arrays: dict[str, NDArray[Any] | None]) -> None:
        if all(arrays.get(name) is None for name in ProblemData.names):
            return
        data = {}
        for name in ProblemData.names:
            array = arrays.get(name)
            data[name] = getattr(self.problem.defaults, name) if array is None else array
        check_sides(ProblemData(**data))

    def _result(
        self,
        status: SQPStatus,
        statistics: dict[str, Any],
        outputs: dict[str, NDArray[Any]],
        history: tuple[SQPIteration, ...],
    ) -> SQPResult:
        shape = self.problem.x_shape
        return SQPResult(
            x=outputs["x"].reshape(shape),
            lam_eq=outputs["lam_eq"],
            lam_ineq=outputs["lam_ineq"],
            lam_box=outputs["lam_box"].reshape(shape),
            status=status,
            history=history,
            **statistics,
        )

    def __repr__(self) -> str:
        """Name, problem, Hessian and supplier."""
        return (
            f"<{type(self).__name__} {self.name} of {self.problem!r}, "
            f"{self.settings.hessian.name} Hessian, qp={self.qp}>"
        )


class DenseSQPFunction(SQPFunction):
    """A solver for a `DenseProblem`: dense matrices, up to some hundred variables.

    ``qp="dense"`` is built in and depends on nothing; ``"piqp"`` calls PIQP's C library
    or the piqp package.
    """

    _problems = (DenseProblem,)
    _suppliers = ("auto", "dense", "piqp")

    def _supplier(self) -> str:
        return "piqp"

    def _view(self, supplier: str) -> SolverView:
        from anvil_jax.opti.nlp_solver import nlp_view

        return nlp_view(self.name, self.problem, self.settings.hessian, True, supplier)


class SparseSQPFunction(SQPFunction):
    """A solver for a `SparseProblem` or a `MultistageProblem`.

    ``qp="riccati"`` (multistage problems in the form of optimal control) is built in and depends
    on nothing; ``"piqp"`` calls the sparse or multistage solver of PIQP's C library or the piqp
    package.
    """

    _problems = (SparseProblem, MultistageProblem)
    _suppliers = ("auto", "riccati", "piqp")

    def _supplier(self) -> str:
        if isinstance(self.problem, SparseProblem) or isinstance(self._code.form, str):
            return "piqp"
        return "riccati"

    @functools.cached_property
    def _code(self) -> "StageCode":
        from anvil_jax.opti.stage_code import StageCode

        return StageCode(self.problem, self.settings.hessian)

    def _view(self, supplier: str) -> SolverView:
        if isinstance(self.problem, MultistageProblem):
            from anvil_jax.opti.stage_solver import stage_view

            return stage_view(self.name, self._code, supplier)
        if supplier == "riccati":
            raise SolverError(f"{self.name}: qp='riccati' needs a MultistageProblem; use 'piqp'")
        from anvil_jax.opti.nlp_solver import nlp_view

        return nlp_view(self.name, self.problem, self.settings.hessian, False, supplier)


def _settings(settings: Any) -> SQPSettings:
    if not isinstance(settings, SQPSettings):
        raise ArgumentError(f"settings must be SQPSettings, got {settings!r}")
    return settings


def _watch(lines: list[SQPIteration], verbose: int, name: str) -> Callable[[SQPIteration], None]:
    """Collects iterations, and prints them as rows of a table."""

    def watch(line: SQPIteration) -> None:
        lines.append(line)
        if not verbose:
            return
        if line.iteration == 0:
            sys.stdout.write(f"{name}\n{_HEADER}\n")
        mark = "e" if line.elastic else " "
        sys.stdout.write(
            f"{line.iteration:4d} {line.objective: .6e} {line.stationarity:12.2e} "
            f"{line.infeasibility:12.2e} {line.complementarity:12.2e} {line.step:9.1e} "
            f"{line.step_length:8.1e} {line.qp_iterations:3d} {line.line_search_steps:3d}{mark}\n"
        )
        sys.stdout.flush()

    return watch
