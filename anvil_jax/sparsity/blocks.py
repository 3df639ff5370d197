"""Where the blocks of a split function land: every stage's small derivative, scattered to CSC.

A function split by `maps` is affine, then the same small function for every stage p, then affine:
its Jacobian is ``C + sum over regions and stages of P_p B_p Q_p`` with constant C, P and Q, its
Hessian ``sum Q_p' H_p Q_p``, where H_p belongs to the body's results weighted with the epilogue's
gradient. A `BlockPlan` says for each local entry which slots of the CSC values it contributes to,
and with what factor. Tables are avoided where slots are evenly spaced, so that the size of the
generated code does not depend on the number of stages.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp
from jax import numpy as jnp
from jax.extend.core import Jaxpr, jaxpr_as_fun

from anvil_jax.errors import SparsityError
from anvil_jax.sparsity.derivative import SparseDerivative
from anvil_jax.sparsity.detection import jacobian_structure
from anvil_jax.sparsity.maps import Region
from anvil_jax.sparsity.placement import Contributions, Placement, place


@dataclass(frozen=True, slots=True, eq=False)
class RegionPlan:
    """One region's part.

    Attributes:
        region: prologue and body; the body's inputs are followed by weights in a Hessian.
        local: derivative of the body with respect to the inputs that depend on the variables.
        leaves: for each of those inputs the tangent of each element; elements that are the same
            combination of variables at every stage share one.
        n_leaves: number of different tangents.
        entries: (row or tangent, tangent) of each local entry that varies.
    """

    region: Region
    local: SparseDerivative
    leaves: tuple[np.ndarray, ...]
    n_leaves: int
    entries: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class BlockPlan:
    """How a split function's derivative is put together.

    Attributes:
        regions: in the order of the split.
        placement: what is written where.
    """

    regions: tuple[RegionPlan, ...]
    placement: Placement


def plan_blocks(derivative: SparseDerivative) -> BlockPlan | None:
    """The plan for `derivative`, None if its function has no split with constant coefficients."""
    split = derivative.split
    if split is None:
        return None
    slots = _Slots(derivative)
    template = np.zeros(derivative.nnz)
    n_inputs = len(_in_avals(derivative.jaxpr))
    results = tuple(range(n_inputs, len(_in_avals(split.epilogue))))
    outer: Any = None
    if derivative.kind == "jacobian":
        direct = sp.coo_array(jacobian_structure(split.epilogue, derivative.wrt))
        outer = sp.csc_array(jacobian_structure(split.epilogue, results))
        if np.isnan(direct.data).any() or np.isnan(outer.data).any():
            return None
        slots.add(template, direct.row, direct.col, direct.data)
    plans, contributions, first_result = [], [], 0
    for number, region in enumerate(split.regions):
        seeds = sp.csr_array(jacobian_structure(region.prologue, derivative.wrt))
        if np.isnan(seeds.data).any():
            return None
        inputs = _Inputs(region, seeds)
        local = _local(derivative, region, inputs.active)
        plan, parts = _plan_region(number, region, local, inputs, outer, first_result, slots)
        for part, constant in parts:
            if constant is None:
                contributions.append(part)
            else:
                np.add.at(template, part.slots, part.factors * constant)
        plans.append(plan)
        first_result += region.trips * sum(a.size for a in _out_avals(region.body))
    trips = tuple(region.trips for region in split.regions)
    return BlockPlan(tuple(plans), place(template, contributions, trips))


def weights(derivative: SparseDerivative, *args: Any) -> list[Any]:
    """Gradient of a split function's output with respect to its regions' results.

    Returns:
        One array (trips, ...) per result; they do not depend on the differentiated inputs.
    """
    split = derivative.split
    assert split is not None
    function = jaxpr_as_fun(split.epilogue)
    avals = _in_avals(split.epilogue)[len(args) :]

    def output(*results: Any) -> Any:
        return function(*args, *results)[0].reshape(())

    _, pull = jax.vjp(output, *(jnp.zeros(a.shape, a.dtype) for a in avals))
    return list(pull(jnp.ones((), _out_avals(split.epilogue)[0].dtype)))


def _in_avals(jaxpr: Jaxpr) -> list[Any]:
    return list(jaxpr.in_avals)


def _out_avals(jaxpr: Jaxpr) -> list[Any]:
    return list(jaxpr.out_avals)


class _Slots:
    """Positions in the CSC values."""

    def __init__(self, derivative: SparseDerivative) -> None:
        self.pattern = derivative.pattern
        self.keys = self.pattern.keys
        self.given = derivative.given is not None

    def find(self, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slots of entries, and which entries exist (a user's pattern may leave some out)."""
        keys = self.pattern.key(rows, cols)
        if not len(self.keys):
            return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
        found = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        exists = self.keys[found] == keys
        if not self.given and not exists.all():
            raise SparsityError("internal error: a block has an entry outside the traced pattern")
        return found, exists

    def add(
        self, template: np.ndarray, rows: np.ndarray, cols: np.ndarray, data: np.ndarray
    ) -> None:
        slots, exists = self.find(rows, cols)
        np.add.at(template, slots[exists], data[exists])


class _Inputs:
    """The active scalars of a region's body, and the variables they combine at each stage."""

    def __init__(self, region: Region, seeds: Any) -> None:
        seeds.sort_indices()
        self.seeds = seeds
        self.trips = region.trips
        active: list[int] = []
        self.rows: list[np.ndarray] = []  # (trips, elements) per active input: rows of `seeds`
        begin = 0
        for k, aval in enumerate(_out_avals(region.prologue)):
            rows = begin + np.arange(aval.size)
            begin += aval.size
            if k < region.n_mapped:
                rows = rows.reshape(region.trips, -1)
            else:
                rows = np.broadcast_to(rows, (region.trips, aval.size))
            if rows.size and np.diff(seeds.indptr)[rows].any():
                active.append(k)
                self.rows.append(rows)
        self.active = tuple(active)
        self.leaves, self.leaf_rows = self._shared()

    def _shared(self) -> tuple[tuple[np.ndarray, ...], list[np.ndarray]]:
        """Tangent number of each element, and the rows (trips,) of each tangent."""
        kinds = _row_kinds(self.seeds)
        numbers: dict[bytes, int] = {}
        leaves, leaf_rows = [], []
        for rows in self.rows:
            found = np.empty(rows.shape[1], np.int64)
            for e in range(rows.shape[1]):
                key = kinds[rows[:, e]].tobytes()
                if key not in numbers:
                    numbers[key] = len(leaf_rows)
                    leaf_rows.append(rows[:, e])
                found[e] = numbers[key]
            leaves.append(found)
        return tuple(leaves), leaf_rows


def _row_kinds(matrix: Any) -> np.ndarray:
    """A number per row; equal rows have equal numbers."""
    seen: dict[bytes, int] = {}
    kinds = np.empty(matrix.shape[0], np.int64)
    indptr, indices, data = matrix.indptr, matrix.indices, matrix.data
    for row in range(matrix.shape[0]):
        a, b = indptr[row], indptr[row + 1]
        kinds[row] = seen.setdefault(indices[a:b].tobytes() + data[a:b].tobytes(), len(seen))
    return kinds


def _local(
    derivative: SparseDerivative, region: Region, active: tuple[int, ...]
) -> SparseDerivative:
    if derivative.kind == "jacobian":
        return SparseDerivative("jacobian", region.body, active)
    return SparseDerivative("hessian", _weighted(region.body), active)


def _weighted(body: Jaxpr) -> Jaxpr:
    """``(inputs, weights) -> sum(weights * results)`` of a body."""
    function = jaxpr_as_fun(body)
    avals: list[Any] = [*_in_avals(body), *_out_avals(body)]
    structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]

    def total(*args: Any) -> Any:
        results = function(*args[: len(_in_avals(body))])
        factors = args[len(_in_avals(body)) :]
        return sum(jnp.sum(w * r) for w, r in zip(factors, results, strict=True))

    with jax.enable_x64(True):
        return jax.make_jaxpr(total)(*structs)


def _plan_region(
    number: int,
    region: Region,
    local: SparseDerivative,
    inputs: _Inputs,
    outer: Any,
    first_result: int,
    slots: _Slots,
) -> tuple[RegionPlan, list[tuple[Contributions, float | None]]]:
    """The region's plan, and what each local entry contributes (its value where constant)."""
    structure = _merged(local, inputs)
    entries: list[tuple[int, int]] = []
    parts: list[tuple[Contributions, float | None]] = []
    results = _result_columns(region, first_result)
    for i, j, value in zip(structure.row, structure.col, structure.data, strict=True):
        if outer is not None:
            found = _jacobian_places(outer, results[i], inputs.seeds, inputs.leaf_rows[j])
        elif i <= j:
            found = _hessian_places(inputs.seeds, inputs.leaf_rows[i], inputs.leaf_rows[j], i == j)
        else:
            continue
        stages, rows, cols, factors = found
        where, exists = slots.find(rows, cols)
        part = Contributions(number, len(entries), stages[exists], where[exists], factors[exists])
        if np.isnan(value):
            entries.append((int(i), int(j)))
            parts.append((part, None))
        else:
            parts.append((part, float(value)))
    plan = RegionPlan(region, local, inputs.leaves, len(inputs.leaf_rows), tuple(entries))
    return plan, parts


def _merged(local: SparseDerivative, inputs: _Inputs) -> Any:
    """The local structure in terms of tangents: rows, and for a Hessian columns, are merged."""
    every = np.concatenate([*inputs.leaves, np.zeros(0, np.int64)])
    ones = np.ones(len(every))
    merge = sp.csr_array(
        (ones, (np.arange(len(every)), every)), shape=(len(every), len(inputs.leaf_rows))
    )
    merged = sp.csr_array(local.structure) @ merge
    if local.kind == "hessian":
        merged = sp.csr_array(merge.T) @ merged
    merged = sp.coo_array(merged)
    order = np.lexsort((merged.row, merged.col))
    return sp.coo_array(
        (merged.data[order], (merged.row[order], merged.col[order])), shape=merged.shape
    )


def _result_columns(region: Region, first: int) -> list[np.ndarray]:
    """Columns (trips,) of the epilogue's structure for each scalar result of the body."""
    columns = []
    for aval in _out_avals(region.body):
        stages = first + np.arange(region.trips) * aval.size
        columns.extend(stages + e for e in range(aval.size))
        first += region.trips * aval.size
    return columns


def _pairs(
    left: Any,
    lines: np.ndarray,
    right: Any,
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stage, position in `left` and position in `right` of all products of line and row."""
    many_left = left.indptr[lines + 1] - left.indptr[lines]
    many_right = right.indptr[rows + 1] - right.indptr[rows]
    counts = (many_left * many_right).astype(np.int64)
    stages = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    width = np.maximum(many_right, 1)[stages]
    return (
        stages,
        left.indptr[lines][stages] + within // width,
        right.indptr[rows][stages] + within % width,
    )


type _Places = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _jacobian_places(outer: Any, lines: np.ndarray, seeds: Any, rows: np.ndarray) -> _Places:
    stages, a, b = _pairs(outer, lines, seeds, rows)
    return stages, outer.indices[a], seeds.indices[b], outer.data[a] * seeds.data[b]


def _hessian_places(seeds: Any, first: np.ndarray, second: np.ndarray, diagonal: bool) -> _Places:
    stages, a, b = _pairs(seeds, first, seeds, second)
    i, j = seeds.indices[a], seeds.indices[b]
    factors = seeds.data[a] * seeds.data[b]
    if diagonal:
        keep = i <= j
        return stages[keep], i[keep], j[keep], factors[keep]
    # The mirrored local entry lands in the same slot where both belong to one variable.
    return stages, np.minimum(i, j), np.maximum(i, j), np.where(i == j, 2.0, 1.0) * factors
