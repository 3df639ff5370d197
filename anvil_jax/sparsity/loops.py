"""Loop bodies as matrices: from what a trip reads to what it produces.

A body is read once, with a seed of its own: one entry for each element of each operand that depends
on the outer seed. The trips are then products of sparse matrices, and a loop whose number of trips
is unknown is the closure of one.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jax.extend.core import Jaxpr

from anvil_jax.sparsity.rows import Rows, empty, equal, identity, product, stacked
from anvil_jax.sparsity.structure import (
    Known,
    Shape,
    Tangent,
    Value,
)

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A body that has been read.

    Attributes:
        results: what is known of each result; tangents over the body's own seed.
        live: whether each operand depends on the outer seed.
        sizes: elements of each operand.
    """

    results: list[Value]
    live: list[bool]
    sizes: list[int]

    @property
    def columns(self) -> int:
        """Size of the body's seed."""
        return sum(s for s, live in zip(self.sizes, self.live, strict=True) if live)

    def rows(self, results: Sequence[int], sizes: Sequence[int]) -> Rows:
        """Coefficients of some results, of the given sizes, below each other."""
        rows = []
        for k, size in zip(results, sizes, strict=True):
            value = self.results[k]
            rows.append(value.rows() if isinstance(value, Tangent) else empty(size, self.columns))
        return stacked(rows)


def read_body(
    trace: "Propagation", jaxpr: Jaxpr, operands: Sequence[Value], live: Sequence[bool]
) -> Body:
    """Reads a body once.

    Args:
        trace: the outer reading.
        jaxpr: the body.
        operands: what is known of operands in every trip; tangents are ignored.
        live: which operands depend on the outer seed.
    """
    shapes: list[Shape] = [getattr(v.aval, "shape", ()) for v in jaxpr.invars]
    sizes = [math.prod(s) for s in shapes]
    columns = sum(s for s, alive in zip(sizes, live, strict=True) if alive)
    base, position = identity(columns), 0
    inside: list[Value] = []
    for value, shape, size, alive in zip(operands, shapes, sizes, live, strict=True):
        if alive:
            inside.append(Tangent(base, np.arange(position, position + size).reshape(shape)))
            position += size
        else:
            inside.append(value if isinstance(value, Known) else None)
    return Body(trace.inner(columns).run(jaxpr, inside), list(live), sizes)


def read_loop(
    trace: "Propagation", jaxpr: Jaxpr, operands: Sequence[Value], first: int, carried: int
) -> Body:
    """Reads the body of a loop; a carry that becomes dependent on the seed counts as dependent.

    Args:
        trace: the outer reading.
        jaxpr: the body.
        operands: of the loop, one per operand of the body; only those outside the carry that are
            known stay so in every trip.
        first: number of the first carried operand.
        carried: number of carried operands; the first results are their next values.
    """
    live = [isinstance(v, Tangent) for v in operands]
    while True:
        body = read_body(trace, jaxpr, operands, live)
        grown = [
            k
            for k in range(carried)
            if isinstance(body.results[k], Tangent) and not live[first + k]
        ]
        if not grown:
            return body
        for k in grown:
            live[first + k] = True


def live_rows(
    operands: Sequence[Value], body: Body, positions: Iterable[int], columns: int
) -> list[Rows]:
    """The matrices of those operands that the body takes to depend on the seed."""
    rows = []
    for k in positions:
        value = operands[k]
        if isinstance(value, Tangent):
            rows.append(value.rows())
        elif body.live[k]:
            rows.append(empty(body.sizes[k], columns))
    return rows


def split_rows(matrix: Rows, live: Sequence[bool], shapes: Sequence[Shape]) -> list[Value]:
    """The values whose elements, one after the other, are the rows; None where not live."""
    values: list[Value] = []
    position = 0
    for alive, shape in zip(live, shapes, strict=True):
        if not alive:
            values.append(None)
            continue
        size = math.prod(shape)
        values.append(Tangent(matrix, np.arange(position, position + size).reshape(shape)))
        position += size
    return values


def trips(
    matrix: Rows,
    constants: Sequence[Rows],
    carry: Rows,
    rows: Callable[[int], Rows] | None,
    order: Sequence[int],
) -> tuple[Rows, list[Rows]]:
    """Composes the matrix of a body with itself, trip after trip.

    Args:
        matrix: the body's; carried results come first.
        constants: rows of operands that are the same in every trip.
        carry: rows of the initial carry.
        rows: rows of the operands of one trip, None if there are none.
        order: numbers of the trips.

    Returns:
        Rows of the final carry, and of the other results of each trip in order.
    """
    size = carry.count
    collected: list[Rows] = []
    previous = None
    for trip in order:
        own = [rows(trip)] if rows else []
        result = product(matrix, stacked([*constants, carry, *own]))
        if rows is None and previous is not None and equal(result, previous):
            collected += [collected[-1]] * (len(order) - len(collected))
            break
        previous = result
        carry = result.between(0, size)
        collected.append(result.between(size, result.count))
    return carry, collected


def census(jaxpr: Jaxpr) -> tuple[set[str], int]:
    """Names of the primitives in a jaxpr and in what it calls, and the number of equations."""
    names: set[str] = set()
    count = 0
    for eqn in jaxpr.eqns:
        names.add(eqn.primitive.name)
        count += 1
        for inner in _jaxprs(eqn.params.values()):
            inner_names, inner_count = census(inner)
            names |= inner_names
            count += inner_count * eqn.params.get("length", 1)
    return names, count


def _jaxprs(parameters: Iterable[object]) -> Iterable[Jaxpr]:
    for value in parameters:
        if isinstance(value, Jaxpr):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _jaxprs(value)


def primitive_names(jaxpr: Jaxpr) -> set[str]:
    """Names of the primitives in a jaxpr and in what it calls."""
    return census(jaxpr)[0]
