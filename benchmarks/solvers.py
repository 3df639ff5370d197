"""Speed of the solvers: optimal control against IPOPT, sqpmethod and HPIPM from CasADi's wheel.

Usage: python benchmarks/solvers.py [sections] [--write]
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np
from control_problems import PROBLEMS, ControlProblem, cart_pole, quadrotor
from jaxpr_casadi import CasadiProgram, multistage_program
from report import Row, run

from anvil_jax import opti

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks_solvers.md"
INTRO = """# Benchmarks of solvers

Written by `python benchmarks/solvers.py --write`. Six optimal control problems
(benchmarks/control_problems.py) from naive starts, exact Hessians, tolerances 1e-6; IPOPT solves
the same nonlinear program, translated from the same JAX functions, with CasADi's generated C code,
compiled with gcc -O1 (as calls of functions of one stage where stages are
large, else as one expression). Times are the best of several solves; ours by the solver's own
clock, CasADi's around the call from Python, which adds some 0.05 ms.
"""
HORIZONS = (20, 50, 100)
REPEATS = 7


def solver_of(control: ControlProblem, qp: Any = "riccati") -> opti.SparseSQPFunction:
    """Our solver of a problem."""
    return opti.SparseSQPFunction(control.name, control.problem, qp=qp)


def solve(solver: opti.SparseSQPFunction, control: ControlProblem, **options: Any) -> Any:
    """One solve from the naive start."""
    return solver(control.x0, control.p, eq_rhs=control.eq_rhs, **options)


def best(call: Callable[[], float], repeats: int = REPEATS) -> float:
    """The least of several times, in seconds."""
    return min(call() for _ in range(repeats))


def best_solve(
    solver: opti.SparseSQPFunction, control: ControlProblem, repeats: int = REPEATS
) -> float:
    """The least time of several solves by the solver's own clock, in seconds."""
    return best(lambda: solve(solver, control).time, repeats)


@contextmanager
def empty_cache() -> Iterator[None]:
    """Compile as on a fresh machine."""
    with tempfile.TemporaryDirectory() as directory:
        before = os.environ.get("ANVIL_JAX_CACHE_DIR")
        os.environ["ANVIL_JAX_CACHE_DIR"] = directory
        try:
            yield
        finally:
            del os.environ["ANVIL_JAX_CACHE_DIR"]
            if before is not None:
                os.environ["ANVIL_JAX_CACHE_DIR"] = before


def casadi_data(control: ControlProblem, program: CasadiProgram) -> dict[str, Any]:
    """Start, parameters and bounds for a CasADi solver."""
    return program.arguments(control.x0, control.p, control.eq_rhs)


def ipopt_of(control: ControlProblem, work: Path) -> tuple[Any, dict[str, Any]]:
    """IPOPT with compiled C code for all functions, and what to call it with.

    One expression for the whole horizon is fastest, but takes gcc half an hour for large stages;
    their code calls functions of a stage.
    """
    work.mkdir(parents=True, exist_ok=True)
    program = multistage_program(control.problem, calls=control.problem.nz > 10)
    options = {"ipopt.print_level": 0, "print_time": False, "ipopt.sb": "yes", "ipopt.tol": 1e-6}
    symbolic = ca.nlpsol("solver", "ipopt", program.nlp, options)
    directory = os.getcwd()
    os.chdir(work)
    try:
        symbolic.generate_dependencies("functions.c")
    finally:
        os.chdir(directory)
    library = work / "functions.so"
    flags = ["-shared", "-fPIC", "-x", "c", str(work / "functions.c"), "-o", str(library)]
    subprocess.run(["gcc", "-O1", "-march=native", *flags], check=True)
    return ca.nlpsol("solver", "ipopt", str(library), options), casadi_data(control, program)


def timed_casadi(solver: Any, data: dict[str, Any]) -> tuple[float, Any]:
    """Best time of a CasADi solver, and its last result."""
    result: dict[str, Any] = {}

    def once() -> float:
        start = time.perf_counter()
        result.update(solver(**data))
        return time.perf_counter() - start

    return best(once, 5), result


def control(work: Path) -> Iterator[Row]:
    """Every problem at every horizon against IPOPT."""
    for name, make in PROBLEMS.items():
        for horizon in HORIZONS:
            with jax.enable_x64(True):
                problem = make(horizon)
                with empty_cache():
                    start = time.perf_counter()
                    solver = solver_of(problem)
                    result = solve(solver, problem)
                    seconds = time.perf_counter() - start - result.time
                    ours = best_solve(solver, problem)
            ipopt, data = ipopt_of(problem, work / f"{name}{horizon}")
            theirs, found = timed_casadi(ipopt, data)
            optimum = float(found["f"])
            what = f"{name} N={horizon}"
            worse = (result.objective - optimum) / max(1.0, abs(optimum))
            yield Row(
                f"{what}: time over IPOPT's",
                f"{1e3 * ours:.2f} ms, {result.iterations} iterations ({result.qp_iterations} of "
                f"the QPs); IPOPT {1e3 * theirs:.2f} ms, {ipopt.stats()['iter_count']} iterations, "
                f"{ipopt.stats()['return_status']}",
                ours / theirs,
                0.3,
            )
            yield Row(
                f"{what}: optimum beyond IPOPT's",
                f"{result.objective:.8g} {result.status.name}, IPOPT {optimum:.8g}",
                worse if result.success else np.inf,
                1e-6,
            )
            yield Row(f"{what}: generate and compile", f"{seconds:.1f} s", seconds, 10.0, " s")


@contextmanager
def silence() -> Iterator[None]:
    """Drop what libraries print themselves."""
    saved = [os.dup(1), os.dup(2)]
    with open(os.devnull, "w") as nowhere:
        for descriptor in (1, 2):
            os.dup2(nowhere.fileno(), descriptor)
        try:
            yield
        finally:
            for descriptor, old in zip((1, 2), saved, strict=True):
                os.dup2(old, descriptor)
                os.close(old)


def per_iteration(_: Path) -> Iterator[Row]:
    """An SQP iteration against one of CasADi's sqpmethod.

    Its default qrqp ends after one iteration on all of these; PIQP inside it goes on.
    """
    options = {
        "print_header": False, "print_iteration": False, "print_time": False,
        "print_status": False, "max_iter": 10, "error_on_fail": False,
        "qpsol": "piqp", "qpsol_options": {"error_on_fail": False},
    }  # fmt: skip
    for name in ("pendulum", "cart_pole", "quadrotor", "hanging_chain"):
        with jax.enable_x64(True):
            problem = PROBLEMS[name](20)
            solver = solver_of(problem)
            result = solve(solver, problem)
            ours = best_solve(solver, problem) / result.iterations
        program = multistage_program(problem.problem)
        method = ca.nlpsol("solver", "sqpmethod", program.nlp, options)
        with silence():
            try:
                theirs, _result = timed_casadi(method, casadi_data(problem, program))
            except RuntimeError:
                theirs = 0.0
        if theirs == 0.0:
            yield Row(f"{name} N=20: sqpmethod", "ends with an error", 0.0, None)
            continue
        count = max(1, method.stats()["iter_count"])
        yield Row(
            f"{name} N=20: SQP iteration over sqpmethod's",
            f"{1e3 * ours:.3f} ms; sqpmethod with PIQP {1e3 * theirs / count:.2f} ms "
            f"({count} iterations, {method.stats()['return_status']})",
            ours * count / theirs,
            0.5,
        )


def linear_quadratic(control: ControlProblem, x: np.ndarray) -> tuple[Any, np.ndarray]:
    """The Gauss-Newton-like QP of a problem at x: linear dynamics, convex quadratic cost.

    Stages take their matrices as parameters, so that our solver sees an ordinary problem.
    """
    problem = control.problem
    N, nz = problem.N, problem.nz
    nx = problem.equalities.counts["interstage"]
    link = problem.equalities.functions["interstage"]
    assert link is not None
    own = control.p[problem.global_param_dim :].reshape(N + 1, problem.param_dim)
    shared = control.p[: problem.global_param_dim]
    rng = np.random.default_rng(3)
    parameters = np.zeros((N + 1, nx * nz + nx + nz))
    step = jax.jit(lambda z, following, p: link(z, following, shared, p))
    slope = jax.jit(jax.jacobian(lambda z, following, p: link(z, following, shared, p)))
    for k in range(N):
        value = np.asarray(step(x[k], x[k + 1], own[k]))
        jacobian = np.asarray(slope(x[k], x[k + 1], own[k]))
        parameters[k, : nx * nz] = -jacobian.ravel()
        parameters[k, nx * nz : nx * nz + nx] = -value
    parameters[:, nx * nz + nx :] = 0.1 * rng.normal(size=(N + 1, nz))
    weight = np.where(np.arange(nz) < nx, 1.0, 0.1)
    data = problem.defaults
    lower, upper = data.x_lb.reshape(N + 1, nz) - x, data.x_ub.reshape(N + 1, nz) - x

    def cost(z: Any, _: Any, p: Any) -> Any:
        return 0.5 * jnp.sum(weight * z * z) + p[nx * nz + nx :] @ z

    def dynamics(z: Any, following: Any, _: Any, p: Any) -> Any:
        return following[:nx] - p[: nx * nz].reshape(nx, nz) @ z - p[nx * nz : nx * nz + nx]

    def last_cost(z: Any, _: Any, p: Any) -> Any:
        return 0.5 * jnp.sum(z[:nx] ** 2) + p[nx * nz + nx :][:nx] @ z[:nx]

    quadratic = opti.MultistageProblem(
        N, nz, cost_stage_fn=cost, cost_terminal_fn=last_cost, eq_interstage_fn=dynamics,
        eq_initial_fn=lambda z, *_: z[:nx], z_lb=lower - 1e-3, z_ub=upper + 1e-3,
        param_dim=parameters.shape[1],
    )  # fmt: skip
    return quadratic, quadratic.parameters(None, parameters)


def casadi_qp(problem: Any, p: np.ndarray, x: np.ndarray) -> tuple[Any, dict[str, Any]]:
    """A linear-quadratic problem as CasADi's solvers want it.

    HPIPM takes the initial state as bounds only, and no inputs at the last stage.
    """
    program = multistage_program(problem)
    nx = problem.equalities.counts["initial"]
    kept = problem.N * problem.nz + nx
    v, q = program.nlp["x"], program.nlp["p"]
    matrices = ca.Function("matrices", [v, q], [
        ca.hessian(program.nlp["f"], v)[0], ca.gradient(program.nlp["f"], v),
        ca.jacobian(program.nlp["g"], v), program.nlp["g"],
    ])  # fmt: skip
    h, g, a, c = matrices(np.zeros(x.size), p)
    lower, upper = problem.defaults.x_lb[:kept].copy(), problem.defaults.x_ub[:kept].copy()
    lower[:nx] = upper[:nx] = 0.0
    rhs = problem.defaults.eq_rhs[nx:] - c.full().ravel()[nx:]
    data = {"h": h[:kept, :kept], "g": g[:kept], "a": a[nx:, :kept], "lba": rhs, "uba": rhs}
    shape = {"h": data["h"].sparsity(), "a": data["a"].sparsity()}
    return shape, data | {"lbx": lower, "ubx": upper}


def timed_feedback(solver: opti.SparseSQPFunction, p: np.ndarray) -> float:
    """Seconds for the quadratic program of a linear-quadratic problem from zero."""
    problem = solver.problem
    solver.prepare(p, x0=np.zeros(problem.x_shape))
    measured = np.zeros(problem.equalities.counts["initial"])
    start = time.perf_counter()
    result = solver.feedback(measured)
    assert result.success
    return time.perf_counter() - start


def qp(_: Path) -> Iterator[Row]:
    """One quadratic program against HPIPM and others of CasADi's wheel."""
    others: dict[str, dict[str, Any]] = {"hpipm": {}, "osqp": {"osqp": {"verbose": False}}}
    for name in ("cart_pole", "quadrotor"):
        for horizon in (20, 50):
            with jax.enable_x64(True):
                control = PROBLEMS[name](horizon)
                x = solve(solver_of(control), control).x
                problem, p = linear_quadratic(control, x)
                settings = opti.SQPSettings(qp_tolerance=1e-6)
                solver = opti.SparseSQPFunction("lq", problem, settings, qp="riccati")
                objective = solver(np.zeros(problem.x_shape), p).objective
                ours = best(partial(timed_feedback, solver, p))
            shape, data = casadi_qp(problem, p, x)
            for other, options in others.items():
                conic = ca.conic("qp", other, shape, {"print_time": False, **options})
                with silence():
                    theirs, found = timed_casadi(conic, data)
                difference = abs(float(found["cost"]) - objective)
                yield Row(
                    f"{name} N={horizon}: QP over {other}'s",
                    f"{1e3 * ours:.3f} ms from Python; {other} {1e3 * theirs:.3f} ms "
                    f"(objectives differ by {difference:.0e})",
                    ours / theirs,
                    1.1 if other == "hpipm" else None,
                )


def absolute(_: Path) -> Iterator[Row]:
    """Times that a controller has to keep."""
    with jax.enable_x64(True):
        for make, limit in ((quadrotor, 10.0), (cart_pole, 2.0)):
            control = make(40)
            solver = solver_of(control)
            result = solve(solver, control)
            ms = 1e3 * best_solve(solver, control)
            yield Row(
                f"{control.name} N=40: full solve",
                f"{ms:.2f} ms, {result.status.name}, {result.iterations} iterations",
                ms if result.success else np.inf,
                limit,
                " ms",
            )
        control = quadrotor(40)
        solver = solver_of(control)
        solve(solver, control)
        times = []
        for _ in range(20):
            solver.prepare(control.p, eq_rhs=control.eq_rhs)
            start = time.perf_counter()
            result = solver.feedback(control.x_measured + 1e-3)
            times.append(1e3 * (time.perf_counter() - start))
            assert result.success
        yield Row(
            "quadrotor N=40: real-time feedback",
            f"{np.median(times):.3f} ms (median)",
            float(np.median(times)),
            0.6,
            " ms",
        )


def suppliers(_: Path) -> Iterator[Row]:
    """The same solves with the QPs solved by PIQP's Python package."""
    for name in ("cart_pole", "quadrotor", "race_car"):
        with jax.enable_x64(True):
            control = PROBLEMS[name](50)
            times = {}
            for supplier in ("riccati", "piqp"):
                solver = solver_of(control, supplier)
                result = solve(solver, control)
                times[supplier] = best_solve(solver, control, 3)
                times[supplier] /= max(1, result.iterations)
        yield Row(
            f"{name} N=50: SQP iteration, riccati over piqp",
            f"{1e3 * times['riccati']:.3f} ms; piqp {1e3 * times['piqp']:.3f} ms",
            times["riccati"] / times["piqp"],
            None,
        )


SECTIONS = {
    "control": control,
    "absolute": absolute,
    "per_iteration": per_iteration,
    "qp": qp,
    "suppliers": suppliers,
}


if __name__ == "__main__":
    sys.exit(run(SECTIONS, PAGE, (__doc__ or "").partition("\n")[0], INTRO))
