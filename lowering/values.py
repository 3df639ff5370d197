"""What a traced array is during lowering: constants, scalar elements, or a pull array.

Structural rules are written once against the methods all three share (`reshape`, `transpose`,
`slice`, ...). On `Constant` and `Elements` these are NumPy index moves and cost nothing in the
generated code; on `Pull` they compose index functions, and on plain views of a buffer they only
change offset and strides.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from anvil_jax.kernels.adapter import UOp
from anvil_jax.kernels.expression import Expressions
from anvil_jax.kernels.program import Buffer

type Index = tuple[UOp, ...]


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Element strides of a C-contiguous array."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True)
class _Dense:
    """An array whose every element is known by itself.

    Attributes:
        a: the elements; numbers in a `Constant`, scalar expressions in `Elements`.
        dtype: NumPy dtype name.
    """

    a: np.ndarray
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.a.shape

    @property
    def size(self) -> int:
        return self.a.size

    def _like(self, a: np.ndarray):
        return type(self)(np.asarray(a, dtype=self.a.dtype), self.dtype)

    def reshape(self, shape: Sequence[int]):
        return self._like(self.a.reshape(shape))

    def transpose(self, permutation: Sequence[int]):
        return self._like(self.a.transpose(permutation))

    def broadcast_in_dim(self, shape: Sequence[int], dimensions: Sequence[int]):
        spread = [1] * len(shape)
        for axis, extent in zip(dimensions, self.shape, strict=True):
            spread[axis] = extent
        return self._like(np.broadcast_to(self.a.reshape(spread), shape))

    def slice(self, start: Sequence[int], limit: Sequence[int], strides: Sequence[int]):
        window = tuple(slice(*s) for s in zip(start, limit, strides, strict=True))
        return self._like(self.a[window])

    def rev(self, dimensions: Sequence[int]):
        return self._like(np.flip(self.a, tuple(dimensions)))


class Constant(_Dense):
    """Numbers known at code generation time."""

    __slots__ = ()


class Elements(_Dense):
    """A NumPy object array of scalar expressions."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class View:
    """Elements of a buffer at ``offset + sum(index * strides)``."""

    buffer: Buffer
    offset: UOp
    strides: tuple[int, ...]


class Pull:
    """An array given by a function from indices to a scalar expression.

    Attributes:
        shape, dtype: of the array.
        at: element at an index tuple (index expressions).
        cost: operations to compute one element; 0 for a view.
        depth: nesting of the functions behind `at`, bounded to keep Python's stack small.
        view: set when the elements simply lie in a buffer.
        flat: element at a C-order position, when that needs no division.
        reads: storage the elements come from, None if not known.
        owned: nobody but the holder of this value needs the memory of `view`, so that an update
            may happen in place; see `interpreter.Lowering.run`.
    """

    __slots__ = (
        "at", "cost", "depth", "dtype", "ex", "flat", "owned", "reads", "shape", "view",
    )  # fmt: skip

    def __init__(
        self,
        ex: Expressions,
        shape: Sequence[int],
        dtype: str,
        at: Callable[[Index], UOp],
        *,
        cost: int,
        depth: int = 0,
        view: View | None = None,
        flat: Callable[[UOp], UOp] | None = None,
        reads: frozenset[Buffer] | None = None,
    ) -> None:
        self.ex = ex
        self.shape = tuple(int(n) for n in shape)
        self.dtype = dtype
        self.at = at
        self.cost = cost
        self.depth = depth
        self.view = view
        self.flat = flat
        self.reads = frozenset((view.buffer.storage,)) if view is not None else reads
        self.owned = False

    @classmethod
    def of(
        cls, ex: Expressions, view: View, shape: Sequence[int], dtype: str | None = None
    ) -> "Pull":
        """The array that lies in memory as `view` says."""

        def at(index: Index) -> UOp:
            return ex.load(view.buffer, ravel(ex, index, view.strides, view.offset))

        pull = cls(ex, shape, dtype or view.buffer.dtype, at, cost=0, view=view)
        if pull.is_contiguous:
            pull.flat = lambda k: ex.load(view.buffer, ex.add(view.offset, k))
        return pull

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie densely in C order in one buffer."""
        if self.view is None:
            return False
        dense = dense_strides(self.shape)
        return all(
            extent == 1 or mine == wanted
            for extent, mine, wanted in zip(self.shape, self.view.strides, dense, strict=True)
        )

    def borrowed(self) -> "Pull":
        """The same array without the right to overwrite it."""
        assert self.view is not None
        return Pull.of(self.ex, self.view, self.shape, self.dtype)

    def _derived(self, shape: Sequence[int], at: Callable[[Index], UOp]) -> "Pull":
        return Pull(
            self.ex,
            shape,
            self.dtype,
            at,
            cost=self.cost,
            depth=self.depth + 1,
            reads=self.reads,
        )

    def _viewed(self, shape: Sequence[int], offset: UOp, strides: Sequence[int]) -> "Pull":
        assert self.view is not None
        return Pull.of(self.ex, View(self.view.buffer, offset, tuple(strides)), shape, self.dtype)

    def reshape(self, shape: Sequence[int]) -> "Pull":
        """Same elements in C order, other shape."""
        shape = tuple(int(n) for n in shape)
        if shape == self.shape:
            return self
        if self.view is not None:
            if self.is_contiguous:
                return self._viewed(shape, self.view.offset, dense_strides(shape))
            strides = _drop_or_add_units(self.shape, self.view.strides, shape)
            if strides is not None:
                return self._viewed(shape, self.view.offset, strides)
        ex, old, flat = self.ex, self.shape, self.flat
        new_strides = dense_strides(shape)

        def position(index: Index) -> UOp:
            return ravel(ex, index, new_strides)

        if flat is not None:
            result = self._derived(shape, lambda index: flat(position(index)))
            result.flat = flat
            return result
        unit = _matching_axes(old, shape)
        if unit is not None:
            return self._derived(
                shape,
                lambda index: self.at(tuple(ex.index(0) if k is None else index[k] for k in unit)),
            )

        def at(index: Index) -> UOp:
            return self.at(unravel(ex, position(index), old))

        return self._derived(shape, at)

    def transpose(self, permutation: Sequence[int]) -> "Pull":
        """Axes in another order."""
        shape = [self.shape[p] for p in permutation]
        if self.view is not None:
            strides = [self.view.strides[p] for p in permutation]
            return self._viewed(shape, self.view.offset, strides)
        inverse = [0] * len(shape)
        for new, old in enumerate(permutation):
            inverse[old] = new
        return self._derived(shape, lambda index: self.at(tuple(index[k] for k in inverse)))

    def broadcast_in_dim(self, shape: Sequence[int], dimensions: Sequence[int]) -> "Pull":
        """Repeats along new axes and axes of extent 1."""
        if self.view is not None:
            strides = [0] * len(shape)
            for axis, extent, stride in zip(dimensions, self.shape, self.view.strides, strict=True):
                strides[axis] = 0 if extent == 1 and shape[axis] != 1 else stride
            return self._viewed(shape, self.view.offset, strides)
        zero, mine = self.ex.index(0), self.shape

        def at(index: Index) -> UOp:
            return self.at(
                tuple(
                    zero if extent == 1 else index[axis]
                    for axis, extent in zip(dimensions, mine, strict=True)
                )
            )

        return self._derived(shape, at)

    def slice(self, start: Sequence[int], limit: Sequence[int], strides: Sequence[int]) -> "Pull":
        """A strided window."""
        shape = [-(-(b - a) // s) for a, b, s in zip(start, limit, strides, strict=True)]
        ex = self.ex
        return self._affine(shape, [ex.index(a) for a in start], strides)

    def rev(self, dimensions: Sequence[int]) -> "Pull":
        """Axes walked backwards."""
        ex = self.ex
        start = [ex.index(n - 1 if k in dimensions else 0) for k, n in enumerate(self.shape)]
        steps = [-1 if k in dimensions else 1 for k in range(len(self.shape))]
        return self._affine(self.shape, start, steps)

    def window(self, start: Sequence[UOp], sizes: Sequence[int]) -> "Pull":
        """The block of `sizes` elements beginning at (dynamic, in-range) `start`."""
        return self._affine(sizes, start, [1] * len(sizes))

    def row(self, position: UOp) -> "Pull":
        """``self[position]`` along the first axis."""
        ex = self.ex
        if self.view is not None:
            offset = ex.add(self.view.offset, ex.mul(position, ex.index(self.view.strides[0])))
            return self._viewed(self.shape[1:], offset, self.view.strides[1:])
        return self._derived(self.shape[1:], lambda index: self.at((position, *index)))

    def _affine(self, shape: Sequence[int], start: Sequence[UOp], steps: Sequence[int]) -> "Pull":
        ex = self.ex
        if self.view is not None:
            offset = ravel(ex, start, self.view.strides, self.view.offset)
            strides = [a * b for a, b in zip(self.view.strides, steps, strict=True)]
            return self._viewed(shape, offset, strides)

        def at(index: Index) -> UOp:
            return self.at(
                tuple(
                    ex.add(begin, ex.mul(i, ex.index(step)))
                    for i, begin, step in zip(index, start, steps, strict=True)
                )
            )

        return self._derived(shape, at)


type Value = Constant | Elements | Pull


def ravel(
    ex: Expressions, index: Sequence[UOp], strides: Sequence[int], start: UOp | None = None
) -> UOp:
    """The position ``start + sum(index * strides)``, `start` being 0 unless given."""
    place = ex.index(0) if start is None else start
    for i, stride in zip(index, strides, strict=True):
        place = ex.add(place, ex.mul(i, ex.index(stride)))
    return place


def unravel(ex: Expressions, position: UOp, shape: Sequence[int]) -> Index:
    """Index tuple of a C-order position."""
    index = []
    for stride, extent in zip(dense_strides(shape), shape, strict=True):
        if extent == 1:
            index.append(ex.index(0))
            continue
        index.append(ex.floor_div(position, stride))
        position = ex.floor_mod(position, stride)
    return tuple(index)


def _drop_or_add_units(
    old: Sequence[int], strides: Sequence[int], new: Sequence[int]
) -> tuple[int, ...] | None:
    """Strides after axes of extent 1 come or go, None if the reshape does more than that."""
    kept = [(n, s) for n, s in zip(old, strides, strict=True) if n != 1]
    if [n for n, _ in kept] != [n for n in new if n != 1]:
        return None
    rest = iter(kept)
    return tuple(0 if n == 1 else next(rest)[1] for n in new)


def _matching_axes(old: Sequence[int], new: Sequence[int]) -> list[int | None] | None:
    """For each old axis the new axis that carries it; None entries are axes of extent 1."""
    if [n for n in old if n != 1] != [n for n in new if n != 1]:
        return None
    rest = iter(k for k, n in enumerate(new) if n != 1)
    return [None if n == 1 else next(rest) for n in old]
