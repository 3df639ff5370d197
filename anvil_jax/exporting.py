"""Writing modules: functions in, C++ files on disk.

`generate_module` writes functions that exist; `export` is the one call from a JAX function to
files. Everything is rendered before anything is written, and files appear all together or not at
all.
"""

import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Protocol

from anvil_jax.constants import CodegenIntConstant, constant_views
from anvil_jax.emit.module import GENERATOR, ModuleText, render_module
from anvil_jax.emit.names import check_identifier
from anvil_jax.emit.views import SampleView, SolverView
from anvil_jax.errors import ArgumentError, ExportError
from anvil_jax.function import Device, KernelChoice, NumericalFunction
from anvil_jax.jit.nvcc import compile_ptx
from anvil_jax.reference import reference_samples


class Exportable(Protocol):
    """What a module can contain: `NumericalFunction` and everything made like it.

    Besides the name it has the stage `view`, a `FunctionView` or `SolverView` (for modules
    `exported_view`, if that is another one), and, for a self-test, `traced`.
    (They are cached properties, which protocols cannot describe.)
    """

    @property
    def name(self) -> str:
        """C++ identifier."""
        ...


@dataclass(frozen=True, slots=True)
class Exported:
    """The files of a module; iterates over those that were written.

    Attributes:
        header: ``<module>.hpp``.
        source: ``<module>.cpp``; None for graphics processors, whose modules are one header.
        cmake: ``CMakeLists.txt``.
        self_test: ``<module>_self_test.cpp`` or None.
        c_abi: ``<module>_casadi.cpp`` or None.
    """

    header: Path
    source: Path | None
    cmake: Path
    self_test: Path | None = None
    c_abi: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        """The paths that exist."""
        return (path for path in astuple(self) if path is not None)

    def __repr__(self) -> str:
        """Directory and file names."""
        return f"<Exported {', '.join(path.name for path in self)} in {self.header.parent}>"


def generate_module(
    module_name: str,
    fns: Sequence[Exportable] | Exportable,
    constants: Iterable[CodegenIntConstant] | None = None,
    path: str | os.PathLike[str] = ".",
    verbosity: int = 0,
    *,
    self_test: bool = False,
    c_abi: bool = False,
    ptx: Sequence[str] = (),
) -> Exported:
    """Write a C++ module: header, source and CMakeLists.txt; one header for graphics processors.

    The text depends on the arguments alone. Files that anvil_jax did not write are never replaced.

    Args:
        module_name: C++ identifier: namespace, file names and CMake target.
        fns: functions with different names, one C++ namespace each.
        constants: named integers to declare, together with those they are made from.
        path: directory, made if it does not exist; one module each.
        verbosity: 1 says on stderr what was written.
        self_test: also write a program that compares with results computed by JAX now.
        c_abi: also write CasADi's external-function form.
        ptx: of functions for CUDA, architectures (``"sm_80"``) to compile for now, with nvcc; the
            driver translates the result for these and newer ones. Otherwise, and for older ones,
            kernels are compiled when the program first needs them.

    Returns:
        The paths that were written.

    Raises:
        ArgumentError: a name is not usable or not unique, or something is no function.
        ToolchainError: `ptx` is asked for and there is no nvcc, or it fails.
        ExportError: the files cannot be written, or would replace files of others.
        LoweringError: a function cannot be turned into native code.
    """
    check_identifier(module_name, "module")
    functions = _checked(module_name, fns)
    samples = {f.name: _samples(f) for f in functions} if self_test else None
    views = [f.exported_view if hasattr(type(f), "exported_view") else f.view for f in functions]
    images = compile_ptx(module_name, views, ptx) if ptx else None
    text = render_module(
        module_name,
        [view for view in views if not isinstance(view, SolverView)],
        constant_views(() if constants is None else constants),
        solvers=[view for view in views if isinstance(view, SolverView)],
        samples=samples,
        c_abi=c_abi,
        images=images,
    )
    directory = Path(path)
    written = _write(text, directory)
    if verbosity > 0:
        for file in written:
            sys.stderr.write(f"anvil_jax: wrote {file}\n")
    return written


def export(
    fn: Any,
    *specs: Any,
    name: str | None = None,
    path: str | os.PathLike[str] = ".",
    module: str | None = None,
    self_test: bool = False,
    c_abi: bool = False,
    device: Device = "CPU",
    kernel: KernelChoice = "auto",
    ptx: Sequence[str] = (),
    verbosity: int = 0,
) -> Exported:
    """Write a JAX function as a C++ module.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def step(state, u):
        ...     return {"pos": state["pos"] + u, "vel": jnp.tanh(state["vel"])}
        >>> x = jax.ShapeDtypeStruct((3,), "float64")
        >>> files = export(step, {"pos": x, "vel": x}, x, path="build/step")

    Args:
        fn: any JAX callable, pytrees in and out; or something already made from one.
        *specs: one per argument: arrays, ``jax.ShapeDtypeStruct``, `Arg`, Python numbers, or
            pytrees of those. None if `fn` is a `NumericalFunction`.
        name: of the C++ function; default is `fn`'s name.
        path: directory, made if it does not exist.
        module: of the C++ module; default is the function's name.
        self_test: also write a program that compares with results computed by JAX now.
        c_abi: also write CasADi's external-function form.
        device: ``CPU``, ``METAL`` or ``CUDA``.
        kernel: override of the choice between scalar and tensor kernels.
        ptx: for CUDA, architectures to compile for now; see `generate_module`.
        verbosity: 1 says on stderr what was written.

    Returns:
        The paths that were written.

    Raises:
        ArgumentError: names, specs or device are not usable.
        TracingError: JAX cannot trace `fn`.
        LoweringError: `fn` cannot be turned into native code.
        ToolchainError: `ptx` is asked for and there is no nvcc, or it fails.
        ExportError: the files cannot be written, or would replace files of others.
    """
    if _has_code(fn):
        if specs or name is not None:
            raise ArgumentError(
                f"export({fn.name}, ...): this function already has a name and input shapes; "
                "pass it alone"
            )
        function = fn
    else:
        function = NumericalFunction.from_callable(
            fn, *specs, name=name, device=device, kernel=kernel
        )
    return generate_module(
        function.name if module is None else module,
        (function,),
        path=path,
        verbosity=verbosity,
        self_test=self_test,
        c_abi=c_abi,
        ptx=ptx,
    )


def _checked(module: str, fns: Sequence[Exportable] | Exportable) -> tuple[Any, ...]:
    functions: tuple[Any, ...] = tuple(fns) if isinstance(fns, Iterable) else (fns,)
    names: set[str] = set()
    for function in functions:
        if not _has_code(function):
            raise ArgumentError(
                f"module {module}: {function!r} is no NumericalFunction; wrap it with "
                "NumericalFunction.from_callable, or use anvil_jax.export"
            )
        if function.name in names:
            raise ArgumentError(f"module {module}: two functions are named {function.name}")
        names.add(function.name)
    return functions


def _has_code(fn: object) -> bool:
    # Looked up on the class: on the instance it would lower the function.
    return isinstance(getattr(type(fn), "view", None), property | functools.cached_property)


def _samples(function: Any) -> tuple[SampleView, ...]:
    if not hasattr(type(function), "traced"):
        raise ExportError(
            f"self_test: {function.name} is a {type(function).__name__}, whose results JAX alone "
            "cannot compute; leave self_test out"
        )
    return reference_samples(function.traced)


def _write(text: ModuleText, directory: Path) -> Exported:
    files = text.files()
    for name in files:
        _refuse_foreign(directory / name, text.name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _replace_all(files, directory)
    except OSError as error:
        raise ExportError(
            f"module {text.name} cannot be written to {directory}: {error}; nothing was changed"
        ) from error
    return Exported(
        header=directory / f"{text.name}.hpp",
        source=None if text.source is None else directory / f"{text.name}.cpp",
        cmake=directory / "CMakeLists.txt",
        self_test=None if text.self_test is None else directory / f"{text.name}_self_test.cpp",
        c_abi=None if text.c_abi is None else directory / f"{text.name}_casadi.cpp",
    )


def _refuse_foreign(path: Path, module: str) -> None:
    try:
        old = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    except OSError as error:
        raise ExportError(f"{path} exists and cannot be read: {error}") from error
    if old is None:
        return
    if GENERATOR not in old.partition("\n")[0]:
        raise ExportError(
            f"{path} exists and was not written by anvil_jax; choose another path= or move it"
        )
    if path.name == "CMakeLists.txt" and f"project({module} " not in old:
        raise ExportError(
            f"{path} belongs to another module; give module {module} a directory of its own (path=)"
        )


def _replace_all(files: dict[str, str], directory: Path) -> None:
    """Write all files, or leave the directory as it was."""
    scratch = Path(tempfile.mkdtemp(prefix=".anvil_jax-", dir=directory))
    done: list[str] = []
    try:
        for name, content in files.items():
            (scratch / name).write_text(content, encoding="utf-8", newline="\n")
            if (directory / name).exists():
                shutil.copy2(directory / name, scratch / f"{name}.old")
        for name in files:
            done.append(name)
            os.replace(scratch / name, directory / name)
    except BaseException:
        for name in done:
            if (scratch / f"{name}.old").exists():
                os.replace(scratch / f"{name}.old", directory / name)
            else:
                (directory / name).unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
