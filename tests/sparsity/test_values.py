"""Generated values of sparse derivatives against dense derivatives, in every way of computing."""

import math
from pathlib import Path

import numpy as np
import pytest

import anvil_jax as av
from tests.sparsity.functions import FUNCTIONS, Function
from tests.sparsity.judge import dense, random_points
from tests.support.native import FLAGS, Job, run_natively

GROUPS = 6
RTOL = {"float64": 1e-11, "float32": 2e-4}


def derivatives(function: Function) -> list[av.SparseNumericalFunction]:
    """As users get it, and by coloured passes."""
    specs = tuple(av.Arg(shape, function.dtype) for shape in function.shapes)
    f = av.NumericalFunction(function.name, function.fn, specs)
    every = tuple(range(len(specs)))
    if function.kind == "hess":
        name = f"{function.name}_"
        return [
            av.sphessian(f, every, mode, name=name + mode) for mode in ("auto", "star", "acyclic")
        ]
    modes = ("auto", "rev") if function.reverse else ("auto", "fwd", "both")
    return [av.spjacobian(f, every, mode, name=f"{function.name}_{mode}") for mode in modes]


@pytest.mark.parametrize("group", range(GROUPS))
def test_values(group: int, tmp_path: Path):
    jobs, wanted = [], {}
    for function in FUNCTIONS[group::GROUPS]:
        (point,) = random_points(function, 1)
        sizes = [math.prod(shape) for shape in function.shapes]
        parts = np.split(point, np.cumsum(sizes)[:-1])
        inputs = tuple(p.reshape(s) for p, s in zip(parts, function.shapes, strict=True))
        (truth,) = dense(function, [point])
        if function.kind == "hess":
            truth = np.triu(truth)
        for made in derivatives(function):
            jobs.append(Job(made.view, inputs))
            wanted[made.name] = made, truth, RTOL[function.dtype]
    results = run_natively(jobs, ["g++", "-O1", *FLAGS], tmp_path)
    for name, (made, truth, rtol) in wanted.items():
        layout = (results[name][0], made.indices, made.indptr)
        found = np.zeros(made.shape)
        columns = np.repeat(np.arange(made.shape[1]), np.diff(made.indptr))
        found[made.indices, columns] = layout[0]
        scale = np.abs(truth).max(initial=1.0)
        np.testing.assert_allclose(found, truth, rtol=rtol, atol=rtol * scale, err_msg=name)
