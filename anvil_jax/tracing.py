"""From a JAX callable to a closed jaxpr with named, flat inputs and outputs.

`trace` is the door. It runs the user's function once on abstract values, under a local 64-bit
scope, flattens pytrees, names every leaf by its path, and refuses everything that native code
could not reproduce (callbacks, complex numbers, values that are not arrays) before anything else
happens. `user_location` tells where in the user's file an equation came from;
`frame_location` does the same for an exception.
"""

import functools
import inspect
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.core
import numpy as np
from jax.extend import core as jex_core

from anvil_jax.dtypes import ELEMENT_TYPES, element_type
from anvil_jax.emit.names import identifier, unique_identifiers
from anvil_jax.errors import AnvilError, ArgumentError, DtypeError, TracingError

_JAX_ROOTS = tuple(
    str(Path(root).resolve()) + "/"
    for root in (Path(jax.__file__).parent, Path(jax.__file__).parent.parent / "jaxlib")
)
_OWN_ROOTS = tuple(
    str(root) + "/"
    for root in (
        Path(__file__).resolve().parent,
        (Path(__file__).parent / "lowering").resolve(),
    )
)
_LIBRARY_ROOTS = tuple(
    str(Path(sysconfig.get_path(key)).resolve()) + "/" for key in ("purelib", "platlib", "stdlib")
)

_CALLBACKS = {
    "debug_print": "remove the jax.debug.print",
    "debug_callback": "remove the jax.debug.callback or jax.debug.print",
    "pure_callback": "write that part in jax.numpy",
    "io_callback": "do the input and output in the code that calls the function",
    "callback": "write that part in jax.numpy",
    "outside_call": "write that part in jax.numpy",
    "infeed": "pass the data as an argument",
    "outfeed": "return the data as a result",
    "check": "remove the check, or functionalise it with jax.experimental.checkify",
}

_ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (
        jax.errors.TracerBoolConversionError,
        "a Python `if`, `while`, `and` or `assert` depends on an input value; "
        "use jnp.where, jax.lax.cond or jax.lax.while_loop",
    ),
    (
        jax.errors.TracerIntegerConversionError,
        "an input value is used as a Python index or size; index with jnp.take or "
        "jax.lax.dynamic_slice, and pass sizes as Python numbers",
    ),
    (
        jax.errors.NonConcreteBooleanIndexError,
        "a boolean mask gives a result whose shape depends on values; use jnp.where",
    ),
    (
        jax.errors.TracerArrayConversionError,
        "an input is handed to NumPy; use the jax.numpy function of the same name",
    ),
    (
        jax.errors.ConcretizationTypeError,
        "a value (or a shape) is needed while tracing but depends on an input; shapes must be "
        "static: use jnp.where, jax.lax.cond, or a `size=` argument",
    ),
    (
        jax.errors.UnexpectedTracerError,
        "a traced value of another function was kept (global, attribute or list); pass it as an "
        "argument instead",
    ),
)


# jax.tree_util.PyTreeDef is a variable to type checkers.
type TreeDef = Any


@dataclass(frozen=True, slots=True)
class Port:
    """One flat input or output of a traced function.

    Attributes:
        name: valid C++ identifier made from the pytree path, unique among all ports.
        shape: static shape, ``()`` for a scalar.
        dtype: NumPy name, ``float64``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """A function after tracing.

    Attributes:
        jaxpr: closed jaxpr; its invars are `inputs`, its outvars `outputs`, its consts what the
            function captured.
        inputs, outputs: flat ports, in jaxpr order.
        in_tree: structure of the positional arguments (a tuple of pytrees). Leaves that are no
            arrays (activation functions of a network, strings) are part of `statics`.
        out_tree: structure of the result.
        statics: for each leaf of `in_tree` the captured non-array, or None for an input.
        source: what was traced, e.g. ``quadrotor.step``; no path.
    """

    jaxpr: jex_core.Jaxpr
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    in_tree: TreeDef
    out_tree: TreeDef
    statics: tuple[Any, ...]
    source: str


def trace(
    fn: Callable[..., Any],
    specs: Sequence[Any],
    *,
    arg_names: Sequence[str] | None = None,
    source: str | None = None,
) -> Traced:
    """Trace `fn` for arguments like `specs`.

    Arrays that `fn` captures keep their dtype; arrays that it creates are 64-bit. The user's JAX
    configuration is not changed.

    Args:
        fn: any JAX callable, pytrees in and out.
        specs: one per positional argument: arrays, ``jax.ShapeDtypeStruct``, ``Arg``, Python
            scalars (float64, int64, bool), or pytrees of those.
        arg_names: names of the arguments; default is `fn`'s own.
        source: description of `fn`; default is its module-qualified name.

    Returns:
        The closed jaxpr with everything known about its inputs and outputs.

    Raises:
        ArgumentError: a spec is not an array description, or the number of specs does not fit `fn`.
        DtypeError: a complex, 16-bit float or other unsupported dtype appears anywhere.
        TracingError: `fn` is not traceable by JAX, has side effects or does not return arrays.
    """
    source = source_name(fn) if source is None else source
    names = argument_names(fn, len(specs)) if arg_names is None else tuple(arg_names)
    _check_arity(fn, specs, source)
    leaves, in_tree = jax.tree_util.tree_flatten_with_path(tuple(specs), is_leaf=_is_spec)
    statics = tuple(leaf if _is_static(leaf) else None for _, leaf in leaves)
    in_paths = _input_paths(leaves, names)
    structs = _structs(leaves, names, source)

    out_paths: list[tuple[Any, ...]] = []
    out_trees: list[TreeDef] = []

    def flat(*arrays: Any) -> list[Any]:
        values = iter(arrays)
        filled = [next(values) if static is None else static for static in statics]
        result = fn(*jax.tree_util.tree_unflatten(in_tree, filled))
        out, out_tree = jax.tree_util.tree_flatten_with_path(result)
        out_paths[:] = [path for path, _ in out]
        out_trees[:] = [out_tree]
        return [_as_result(value, path, source) for path, value in out]

    with jax.enable_x64(True):
        try:
            jaxpr = jax.make_jaxpr(flat)(*structs)
        except AnvilError:
            raise
        except Exception as error:
            raise _tracing_error(error, source) from error
    _check_equations(jaxpr, source)

    in_names = [_port_name(name, path, f"arg{i}") for i, (name, path) in enumerate(in_paths)]
    out_names = [_port_name("out", path, f"out_{i}") for i, path in enumerate(out_paths)]
    unique = unique_identifiers((*in_names, *out_names))
    return Traced(
        jaxpr=jaxpr,
        inputs=tuple(
            Port(name, tuple(s.shape), s.dtype.name)
            for name, s in zip(unique[: len(structs)], structs, strict=True)
        ),
        outputs=tuple(
            _output_port(name, aval, f"result {_spell('out', path)} of {source}")
            for name, path, aval in zip(
                unique[len(structs) :], out_paths, jaxpr.out_avals, strict=True
            )
        ),
        in_tree=in_tree,
        out_tree=out_trees[0],
        statics=statics,
        source=source,
    )


def describe_specs(
    fn: Callable[..., Any], specs: Sequence[Any]
) -> tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]:
    """Path, shape and dtype of each flat input, without tracing.

    Raises:
        ArgumentError: a spec is not an array description, or the number of specs does not fit `fn`.
        DtypeError: an input has an unsupported dtype.
    """
    source = source_name(fn)
    names = argument_names(fn, len(specs))
    _check_arity(fn, specs, source)
    leaves, _ = jax.tree_util.tree_flatten_with_path(tuple(specs), is_leaf=_is_spec)
    structs = _structs(leaves, names, source)
    return tuple(
        (_spell(*path), tuple(struct.shape), np.dtype(struct.dtype))
        for path, struct in zip(_input_paths(leaves, names), structs, strict=True)
    )


def source_name(fn: Callable[..., Any]) -> str:
    """Module-qualified name of a callable, e.g. ``quadrotor.step``; never a path or an address."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = getattr(fn, "fn", fn) if type(fn).__module__.startswith("anvil_jax.") else fn
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    module = getattr(named, "__module__", None) or ""
    name = str(getattr(named, "__qualname__", type(fn).__name__)).replace("<locals>.", "")
    return name if module in ("", "__main__") else f"{module}.{name}"


def user_location(eqn: jex_core.JaxprEqn) -> str | None:
    """Where in the user's code `eqn` was made, e.g. ``quadrotor.py:42 (step)``.

    The innermost frame outside installed packages; failing that, the innermost outside JAX and
    anvil_jax. None for equations inside library calls that JAX caches without their caller: keep
    the innermost location that is not None while walking into calls.
    """
    traceback = eqn.source_info.traceback
    if traceback is None:
        return None
    return _location((f.file_name, f.line_num, f.function_name) for f in traceback.frames)


def frame_location(traceback: TracebackType | None) -> str | None:
    """Where in the user's code an exception passed last, spelled as by `user_location`."""
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append((code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return _location(reversed(frames))


def argument_names(fn: Callable[..., Any], count: int) -> tuple[str, ...]:
    """Names of the first `count` positional parameters of `fn`, ``arg0`` where it has none."""
    signature = _signature(fn)
    names: list[str] = []
    for parameter in () if signature is None else signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            names.extend(f"{parameter.name}_{i}" for i in range(count - len(names)))
    names.extend(f"arg{i}" for i in range(len(names), count))
    return tuple(names[:count])


def is_tracer(value: object) -> bool:
    """Whether `value` belongs to a JAX transformation in progress."""
    return isinstance(value, jax.core.Tracer)


def walk_equations(jaxpr: jex_core.Jaxpr) -> Iterator[tuple[jex_core.JaxprEqn, str | None]]:
    """Every equation of `jaxpr` and of the jaxprs inside it, with the innermost known user line."""
    return _walk(jaxpr, None)


def _walk(
    jaxpr: jex_core.Jaxpr, outer: str | None
) -> Iterator[tuple[jex_core.JaxprEqn, str | None]]:
    for eqn in jaxpr.eqns:
        here = user_location(eqn) or outer
        yield eqn, here
        for inner in jex_core.jaxprs_in_params(eqn.params):
            yield from _walk(inner, here)


def _location(frames: Iterable[tuple[str, int, str]]) -> str | None:
    """Innermost user frame of `frames`, which come innermost first."""
    library = None
    for file, line, function in frames:
        if file.startswith(("<frozen", *_JAX_ROOTS, *_OWN_ROOTS)):
            continue
        name = "notebook cell" if "ipykernel" in file else Path(file).name
        found = f"{name}:{line} ({function})"
        if not file.startswith(_LIBRARY_ROOTS):
            return found
        library = library or found
    return library


def _is_spec(leaf: object) -> bool:
    # An Arg would be a leaf anyway; a ShapeDtypeStruct too. Named here so that neither has to stay
    # unregistered as a pytree.
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _is_static(leaf: object) -> bool:
    return not _is_spec(leaf) and (callable(leaf) or isinstance(leaf, str | bytes))


def _input_paths(
    leaves: Sequence[tuple[Any, Any]], names: tuple[str, ...]
) -> list[tuple[str, tuple[Any, ...]]]:
    """Argument name and path inside the argument of every leaf that is an array."""
    return [(names[path[0].idx], path[1:]) for path, leaf in leaves if not _is_static(leaf)]


def _structs(
    leaves: Sequence[tuple[Any, Any]], names: tuple[str, ...], source: str
) -> list[jax.ShapeDtypeStruct]:
    arrays = (leaf for _, leaf in leaves if not _is_static(leaf))
    return [
        _struct(leaf, f"argument {_spell(*path)} of {source}")
        for leaf, path in zip(arrays, _input_paths(leaves, names), strict=True)
    ]


def _struct(leaf: Any, what: str) -> jax.ShapeDtypeStruct:
    """Shape and dtype of one argument leaf."""
    if _is_spec(leaf):
        shape, dtype = leaf.shape, leaf.dtype
        if not all(isinstance(n, int | np.integer) for n in shape):
            raise ArgumentError(
                f"{what} has the shape {shape}: generated code needs static integer sizes"
            )
        _refuse_random_key(dtype, what)
        row = element_type(dtype, what)
        return jax.ShapeDtypeStruct(tuple(int(n) for n in shape), row.dtype)
    if isinstance(leaf, bool | int | float | complex):
        dtype = np.result_type(type(leaf))
        return jax.ShapeDtypeStruct((), element_type(dtype, what).dtype)
    raise ArgumentError(
        f"{what} is described by {leaf!r} ({type(leaf).__name__}); "
        "use an array, a jax.ShapeDtypeStruct, an anvil_jax.Arg or a Python number"
    )


def _as_result(value: object, path: tuple[Any, ...], source: str) -> Any:
    # Python numbers become strong 64-bit values here, as they would by arithmetic with an input.
    if isinstance(value, bool | int | float | complex):
        return np.asarray(value)
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        raise TracingError(
            f"{source} returns {value!r} ({type(value).__name__}) as {_spell('out', path)}; every "
            "result must be an array or a number: return only those"
        )
    if isinstance(value, np.ndarray | np.generic):
        element_type(value.dtype, f"result {_spell('out', path)} of {source}")
    return value


def _refuse_random_key(dtype: Any, what: str) -> None:
    if jax.numpy.issubdtype(dtype, jax.dtypes.prng_key):
        raise DtypeError(
            f"{what} is a random key, which has no C++ form; pass jax.random.key_data(key) "
            "outside and use jax.random.wrap_key_data(data) inside"
        )


def _output_port(name: str, aval: Any, what: str) -> Port:
    _refuse_random_key(aval.dtype, what)
    return Port(name, tuple(aval.shape), element_type(aval.dtype, what).numpy)


def _check_arity(fn: Callable[..., Any], specs: Sequence[Any], source: str) -> None:
    signature = _signature(fn)
    if signature is None:
        return
    try:
        signature.bind(*specs)
    except TypeError as error:
        raise ArgumentError(
            f"{source}{signature} cannot be called with {len(specs)} positional "
            f"argument{'s' if len(specs) != 1 else ''}: {error}"
        ) from None


def _signature(fn: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):  # some builtins have none
        return None


def _key_text(key: Any) -> str:
    for attribute in ("name", "idx", "key"):  # GetAttrKey, SequenceKey, DictKey, FlattenedIndexKey
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _port_name(root: str, path: tuple[Any, ...], fallback: str) -> str:
    return identifier("_".join((root, *(_key_text(key) for key in path))), fallback)


def _spell(root: str, path: tuple[Any, ...]) -> str:
    """The leaf as the user would write it: ``params['w1']``."""
    return root + jax.tree_util.keystr(path)


def _tracing_error(error: Exception, source: str) -> TracingError:
    where = frame_location(error.__traceback__)
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), None)
    reason = str(error).strip().split("\n", 1)[0]
    return TracingError(
        f"cannot trace {source}"
        + (f", at {where}" if where else "")
        + f": {type(error).__name__}: {reason}"
        + (f"\n{advice}" if advice else "")
    )


def _check_equations(closed: jex_core.Jaxpr, source: str) -> None:
    """Refuse what native code cannot reproduce."""
    for const in closed.consts:
        _check_dtype(const, f"an array captured by {source}")
    for eqn, where in walk_equations(closed.jaxpr):
        name = eqn.primitive.name
        place = f"{source}, at {where}" if where else source
        if name in _CALLBACKS:
            raise TracingError(
                f"{place} calls back into Python ({name}), which generated code cannot do; "
                f"{_CALLBACKS[name]}"
            )
        for var in (*eqn.invars, *eqn.outvars):
            _check_dtype(var.aval, f"a value in {place} ({name})")


def _check_dtype(value: Any, what: str) -> None:
    dtype = getattr(value, "dtype", None)
    if dtype is None or dtype == jax.dtypes.float0:
        return
    # Random keys are wrappers that lowering takes apart.
    if not isinstance(dtype, np.dtype) and jax.numpy.issubdtype(dtype, jax.dtypes.extended):
        return
    if np.dtype(dtype).name not in ELEMENT_TYPES:
        element_type(dtype, what)
