"""`Arg` and `NumericalFunction`: a JAX function with static shapes, and everything made from it.

A NumericalFunction is a record of what the user asked for; each stage is computed when it is first
needed and kept:

    traced -> program -> view -> source, header (text for people and files)
                              -> native         (compiled, what a call runs)
"""

import functools
import html
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Never, Self, SupportsIndex, overload

import jax
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from anvil_jax.dtypes import element_type
from anvil_jax.emit.names import check_identifier, identifier
from anvil_jax.emit.views import BufferView, FunctionView, TableView
from anvil_jax.errors import AnvilError, ArgumentError
from anvil_jax.jit.library import NativeFunction
from anvil_jax.tracing import Traced, describe_specs, is_tracer, source_name, trace

if TYPE_CHECKING:
    from anvil_jax.emit.module import ModuleText
    from anvil_jax.kernels.program import Program

type Device = Literal["CPU", "METAL", "CUDA"]
type KernelChoice = Literal["auto", "scalar", "tensor"]
type Shape = SupportsIndex | Sequence[SupportsIndex]

DEVICES: tuple[Device, ...] = ("CPU", "METAL", "CUDA")

_JIT_NAMESPACE = "anvil_module"


@dataclass(frozen=True, init=False, slots=True)
class Arg:
    """Shape and dtype of one input or output.

    ``Arg(1024)`` is a vector, ``Arg((3, 3))`` a matrix, ``Arg(())`` a scalar, ``Arg(0)`` a vector
    without elements ("no parameter").

    Attributes:
        shape: always a tuple.
        dtype: NumPy dtype.

    Raises:
        ArgumentError: a size is negative or no integer.
        DtypeError: the dtype has no C++ form here.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(self, shape: Shape, dtype: DTypeLike = np.float64) -> None:
        """Describe an array of `shape`: an integer, or a tuple of integers."""
        object.__setattr__(self, "shape", _shape(shape))
        object.__setattr__(self, "dtype", element_type(dtype, "Arg").dtype)

    @property
    def ndim(self) -> int:
        """Number of axes; 0 for a scalar."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __repr__(self) -> str:
        """``Arg((3, 3))``, with the dtype unless it is float64."""
        dtype = "" if self.dtype == np.float64 else f", {self.dtype.name}"
        shape = self.shape[0] if self.ndim == 1 else self.shape
        return f"Arg({shape}{dtype})"


class NumericalFunction[**P, R]:
    """A JAX function for arrays of fixed shape, as native code.

    Called with arrays it runs compiled C++ (compiled at the first call, then cached on disk).
    Called while JAX traces, it behaves as the JAX function it was made from, so it can be used in
    other functions, in ``jax.jit``, ``jax.grad`` and ``jax.vmap``. Immutable; pickling keeps the
    native function only, which needs neither JAX nor the Python function where it is unpickled.

    Inputs and results may be pytrees; the native function underneath takes and returns their
    leaves. A rank-0 result is a NumPy scalar, any other one a C-contiguous array.

    Example:
        >>> import jax.numpy as jnp
        >>> f = NumericalFunction("f", lambda x: jnp.sin(x) @ x, (Arg(3),))
        >>> f(np.zeros(3))
        np.float64(0.0)

    Attributes:
        name: C++ identifier.
        fn: the JAX function.
        specs: one per argument: an `Arg`, or a pytree of them.
        inputs: the flat inputs.
        device: ``CPU``, ``METAL`` or ``CUDA``.
        kernel: ``auto``, or ``scalar`` / ``tensor`` to override the choice of kernels.
    """

    # As in NativeFunction: `__call__` in a slot makes a call reach native code without a Python
    # frame in between. `__dict__` is where cached_property keeps the stages.
    if not TYPE_CHECKING:
        __slots__ = ("__call__", "__dict__", "__weakref__")

    name: str
    fn: Callable[..., Any]
    specs: tuple[Any, ...]
    inputs: tuple[Arg, ...]
    device: Device
    kernel: KernelChoice

    @overload
    def __init__[T](
        self: "NumericalFunction[[], T]",
        name: str,
        fn: Callable[[], T],
        inputs: tuple[()],
        device: Device = ...,
        *,
        kernel: KernelChoice = ...,
    ) -> None: ...
    @overload
    def __init__[T](
        self: "NumericalFunction[[ArrayLike], T]",
        name: str,
        fn: Callable[[jax.Array], T],
        inputs: tuple[Arg],
        device: Device = ...,
        *,
        kernel: KernelChoice = ...,
    ) -> None: ...
    @overload
    def __init__[T](
        self: "NumericalFunction[[ArrayLike, ArrayLike], T]",
        name: str,
        fn: Callable[[jax.Array, jax.Array], T],
        inputs: tuple[Arg, Arg],
        device: Device = ...,
        *,
        kernel: KernelChoice = ...,
    ) -> None: ...
    @overload
    def __init__[T](
        self: "NumericalFunction[[ArrayLike, ArrayLike, ArrayLike], T]",
        name: str,
        fn: Callable[[jax.Array, jax.Array, jax.Array], T],
        inputs: tuple[Arg, Arg, Arg],
        device: Device = ...,
        *,
        kernel: KernelChoice = ...,
    ) -> None: ...
    @overload
    def __init__[T](
        self: "NumericalFunction[[ArrayLike, ArrayLike, ArrayLike, ArrayLike], T]",
        name: str,
        fn: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], T],
        inputs: tuple[Arg, Arg, Arg, Arg],
        device: Device = ...,
        *,
        kernel: KernelChoice = ...,
    ) -> None: ...
    @overload
    def __init__[T](
        self: "NumericalFunction[..., T]",
        name: str,
        fn: Callable[..., T],
        inputs: Sequence[Any],
        device: Device = ...,
        *,
        kernel: KernelChoice = ...,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        inputs: Sequence[Any],
        device: Device = "CPU",
        *,
        kernel: KernelChoice = "auto",
    ) -> None:
        """Record the function; nothing is traced yet.

        Args:
            name: C++ identifier.
            fn: any JAX callable.
            inputs: one per argument: `Arg`, an array, a ``jax.ShapeDtypeStruct``, a Python number,
                or a pytree of those.
            device: ``CPU``, ``METAL`` or ``CUDA``.
            kernel: override of the choice between scalar and tensor kernels.

        Raises:
            ArgumentError: name, device, kernel or an input description is not usable.
            DtypeError: an input has an unsupported dtype.
        """
        check_identifier(name, "function")
        if not callable(fn):
            raise ArgumentError(f"{name}: fn must be callable, not {type(fn).__name__}")
        if isinstance(inputs, Arg) or not isinstance(inputs, Sequence):
            raise ArgumentError(f"{name}: inputs must be a tuple of Arg, for example (Arg(3),)")
        if device not in DEVICES:
            raise ArgumentError(f"{name}: device {device!r} is unknown; use one of {DEVICES}")
        if kernel not in ("auto", "scalar", "tensor"):
            raise ArgumentError(f"{name}: kernel {kernel!r} is unknown; use auto, scalar or tensor")
        specs = tuple(inputs)
        flat = describe_specs(fn, specs)
        if device == "METAL":
            for path, _, dtype in flat:
                _refuse_double(dtype, f"{name}: input {path}")
        self._set(
            name=name,
            fn=fn,
            specs=specs,
            inputs=tuple(Arg(shape, dtype) for _, shape, dtype in flat),
            device=device,
            kernel=kernel,
        )
        object.__setattr__(self, "__call__", self._first_call)

    @classmethod
    def from_callable(
        cls,
        fn: Callable[..., Any],
        *specs: Any,
        name: str | None = None,
        device: Device = "CPU",
        kernel: KernelChoice = "auto",
    ) -> "NumericalFunction[..., Any]":
        """A function of arrays like `specs`, named after `fn`.

        Args:
            fn: any JAX callable, pytrees in and out.
            *specs: one per argument: arrays, ``jax.ShapeDtypeStruct``, `Arg`, Python numbers, or
                pytrees of those.
            name: C++ identifier; default is `fn`'s name.
            device: ``CPU``, ``METAL`` or ``CUDA``.
            kernel: override of the choice between scalar and tensor kernels.
        """
        if name is None:
            name = identifier(source_name(fn).rpartition(".")[2], "function")
        return cls(name, fn, specs, device, kernel=kernel)

    if TYPE_CHECKING:

        @overload
        def __call__(
            self: "NumericalFunction[P, jax.Array]", *args: P.args, **kwargs: P.kwargs
        ) -> NDArray[Any]: ...
        @overload
        def __call__(
            self: "NumericalFunction[P, tuple[jax.Array, jax.Array]]",
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> tuple[NDArray[Any], NDArray[Any]]: ...
        @overload
        def __call__(
            self: "NumericalFunction[P, tuple[jax.Array, jax.Array, jax.Array]]",
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...
        @overload
        def __call__(
            self: "NumericalFunction[P, tuple[jax.Array, ...]]", *args: P.args, **kwargs: P.kwargs
        ) -> tuple[NDArray[Any], ...]: ...
        @overload
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Run the native function."""

    # ---- stages ----

    @functools.cached_property
    def traced(self) -> Traced:
        """The function after tracing: closed jaxpr, names, shapes, pytree structure.

        Raises:
            TracingError: JAX cannot trace it, or it has side effects.
        """
        traced = trace(self.fn, self.specs)
        if self.device == "METAL":
            for const in traced.jaxpr.consts:
                _refuse_double(
                    np.dtype(getattr(const, "dtype", np.float64)),
                    f"{self.name}: a captured array of shape {np.shape(const)}",
                )
        return traced

    @property
    def jaxpr(self) -> Any:
        """The closed jaxpr."""
        return self.traced.jaxpr

    @functools.cached_property
    def program(self) -> "Program":
        """The lowered function: storage, loops and scalar expressions."""
        if self.device != "CPU":
            raise AnvilError(
                f"{self.name}: device {self.device} is not available yet; use device='CPU'"
            )
        from anvil_jax.lowering import lower

        return lower(self.traced, self.kernel)

    @functools.cached_property
    def view(self) -> FunctionView:
        """The generated code with its interface, before it is put into a module."""
        from anvil_jax.targets import render
        from anvil_jax.targets.cpu import SignatureNames

        traced = self.traced
        names = SignatureNames(
            source=traced.source,
            inputs=tuple((p.name, p.shape) for p in traced.inputs),
            outputs=tuple((p.name, p.shape) for p in traced.outputs),
        )
        return render(self.program, self.name, names, self.device)

    @functools.cached_property
    def module(self) -> "ModuleText":
        """The files of a module that has the name of this function and contains it alone."""
        from anvil_jax.emit.module import render_module

        return render_module(self.name, (self.view,))

    @functools.cached_property
    def native(self) -> NativeFunction:
        """The compiled function on flat inputs; compiled at its first call."""
        from anvil_jax.emit.module import render_library_source
        from anvil_jax.jit.shim import render_shim, signature_of

        view = self.view
        source = render_library_source(_JIT_NAMESPACE, (view,))
        shim = render_shim(view, f"{_JIT_NAMESPACE}::{view.name}::evaluate")
        return _ComposableFunction(signature_of(view), f"{source}\n{shim}", self._compose)

    # ---- what the stages say ----

    @functools.cached_property
    def outputs(self) -> tuple[Arg, ...]:
        """The flat outputs, found by tracing."""
        return tuple(Arg(port.shape, port.dtype) for port in self.traced.outputs)

    @property
    def source(self) -> str:
        """C++ source file."""
        return self.module.source

    @property
    def header(self) -> str:
        """C++ header file."""
        return self.module.header

    @property
    def kernels(self) -> str:
        """The generated functions alone."""
        return self.view.code

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch memory of one call."""
        return self.view.workspace_nbytes

    @property
    def operations(self) -> int:
        """Arithmetic operations of one call."""
        return self.view.operations

    @property
    def input_buffers(self) -> tuple[BufferView, ...]:
        """Names, C++ types and shapes of the flat inputs."""
        return self.view.inputs

    @property
    def output_buffers(self) -> tuple[BufferView, ...]:
        """Names, C++ types and shapes of the flat outputs."""
        return self.view.outputs

    @functools.cached_property
    def intermediate_buffers(self) -> tuple[BufferView, ...]:
        """Arrays that live in the workspace or in local memory."""
        from anvil_jax.kernels.program import touched
        from anvil_jax.kernels.schedule import walk

        _ = self.view  # rendering drops dead statements
        found = {
            buffer.storage: None
            for _, statement in walk(self.program.root)
            for buffer in touched(statement)
            if buffer.storage.space == "intermediate"
        }
        return tuple(
            BufferView(f"t{i}", element_type(b.dtype).cpp, b.dtype, (b.size,))
            for i, b in enumerate(found)
        )

    @property
    def constant_buffers(self) -> tuple[TableView, ...]:
        """Captured arrays that the code reads."""
        return self.view.tables

    @property
    def __signature__(self) -> inspect.Signature:
        """The JAX function's signature, for `inspect.signature`."""
        return inspect.signature(self.fn)

    def __repr__(self) -> str:
        """Name, inputs and device; outputs and cost as far as they are known."""
        inputs = ", ".join(map(repr, self.inputs))
        outputs = ", ".join(map(repr, self.outputs)) if "traced" in self.__dict__ else "..."
        cost = f", {self.operations} operations" if "view" in self.__dict__ else ""
        return f"<NumericalFunction {self.name}({inputs}) -> ({outputs}) on {self.device}{cost}>"

    def _repr_html_(self) -> str:
        """A small table for notebooks; traces the function."""
        rows = [
            (kind, port.name, f"{port.dtype}{list(port.shape) if port.shape else ''}")
            for kind, ports in (("in", self.traced.inputs), ("out", self.traced.outputs))
            for port in ports
        ]
        cells = "".join(
            f"<tr><td>{kind}</td><td><code>{html.escape(name)}</code></td><td>{text}</td></tr>"
            for kind, name, text in rows
        )
        title = html.escape(f"{self.name}: {self.traced.source} on {self.device}")
        return f"<table><caption>{title}</caption>{cells}</table>"

    # ---- identity ----

    def __setattr__(self, name: str, value: object) -> Never:
        """Refuse: functions are immutable."""
        raise AttributeError(f"{self.name} is immutable; make a new NumericalFunction instead")

    def __delattr__(self, name: str) -> Never:
        """Refuse: functions are immutable."""
        raise AttributeError(f"{self.name} is immutable")

    def __copy__(self) -> Self:
        """Itself, being immutable."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Itself, being immutable."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the native function, which needs no JAX; pytrees need their own classes."""
        if self._is_flat:
            return self.native.__reduce__()
        return _TreeFunction, self._tree_parts

    # ---- calling ----

    def _set(self, **attributes: object) -> None:
        self.__dict__.update(attributes)

    @property
    def _is_flat(self) -> bool:
        """Whether the native function already takes and returns what `fn` does."""
        traced = self.traced
        leaf = jax.tree_util.tree_structure(0)
        arguments = jax.tree_util.treedef_children(traced.in_tree)
        if any(argument != leaf for argument in arguments) or any(
            static is not None for static in traced.statics
        ):
            return False
        several = jax.tree_util.tree_structure((0,) * len(traced.outputs))
        return traced.out_tree == (leaf if len(traced.outputs) == 1 else several)

    @property
    def _tree_parts(self) -> tuple[NativeFunction, Any, Any, tuple[bool, ...]]:
        traced = self.traced
        is_input = tuple(static is None for static in traced.statics)
        return self.native, traced.in_tree, traced.out_tree, is_input

    def _first_call(self, *args: Any, **kwargs: Any) -> Any:
        if _has_tracer(args, kwargs):
            return self._compose(*args, **kwargs)
        if self._is_flat:
            call: Callable[..., Any] = self.native.entry
        else:
            call = _ComposableTree(self)
        object.__setattr__(self, "__call__", call)
        return call(*args, **kwargs)

    def _compose(self, *args: Any, **kwargs: Any) -> Any:
        """Called while JAX traces: be the JAX function."""
        bound = _positional(self.fn, args, kwargs)
        given = [np.shape(leaf) for leaf in jax.tree_util.tree_leaves(bound) if _is_array(leaf)]
        declared = [arg.shape for arg in self.inputs]
        if given != declared:
            raise ArgumentError(
                f"{self.name} takes arrays of shapes {_listed(declared)}, got {_listed(given)}"
            )
        return self.fn(*bound)


class _ComposableFunction(NativeFunction):
    """A native function that hands tracers to the JAX function it was made from."""

    __slots__ = ("_compose",)

    def __init__(self, signature: Any, source: str, compose: Callable[..., Any]) -> None:
        super().__init__(signature, source)
        self._compose = compose

    def _convert_and_call(self, *args: Any, **kwargs: Any) -> Any:
        if _has_tracer(args, kwargs):
            return self._compose(*args, **kwargs)
        return super()._convert_and_call(*args, **kwargs)


class _TreeFunction:
    """A native function that takes and returns pytrees."""

    def __init__(
        self, native: NativeFunction, in_tree: Any, out_tree: Any, is_input: tuple[bool, ...]
    ) -> None:
        self.native = native
        self.in_tree = in_tree
        self.out_tree = out_tree
        self.is_input = is_input

    def __call__(self, *args: Any) -> Any:
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
        return _TreeFunction, (self.native, self.in_tree, self.out_tree, self.is_input)


class _ComposableTree(_TreeFunction):
    """A `_TreeFunction` that hands tracers to the JAX function it was made from."""

    def __init__(self, function: NumericalFunction[..., Any]) -> None:
        super().__init__(*function._tree_parts)
        self.compose = function._compose
        self.fn = function.fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _has_tracer(args, kwargs):
            return self.compose(*args, **kwargs)
        return super().__call__(*_positional(self.fn, args, kwargs))


class Decorator[**P]:
    """Turns a JAX function into a `NumericalFunction`; made by `numerical_function`."""

    def __init__(
        self, name: str, inputs: tuple[Arg, ...], device: Device, kernel: KernelChoice
    ) -> None:
        """Keep what the function will be made with."""
        self.name = name
        self.inputs = inputs
        self.device: Device = device
        self.kernel: KernelChoice = kernel

    def __call__[R](self, fn: Callable[..., R]) -> NumericalFunction[P, R]:
        """The function with the inputs of this decorator."""
        return NumericalFunction(self.name, fn, self.inputs, self.device, kernel=self.kernel)


type _One = Shape | Arg


@overload
def numerical_function(
    name: str,
    shape: _One,
    /,
    *,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[[ArrayLike]]: ...
@overload
def numerical_function(
    name: str,
    shapes: tuple[_One, _One],
    /,
    *,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[[ArrayLike, ArrayLike]]: ...
@overload
def numerical_function(
    name: str,
    shapes: tuple[_One, ...],
    /,
    *,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[...]: ...
@overload
def numerical_function(
    name: str,
    first: _One,
    second: _One,
    /,
    *,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[[ArrayLike, ArrayLike]]: ...
@overload
def numerical_function(
    name: str,
    first: _One,
    second: _One,
    third: _One,
    /,
    *,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[[ArrayLike, ArrayLike, ArrayLike]]: ...
@overload
def numerical_function(
    name: str,
    *shapes: _One,
    dtype: DTypeLike = ...,
    device: Device = ...,
    kernel: KernelChoice = ...,
) -> Decorator[...]: ...
def numerical_function(
    name: str,
    *shapes: Any,
    dtype: DTypeLike = np.float64,
    device: Device = "CPU",
    kernel: KernelChoice = "auto",
) -> Decorator[...]:
    """Decorator that makes a `NumericalFunction` of a JAX function.

    ``@numerical_function("f", 3, (2, 2))`` and ``@numerical_function("f", ((3,), (2, 2)))`` mean
    the same: a vector of 3 and a 2 x 2 matrix.

    Args:
        name: C++ identifier.
        *shapes: one per argument, each an integer, a tuple of integers or an `Arg`; or one tuple
            of such tuples and Args.
        dtype: of all inputs that are not given as `Arg`.
        device: ``CPU``, ``METAL`` or ``CUDA``.
        kernel: override of the choice between scalar and tensor kernels.

    Raises:
        ArgumentError: name, shapes or device are not usable.
        DtypeError: the dtype is not supported.
    """
    check_identifier(name, "function")
    if len(shapes) == 1 and _is_group(shapes[0]):
        shapes = tuple(shapes[0])
    inputs = tuple(s if isinstance(s, Arg) else Arg(s, dtype) for s in shapes)
    return Decorator(name, inputs, device, kernel)


def _is_group(shape: object) -> bool:
    return isinstance(shape, tuple | list) and any(isinstance(s, tuple | list | Arg) for s in shape)


def _shape(shape: Any) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    for size in sizes:
        if isinstance(size, bool) or not hasattr(size, "__index__"):
            raise ArgumentError(
                f"Arg({shape!r}): a shape is an integer or a tuple of integers, "
                f"but {size!r} is a {type(size).__name__}"
            )
        if int(size) < 0:
            raise ArgumentError(f"Arg({shape!r}): sizes cannot be negative")
    return tuple(int(size) for size in sizes)


def _refuse_double(dtype: np.dtype[Any], what: str) -> None:
    if dtype == np.float64:
        raise ArgumentError(
            f"{what} has dtype float64, which METAL does not have; use float32 or another device"
        )


def _has_tracer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(is_tracer(leaf) for leaf in jax.tree_util.tree_leaves((args, kwargs)))


def _is_array(leaf: object) -> bool:
    return not callable(leaf) and not isinstance(leaf, str | bytes)


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes)) or "nothing"


def _positional(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    return inspect.signature(fn).bind(*args, **kwargs).args if kwargs else args
