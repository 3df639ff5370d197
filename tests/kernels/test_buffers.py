"""Workspace layout: what lives at the same time never shares memory."""

import numpy as np
import pytest

from anvil_jax import targets
from anvil_jax.kernels.buffers import ALIGNMENT, Lifetime, lay_out
from anvil_jax.kernels.program import Buffer
from anvil_jax.lowering import lower
from anvil_jax.targets.signature import SignatureNames
from anvil_jax.tracing import trace
from tests.cases.table import TABLE


def buffer(dtype: str, size: int) -> Buffer:
    return Buffer(dtype, size, "intermediate")


@pytest.mark.parametrize("seed", range(30))
def test_live_buffers_never_overlap(seed):
    generator = np.random.default_rng(seed)
    lives = []
    for _ in range(40):
        first = int(generator.integers(0, 60))
        dtype = str(generator.choice(["float64", "int8", "float32", "bool"]))
        size = int(generator.integers(0, 200))
        lives.append(Lifetime(buffer(dtype, size), first, first + int(generator.integers(0, 20))))
    offsets, total = lay_out(lives)
    for k, a in enumerate(lives):
        begin = offsets[a.buffer]
        assert begin % ALIGNMENT == 0
        assert begin + a.buffer.nbytes <= total
        for b in lives[:k]:
            together = a.first <= b.last and b.first <= a.last
            other = offsets[b.buffer]
            apart = begin + a.buffer.nbytes <= other or other + b.buffer.nbytes <= begin
            assert not together or apart


def test_memory_is_reused():
    lives = [Lifetime(buffer("float64", 100), 10 * k, 10 * k + 5) for k in range(9)]
    offsets, total = lay_out(lives)
    assert set(offsets.values()) == {0}
    assert total == 832


def test_nothing():
    assert lay_out([]) == ({}, 0)
    assert lay_out([Lifetime(buffer("float64", 0), 0, 1)])[1] == 0


@pytest.mark.parametrize("kernel", ["auto", "tensor"])
def test_workspace_is_a_multiple_of_the_alignment(kernel):
    for c in TABLE["programs"][:12]:
        traced = trace(c.function, c.inputs)
        names = SignatureNames(
            "f",
            tuple((p.name, p.shape) for p in traced.inputs),
            tuple((p.name, p.shape) for p in traced.outputs),
        )
        view = targets.render(lower(traced, kernel), "f", names, "CPU")
        assert view.workspace_nbytes % ALIGNMENT == 0
