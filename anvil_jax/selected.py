"""Which arguments of a function a derivative is about: `argnum`, pytrees, flat inputs."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from anvil_jax.arguments import Arg
from anvil_jax.errors import ArgumentError
from anvil_jax.function import NumericalFunction
from anvil_jax.tracing import argument_names


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """Arguments of `fn` chosen by an ``argnum``.

    Attributes:
        fn: the function.
        positions: the chosen arguments.
        several: whether ``argnum`` was a sequence, so that results are tuples.
        leaves: their flat inputs.
        avals: shape and dtype of those.
    """

    fn: NumericalFunction[..., Any]
    positions: tuple[int, ...]
    several: bool
    leaves: tuple[int, ...]
    avals: tuple[Arg, ...]

    @property
    def argnums(self) -> int | tuple[int, ...]:
        """As JAX's transformations take it."""
        return self.positions if self.several else self.positions[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names of all arguments."""
        return argument_names(self.fn.fn, len(self.fn.specs))

    def flat(self, args: Sequence[Any]) -> list[Any]:
        """The flat inputs of `fn` in their declared dtypes, from all arguments."""
        leaves = jax.tree_util.tree_leaves(tuple(args), is_leaf=lambda x: x is None)
        statics = self.fn.traced.statics
        arrays = [x for x, static in zip(leaves, statics, strict=True) if static is None]
        with jax.enable_x64(True):
            return [
                jnp.asarray(x, dtype=arg.dtype)
                for x, arg in zip(arrays, self.fn.inputs, strict=True)
            ]

    def pick(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """The chosen ones of all arguments."""
        return tuple(args[k] for k in self.positions)

    def of_selected(self, args: Sequence[Any]) -> Callable[..., Any]:
        """`fn` as a function of the chosen arguments, the others being `args`."""

        def function(*chosen: Any) -> Any:
            filled = list(args)
            for k, value in zip(self.positions, chosen, strict=True):
                filled[k] = value
            return self.fn.fn(*filled)

        return function

    def split(self, array: Any, axis: int) -> list[Any]:
        """Cuts an axis that runs over all elements of the chosen arguments into leaves."""
        ends = np.cumsum([aval.size for aval in self.avals])[:-1]
        return jnp.split(array, ends, axis=axis)

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """One leaf per chosen flat input, in the structure of the argument or a tuple of those."""
        children = jax.tree_util.treedef_children(self.fn.traced.in_tree)
        rest = iter(leaves)
        trees = tuple(
            jax.tree_util.tree_unflatten(tree, [next(rest) for _ in range(tree.num_leaves)])
            for tree in (children[k] for k in self.positions)
        )
        return trees if self.several else trees[0]


def select(fn: Any, argnum: int | Sequence[int], what: str) -> Selected:
    """The arguments `argnum` of `fn`.

    Args:
        fn: a `NumericalFunction`.
        argnum: a position, negative ones counting from the end, or a sequence of positions.
        what: the transformation, for messages.

    Raises:
        ArgumentError: `fn` is something else, a position does not exist or comes twice, or an
            argument is not made of floating-point arrays.
    """
    if not isinstance(fn, NumericalFunction):
        raise ArgumentError(
            f"{what}: {getattr(fn, '__name__', fn)!r} has no input shapes; make a function of it "
            "with NumericalFunction.from_callable or the decorator numerical_function"
        )
    several = isinstance(argnum, Sequence)
    given: Sequence[Any] = argnum if isinstance(argnum, Sequence) else (argnum,)
    positions = tuple(_position(fn, k, what) for k in given)
    if not positions or len(set(positions)) != len(positions):
        raise ArgumentError(f"{what} of {fn.name}: argnum {argnum!r} must name different arguments")
    children = jax.tree_util.treedef_children(fn.traced.in_tree)
    first, leaf, flat = [], 0, 0
    for child in children:
        statics = fn.traced.statics[leaf : leaf + child.num_leaves]
        inputs = sum(static is None for static in statics)
        first.append((flat, inputs, child.num_leaves))
        leaf, flat = leaf + child.num_leaves, flat + inputs
    names = argument_names(fn.fn, len(fn.specs))
    leaves: list[int] = []
    for k in positions:
        begin, inputs, total = first[k]
        if inputs != total:
            raise ArgumentError(
                f"{what} of {fn.name}: argument {names[k]} contains something that is no array; "
                "pass the arrays as an argument of their own"
            )
        leaves.extend(range(begin, begin + inputs))
    for k in leaves:
        if fn.inputs[k].dtype.kind != "f":
            raise ArgumentError(
                f"{what} of {fn.name}: input {fn.traced.inputs[k].name} has dtype "
                f"{fn.inputs[k].dtype.name}; only floating-point inputs can be differentiated"
            )
    return Selected(fn, positions, several, tuple(leaves), tuple(fn.inputs[k] for k in leaves))


def described(
    function: Callable[..., Any],
    fn: NumericalFunction[..., Any],
    suffix: str,
    names: Sequence[str],
) -> Callable[..., Any]:
    """`function`, named after `fn`, with the given parameter names."""

    def wrapper(*args: Any) -> Any:
        return function(*args)

    wrapper.__module__, _, source = fn.traced.source.rpartition(".")
    wrapper.__qualname__ = wrapper.__name__ = f"{source}_{suffix}"
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    setattr(wrapper, "__signature__", signature)  # noqa: B010 - functions declare no such attribute
    return wrapper


def _position(fn: NumericalFunction[..., Any], k: Any, what: str) -> int:
    count = len(fn.specs)
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise ArgumentError(f"{what} of {fn.name}: argnum {k!r} is no integer")
    if not -count <= k < count:
        raise ArgumentError(
            f"{what} of {fn.name}: argnum {k} is out of range; the function has "
            f"{count} argument{'s' if count != 1 else ''}"
        )
    return int(k) % count
