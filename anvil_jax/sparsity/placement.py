"""What is written to which CSC slot: in loops where slots are evenly spaced, by tables elsewhere.

Values of blocks that are alone in their slot are stored directly by the loop over the stages. The
others are deferred: kept in a buffer, and summed per slot afterwards. Slots without any varying
contribution hold a constant.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

MIN_RUN = 4
"""Evenly spaced slots from which on a loop is used."""

_MAX_RUNS = 12
"""Runs of one kind above which a table is shorter than loops."""


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """What a varying local entry adds to the matrix: ``values[slots] += factors * entry[stages]``.

    Attributes:
        region, entry: which local entry.
        stages, slots, factors: one element per contribution.
    """

    region: int
    entry: int
    stages: np.ndarray
    slots: np.ndarray
    factors: np.ndarray


@dataclass(frozen=True, slots=True)
class Direct:
    """``values[first + step * stage] = factor * entry + constant`` at every stage of `region`."""

    region: int
    entry: int
    first: int
    step: int
    factor: float
    constant: float


@dataclass(frozen=True, slots=True, eq=False)
class Scattered:
    """``values[slots[stage]] = factor * entry + constant`` at every stage of `region`."""

    region: int
    entry: int
    slots: np.ndarray
    factor: float
    constant: float


@dataclass(frozen=True, slots=True)
class ConstantRun:
    """``values[first + step * k] = value`` for k in range(length), for each (first, value)."""

    step: int
    length: int
    stores: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class ConstantTable:
    """``values[slots] = numbers``."""

    slots: np.ndarray
    numbers: np.ndarray


@dataclass(frozen=True, slots=True)
class SumRun:
    """``values[first + step k] = constant + sum(factor * deferred[begin + stride k])``, k < length.

    Attributes:
        terms: (begin, stride, factor) of each.
    """

    first: int
    step: int
    length: int
    constant: float
    terms: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class SumTable:
    """``values[slots[k]] = constants[k] + sum(factors[k] * deferred[places[k]])``.

    Attributes:
        slots, constants: (n,).
        places, factors: (n, terms).
    """

    slots: np.ndarray
    constants: np.ndarray
    places: np.ndarray
    factors: np.ndarray


@dataclass(slots=True)
class Placement:
    """Everything that is written.

    Attributes:
        direct, scattered: stores inside the loops over the stages.
        deferred: per region the entries kept in the buffer; stage p of region k begins at
            ``starts[k] + p * len(deferred[k])``.
        starts: per region.
        deferred_size: elements of the buffer.
        constant_runs, constant_table: slots that never change.
        sum_runs, sum_tables: sums of deferred values.
    """

    direct: list[Direct] = field(default_factory=list)
    scattered: list[Scattered] = field(default_factory=list)
    deferred: list[list[int]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    deferred_size: int = 0
    constant_runs: list[ConstantRun] = field(default_factory=list)
    constant_table: ConstantTable | None = None
    sum_runs: list[SumRun] = field(default_factory=list)
    sum_tables: list[SumTable] = field(default_factory=list)


def place(
    template: np.ndarray, contributions: Sequence[Contributions], trips: Sequence[int]
) -> Placement:
    """Decide how each slot is written.

    Args:
        template: (nnz,) constant part of each slot.
        contributions: the varying ones.
        trips: stages of each region.
    """
    plan = Placement()
    times = np.zeros(len(template), np.int64)
    for c in contributions:
        np.add.at(times, c.slots, 1)
    later: list[Contributions] = []
    written = np.zeros(len(template), bool)
    for c in contributions:
        if not _is_alone(c, times, template, trips[c.region]):
            later.append(c)
            continue
        slots = np.empty(trips[c.region], np.int64)
        slots[c.stages] = c.slots
        _place_direct(plan, c, slots, float(template[slots[0]]))
        written[slots] = True
    _place_deferred(plan, later, template, trips)
    for c in later:
        written[c.slots] = True
    constant = np.flatnonzero(~written)
    steps = sorted({d.step for d in plan.direct if d.step > 1}, reverse=True)
    _place_constants(plan, constant, template[constant], [*steps, 1])
    return plan


def _is_alone(c: Contributions, times: np.ndarray, template: np.ndarray, trips: int) -> bool:
    """Whether the entry fills one slot of its own at every stage, always in the same way."""
    return (
        len(c.stages) == trips
        and len(np.unique(c.stages)) == trips
        and bool((times[c.slots] == 1).all())
        and _uniform(c.factors)
        and _uniform(template[c.slots])
    )


def _uniform(values: np.ndarray) -> bool:
    return bool((values == values[0]).all())


def _place_direct(plan: Placement, c: Contributions, slots: np.ndarray, constant: float) -> None:
    factor = float(c.factors[0])
    steps = np.diff(slots)
    if not len(steps) or _uniform(steps):
        step = int(steps[0]) if len(steps) else 0
        plan.direct.append(Direct(c.region, c.entry, int(slots[0]), step, factor, constant))
    else:
        plan.scattered.append(Scattered(c.region, c.entry, slots, factor, constant))


def _place_deferred(
    plan: Placement, later: Sequence[Contributions], template: np.ndarray, trips: Sequence[int]
) -> None:
    for region, count in enumerate(trips):
        entries = sorted({c.entry for c in later if c.region == region})
        plan.deferred.append(entries)
        plan.starts.append(plan.deferred_size)
        plan.deferred_size += len(entries) * count
    if not later:
        return
    places, kinds = [], []
    for number, c in enumerate(later):
        entries = plan.deferred[c.region]
        begin = plan.starts[c.region] + entries.index(c.entry)
        places.append(begin + c.stages * len(entries))
        kinds.append(np.full(len(c.stages), number))
    slots = np.concatenate([c.slots for c in later])
    place_of = np.concatenate(places)
    kind_of = np.concatenate(kinds)
    factors = np.concatenate([c.factors for c in later])
    order = np.lexsort((place_of, kind_of, slots))
    slots, place_of, kind_of, factors = (a[order] for a in (slots, place_of, kind_of, factors))
    firsts = np.flatnonzero(np.diff(slots, prepend=-1))
    counts = np.diff(np.append(firsts, len(slots)))
    for count in np.unique(counts):
        rows = firsts[counts == count][:, None] + np.arange(count)
        where = slots[rows[:, 0]]
        table = SumTable(where, template[where], place_of[rows], factors[rows])
        _place_sums(plan, table, kind_of[rows])


def _place_sums(plan: Placement, table: SumTable, kinds: np.ndarray) -> None:
    """Sums with one number of terms: runs where they are regular, a table of the others."""
    keys = np.column_stack([kinds.astype(float), table.factors, table.constants])
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    irregular = []
    for number in range(int(group.max(initial=-1)) + 1):
        members = np.flatnonzero(group == number)
        members = members[np.argsort(table.places[members, 0], kind="stable")]
        positions = np.column_stack([table.slots[members], table.places[members]])
        runs = list(_runs(positions))
        short = [np.arange(a, b) for a, b in runs if b - a < MIN_RUN]
        long = [(a, b) for a, b in runs if b - a >= MIN_RUN]
        if len(long) > _MAX_RUNS:
            irregular.append(members)
            continue
        irregular.extend(members[part] for part in short)
        for a, b in long:
            steps = positions[a + 1] - positions[a]
            head = members[a]
            terms = tuple(
                (int(begin), int(stride), float(factor))
                for begin, stride, factor in zip(
                    table.places[head], steps[1:], table.factors[head], strict=True
                )
            )
            plan.sum_runs.append(
                SumRun(
                    int(table.slots[head]),
                    int(steps[0]),
                    b - a,
                    float(table.constants[head]),
                    terms,
                )
            )
    if irregular:
        rest = np.sort(np.concatenate(irregular))
        plan.sum_tables.append(
            SumTable(
                table.slots[rest], table.constants[rest], table.places[rest], table.factors[rest]
            )
        )


def _runs(positions: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows with a constant difference, from the first on, each as long as possible."""
    steps = np.diff(positions, axis=0)
    changes = np.flatnonzero((np.diff(steps, axis=0) != 0).any(axis=1)) + 1 if len(steps) else []
    begin, total = 0, len(positions)
    ends = iter([*(int(c) for c in changes), total])
    end = next(ends)
    while begin < total:
        while end <= begin and end < total:
            end = next(ends)
        # Rows begin .. end share one difference; the next run begins behind them.
        stop = total if end >= total else end + 1
        yield begin, min(stop, total)
        begin = stop


def _place_constants(
    plan: Placement, slots: np.ndarray, numbers: np.ndarray, steps: Sequence[int]
) -> None:
    """Constant slots, by the steps of the stages first, then contiguous, then by table."""
    loops: dict[tuple[int, int], list[tuple[int, float]]] = {}
    rest: list[np.ndarray] = []
    for value in np.unique(numbers):
        left = slots[numbers == value]
        for step in steps:
            left = _peel(left, step, float(value), loops)
        rest.append(left)
    for (step, length), stores in sorted(loops.items()):
        plan.constant_runs.append(ConstantRun(step, length, tuple(sorted(stores))))
    table = np.sort(np.concatenate([*rest, np.zeros(0, np.int64)])).astype(np.int64)
    if len(table):
        plan.constant_table = ConstantTable(table, numbers[np.searchsorted(slots, table)])


def _peel(
    slots: np.ndarray,
    step: int,
    value: float,
    loops: dict[tuple[int, int], list[tuple[int, float]]],
) -> np.ndarray:
    """Moves runs of `step` from `slots` to `loops`; returns what is left, sorted."""
    order = np.lexsort((slots, slots % step))
    ordered = slots[order]
    breaks = np.flatnonzero(np.diff(ordered) != step) + 1
    left = []
    for run in np.split(ordered, breaks):
        if len(run) >= MIN_RUN:
            loops.setdefault((step, len(run)), []).append((int(run[0]), value))
        else:
            left.append(run)
    return np.sort(np.concatenate([*left, np.zeros(0, np.int64)])).astype(np.int64)
