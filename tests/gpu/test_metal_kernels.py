"""Metal kernels without a Mac: run on the host against JAX, and parsed with address spaces.

Metal has no float64, so every case of the table gets its inputs in float32; those that make arrays
of float64 themselves must be refused.
"""

import re
from itertools import batched
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anvil_jax import Arg, NumericalFunction
from anvil_jax.errors import AnvilError, ArgumentError, LoweringError
from tests.cases.case import KERNELS, Case
from tests.cases.table import TABLE
from tests.support import metal_shim
from tests.support.emulated import kernels_text
from tests.support.emulated_metal import COMMAND, emulated_metal
from tests.support.judge import difference
from tests.support.native import SANITIZERS, Job, flat_arrays, run_natively

pytestmark = pytest.mark.compile

# No thread may depend on what another one does, in whatever order they run.
_ORDER = {"auto": "reverse", "scalar": "forward", "tensor": "shuffled"}

# Sums in another order than XLA's, judged where they cancel: some units in the last place of the
# summands, which are up to 100 times larger. What repeats rounding has more.
_RTOL = 5e-5
_RTOLS = {
    "windows": 1e-4,  # sums of 100 products
    "programs": 1e-3,  # 100 steps of a pendulum, 30 of a Riccati recursion
}

# Iterations to an error of 1e-12, which float32 does not resolve: they end by chance or never.
_UNDECIDED = {"while_newton", "while_vmapped_floats", "newton"}

# Cases that make arrays of float64 in their own code (constants, jnp.zeros, jax.random with default
# dtypes, derivatives declared for float64), and those that JAX does not trace with float32 because
# a loop's state would change its dtype.
_REFUSED = {
    "elementwise": 17, "structural": 12, "reductions": 0, "cumulative": 0, "contraction": 5,
    "indexing": 4, "windows": 0, "control_flow": 9, "calls": 1, "linalg": 1, "sorting": 2,
    "random": 15, "derivatives": 27, "programs": 19,
}  # fmt: skip
_WHY = (
    "which METAL does not have",
    "METAL has no float64",
    "cannot trace .* TypeError",
)


def inputs(c: Case) -> tuple:
    """Of a case, in float32."""

    def single(leaf: object) -> object:
        return np.asarray(leaf, np.float32) if np.asarray(leaf).dtype == np.float64 else leaf

    return jax.tree.map(lambda leaf: leaf if callable(leaf) else single(leaf), c.inputs)


def lower(family: str) -> tuple[dict[str, list[Job]], list[str]]:
    """The cases that are not refused, by kernel choice, and why the others are.

    What has the text of an earlier choice is left out.
    """
    jobs: dict[str, list[Job]] = {kernel: [] for kernel in KERNELS}
    refused = []
    for c in TABLE[family]:
        if c.name in _UNDECIDED:
            continue
        given = inputs(c)
        codes = set()
        try:
            for kernel in c.kernels:
                f = NumericalFunction(f"case_{c.name}", c.function, given, "METAL", kernel=kernel)
                if f.kernels not in codes:
                    jobs[kernel].append(Job(f.view, flat_arrays(f.view, given)))
                codes.add(f.kernels)
        except AnvilError as error:
            refused.append(f"{c.name}: {error}")
    return jobs, refused


def references(cases: list[Case]) -> dict[str, list[np.ndarray]]:
    """What JAX computes; to save time some cases form a program, compiled without optimisation."""
    flat = [jax.tree.flatten(inputs(c)) for c in cases]
    values = [[leaf for leaf in leaves if not callable(leaf)] for leaves, _ in flat]

    def evaluate(values: list) -> dict:
        found = {}
        for c, (leaves, tree), given in zip(cases, flat, map(iter, values), strict=True):
            filled = [leaf if callable(leaf) else next(given) for leaf in leaves]
            results = c.function(*jax.tree.unflatten(tree, filled))
            found[f"case_{c.name}"] = jax.tree.leaves(results)
        return found

    options: dict = {"xla_backend_optimization_level": 0}
    with jax.enable_x64(True):
        found = jax.jit(evaluate).lower(values).compile(options)(values)
    return {name: [np.asarray(leaf) for leaf in leaves] for name, leaves in found.items()}


@pytest.mark.parametrize("family", TABLE)
def test_table(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    jobs, refused = lower(family)
    unexpected = [why for why in refused if not re.search("|".join(_WHY), why, re.DOTALL)]
    assert not unexpected, "\n".join(unexpected)
    assert len(refused) == _REFUSED[family], "\n".join(refused)
    names = {job.view.name for kernel in KERNELS for job in jobs[kernel]}
    known = {f"case_{c.name}": c for c in TABLE[family] if f"case_{c.name}" in names}
    wanted: dict[str, list[np.ndarray]] = {}
    for some in batched(known.values(), 16):
        wanted |= references(list(some))
    wrong = []
    for kernel in KERNELS:
        if not jobs[kernel]:
            continue
        text = kernels_text(job.view for job in jobs[kernel])
        metal_shim.check(text, tmp_path, f"{family}_{kernel}")
        monkeypatch.setenv("ANVIL_EMULATED_ORDER", _ORDER[kernel])
        for name, got in run_natively(jobs[kernel], COMMAND, tmp_path, emulated_metal).items():
            c = known[name]
            rtol = max(c.rtol or 0.0, _RTOLS.get(family, _RTOL))
            found = difference(got, wanted[name], rtol=rtol, signed=c.signed)
            wrong += [f"{name}, {kernel}: {found}"] if found else []
    assert not wrong, "\n".join(wrong)


def test_stays_within_bounds(tmp_path: Path):
    """A family with loops, branches, tables and every kind of kernel."""
    jobs, _ = lower("programs")
    run_natively(jobs["auto"], [*COMMAND, *SANITIZERS], tmp_path, emulated_metal)


# ---- what Metal cannot do ----

X = Arg(3, "float32")


@pytest.mark.parametrize(
    ("function", "specs", "error", "message"),
    [
        (lambda x: x, (Arg(3),), ArgumentError, "f: input x has dtype float64, which METAL"),
        (
            lambda p: p["a"],
            ({"a": X, "b": Arg(2)},),
            ArgumentError,
            r"f: input p\['b'\] has dtype float64",
        ),
        (
            lambda x: x * np.ones(3),
            (X,),
            ArgumentError,
            r"f: a captured array of shape \(3,\) has dtype float64",
        ),
        (
            lambda x: (x, jnp.zeros(2)),
            (X,),
            ArgumentError,
            "f: result out_1 has dtype float64, which METAL does not have",
        ),
        (
            lambda x: (jnp.sin(x.astype(float)) * 2).astype("float32"),
            (X,),
            LoweringError,
            r"f: the operation convert_element_type at test_metal_kernels\.py:\d+ \(<lambda>\) "
            "computes with float64",
        ),
        (
            lambda x: jax.lax.fori_loop(0, 9, lambda _, s: s + x.sum().astype(float), 0.0) > x,
            (X,),
            LoweringError,
            r"f: the operation .* at test_metal_kernels\.py:\d+ .*computes with float64",
        ),
        (
            lambda x: jax.lax.scan(lambda s, _: (s * 0.5, s > x[0]), 1.0, None, length=3)[1],
            (X,),
            LoweringError,
            r"f: the operation .* at test_metal_kernels\.py:\d+ .*computes with float64",
        ),
        (
            lambda x: x[0] + jnp.cumsum(jnp.sqrt(jnp.arange(3000.0)))[x.sum().astype(int)]
            .astype("float32"),
            (X,),
            LoweringError,
            "computes with float64|constants of dtype float64 would be computed",
        ),
    ],
    ids=[
        "input", "leaf", "captured", "result", "intermediate", "loop", "constant_state", "table",
    ],
)  # fmt: skip
def test_double_is_refused(function, specs, error, message):
    f = NumericalFunction("f", function, specs, "CPU")  # on a CPU all of it is right
    assert f.view
    with pytest.raises(error, match=message):
        _ = NumericalFunction("f", function, specs, "METAL").view


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.where(x > 0, x, 0.0) * 2.0 + jax.nn.relu(x) + jnp.nan,
        lambda x: jnp.mean(x) + jnp.median(x) + jnp.clip(x, -1.0, 0.5),
        lambda x: x * jnp.float32(np.pi) + np.ones(3, "float32") + x.sum() ** 0.5,
        lambda x: jax.lax.cond(x[0] > 0.0, lambda x: x * 2.0, lambda x: -x, x),
        lambda x: (x * (2**40 + jnp.arange(3))).astype("int64"),
        lambda x: (jnp.sin(x.astype(float)), x)[1],
    ],
    ids=["where", "statistics", "scalars", "cond", "integers", "unused"],
)
def test_numbers_of_python_are_no_doubles(function):
    view = NumericalFunction("f", function, (X,), "METAL").view
    assert "double" not in view.code


def test_number_of_arrays_is_limited():
    def total(*xs):
        return sum(xs)

    f = NumericalFunction("f", total, (X,) * 29, "METAL")
    assert "buffer(29)" in f.kernels
    g = NumericalFunction("f", total, (X,) * 30, "METAL")
    with pytest.raises(LoweringError, match="f_kernel_0 takes 31 arrays, of which METAL allows 30"):
        _ = g.view
