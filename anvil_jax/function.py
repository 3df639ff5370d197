"""`NumericalFunction`: a JAX function with static shapes, and everything made from it.

A NumericalFunction is a record of what the user asked for; each stage is computed when it is first
needed and kept:

    traced -> program -> view -> source, header (text for people and files)
                              -> native         (compiled, what a call runs)
"""

import functools
import html
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Never, Self, overload

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from anvil_jax.arguments import Arg
from anvil_jax.calling import (
    ComposableCudaFunction,
    ComposableFunction,
    ComposableMetalFunction,
    ComposableTree,
    Native,
    TreeFunction,
    has_tracer,
    positional,
)
from anvil_jax.dtypes import element_type
from anvil_jax.emit.names import check_identifier, identifier
from anvil_jax.emit.views import BufferView, DeviceFunctionView, FunctionView, TableView
from anvil_jax.errors import ArgumentError
from anvil_jax.metal_rules import check_traced, refuse_double
from anvil_jax.progress import progress
from anvil_jax.tracing import Traced, describe_specs, source_name, trace

if TYPE_CHECKING:
    from anvil_jax.emit.module import ModuleText
    from anvil_jax.kernels.program import Program

type Device = Literal["CPU", "METAL", "CUDA"]
type KernelChoice = Literal["auto", "scalar", "tensor"]

DEVICES: tuple[Device, ...] = ("CPU", "METAL", "CUDA")

_JIT_NAMESPACE = "anvil_module"


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
                refuse_double(dtype, f"{name}: input {path}")
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
            LoweringError: it is for METAL and computes with float64.
        """
        with progress(f"tracing {self.name}"):
            traced = trace(self.fn, self.specs)
        if self.device == "METAL":
            check_traced(self.name, traced)
        return traced

    @property
    def jaxpr(self) -> Any:
        """The closed jaxpr."""
        return self.traced.jaxpr

    @functools.cached_property
    def program(self) -> "Program":
        """The lowered function: storage, loops and scalar expressions."""
        from anvil_jax.lowering import lower

        traced = self.traced
        with progress(f"generating code for {self.name}"):
            return lower(traced, self.kernel, has_threads=self.device != "CPU")

    @functools.cached_property
    def view(self) -> FunctionView:
        """The generated code with its interface, before it is put into a module."""
        from anvil_jax.targets import render
        from anvil_jax.targets.signature import SignatureNames

        traced = self.traced
        names = SignatureNames(
            source=traced.source,
            inputs=tuple((p.name, p.shape) for p in traced.inputs),
            outputs=tuple((p.name, p.shape) for p in traced.outputs),
        )
        program = self.program
        with progress(f"printing {self.name}"):
            return render(program, self.name, names, self.device)

    @functools.cached_property
    def module(self) -> "ModuleText":
        """The files of a module that has the name of this function and contains it alone."""
        from anvil_jax.emit.module import render_module

        return render_module(self.name, (self.view,))

    @functools.cached_property
    def native(self) -> Native:
        """The compiled function on flat inputs; compiled at its first call."""
        from anvil_jax.emit.module import render_library_source
        from anvil_jax.jit import shim

        view = self.view
        signature = shim.signature_of(view)
        if isinstance(view, DeviceFunctionView):
            if self.device == "METAL":
                text = shim.render_metal_source(view, _JIT_NAMESPACE)
                return ComposableMetalFunction(signature, text, self._compose)
            text = shim.render_cuda_source(view, _JIT_NAMESPACE)
            return ComposableCudaFunction(signature, text, self._compose)
        source = render_library_source(_JIT_NAMESPACE, (view,))
        interface = shim.render_shim(view, f"{_JIT_NAMESPACE}::{view.name}::evaluate")
        return ComposableFunction(signature, f"{source}\n{interface}", self._compose)

    # ---- what the stages say ----

    @functools.cached_property
    def outputs(self) -> tuple[Arg, ...]:
        """The flat outputs, found by tracing."""
        return tuple(Arg(port.shape, port.dtype) for port in self.traced.outputs)

    @property
    def source(self) -> str:
        """C++ source file; for graphics processors the header, which is all there is."""
        module = self.module
        return module.header if module.source is None else module.source

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
        return TreeFunction, self._tree_parts

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
    def _tree_parts(self) -> tuple[Native, Any, Any, tuple[bool, ...]]:
        traced = self.traced
        is_input = tuple(static is None for static in traced.statics)
        return self.native, traced.in_tree, traced.out_tree, is_input

    def _first_call(self, *args: Any, **kwargs: Any) -> Any:
        if has_tracer(args, kwargs):
            return self._compose(*args, **kwargs)
        call = self._flat_or_tree()
        object.__setattr__(self, "__call__", call)
        return call(*args, **kwargs)

    def _flat_or_tree(self) -> Callable[..., Any]:
        """What calls run from now on."""
        if self._is_flat:
            return self.native.entry
        return ComposableTree(self._tree_parts, self.fn, self._compose)

    def _compose(self, *args: Any, **kwargs: Any) -> Any:
        """Called while JAX traces: be the JAX function."""
        bound = positional(self.fn, args, kwargs)
        given = [np.shape(leaf) for leaf in jax.tree_util.tree_leaves(bound) if _is_array(leaf)]
        declared = [arg.shape for arg in self.inputs]
        if given != declared:
            raise ArgumentError(
                f"{self.name} takes arrays of shapes {_listed(declared)}, got {_listed(given)}"
            )
        return self.fn(*bound)


def _is_array(leaf: object) -> bool:
    return not callable(leaf) and not isinstance(leaf, str | bytes)


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes)) or "nothing"
