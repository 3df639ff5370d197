"""`SparseNumericalFunction`: a function whose result is a sparse matrix in CSC."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Never

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from anvil_jax.arguments import Arg
from anvil_jax.calling import has_tracer
from anvil_jax.emit.literals import table
from anvil_jax.emit.views import FunctionView, SparsityView
from anvil_jax.errors import ArgumentError, SparsityError
from anvil_jax.function import Device, KernelChoice, NumericalFunction

if TYPE_CHECKING:
    from anvil_jax.sparsity.derivative import SparseDerivative


class SparseNumericalFunction[**P, R](NumericalFunction[P, R]):
    """A JAX function that computes the non-zeros of a sparse matrix.

    Called with arrays it returns a `scipy.sparse.csc_array`; `values` returns the non-zeros alone.
    Called while JAX traces, it returns the non-zeros. The C++ header declares the pattern as
    ``rows``, ``cols``, ``nnz``, ``innerIndices`` and ``outerStarts``.

    Attributes:
        shape: rows and columns.
        nnz: number of stored entries.
        indices: row of each entry, int32, column by column.
        indptr: where each column starts, int32, one longer than there are columns.
        derivative: how the values come about, for functions made by `anvil_jax.spjacobian` and
            `anvil_jax.sphessian`, else None.
    """

    shape: tuple[int, int]
    nnz: int
    indices: NDArray[np.int32]
    indptr: NDArray[np.int32]
    derivative: "SparseDerivative | None"

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        inputs: Sequence[Any],
        shape: tuple[int, int],
        nnz: int,
        indices: ArrayLike,
        indptr: ArrayLike,
        device: Device = "CPU",
        *,
        kernel: KernelChoice = "auto",
        derivative: "SparseDerivative | None" = None,
    ) -> None:
        """Record the function and its pattern; nothing is traced yet.

        Args:
            name: C++ identifier.
            fn: any JAX callable; returns one array (nnz,), in the order of `indices`.
            inputs: one per argument: `Arg`, an array, or a pytree of those.
            shape: rows and columns.
            nnz: number of stored entries.
            indices: row of each entry, ascending in each column.
            indptr: where each column starts.
            device: ``CPU``, ``METAL`` or ``CUDA``.
            kernel: override of the choice between scalar and tensor kernels.
            derivative: of what the values are a derivative.

        Raises:
            ArgumentError: name, device, kernel or an input description is not usable.
            SparsityError: the pattern is no CSC pattern of `nnz` entries inside `shape`.
        """
        NumericalFunction.__init__(self, name, fn, inputs, device, kernel=kernel)
        rows, starts = _checked_pattern(name, shape, nnz, indices, indptr)
        self._set(
            shape=(int(shape[0]), int(shape[1])),
            nnz=int(nnz),
            indices=rows,
            indptr=starts,
            derivative=derivative,
        )

    # ---- stages ----

    @functools.cached_property
    def view(self) -> FunctionView:
        """The generated code with its interface and the pattern."""
        self._check_outputs()
        dense = super().view
        sparsity = SparsityView(
            *self.shape, nnz=self.nnz, inner=table(self.indices), outer=table(self.indptr)
        )
        note = f"Matrix: {self.shape[0]} x {self.shape[1]}, {self.nnz} non-zeros."
        return replace(dense, sparsity=sparsity, notes=(note, *dense.notes))

    def _check_outputs(self) -> None:
        outputs = self.outputs
        if len(outputs) != 1 or outputs[0].shape != (self.nnz,):
            raise SparsityError(
                f"{self.name} must return one array of its {self.nnz} non-zeros, but returns "
                f"{', '.join(map(repr, outputs)) or 'nothing'}"
            )

    # ---- calling ----

    def values(self, *args: Any, **kwargs: Any) -> NDArray[Any]:
        """The non-zeros (nnz,) in CSC order."""
        return self._call_values(*args, **kwargs)

    @functools.cached_property
    def _call_values(self) -> Callable[..., Any]:
        self._check_outputs()
        return self._flat_or_tree()

    def _first_call(self, *args: Any, **kwargs: Any) -> Any:
        if has_tracer(args, kwargs):
            return self._compose(*args, **kwargs)
        object.__setattr__(self, "__call__", self._matrix)
        return self._matrix(*args, **kwargs)

    def _matrix(self, *args: Any, **kwargs: Any) -> Any:
        values = self._call_values(*args, **kwargs)
        if has_tracer((values,), {}):
            return values
        return sp.csc_array((values, self.indices, self.indptr), shape=self.shape)

    def __reduce__(self) -> Never:
        """Refuse: pickle `values`' native function instead."""
        raise TypeError(
            f"{self.name}: a sparse function cannot be pickled; pickle {self.name}.native"
        )

    # ---- pictures ----

    def spy(self, ax: Any = None, *, colors: bool = True) -> Any:
        """Draw the pattern with matplotlib.

        Args:
            ax: axes to draw into; new ones by default.
            colors: one colour per coloured pass, where the function is a derivative.

        Returns:
            The axes.

        Raises:
            ArgumentError: matplotlib is not installed.
        """
        from anvil_jax.pictures import spy

        return spy(self, ax, colors=colors)

    def __repr__(self) -> str:
        """Name, inputs, size and number of entries."""
        inputs = ", ".join(map(repr, self.inputs))
        rows, cols = self.shape
        return (
            f"<SparseNumericalFunction {self.name}({inputs}) -> "
            f"{rows} x {cols} CSC, nnz={self.nnz} on {self.device}>"
        )

    def _repr_html_(self) -> str:
        """The pattern as a small picture, with its numbers."""
        from anvil_jax.pictures import pattern_html

        return pattern_html(self)


def _checked_pattern(
    name: str, shape: Any, nnz: int, indices: ArrayLike, indptr: ArrayLike
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    if len(shape) != 2 or min(shape) < 0:
        raise SparsityError(f"{name}: the shape {shape} is not that of a matrix")
    rows = np.array(indices, dtype=np.int32).reshape(-1)
    starts = np.array(indptr, dtype=np.int32).reshape(-1)
    counts = np.diff(starts)
    if len(starts) != shape[1] + 1 or starts[0] != 0 or starts[-1] != nnz or (counts < 0).any():
        raise SparsityError(
            f"{name}: indptr must rise from 0 to nnz = {nnz} in {shape[1] + 1} numbers"
        )
    if len(rows) != nnz or (nnz and (rows.min() < 0 or rows.max() >= shape[0])):
        raise SparsityError(f"{name}: indices must be {nnz} rows in range({shape[0]})")
    inside = np.ones(max(nnz - 1, 0), bool)
    borders = starts[1:-1]
    inside[borders[(borders > 0) & (borders < nnz)] - 1] = False
    if (np.diff(rows)[inside] <= 0).any():
        raise SparsityError(f"{name}: the rows of each column must be ascending and different")
    for array in (rows, starts):
        array.flags.writeable = False
    return rows, starts


class SparseDecorator:
    """Makes a `SparseNumericalFunction`; see `sparse_numerical_function`."""

    def __init__(self, name: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Keep what the function will be made with."""
        self.name = name
        self.inputs = inputs
        self.options = options

    def __call__[R](self, fn: Callable[..., R]) -> SparseNumericalFunction[..., R]:
        """The function with the inputs and the pattern of this decorator."""
        return SparseNumericalFunction(self.name, fn, self.inputs, **self.options)


def sparse_numerical_function(
    name: str,
    *shapes: Any,
    shape: tuple[int, int],
    nnz: int,
    indices: ArrayLike,
    indptr: ArrayLike,
    dtype: Any = np.float64,
    device: Device = "CPU",
    kernel: KernelChoice = "auto",
) -> SparseDecorator:
    """Decorator that makes a `SparseNumericalFunction` of a JAX function.

    Args:
        name: C++ identifier.
        *shapes: one per argument, as in `numerical_function`.
        shape: rows and columns of the matrix.
        nnz: number of stored entries, which the function returns as one array (nnz,).
        indices: row of each entry, ascending in each column.
        indptr: where each column starts.
        dtype: of all inputs that are not given as `Arg`.
        device: ``CPU``, ``METAL`` or ``CUDA``.
        kernel: override of the choice between scalar and tensor kernels.

    Raises:
        ArgumentError: name, shapes or device are not usable.
        SparsityError: the pattern is no CSC pattern of `nnz` entries inside `shape`.
    """
    from anvil_jax.decorator import argument_specs

    if not shapes:
        raise ArgumentError(f"{name}: give the shape of each argument")
    inputs: tuple[Arg, ...] = argument_specs(shapes, dtype)
    pattern = {"shape": shape, "nnz": nnz, "indices": indices, "indptr": indptr}
    return SparseDecorator(name, inputs, {**pattern, "device": device, "kernel": kernel})
