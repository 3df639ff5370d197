"""Derivatives against their requirements: ``python benchmarks/derivatives.py [--write]``.

Colour counts, detection time, exactness of the traced patterns, and evaluation against the C code
that CasADi generates, in one run on one core. Exits with status 1 if a requirement is missed;
``--write`` puts the table into docs/benchmarks_derivatives.md.
"""

import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import casadi as ca
import jax
import jax.numpy as jnp
import models
import numpy as np
import optimal_control
import scipy.sparse as sp
from native_timing import FLAGS, best_times, casadi_function, compile_object, generated_module
from report import COMPILERS, Row, check_agreement, run

import anvil_jax as av
from anvil_jax.sparsity.coloring import color_hessian, color_jacobian
from anvil_jax.sparsity.derivative import SparseDerivative

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PAGE = ROOT / "docs" / "benchmarks_derivatives.md"
INTRO = """\
# Benchmarks of derivatives

Written by `python benchmarks/derivatives.py --write`. Evaluation: fastest of many batches that take
turns, in a C++ loop around the call; ratios are ours over the fastest competitor. CasADi's C code
and ours are compiled by the same compiler with the same flags.
"""


# ---- functions whose patterns are known ----


def heat_2d(u: Any) -> Any:
    """Five-point stencil with a nonlinear source, fixed boundary."""
    v = jnp.pad(u, 1)
    around = v[2:, 1:-1] + v[:-2, 1:-1] + v[1:-1, 2:] + v[1:-1, :-2]
    return around - 4.0 * u + jnp.sin(u)


def heat_3d(u: Any) -> Any:
    """Seven-point stencil with a nonlinear source, fixed boundary."""
    v = jnp.pad(u, 1)
    inner = slice(1, -1)
    around = v[2:, inner, inner] + v[:-2, inner, inner] + v[inner, 2:, inner]
    around += v[inner, :-2, inner] + v[inner, inner, 2:] + v[inner, inner, :-2]
    return around - 6.0 * u + u**3


def brusselator(state: Any) -> Any:
    """Two species on a periodic grid, (2, N, N)."""
    u, v = state

    def laplacian(w: Any) -> Any:
        return sum(jnp.roll(w, s, a) for s in (1, -1) for a in (0, 1)) - 4.0 * w

    return jnp.stack([
        1.0 + u**2 * v - 4.4 * u + 10.0 * laplacian(u),
        3.4 * u - u**2 * v + 10.0 * laplacian(v),
    ])  # fmt: skip


def arrow_head(x: Any) -> Any:
    """One dense row, one dense column, a diagonal."""
    return jnp.concatenate([jnp.sum(x**2)[None], x[1:] ** 2 * x[0]])


def chained(x: Any) -> Any:
    """Rosenbrock's chain: tridiagonal Hessian."""
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def reaction_diffusion(u: Any) -> Any:
    """Three-point stencil with a nonlinear reaction."""
    v = jnp.pad(u, 1)
    return v[2:] - 2.0 * u + v[:-2] + jnp.exp(-u) * u


def _function(fn: Callable[..., Any], *shapes: Any, name: str = "f") -> Any:
    return av.NumericalFunction(name, fn, tuple(av.Arg(shape) for shape in shapes))


# ---- sections ----


def colors(_: Path) -> Iterator[Row]:
    """Number of coloured passes, and their lower bound."""
    n = optimal_control.horizon_size(20)
    cases: list[tuple[str, Any, int]] = [
        (
            "quadrotor shooting N=20",
            av.spjacobian(_function(optimal_control.shooting(20), n, 13)),
            17,
        ),
        ("2-D heat 64 x 64", av.spjacobian(_function(heat_2d, (64, 64))), 5),
        ("3-D heat 16^3", av.spjacobian(_function(heat_3d, (16, 16, 16))), 7),
        ("arrow head 1000", av.spjacobian(_function(arrow_head, 1000)), 3),
        ("Brusselator 32 x 32", av.spjacobian(_function(brusselator, (2, 32, 32))), 8),
        ("tridiagonal Hessian, star", av.sphessian(_function(chained, 500), mode="star"), 3),
        ("tridiagonal Hessian, acyclic", av.sphessian(_function(chained, 500), mode="acyclic"), 2),
    ]
    for what, function, limit in cases:
        coloring = function.derivative.coloring
        found = (
            f"{coloring.passes} ({coloring.kind}, {coloring.order}; at least "
            f"{coloring.lower_bound} in one direction)"
        )
        yield Row(f"colours: {what}", found, coloring.passes, limit)
    yield from _coloring_speed()


def _coloring_speed() -> Iterator[Row]:
    n = 100_000
    band = sp.diags_array([np.ones(n - 1), np.ones(n), np.ones(n - 1)], offsets=[-1, 0, 1])
    random = np.random.default_rng(0)
    rows, columns = np.repeat(np.arange(60_000), 5), random.integers(0, 60_000, 300_000)
    scattered = sp.csc_array((np.ones(300_000), (rows, columns)))
    for what, color, pattern in (
        ("tridiagonal columns", color_jacobian, sp.csc_array(band)),
        ("random columns", color_jacobian, scattered),
        ("tridiagonal star", color_hessian, sp.csc_array(band)),
    ):
        best, passes = float("inf"), 0
        for _ in range(3):
            start = time.process_time()
            passes = color(pattern).passes
            best = min(best, time.process_time() - start)
        found = f"{best:.2f} s for {pattern.nnz} non-zeros ({passes} colours)"
        yield Row(f"colouring: {what}", found, best, 0.5, " s")


def detection(_: Path) -> Iterator[Row]:
    """Time to find the pattern beyond twice the time JAX needs to trace the derivative."""
    n = optimal_control.horizon_size(100)
    cases: list[tuple[str, Any, Any]] = [
        ("reaction-diffusion 100,000", "jacobian", (reaction_diffusion, 100_000)),
        ("Brusselator 64 x 64", "jacobian", (brusselator, (2, 64, 64))),
        ("3-D heat 32^3", "jacobian", (heat_3d, (32, 32, 32))),
        ("arrow head 100,000", "jacobian", (arrow_head, 100_000)),
        ("quadrotor shooting N=100", "jacobian", (optimal_control.shooting(100), n, 13)),
        ("Rosenbrock 100,000", "hessian", (chained, 100_000)),
    ]
    for what, kind, (fn, *shapes) in cases:
        tracing = min(_time(partial(_trace_derivative, kind, fn, shapes)) for _ in range(5))
        total = min(_time(partial(_detect, kind, fn, shapes)) for _ in range(5))
        nnz = _detect(kind, fn, shapes)
        excess = (total - 2.0 * tracing) * 1e3
        found = f"{total * 1e3:.0f} ms, JAX tracing {tracing * 1e3:.0f} ms, {nnz} non-zeros"
        yield Row(f"detection: {what}, beyond 2 x tracing", found, excess, 50, " ms")


def _detect(kind: Any, fn: Callable[..., Any], shapes: list[Any]) -> int:
    """Everything from the Python function to the pattern."""
    return SparseDerivative(kind, _function(fn, *shapes).traced.jaxpr, (0,)).structure.nnz


def _trace_derivative(kind: str, fn: Callable[..., Any], shapes: list[Any]) -> None:
    """What JAX itself does with the Python function when it is differentiated."""
    structs = [jax.ShapeDtypeStruct(np.zeros(shape).shape, "float64") for shape in shapes]

    def derivative(x: Any, t: Any, *rest: Any) -> Any:
        def of_x(x: Any) -> Any:
            return fn(x, *rest)

        chosen = jax.grad(of_x) if kind == "hessian" else of_x
        return jax.jvp(chosen, (x,), (t,))[1]

    with jax.enable_x64(True):
        jax.make_jaxpr(derivative)(structs[0], *structs)


def _time(call: Callable[[], Any]) -> float:
    jax.clear_caches()
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def exactness(_: Path) -> Iterator[Row]:
    """Traced patterns against dense automatic differentiation at random points."""
    from tests.sparsity.functions import FUNCTIONS
    from tests.sparsity.judge import dense, detected, judge, random_points

    warnings.simplefilter("ignore")
    verdicts = [judge(detected(f), dense(f, random_points(f))) for f in FUNCTIONS]
    exact = sum(v.exact for v in verdicts)
    wrong = sum(v.missing > 0 for v in verdicts)
    total = len(FUNCTIONS)
    yield Row("patterns: functions with a missing entry", f"{wrong} of {total}", wrong, 0)
    share = 100.0 * (1.0 - exact / total)
    found = f"{exact} of {total} exact"
    yield Row("patterns: share that is too large", found, share, 5, " %")


def evaluation(work: Path) -> Iterator[Row]:
    """Values of sparse derivatives of single functions."""
    for what, ours, theirs, inputs, limit in _single_functions():
        yield from _against_casadi(what, ours, theirs, inputs, limit, work / what.replace(" ", "_"))


def _single_functions() -> Iterator[tuple[str, Any, dict[str, ca.Function], list[Any], float]]:
    random = np.random.default_rng(1)
    for model, jacobian_limit, hessian_limit in (
        (models.QUADROTOR, 0.85, 0.9),
        (models.RACE_CAR, None, 0.7),
        (models.CART_POLE, None, 0.65),
    ):
        z, lam = model.point(random), random.normal(size=model.states)
        f = _function(model.stacked, model.states + model.controls, name=model.name)
        jacobian = {"CasADi SX": model.casadi_jacobian()}
        hessian = {"CasADi SX": model.casadi_hessian()}
        yield f"{model.name} Jacobian", av.spjacobian(f), jacobian, [z], jacobian_limit
        yield (
            f"{model.name} Hessian",
            av.lagrangian_hessian(None, f),
            hessian,
            [z, lam],
            hessian_limit,
        )
    for sizes in models.MLP_SIZES:
        network = _function(models.mlp(sizes), sizes[0], name="network")
        theirs = {"CasADi MX": models.casadi_mlp_jacobian(sizes)}
        inputs = [random.normal(size=sizes[0])]
        what = f"MLP {'-'.join(map(str, sizes))} Jacobian"
        yield what, av.spjacobian(network), theirs, inputs, 0.1


def horizon(work: Path) -> Iterator[Row]:
    """The shooting constraint of a whole horizon: size, compile time, and evaluation."""
    sizes = {}
    for stages in (20, 100):
        n = optimal_control.horizon_size(stages)
        f = _function(optimal_control.shooting(stages), n, 13, name="shooting")
        for what, function in (
            ("Jacobian", av.spjacobian(f)),
            ("Hessian", av.lagrangian_hessian(None, f)),
        ):
            folder = work / f"{what}{stages}"
            start = time.perf_counter()
            files = av.export(function, module="ours", path=folder)
            generation = time.perf_counter() - start
            sizes[what, stages] = files.source.stat().st_size
            for compiler in COMPILERS:
                compilation = compile_object(compiler, files.source, FLAGS)
                found = f"{generation:.1f} s + {compilation:.1f} s"
                total = generation + compilation
                title = f"shooting {what} N={stages}: generate + compile, {compiler}"
                yield Row(title, found, total, 15, " s")
    for what in ("Jacobian", "Hessian"):
        small, large = sizes[what, 20], sizes[what, 100]
        found = f"{small} bytes at N=20, {large} at N=100"
        yield Row(f"shooting {what}: growth of the source", found, large - small, 100, " bytes")
    yield from _horizon_speed(work / "speed")


def _horizon_speed(work: Path) -> Iterator[Row]:
    random = np.random.default_rng(2)
    stages = 20
    n = optimal_control.horizon_size(stages)
    z, start, lam = (
        optimal_control.horizon_point(random, stages),
        random.normal(size=13),
        random.normal(size=13 * (stages + 1)),
    )
    f = _function(optimal_control.shooting(stages), n, 13, name="shooting")
    jacobian, hessian = optimal_control.casadi_shooting(stages)
    yield from _against_casadi(
        "shooting Jacobian N=20", av.spjacobian(f), jacobian, [z, start], 0.8, work / "J"
    )
    yield from _against_casadi(
        "shooting Hessian N=20",
        av.lagrangian_hessian(None, f),
        hessian,
        [z, start, lam],
        0.8,
        work / "H",
    )


def _against_casadi(
    what: str,
    ours: Any,
    competitors: dict[str, ca.Function],
    inputs: list[np.ndarray],
    limit: float | None,
    work: Path,
) -> Iterator[Row]:
    """Ratio of run times to the fastest competitor, one row per compiler.

    Ours must meet the limit with the better compiler; CasADi's text gets the same one.
    """
    files = av.export(ours, module="ours", path=work / "ours")
    for compiler in COMPILERS:
        candidates = [generated_module("anvil_jax", compiler, files, ours)]
        candidates += [
            casadi_function(name, compiler, other, work / name.replace(" ", "_") / compiler)
            for name, other in competitors.items()
        ]
        outputs = [np.empty(ours.nnz)]
        check_agreement(candidates, inputs, [(ours.nnz,)])
        times = best_times(candidates, inputs, outputs)
        ratio = times["anvil_jax"] / min(times[name] for name in competitors)
        listed = ", ".join(f"{name} {ns:.0f} ns" for name, ns in times.items())
        found = f"{listed}: ratio {ratio:.2f} ({ours.nnz} values, {ours.operations} operations)"
        yield Row(f"{what}, {compiler}", found, ratio, limit)


SECTIONS = {
    "colors": colors,
    "detection": detection,
    "exactness": exactness,
    "evaluation": evaluation,
    "horizon": horizon,
}

if __name__ == "__main__":
    sys.exit(run(SECTIONS, PAGE, (__doc__ or "").partition("\n")[0], INTRO))
