"""Running sums, products, extrema and log-sum-exps along one axis."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Primitive

from anvil_jax.kernels.adapter import UOp, dtype_name
from anvil_jax.kernels.expression import Expressions
from anvil_jax.kernels.program import Buffer
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Pull, Value, dense_strides, ravel


def _log_add_exp(ex: Expressions) -> Callable[[UOp, UOp], UOp]:
    def combine(a: UOp, b: UOp) -> UOp:
        dtype = dtype_name(a)
        difference = ex.sub(a, b)
        small = ex.intrinsic("exp", dtype, ex.neg(ex.intrinsic("abs", dtype, difference)))
        finite = ex.add(ex.maximum(a, b), ex.intrinsic("log1p", dtype, small))
        undefined = ex.not_equal(difference, difference)  # equal infinities, or NaN
        return ex.where(undefined, ex.add(a, b), finite)

    return combine


_COMBINE: dict[Primitive, Callable[[Expressions], Callable[[UOp, UOp], UOp]]] = {
    lax.cumsum_p: lambda ex: ex.add,
    lax.cumprod_p: lambda ex: ex.mul,
    lax.cummax_p: lambda ex: ex.maximum,
    lax.cummin_p: lambda ex: ex.minimum,
    lax.cumlogsumexp_p: _log_add_exp,
}


@register(*_COMBINE)
def cumulative(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """``out[k] = combine(out[k - 1], x[k])``; from the end if `reverse`."""
    ex = lowering.ex
    axis, reverse = eqn.params["axis"], eqn.params["reverse"]
    combine = _COMBINE[eqn.primitive](ex)
    extent = x.shape[axis]
    if math.prod(x.shape) == 0:
        return x
    if lowering.is_scalar(x.shape, x):
        rows = np.moveaxis(lowering.elements(x), axis, 0)
        out = np.empty(rows.shape, dtype=object)
        order = range(extent - 1, -1, -1) if reverse else range(extent)
        for place in np.ndindex(*rows.shape[1:]):
            running = None
            for k in order:
                element = rows[(k, *place)]
                running = element if running is None else combine(running, element)
                out[(k, *place)] = running
        return lowering.joined(np.moveaxis(out, 0, axis), x.dtype)
    scan = _Scan(lowering, combine, lowering.pull(x), axis, is_reversed=reverse)
    return lowering.view(scan.run(), x.shape)


@dataclass(frozen=True, slots=True)
class _Scan:
    """The running results along one axis of an array, in memory.

    Attributes:
        combine: associative, but for rounding.
        pull: the array.
        axis: along which elements are combined.
        is_reversed: whether from the axis' end.
    """

    lowering: Lowering
    combine: Callable[[UOp, UOp], UOp]
    pull: Pull
    axis: int
    is_reversed: bool = False

    @property
    def extent(self) -> int:
        return self.pull.shape[self.axis]

    @property
    def rows(self) -> list[int]:
        """Extents of the other axes."""
        return [n for k, n in enumerate(self.pull.shape) if k != self.axis]

    def run(self) -> Buffer:
        """The results in C order."""
        parts = self.lowering.parts(math.prod(self.rows), self.extent)
        if parts > 1:
            return self._by_threads(parts)
        out = self.lowering.allocate(self.pull.dtype, self.pull.size)
        with self.lowering.nest(self.rows, parallel=True) as row:
            self._follow(row, self.lowering.ex.index(0), self.extent, out)
        return out

    def _by_threads(self, parts: int) -> Buffer:
        """The same by enough threads for a graphics processor.

        Rows are cut; the parts are combined first, then the running results of the parts are found,
        with which each part but the first begins. Blelloch, "Prefix Sums and Their Applications",
        CMU-CS-90-190, 1990.
        """
        lowering, ex = self.lowering, self.lowering.ex
        length = math.ceil(self.extent / parts)
        parts, rest = divmod(self.extent, length)
        shape = (*self.rows, parts)
        scan = replace(self, pull=lowering.pull(lowering.settle(self.pull)))
        totals = lowering.allocate(self.pull.dtype, math.prod(shape))
        with lowering.nest(shape, parallel=True) as index:
            first = ex.mul(index[-1], ex.index(length))
            total = scan._follow(index[:-1], first, length)
            place = ravel(ex, index, dense_strides(shape))
            lowering.store(totals, place, ex.load(total, 0))
        whole = _Scan(lowering, self.combine, lowering.view(totals, shape), len(shape) - 1)
        before = lowering.view(whole.run(), shape)
        out = lowering.allocate(self.pull.dtype, self.pull.size)
        with lowering.nest(shape, parallel=True) as index:
            *row, part = index
            previous = before.at((*row, ex.maximum(ex.sub(part, ex.index(1)), ex.index(0))))
            is_first = ex.less(part, ex.index(1))
            first = ex.mul(part, ex.index(length))
            scan._follow(
                row, first, length, out,
                lambda x: ex.where(is_first, x, self.combine(previous, x)),
            )  # fmt: skip
        if rest:
            with lowering.nest(self.rows, parallel=True) as row:
                previous = before.at((*row, ex.index(parts - 1)))
                first = ex.index(self.extent - rest)
                scan._follow(row, first, rest, out, lambda x: self.combine(previous, x))
        return out

    def _follow(
        self,
        row: Sequence[UOp],
        first: UOp,
        steps: int,
        out: Buffer | None = None,
        begin: Callable[[UOp], UOp] = lambda x: x,
    ) -> Buffer:
        """One thread combines the elements of some steps; gives where the last result is.

        Args:
            row: index along the other axes.
            first: step.
            steps: their number, at least 1.
            out: gets the result of each step.
            begin: result of the first step, from its element.
        """
        lowering, ex = self.lowering, self.lowering.ex
        zero = ex.index(0)
        strides = dense_strides(self.pull.shape)
        running = lowering.allocate(self.pull.dtype, 1)

        def index(step: UOp) -> tuple[UOp, ...]:
            place = ex.sub(ex.index(self.extent - 1), step) if self.is_reversed else step
            return (*row[: self.axis], place, *row[self.axis :])

        def write(step: UOp, value: UOp) -> None:
            lowering.store(running, zero, value)
            if out is not None:
                lowering.store(out, ravel(ex, index(step), strides), value)

        write(first, begin(self.pull.at(index(first))))
        if steps > 1:
            with lowering.loop(steps - 1) as counter:
                step = ex.add(first, ex.add(counter, ex.index(1)))
                so_far = ex.load(lowering.alias(running), 0)
                write(step, self.combine(so_far, self.pull.at(index(step))))
        return running
