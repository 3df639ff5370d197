"""Long code is cut into functions; what crosses a cut arrives."""

import re
import subprocess
import time

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from anvil_jax.emit.module import render_library_source
from anvil_jax.targets import layout
from tests.cases.case import Kernel
from tests.cases.table import TABLE
from tests.support.judge import difference
from tests.support.native import FLAGS, make_job, make_view, reference, run_natively

pytestmark = pytest.mark.compile


def long_model(steps: int):
    """Straight-line code of about `steps` operations in which old values are used late."""

    def model(x):
        values = [x[k] for k in range(8)]
        for k in range(steps // 4):
            a, b, c = values[k % 8], values[(k * 5 + 3) % 8], values[(k * 3 + 1) % 8]
            values[k % 8] = a * b * 0.25 + (c - a) * 0.5
        return jnp.stack(values)

    return model


def loop_model(x):
    """Long bodies in a loop, a branch and a loop inside a branch."""
    inside = long_model(200)

    def step(c, i):
        c = lax.cond(i % 3 == 0, inside, lambda c: inside(c[::-1]) + jnp.sin(c), c)
        c = c + 0.1 * lax.fori_loop(0, i, lambda j, d: jnp.cos(inside(d) + j), c)
        return c, c[0] * i

    return lax.scan(step, x, jnp.arange(20))


def while_model(x):
    inside = long_model(600)

    def goes_on(s):
        return (s[1] < 30) & (inside(s[0])[0] < 50.0)

    return lax.while_loop(goes_on, lambda s: (inside(s[0]) + 0.2, s[1] + 1), (x, 0))


X = np.random.default_rng(0).normal(size=8)


@pytest.mark.parametrize("limit", [5, 17, 60])
@pytest.mark.parametrize("model", [long_model(400), loop_model, while_model])
def test_spilled_values_arrive(model, limit, monkeypatch, compilers, tmp_path):
    monkeypatch.setattr(layout, "STATEMENTS_PER_FUNCTION", limit)
    job = make_job("split", model, (X,))
    assert job.view.code.count("part_") > 2
    found = run_natively([job], [compilers[0], "-O1", *FLAGS], tmp_path)["split"]
    assert difference(found, reference(model, (X,)), rtol=1e-10) is None


@pytest.mark.parametrize("kernel", ["auto", "tensor"])
@pytest.mark.parametrize("family", ["control_flow", "programs", "indexing", "linalg"])
def test_cases_survive_cutting(family: str, kernel: Kernel, monkeypatch, compilers, tmp_path):
    monkeypatch.setattr(layout, "STATEMENTS_PER_FUNCTION", 12)
    cases = [c for c in TABLE[family] if kernel in c.kernels]
    jobs = [make_job(f"case_{c.name}", c.function, c.inputs, kernel) for c in cases]
    assert any("part_2" in job.view.code for job in jobs)
    found = run_natively(jobs, [compilers[0], "-O0", *FLAGS], tmp_path)
    wrong = []
    for c in cases:
        want = reference(c.function, c.inputs)
        text = difference(found[f"case_{c.name}"], want, rtol=c.rtol, signed=c.signed)
        wrong += [f"{c.name}: {text}"] if text else []
    assert not wrong, "\n".join(wrong)


def test_functions_are_about_as_long_as_the_limit(monkeypatch):
    monkeypatch.setattr(layout, "STATEMENTS_PER_FUNCTION", 100)
    code = make_view("f", long_model(3_000), (X,)).code
    bodies = [len(body.splitlines()) for body in re.split(r"^}$", code, flags=re.MULTILINE)]
    assert len(bodies) > 4
    assert max(bodies) < 300


def compile_seconds(operations: int, command: list[str], folder) -> float:
    view = make_view("f", long_model(operations), (X,))
    assert view.operations >= 0.9 * operations
    source = folder / "f.cpp"
    bridge = (
        'extern "C" void run(const double* x, double* y, unsigned char* w);\n'
        "void run(const double* x, double* y, unsigned char* w) { m::f::evaluate(x, y, w); }\n"
    )
    source.write_text(render_library_source("m", (view,)) + bridge, encoding="utf-8")
    begin = time.perf_counter()
    subprocess.run(
        [*command, "-std=c++17", "-c", str(source), "-o", str(folder / "f.o")], check=True
    )
    return time.perf_counter() - begin


def test_ten_thousand_operations_compile_in_seconds(compiler, tmp_path):
    assert compile_seconds(10_000, [compiler, "-O2", *FLAGS], tmp_path) < 4


@pytest.mark.slow
def test_hundred_thousand_operations_compile_in_a_minute(compiler, tmp_path):
    assert compile_seconds(100_000, [compiler, "-O2", *FLAGS], tmp_path) < 40


@pytest.mark.parametrize("family", ["control_flow", "programs", "indexing", "sorting"])
def test_text_is_the_same_every_time(family: str):
    """Nothing may depend on the identity of objects, which differs between two generations."""
    different = [
        c.name
        for c in TABLE[family]
        if make_view("f", c.function, c.inputs) != make_view("f", c.function, c.inputs)
    ]
    assert not different
