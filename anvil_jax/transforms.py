"""Batching: `vmap` (or `svmap`) for a fixed number of instances, `dvmap` for any number."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from anvil_jax.arguments import Arg
from anvil_jax.errors import ArgumentError
from anvil_jax.function import NumericalFunction
from anvil_jax.lowering.selection import primitive_names, scalar_operations
from anvil_jax.selected import described
from anvil_jax.tracing import argument_names

type Axes = int | Sequence[int | None] | None

_MAX_LOOPED = 5_000
"""Scalar operations of one instance up to which a batch is a loop over scalar kernels."""

_MAX_THREADED = 50_000
"""The same where each instance has a thread of its own, and matrix products do not count more."""


def vmap(
    fn: NumericalFunction[..., Any],
    batch_size: int,
    in_axes: Axes = 0,
    out_axes: int | Sequence[int] = 0,
    *,
    name: str | None = None,
) -> NumericalFunction[..., Any]:
    """The function for `batch_size` instances at once.

    Small functions become a loop over instances whose body is their scalar kernel; large ones are
    batched operation by operation, as `jax.vmap` does it.

    Args:
        fn: a function; of a sparse one the batched values (batch_size, nnz) are computed.
        batch_size: number of instances, at least 1.
        in_axes: where the instances of each argument lie, None for an argument that all share; one
            number for all arguments, or one per argument.
        out_axes: where the instances of each output lie; one number, or one per output.
        name: C++ identifier; default is `fn`'s name with ``_vmap``.

    Returns:
        A function of arguments with one more axis each (except the shared ones).

    Raises:
        ArgumentError: the batch size or an axis is not usable, or all arguments are shared.
    """
    _check_function(fn, "vmap")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer):
        raise ArgumentError(f"vmap of {fn.name}: batch_size {batch_size!r} is no integer")
    if batch_size < 1:
        raise ArgumentError(f"vmap of {fn.name}: batch_size must be at least 1, got {batch_size}")
    axes = _in_axes(fn, in_axes)
    ends = _out_axes(fn, out_axes)
    specs = tuple(
        spec if axis is None else jax.tree_util.tree_map(_grown(int(batch_size), axis), spec)
        for spec, axis in zip(_arg_specs(fn), axes, strict=True)
    )
    batched = _loop(fn, axes, ends) if _is_looped(fn) else _batch(fn, axes, ends)
    names = argument_names(fn.fn, len(fn.specs))
    return NumericalFunction(
        f"{fn.name}_vmap" if name is None else name,
        described(batched, fn, "vmap", names),
        specs,
        fn.device,
        kernel=fn.kernel,
    )


svmap = vmap


def dvmap(
    fn: NumericalFunction[..., Any],
    in_axes: Axes = 0,
    out_axes: int | Sequence[int] = 0,
    *,
    chunk: int = 64,
    name: str | None = None,
) -> "DynamicBatch":
    """The function for any number of instances, known when it is called.

    One native function for `chunk` instances is compiled; a call runs it as often as needed.

    Args:
        fn: a function.
        in_axes: as for `vmap`.
        out_axes: as for `vmap`.
        chunk: instances per native call.
        name: C++ identifier of the native function; default is `fn`'s name with ``_dvmap``.

    Raises:
        ArgumentError: the chunk or an axis is not usable, or all arguments are shared.
    """
    name = f"{fn.name}_dvmap" if name is None else name
    return DynamicBatch(vmap(fn, chunk, in_axes, out_axes, name=name), fn, in_axes, out_axes, chunk)


class DynamicBatch:
    """A function for any number of instances; made by `dvmap`.

    Attributes:
        function: the native function for `chunk` instances, which can be exported.
        chunk: its batch size.
    """

    def __init__(
        self,
        function: NumericalFunction[..., Any],
        single: NumericalFunction[..., Any],
        in_axes: Axes,
        out_axes: int | Sequence[int],
        chunk: int,
    ) -> None:
        """Keep the native function and where its instances lie."""
        self.function = function
        self.chunk = chunk
        self._single = single
        self._in_axes = _in_axes(single, in_axes)
        self._out_axes = _out_axes(single, out_axes)

    def __call__(self, *args: Any) -> Any:
        """All instances; their number is taken from the batched arguments.

        Raises:
            ArgumentError: the batched arguments differ in their number of instances.
        """
        size = self._batch_size(args)
        chunks = []
        for begin in range(0, max(size, 1), self.chunk):
            # Instances beyond the end repeat the last one; their results are cut off.
            rows = np.minimum(np.arange(begin, begin + self.chunk), max(size - 1, 0))
            chunks.append(self._run(args, rows, min(size - begin, self.chunk)))
        leaves = [jax.tree_util.tree_leaves(c) for c in chunks]
        tree = jax.tree_util.tree_structure(chunks[0])
        joined = [
            np.concatenate(parts, axis=axis)
            for parts, axis in zip(zip(*leaves, strict=True), self._out_axes, strict=True)
        ]
        return jax.tree_util.tree_unflatten(tree, joined)

    def __repr__(self) -> str:
        """The native function and how it is used."""
        return f"<DynamicBatch of {self._single.name}, {self.chunk} instances per native call>"

    def _batch_size(self, args: Sequence[Any]) -> int:
        if len(args) != len(self._in_axes):
            raise ArgumentError(
                f"{self.function.name} takes {len(self._in_axes)} arguments, got {len(args)}"
            )
        sizes = {
            np.shape(leaf)[axis]
            for arg, axis in zip(args, self._in_axes, strict=True)
            if axis is not None
            for leaf in jax.tree_util.tree_leaves(arg)
        }
        if len(sizes) != 1:
            raise ArgumentError(
                f"{self.function.name}: the batched arguments have different numbers of "
                f"instances: {', '.join(map(str, sorted(sizes)))}"
            )
        return sizes.pop()

    def _run(self, args: Sequence[Any], rows: np.ndarray, count: int) -> Any:
        if count <= 0:  # an empty batch: run nothing, keep the shapes
            outputs = [np.zeros(output.shape, output.dtype) for output in self.function.outputs]
            full = jax.tree_util.tree_unflatten(self.function.traced.out_tree, outputs)
            count = 0
        else:
            taken = [
                arg
                if axis is None
                else jax.tree_util.tree_map(lambda x, a=axis: np.take(x, rows, axis=a), arg)
                for arg, axis in zip(args, self._in_axes, strict=True)
            ]
            full = self.function(*taken)
        leaves, tree = jax.tree_util.tree_flatten(full)
        cut = [
            np.take(leaf, np.arange(count), axis=axis)
            for leaf, axis in zip(leaves, self._out_axes, strict=True)
        ]
        return jax.tree_util.tree_unflatten(tree, cut)


# ---- pieces ----


def _is_looped(fn: NumericalFunction[..., Any]) -> bool:
    jaxpr = fn.traced.jaxpr.jaxpr
    operations = scalar_operations(jaxpr)
    if operations <= _MAX_LOOPED or fn.device == "CPU":
        return operations <= _MAX_LOOPED
    used = primitive_names(jaxpr)
    # A loop over batched arrays would be run by one thread, one step after the other.
    has_loop = bool(used & {"scan", "while"})
    return has_loop or (operations <= _MAX_THREADED and "dot_general" not in used)


def _check_function(fn: Any, what: str) -> None:
    if not isinstance(fn, NumericalFunction):
        raise ArgumentError(
            f"{what}: {getattr(fn, '__name__', fn)!r} has no input shapes; make a function of it "
            "with NumericalFunction.from_callable or the decorator numerical_function"
        )


def _arg_specs(fn: NumericalFunction[..., Any]) -> tuple[Any, ...]:
    """The arguments of `fn` with `Arg` leaves; leaves that are no arrays stay."""
    inputs = iter(fn.inputs)
    leaves = [next(inputs) if static is None else static for static in fn.traced.statics]
    return jax.tree_util.tree_unflatten(fn.traced.in_tree, leaves)


def _grown(size: int, axis: int) -> Callable[[Any], Any]:
    def grow(arg: Any) -> Any:
        if not isinstance(arg, Arg):
            return arg
        shape = list(arg.shape)
        shape.insert(axis % (arg.ndim + 1), size)
        return Arg(tuple(shape), arg.dtype)

    return grow


def _in_axes(fn: NumericalFunction[..., Any], axes: Axes) -> tuple[int | None, ...]:
    each = axes if isinstance(axes, Sequence) else [axes] * len(fn.specs)
    if len(each) != len(fn.specs):
        raise ArgumentError(
            f"vmap of {fn.name}: in_axes has {len(each)} entries, the function "
            f"{len(fn.specs)} arguments"
        )
    if all(axis is None for axis in each):
        raise ArgumentError(f"vmap of {fn.name}: at least one argument must be batched")
    specs = _arg_specs(fn)
    for spec, axis in zip(specs, each, strict=True):
        for leaf in jax.tree_util.tree_leaves(spec):
            if axis is not None and isinstance(leaf, Arg):
                _check_axis(fn, axis, leaf.ndim, "in_axes")
    return tuple(each)


def _out_axes(fn: NumericalFunction[..., Any], axes: int | Sequence[int]) -> tuple[int, ...]:
    outputs = fn.outputs
    each = tuple(axes) if isinstance(axes, Sequence) else (axes,) * len(outputs)
    if len(each) != len(outputs):
        raise ArgumentError(
            f"vmap of {fn.name}: out_axes has {len(each)} entries, the function "
            f"{len(outputs)} outputs"
        )
    for axis, output in zip(each, outputs, strict=True):
        _check_axis(fn, axis, output.ndim, "out_axes")
    return each


def _check_axis(fn: NumericalFunction[..., Any], axis: Any, rank: int, what: str) -> None:
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise ArgumentError(f"vmap of {fn.name}: {what} entry {axis!r} is no integer")
    if not -(rank + 1) <= axis <= rank:
        raise ArgumentError(
            f"vmap of {fn.name}: {what} entry {axis} is out of range for an array of rank {rank}"
        )


def _to_front(tree: Any, axis: int) -> Any:
    return jax.tree_util.tree_map(lambda x: jnp.moveaxis(x, axis, 0) if _is_array(x) else x, tree)


def _is_array(leaf: object) -> bool:
    return hasattr(leaf, "shape")


def _from_front(result: Any, axes: tuple[int, ...]) -> Any:
    leaves, tree = jax.tree_util.tree_flatten(result)
    moved = [jnp.moveaxis(x, 0, axis) for x, axis in zip(leaves, axes, strict=True)]
    return jax.tree_util.tree_unflatten(tree, moved)


def _loop(
    fn: NumericalFunction[..., Any], axes: tuple[int | None, ...], ends: tuple[int, ...]
) -> Callable[..., Any]:
    def batched(*args: Any) -> Any:
        stacked = [
            None if axis is None else _to_front(arg, axis)
            for arg, axis in zip(args, axes, strict=True)
        ]
        arrays, rest = _partition(stacked)

        def one(slices: Any) -> Any:
            joined = rest(slices)
            filled = [
                arg if axis is None else value
                for arg, value, axis in zip(args, joined, axes, strict=True)
            ]
            return fn.fn(*filled)

        return _from_front(lax.map(one, arrays), ends)

    return batched


def _partition(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The arrays of a pytree, and how to put (slices of) them back among the other leaves."""
    leaves, structure = jax.tree_util.tree_flatten(tree)
    where = [k for k, leaf in enumerate(leaves) if _is_array(leaf)]

    def join(arrays: Sequence[Any]) -> Any:
        filled = list(leaves)
        for k, array in zip(where, arrays, strict=True):
            filled[k] = array
        return jax.tree_util.tree_unflatten(structure, filled)

    return [leaves[k] for k in where], join


def _batch(
    fn: NumericalFunction[..., Any], axes: tuple[int | None, ...], ends: tuple[int, ...]
) -> Callable[..., Any]:
    def batched(*args: Any) -> Any:
        return _from_front(jax.vmap(fn.fn, in_axes=axes)(*args), ends)

    return batched
