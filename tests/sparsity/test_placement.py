"""Placement: whatever the layout, executing it must give the template plus all contributions."""

import numpy as np
import pytest

from anvil_jax.sparsity.placement import Contributions, Placement, place


def executed(plan: Placement, size: int, blocks: list[np.ndarray]) -> np.ndarray:
    """What the generated code would write; `blocks` hold (stages, entries) of each region."""
    values = np.full(size, np.nan)
    deferred = np.full(plan.deferred_size, np.nan)
    for d in plan.direct:
        for stage, block in enumerate(blocks[d.region]):
            values[d.first + d.step * stage] = d.factor * block[d.entry] + d.constant
    for s in plan.scattered:
        values[s.slots] = s.factor * blocks[s.region][:, s.entry] + s.constant
    for region, entries in enumerate(plan.deferred):
        count = len(blocks[region]) * len(entries)
        start = plan.starts[region]
        deferred[start : start + count] = blocks[region][:, entries].reshape(-1)
    for run in plan.constant_runs:
        for first, value in run.stores:
            values[first + run.step * np.arange(run.length)] = value
    if plan.constant_table is not None:
        values[plan.constant_table.slots] = plan.constant_table.numbers
    for run in plan.sum_runs:
        for k in range(run.length):
            terms = (f * deferred[begin + stride * k] for begin, stride, f in run.terms)
            values[run.first + run.step * k] = run.constant + sum(terms)
    for table in plan.sum_tables:
        sums = (table.factors * deferred[table.places]).sum(axis=1)
        values[table.slots] = table.constants + sums
    return values


def check(template: np.ndarray, contributions: list[Contributions], trips: list[int]) -> Placement:
    """Executes the placement with random blocks and compares."""
    random = np.random.default_rng(0)
    entries = [1 + max((c.entry for c in contributions if c.region == k), default=-1)
               for k in range(len(trips))]  # fmt: skip
    blocks = [random.normal(size=(n, e)) for n, e in zip(trips, entries, strict=True)]
    wanted = template.astype(float).copy()
    for c in contributions:
        np.add.at(wanted, c.slots, c.factors * blocks[c.region][c.stages, c.entry])
    plan = place(template, contributions, trips)
    np.testing.assert_allclose(executed(plan, len(template), blocks), wanted, rtol=1e-13)
    return plan


def test_evenly_spaced_blocks_need_no_table():
    stages = np.arange(50)
    template = np.zeros(50 * 5)
    template[4::5] = -1.0
    parts = [Contributions(0, k, stages, 5 * stages + k, np.ones(50)) for k in range(4)]
    plan = check(template, parts, [50])
    assert len(plan.direct) == 4
    assert not plan.scattered
    assert not plan.sum_tables
    assert plan.constant_table is None
    assert [r.length for r in plan.constant_runs] == [50]


def test_overlapping_stages_are_sums_in_loops():
    stages = np.arange(100)
    parts = [
        Contributions(0, 0, stages, 2 * stages, np.ones(100)),
        Contributions(0, 1, stages, 2 * stages + 1, np.full(100, 2.0)),
        Contributions(0, 2, stages, 2 * stages + 2, np.ones(100)),
    ]
    plan = check(np.zeros(201), parts, [100])
    assert len(plan.direct) == 1
    assert len(plan.sum_runs) == 1
    assert sum(len(t.slots) for t in plan.sum_tables) == 2


@pytest.mark.parametrize("seed", range(20))
def test_random_layouts(seed: int):
    random = np.random.default_rng(seed)
    size = int(random.integers(1, 60))
    trips = [int(n) for n in random.integers(1, 12, size=random.integers(1, 4))]
    template = random.choice([0.0, 1.0, -1.0, 0.5], size=size)
    parts = []
    for region, count in enumerate(trips):
        for entry in range(int(random.integers(0, 5))):
            n = int(random.integers(0, 2 * count))
            stages = random.integers(0, count, n)
            slots = random.integers(0, size, n)
            factors = random.choice([1.0, -1.0, 0.25], size=n)
            parts.append(Contributions(region, entry, stages, slots, factors))
    check(template, parts, trips)


def test_affine_with_several_runs():
    stages = np.arange(40)
    slots = np.where(stages < 20, 3 * stages, 3 * stages + 7)
    parts = [
        Contributions(0, 0, stages, slots, np.ones(40)),
        Contributions(0, 1, stages, slots, -np.ones(40)),
    ]
    plan = check(np.zeros(140), parts, [40])
    assert len(plan.sum_runs) == 2
    assert not plan.sum_tables


def test_nothing_varies():
    plan = check(np.array([1.0, 2.0, 2.0, 2.0, 2.0, 3.0]), [], [])
    assert not plan.deferred_size
    assert len(plan.constant_runs) == 1
