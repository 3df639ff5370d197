"""Derivatives of maps: one block per stage, computed in a loop that writes into the CSC slots."""

from collections.abc import Callable, Sequence

import numpy as np

from anvil_jax.kernels.adapter import UOp
from anvil_jax.kernels.program import Buffer
from anvil_jax.lowering.elimination import Entries
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.values import Value
from anvil_jax.sparsity.blocks import RegionPlan, plan_blocks, weights
from anvil_jax.sparsity.derivative import SparseDerivative
from anvil_jax.sparsity.placement import ConstantRun, Placement, SumRun, SumTable

type LocalEntries = Callable[
    [Lowering, SparseDerivative, Sequence[Value], Sequence[np.ndarray]], Entries
]

_LISTED = 32
"""Irregular constants up to which each is a statement of its own."""


def lower_blocks(
    lowering: Lowering,
    derivative: SparseDerivative,
    operands: Sequence[Value],
    local_entries: LocalEntries,
) -> Value | None:
    """The CSC values of a function that is a map over stages, None if it is none."""
    plan = plan_blocks(derivative)
    if plan is None:
        return None
    writer = _Writer(lowering, derivative, plan.placement)
    factors: Sequence[Value] = ()
    if derivative.kind == "hessian":
        factors = lowering.run_function(lambda *args: weights(derivative, *args), *operands)
    for number, part in enumerate(plan.regions):
        count = len(part.region.body.out_avals)
        own, factors = factors[:count], factors[count:]
        _lower_region(lowering, writer, number, part, operands, own, local_entries)
    writer.constants()
    writer.sums()
    return lowering.view(writer.values, (derivative.nnz,))


def _lower_region(
    lowering: Lowering,
    writer: "_Writer",
    number: int,
    part: RegionPlan,
    operands: Sequence[Value],
    factors: Sequence[Value],
    local_entries: LocalEntries,
) -> None:
    region = part.region
    prepared = lowering.run(region.prologue.jaxpr, region.prologue.consts, operands)
    mapped = [lowering.pull(lowering.settle(v)) for v in prepared[: region.n_mapped]]
    shared = [lowering.settle(v) for v in prepared[region.n_mapped :]]
    scales = [lowering.pull(lowering.settle(v)) for v in factors]
    if not part.entries:
        return
    with lowering.nest((region.trips,), parallel=True) as (stage,):
        inputs: list[Value] = [*(v.row(stage) for v in mapped), *shared]
        inputs += [v.row(stage) for v in scales]
        entries = local_entries(lowering, part.local, inputs, part.leaves)
        writer.stage(number, stage, part, entries)


class _Writer:
    """Writes the CSC values as a `Placement` says."""

    def __init__(
        self, lowering: Lowering, derivative: SparseDerivative, placement: Placement
    ) -> None:
        self.lowering = lowering
        self.ex = lowering.ex
        self.dtype = derivative.dtype.name
        self.placement = placement
        self.values = lowering.allocate(self.dtype, derivative.nnz)
        self.deferred = lowering.allocate(self.dtype, placement.deferred_size)

    def stage(self, number: int, stage: UOp, part: RegionPlan, entries: Entries) -> None:
        """The values of one stage's block."""
        zero = self.ex.const(0.0, self.dtype)

        def entry(k: int) -> UOp:
            return self.ex.cast(entries.get(part.entries[k], zero), self.dtype)

        for direct in self.placement.direct:
            if direct.region == number:
                value = self._scaled(entry(direct.entry), direct.factor, direct.constant)
                self._store(self.values, self._place(direct.first, direct.step, stage), value)
        for scattered in self.placement.scattered:
            if scattered.region == number:
                place = self._looked_up(scattered.slots, stage)
                value = self._scaled(entry(scattered.entry), scattered.factor, scattered.constant)
                self._store(self.values, place, value)
        kept = self.placement.deferred[number]
        for k, number_of_entry in enumerate(kept):
            place = self._place(self.placement.starts[number] + k, len(kept), stage)
            self._store(self.deferred, place, entry(number_of_entry))

    def constants(self) -> None:
        """The slots that never change."""
        for run in self.placement.constant_runs:
            self._constant_run(run)
        table = self.placement.constant_table
        if table is None:
            return
        if len(table.slots) <= _LISTED:
            for slot, number in zip(table.slots, table.numbers, strict=True):
                self._store(self.values, self.ex.index(int(slot)), self._number(number))
            return
        with self.lowering.nest((len(table.slots),), parallel=True) as (k,):
            number = self._table(table.numbers, k)
            self._store(self.values, self._looked_up(table.slots, k), number)

    def sums(self) -> None:
        """The slots to which several entries, or stages irregularly, contribute."""
        for run in self.placement.sum_runs:
            self._sum_run(run)
        for table in self.placement.sum_tables:
            self._sum_table(table)

    def _constant_run(self, run: ConstantRun) -> None:
        with self.lowering.nest((run.length,), parallel=True) as (k,):
            for first, value in run.stores:
                self._store(self.values, self._place(first, run.step, k), self._number(value))

    def _sum_run(self, run: SumRun) -> None:
        with self.lowering.nest((run.length,), parallel=True) as (k,):
            total = self._number(run.constant)
            for begin, stride, factor in run.terms:
                loaded = self.ex.load(self.deferred, self._place(begin, stride, k))
                total = self._sum(total, self._scaled(loaded, factor, 0.0))
            self._store(self.values, self._place(run.first, run.step, k), total)

    def _sum_table(self, table: SumTable) -> None:
        with self.lowering.nest((len(table.slots),), parallel=True) as (k,):
            total = self._table(table.constants, k)
            for places, factors in zip(table.places.T, table.factors.T, strict=True):
                loaded = self.ex.load(self.deferred, self._looked_up(places, k))
                if (factors == factors[0]).all():
                    term = self._scaled(loaded, float(factors[0]), 0.0)
                else:
                    term = self.ex.mul(loaded, self._table(factors, k))
                total = self._sum(total, term)
            self._store(self.values, self._looked_up(table.slots, k), total)

    # ---- pieces ----

    def _store(self, buffer: Buffer, place: UOp, value: UOp) -> None:
        self.lowering.store(buffer, place, value)

    def _number(self, value: float) -> UOp:
        return self.ex.const(float(value), self.dtype)

    def _place(self, first: int, step: int, k: UOp) -> UOp:
        return self.ex.add(self.ex.index(first), self.ex.mul(k, self.ex.index(step)))

    def _scaled(self, node: UOp, factor: float, constant: float) -> UOp:
        return self._sum(self._number(constant), self.ex.mul(node, self._number(factor)))

    def _sum(self, total: UOp, term: UOp) -> UOp:
        """The sum; a structural zero is no operand."""
        return term if total is self._number(0.0) else self.ex.add(total, term)

    def _table(self, numbers: np.ndarray, k: UOp) -> UOp:
        if (numbers == numbers[0]).all():
            return self._number(numbers[0])
        data = np.ascontiguousarray(numbers, dtype=self.dtype)
        return self.ex.load(self.lowering.constant_buffer(data), k)

    def _looked_up(self, places: np.ndarray, k: UOp) -> UOp:
        steps = np.diff(places)
        if not len(steps) or (steps == steps[0]).all():
            return self._place(int(places[0]), int(steps[0]) if len(steps) else 0, k)
        table = self.lowering.constant_buffer(np.ascontiguousarray(places, dtype=np.int32))
        return self.ex.to_index(self.ex.load(table, k))
