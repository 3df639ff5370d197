"""What a call of a function runs: the native code, around it pytrees and JAX tracers."""

import inspect
from collections.abc import Callable
from typing import Any

import jax

from anvil_jax.errors import ArgumentError
from anvil_jax.jit.cuda_function import CudaFunction
from anvil_jax.jit.device_function import DeviceFunction
from anvil_jax.jit.library import NativeFunction
from anvil_jax.jit.metal_function import MetalFunction
from anvil_jax.tracing import is_tracer

type Native = NativeFunction | CudaFunction | MetalFunction


class ComposableFunction(NativeFunction):
    """A native function that hands tracers to the JAX function it was made from."""

    __slots__ = ("_compose",)

    def __init__(self, signature: Any, source: str, compose: Callable[..., Any]) -> None:
        super().__init__(signature, source)
        self._compose = compose

    def _convert_and_call(self, *args: Any, **kwargs: Any) -> Any:
        if has_tracer(args, kwargs):
            return self._compose(*args, **kwargs)
        return super()._convert_and_call(*args, **kwargs)


class _ComposableOnDevice(DeviceFunction):
    """What makes a function on a device hand tracers to the JAX function it was made from."""

    def __init__(self, signature: Any, source: str, compose: Callable[..., Any]) -> None:
        super().__init__(signature, source)
        self._compose = compose

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result; while JAX traces, that of the JAX function itself."""
        if has_tracer(args, kwargs):
            return self._compose(*args, **kwargs)
        return super().__call__(*args, **kwargs)


class ComposableCudaFunction(_ComposableOnDevice, CudaFunction):
    """A function on a CUDA device that hands tracers to the JAX function it was made from."""


class ComposableMetalFunction(_ComposableOnDevice, MetalFunction):
    """A function for Metal that hands tracers to the JAX function it was made from."""


class TreeFunction:
    """A native function that takes and returns pytrees."""

    def __init__(
        self,
        native: Native,
        in_tree: Any,
        out_tree: Any,
        is_input: tuple[bool, ...],
    ) -> None:
        self.native = native
        self.in_tree = in_tree
        self.out_tree = out_tree
        self.is_input = is_input

    def __call__(self, *args: Any) -> Any:
        """The pytree result for pytree arguments."""
        leaves, tree = jax.tree_util.tree_flatten(args)
        if tree != self.in_tree:
            raise ArgumentError(
                f"{self.native.signature.name}: the arguments have the structure {tree}, "
                f"expected {self.in_tree}"
            )
        flat = (leaf for leaf, used in zip(leaves, self.is_input, strict=True) if used)
        results = self.native(*flat)
        if len(self.native.signature.outputs) == 1:
            results = (results,)
        return jax.tree_util.tree_unflatten(self.out_tree, results)

    def __reduce__(self) -> tuple[Any, ...]:
        return TreeFunction, (self.native, self.in_tree, self.out_tree, self.is_input)


class ComposableTree(TreeFunction):
    """A `TreeFunction` that hands tracers to the JAX function it was made from."""

    def __init__(
        self,
        parts: tuple[Native, Any, Any, tuple[bool, ...]],
        fn: Callable[..., Any],
        compose: Callable[..., Any],
    ) -> None:
        """Keep `parts` of the `TreeFunction` and the JAX function with its tracing door."""
        super().__init__(*parts)
        self.fn = fn
        self.compose = compose

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The pytree result; while JAX traces, the JAX function itself."""
        if has_tracer(args, kwargs):
            return self.compose(*args, **kwargs)
        return super().__call__(*positional(self.fn, args, kwargs))


def has_tracer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether JAX is tracing through these arguments."""
    return any(is_tracer(leaf) for leaf in jax.tree_util.tree_leaves((args, kwargs)))


def positional(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """Arguments in the order of `fn`'s parameters."""
    return inspect.signature(fn).bind(*args, **kwargs).args if kwargs else args
