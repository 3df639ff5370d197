"""Command line: ``python -m anvil_jax doctor | show | export``.

    python -m anvil_jax doctor
    python -m anvil_jax show quadrotor.py:step --args "f64[13], f64[4]"
    python -m anvil_jax export quadrotor.py:step --args "f64[13], f64[4]" --out cpp/quadrotor

Exit status: 0 done, 1 `doctor` found something that does not work, 2 a mistake explained on stderr.
"""

import argparse
import difflib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.errors import AnvilError, ArgumentError, DeviceError, ToolchainError

if TYPE_CHECKING:
    from anvil_jax.arguments import Arg
    from anvil_jax.function import NumericalFunction

_PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "tinygrad", "piqp", "jinja2")
# As jaxprs spell them: f64, i32, u8.
_DTYPES = {f"{row.kind}{row.bits}": name for name, row in ELEMENT_TYPES.items() if name != "bool"}
_ARRAY = re.compile(r"\s*([a-z]+\d*)\s*(?:\[([\d\s,]*)\])?\s*(,|\Z)")
_ARGS_HELP = 'shapes of the arguments, for example "f64[13], f64[2,3], i32[], f64"'


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    Args:
        argv: arguments without the program's name; default is the command line's.
    """
    options = _parser().parse_args(argv)
    try:
        return options.run(options)
    except AnvilError as error:
        print(f"anvil_jax: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, a pager perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m anvil_jax", description="JAX functions as standalone C++."
    )
    commands = parser.add_subparsers(required=True, metavar="doctor | show | export")

    doctor = commands.add_parser("doctor", help="what is installed, and whether it works")
    doctor.add_argument(
        "--clear-cache", action="store_true", help="delete compiled libraries first"
    )
    doctor.set_defaults(run=_doctor)

    function = argparse.ArgumentParser(add_help=False)
    function.add_argument("function", metavar="FILE.py:NAME", help="a function in a Python file")
    function.add_argument("--args", metavar="SHAPES", help=_ARGS_HELP)
    function.add_argument("--kernel", choices=("auto", "scalar", "tensor"))

    show = commands.add_parser("show", parents=[function], help="what a function is turned into")
    show.set_defaults(run=_show)

    export = commands.add_parser("export", parents=[function], help="write a function as C++")
    export.add_argument("--out", metavar="DIR", required=True, help="made if it does not exist")
    export.add_argument(
        "--module", metavar="NAME", help="of the C++ module; default: the function's"
    )
    export.add_argument(
        "--self-test", action="store_true", help="also write a program that compares with JAX"
    )
    export.add_argument(
        "--c-abi", action="store_true", help="also write what casadi.external and acados load"
    )
    export.set_defaults(run=_export)
    return parser


# ---- doctor ----


def _doctor(options: argparse.Namespace) -> int:
    """Print what is installed, then try it."""
    for name, text in _versions():
        _line(name, text)
    print()
    checks = (
        ("compilers", _compilers),
        ("cache", lambda: _cache(options.clear_cache)),
        ("QP", _qp_suppliers),
        ("CUDA", _cuda),
        *((("Metal", _metal),) if platform.system() == "Darwin" else ()),
        ("test", _compile_and_call),
    )
    healthy = True
    for name, check in checks:
        healthy &= _checked(name, check)
    if not healthy:
        print("\nSomething does not work; see above.")
    return 0 if healthy else 1


def _line(name: str, text: str) -> None:
    print(f"{name:10} {text}")


def _checked(name: str, check: Callable[[], Iterator[str]]) -> bool:
    """Print the lines of a check; False if it fails."""
    try:
        for text in check():
            _line(name, text)
            name = ""
    except AnvilError as error:
        _line(name, "FAILED: " + str(error).replace("\n", "\n" + " " * 11))
        return False
    return True


def _versions() -> Iterator[tuple[str, str]]:
    import anvil_jax

    yield "anvil_jax", anvil_jax.__version__
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in _PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, "not installed"


def _compilers() -> Iterator[str]:
    from anvil_jax.jit.toolchain import CANDIDATES, CXX_VARIABLES, compile_flags, find_compiler

    used = find_compiler()
    variable = next((name for name in CXX_VARIABLES if os.environ.get(name, "").strip()), None)
    why = f"named by {variable}" if variable else "first on the PATH"
    yield f"{' '.join(used.command)}: {used.version} (used, {why})"
    for name in CANDIDATES:
        path = shutil.which(name)
        if path is None:
            yield f"{name}: not found"
        elif os.path.abspath(path) != used.path:
            yield f"{path}: {_first_line([path, '--version'])}"
    yield f"flags {' '.join(compile_flags(used))}"


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "does not answer to --version"
    return next(iter(done.stdout.splitlines()), "")


def _cache(clear: bool) -> Iterator[str]:
    from anvil_jax.jit.cache import cache_info, clear_cache

    if clear:
        before = clear_cache()
        yield f"cleared: {before.libraries} libraries, {before.nbytes / 1e6:.1f} MB"
    info = cache_info()
    failed = f", {info.failed} sources that did not compile" if info.failed else ""
    yield f"{info.directory}: {info.libraries} libraries, {info.nbytes / 1e6:.1f} MB{failed}"
    yield "clear it with: python -m anvil_jax doctor --clear-cache"


def _qp_suppliers() -> Iterator[str]:
    from anvil_jax.opti.suppliers import suppliers

    for supplier in suppliers():
        yield f"{supplier.name}: {supplier.text}"


def _cuda() -> Iterator[str]:
    """What functions for CUDA need to be called from Python; none of it has to be there."""
    from anvil_jax.jit.cuda_toolkit import (
        ROOT_VARIABLE,
        driver_version,
        find_cuda_toolkit,
        find_devices,
    )

    try:
        toolkit = find_cuda_toolkit()
        yield f"headers: {', '.join(map(str, toolkit.includes))}"
        yield f"run-time compiler: {toolkit.nvrtc}"
    except ToolchainError as error:
        if os.environ.get(ROOT_VARIABLE):
            raise
        yield f"no toolkit: {_first_sentence(error)}"
    try:
        yield f"driver: for CUDA {driver_version()}"
        for device in find_devices():
            yield f"device {device.number}: {device.name}, sm_{device.architecture}"
    except ToolchainError as error:
        yield f"no driver: {_first_sentence(error)}"
    except DeviceError as error:
        yield f"no device: {error}"


def _metal() -> Iterator[str]:
    """Whether functions for Metal can be called; they need not."""
    import numpy as np

    from anvil_jax.arguments import Arg
    from anvil_jax.function import NumericalFunction

    x = np.arange(3, dtype="float32")
    function = NumericalFunction("doctor_metal", lambda x: x + x, (Arg(3, "float32"),), "METAL")
    try:
        found = function(x)
    except (ToolchainError, DeviceError) as error:
        yield f"functions cannot be called: {_first_sentence(error)}"
        return
    if not np.array_equal(found, x + x):
        raise DeviceError(f"the default device gave {found}, right is {x + x}")
    yield "called a function on the default device, agrees with NumPy"


def _first_sentence(error: AnvilError) -> str:
    return str(error).partition("\n")[0]


def _compile_and_call() -> Iterator[str]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from anvil_jax.arguments import Arg
    from anvil_jax.function import NumericalFunction
    from anvil_jax.jit.cache import cached_library
    from anvil_jax.jit.library import SHIM_ABI

    def test(x: Any) -> Any:
        return jnp.sin(x) * 2.0 + x[0]

    function = NumericalFunction("doctor_test", test, (Arg(3),))
    native = function.native
    start = time.perf_counter()
    cached_library(native.signature.name, native.source, SHIM_ABI, rebuild=True)
    seconds = time.perf_counter() - start
    x = np.array([0.5, -1.0, 2.0])
    found = function(x)
    with jax.enable_x64(True):
        expected = np.asarray(test(jnp.asarray(x)))
    if not np.allclose(found, expected, rtol=1e-14, atol=1e-14):
        raise ToolchainError(f"the compiled function gave {found}, JAX gives {expected}")
    yield f"compiled a function in {seconds:.2f} s, called it, agrees with JAX"


# ---- show and export ----


def _show(options: argparse.Namespace) -> int:
    """Print a function's interface, jaxpr, cost and generated code."""
    function = _function(options)
    view = function.view
    print(f"{function.name}: {function.traced.source} on {function.device}\n")
    for kind, buffers in (("in", view.inputs), ("out", view.outputs)):
        for buffer in buffers:
            print(f"  {kind:3}  {buffer.name}: {buffer.dtype}{list(buffer.shape) or ''}")
    tables = sum(table.size for table in view.tables)
    print(f"\noperations {view.operations}")
    print(f"workspace  {view.workspace_nbytes} bytes")
    print(f"constants  {tables} numbers in {len(view.tables)} tables")
    print(f"source     {len(function.source) / 1024:.1f} KB")
    print(f"kernels    {_kernels(view.code)}")
    print(f"primitives {_primitives(function.jaxpr)}")
    print(f"\n---- jaxpr ----\n{function.jaxpr}")
    print(f"\n---- kernels ----\n{view.code}")
    return 0


def _kernels(code: str) -> str:
    """Number of C++ functions and loops, and what of the run-time library is called."""
    functions = len(re.findall(r"^(?:__attribute__\(\(noinline\)\) )?void \w+\(", code, re.M))
    loops = len(re.findall(r"^\s*for \(", code, re.M))
    library = Counter(re.findall(r"anvil_rt::(\w+)", code))
    called = ", ".join(f"{name} x{count}" for name, count in sorted(library.items()))
    text = f"C++ functions: {functions}, loops: {loops}"
    return f"{text}, library: {called}" if called else text


def _primitives(jaxpr: Any) -> str:
    from anvil_jax.tracing import walk_equations

    count = Counter(eqn.primitive.name for eqn, _ in walk_equations(jaxpr))
    return ", ".join(f"{name} x{number}" for name, number in count.most_common()) or "none"


def _export(options: argparse.Namespace) -> int:
    """Write the module and say what to do with it."""
    from anvil_jax.exporting import export

    written = export(
        _function(options),
        path=options.out,
        module=options.module,
        self_test=options.self_test,
        c_abi=options.c_abi,
    )
    for path in written:
        print(path)
    return 0


def _function(options: argparse.Namespace) -> "NumericalFunction[..., Any]":
    """The function that the options name, with the shapes they give."""
    from anvil_jax.function import NumericalFunction

    found = _load(options.function)
    if isinstance(found, NumericalFunction):
        if options.args is not None or options.kernel is not None:
            raise ArgumentError(
                f"{options.function} is a NumericalFunction, which has shapes and kernels; leave "
                "--args and --kernel away"
            )
        return found
    if not callable(found):
        raise ArgumentError(f"{options.function} is a {type(found).__name__}, not a function")
    if options.args is None:
        raise ArgumentError(f"{options.function} needs --args: {_ARGS_HELP}")
    kernel = options.kernel or "auto"
    return NumericalFunction.from_callable(found, *_specs(options.args), kernel=kernel)


def _specs(text: str) -> "list[Arg]":
    """Reads ``f64[13], f64[2,3], f64``."""
    from anvil_jax.arguments import Arg

    specs, position = [], 0
    while text[position:].strip():
        match = _ARRAY.match(text, position)
        if match is None:
            raise ArgumentError(f"--args: cannot read {text[position:].strip()!r}; {_ARGS_HELP}")
        sizes = [size for size in (match[2] or "").replace(" ", "").split(",") if size]
        name = _DTYPES.get(match[1], match[1])
        if name not in ELEMENT_TYPES:
            raise ArgumentError(
                f"--args: unknown type {name}; use one of {', '.join(_DTYPES)}, bool"
            )
        specs.append(Arg(tuple(map(int, sizes)), name))
        position = match.end()
    return specs


def _load(reference: str) -> Any:
    """The object that ``file.py:name`` refers to; runs the file."""
    file, separator, name = reference.rpartition(":")
    if not separator or not name:
        raise ArgumentError(f"{reference!r} names no function; write FILE.py:NAME")
    path = Path(file)
    if not path.is_file():
        raise ArgumentError(f"there is no file {file}")
    found: Any = _import(path)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ArgumentError(f"{file} has no {name}{_suggestion(found, part)}")
        found = getattr(found, part)
    return found


def _suggestion(holder: Any, name: str) -> str:
    if not isinstance(holder, ModuleType):
        return ""
    names = [
        key
        for key, value in vars(holder).items()
        if callable(value)
        and not key.startswith("_")
        and getattr(value, "__module__", None) in (holder.__name__, "anvil_jax.function")
        and not isinstance(value, type)
    ]
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; its functions: {', '.join(names)}" if names else ""


def _import(path: Path) -> ModuleType:
    from anvil_jax.tracing import frame_location

    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ArgumentError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # As if the file were run: its neighbours can be imported, and it can be found by its name.
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules.setdefault(name, module)
    try:
        spec.loader.exec_module(module)
    except AnvilError:
        raise
    except Exception as error:
        where = frame_location(error.__traceback__)
        raise ArgumentError(
            f"{path} cannot be imported: {type(error).__name__}: {error}"
            + (f" (at {where})" if where else "")
        ) from error
    return module


if __name__ == "__main__":
    sys.exit(main())
