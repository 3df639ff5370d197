"""Speed of the solvers: optimal control against IPOPT, sqpmethod and HPIPM from CasADi's wheel.

Usage: python benchmarks/solvers.py [sections] [--write]
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np
from control_problems import PROBLEMS, ControlProblem, cart_pole, quadrotor
from jaxpr_casadi import multistage_program
from native_timing import compile_object
from report import Row, run

from anvil_jax import opti

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks_solvers.md"
INTRO = """# Benchmarks of solvers

Written by `python benchmarks/solvers.py --write`. Six optimal control problems
(benchmarks/control_problems.py) from naive starts, exact Hessians, tolerances 1e-6; IPOPT solves the
same nonlinear program, translated from the same JAX functions, with CasADi's generated C code,
compiled with gcc -O2. Times are the best of several solves.
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


def casadi_data(control: ControlProblem) -> dict[str, Any]:
    """Start, parameters and bounds for a CasADi solver."""
    data = control.problem.defaults
    return {
        "x0": control.x0.ravel(),
        "p": control.p,
        "lbx": data.x_lb,
        "ubx": data.x_ub,
        "lbg": np.concatenate([control.eq_rhs, data.ineq_lb]),
        "ubg": np.concatenate([control.eq_rhs, data.ineq_ub]),
    }


def ipopt_of(control: ControlProblem, work: Path) -> Any:
    """IPOPT with compiled C code for all functions."""
    work.mkdir(parents=True, exist_ok=True)
    program = multistage_program(control.problem)
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
    os.system(f"gcc -O2 -march=native {' '.join(flags)}")
    return ca.nlpsol("solver", "ipopt", str(library), options)


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
                    ours = best(lambda: solve(solver, problem).time)  # noqa: B023
            ipopt = ipopt_of(problem, work / f"{name}{horizon}")
            theirs, found = timed_casadi(ipopt, casadi_data(problem))
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


def per_iteration(_: Path) -> Iterator[Row]:
    """An SQP iteration against one of CasADi's sqpmethod with its own qrqp."""
    for name in ("pendulum", "cart_pole", "quadrotor", "two_link_arm"):
        with jax.enable_x64(True):
            problem = PROBLEMS[name](20)
            solver = solver_of(problem)
            result = solve(solver, problem)
            ours = best(lambda: solve(solver, problem).time) / result.iterations  # noqa: B023
        options = {
            "print_header": False, "print_iteration": False, "print_time": False,
            "print_status": False, "max_iter": 3, "error_on_fail": False,
        }  # fmt: skip
        program = multistage_program(problem.problem)
        method = ca.nlpsol("solver", "sqpmethod", program.nlp, options)
        theirs, _result = timed_casadi(method, casadi_data(problem))
        theirs /= max(1, method.stats()["iter_count"])
        yield Row(
            f"{name} N=20: SQP iteration over sqpmethod's",
            f"{1e3 * ours:.3f} ms; sqpmethod {1e3 * theirs:.2f} ms",
            ours / theirs,
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

    quadratic = opti.MultistageProblem(
        N, nz, cost_stage_fn=cost, cost_terminal_fn=cost, eq_interstage_fn=dynamics,
        eq_initial_fn=lambda z, *_: z[:nx], z_lb=lower - 1e-3, z_ub=upper + 1e-3,
        param_dim=parameters.shape[1],
    )  # fmt: skip
    return quadratic, quadratic.parameters(None, parameters)


def qp(_: Path) -> Iterator[Row]:
    """One quadratic program against HPIPM as far as CasADi's wheel offers it."""
    for name in ("cart_pole", "quadrotor"):
        for horizon in (20, 50):
            with jax.enable_x64(True):
                control = PROBLEMS[name](horizon)
                x = solve(solver_of(control), control).x
                problem, p = linear_quadratic(control, x)
                settings = opti.SQPSettings(qp_tolerance=1e-6)
                solver = opti.SparseSQPFunction("lq", problem, settings, qp="riccati")
                solver.prepare(p, x0=np.zeros(problem.x_shape))

                def ours_once() -> float:
                    solver.prepare(p, x0=np.zeros(problem.x_shape))  # noqa: B023
                    start = time.perf_counter()
                    result = solver.feedback(np.zeros(problem.equalities.counts["initial"]))  # noqa: B023
                    assert result.success
                    return time.perf_counter() - start

                ours = best(ours_once)
            program = multistage_program(problem)
            f = ca.Function("f", [program.nlp["x"], program.nlp["p"]], [
                ca.hessian(program.nlp["f"], program.nlp["x"])[0],
                ca.gradient(program.nlp["f"], program.nlp["x"]),
                ca.jacobian(program.nlp["g"], program.nlp["x"]), program.nlp["g"],
            ])  # fmt: skip
            h, g, a, c = f(np.zeros(x.size), p)
            data = problem.defaults
            listed = {"hpipm": {}, "osqp": {"osqp": {"verbose": False}}, "qrqp": {}}
            for other, extra in listed.items():
                if other == "qrqp" and (horizon > 20 or name == "quadrotor"):
                    continue
                try:
                    conic = ca.conic(
                        "qp", other, {"h": h.sparsity(), "a": a.sparsity()},
                        {"print_time": False, "error_on_fail": False, **extra,
                         **({"print_iter": False, "print_header": False, "print_info": False}
                            if other == "qrqp" else {})},
                    )  # fmt: skip
                    theirs, _found = timed_casadi(
                        conic,
                        {"h": h, "g": g, "a": a, "lba": data.eq_rhs - c.full().ravel(),
                         "uba": data.eq_rhs - c.full().ravel(), "lbx": data.x_lb,
                         "ubx": data.x_ub},
                    )  # fmt: skip
                    status = conic.stats().get("return_status", conic.stats().get("success"))
                except RuntimeError as error:
                    yield Row(f"{name} N={horizon}: QP, {other}", str(error)[:80], 0.0, None)
                    continue
                yield Row(
                    f"{name} N={horizon}: QP over {other}",
                    f"{1e3 * ours:.3f} ms; {other} {1e3 * theirs:.3f} ms ({status})",
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
            ms = 1e3 * best(lambda: solve(solver, control).time)  # noqa: B023
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
                times[supplier] = best(lambda: solve(solver, control).time, 3)  # noqa: B023
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
