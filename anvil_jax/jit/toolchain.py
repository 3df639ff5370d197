"""Finds a C++ compiler and turns one source file into one shared library."""

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from anvil_jax.errors import ToolchainError
from anvil_jax.progress import progress

CXX_VARIABLES = ("ANVIL_JAX_CXX", "CXX")
FLAGS_VARIABLE = "ANVIL_JAX_CXXFLAGS"
CANDIDATES = ("clang++", "g++")
STDERR_LINES = 20

INSTALL_HINT = """\
Install one, for example with
    Debian, Ubuntu:  sudo apt install g++        (or clang)
    macOS:           xcode-select --install      (or brew install llvm)
    conda:           conda install -c conda-forge cxx-compiler
or name one in the environment variable ANVIL_JAX_CXX. Versions from g++ 9 and clang++ 11 work."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler that answered to ``--version``.

    Attributes:
        path: absolute path of the program.
        kind: ``g++`` or ``clang++``, by what it says of itself (Apple's g++ is a clang++).
        version: first line of its ``--version``.
        arguments: further words of the environment variable that named it.
    """

    path: str
    kind: str
    version: str
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """The start of every command line."""
        return (self.path, *self.arguments)


def find_compiler() -> Compiler:
    """The compiler named by ANVIL_JAX_CXX or CXX, else clang++ or g++ from the PATH.

    The answer is kept for as long as those variables do not change.

    Raises:
        ToolchainError: there is none, or the variable names something that is not one.
    """
    environment = os.environ
    for variable in CXX_VARIABLES:
        if environment.get(variable, "").strip():
            return _named_compiler(variable, environment[variable], environment.get("PATH"))
    return _default_compiler(environment.get("PATH"))


@cache
def _named_compiler(variable: str, value: str, search_path: str | None) -> Compiler:
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ToolchainError(f"{variable}={value!r} cannot be split into words: {error}.") from None
    compiler = _probe(words[0], tuple(words[1:]), search_path) if words else None
    if compiler is None:
        raise ToolchainError(
            f"{variable}={value!r} does not name a C++ compiler: "
            f"no g++ or clang++ answers to that command. Correct or unset {variable}.\n"
            f"{INSTALL_HINT}"
        )
    return compiler


@cache
def _default_compiler(search_path: str | None) -> Compiler:
    for name in CANDIDATES:
        compiler = _probe(name, (), search_path)
        if compiler is not None:
            return compiler
    raise ToolchainError(
        f"anvil_jax needs a C++17 compiler and found none: neither {' nor '.join(CANDIDATES)} "
        f"is on the PATH.\n{INSTALL_HINT}"
    )


def _probe(name: str, arguments: tuple[str, ...], search_path: str | None) -> Compiler | None:
    """The compiler behind a command, or None when it is absent, broken or something else."""
    path = shutil.which(name, path=search_path)
    if path is None:
        return None
    path = os.path.abspath(path)
    try:
        answer = subprocess.run(
            [path, *arguments, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=True,
            env=os.environ | {"LC_ALL": "C"},
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    if "clang" in answer.lower():
        kind = "clang++"
    elif "Free Software Foundation" in answer:
        kind = "g++"
    else:
        return None
    return Compiler(path, kind, answer.splitlines()[0].strip(), arguments)


def compile_flags(compiler: Compiler) -> tuple[str, ...]:
    """Flags for a shared library that runs on this machine only.

    No flag here lets the compiler reassociate or assume away NaN, infinities or signed zeros. What
    is given up: ``errno`` (nobody reads it), floating-point traps (nobody installs them), and the
    rounding between a product and the sum it enters, which may be fused.

    Raises:
        ToolchainError: ANVIL_JAX_CXXFLAGS cannot be split into words.
    """
    is_apple_arm = platform.system() == "Darwin" and platform.machine() == "arm64"
    flags = [
        "-std=c++17",
        "-O2",
        "-mcpu=native" if is_apple_arm else "-march=native",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-ffp-contract=fast",
        "-fPIC",
        "-dynamiclib" if platform.system() == "Darwin" else "-shared",
        "-fvisibility=hidden",
    ]
    if compiler.kind == "g++":
        # Part of -O2 in clang++ and g++ >= 12, where its default cost model gives up on most loops.
        flags += ["-ftree-vectorize", "-fvect-cost-model=dynamic"]
    extra = os.environ.get(FLAGS_VARIABLE, "")
    try:
        return (*flags, *shlex.split(extra))
    except ValueError as error:
        raise ToolchainError(
            f"{FLAGS_VARIABLE}={extra!r} cannot be split into words: {error}."
        ) from None


def compile_shared_library(
    source_path: Path,
    output_path: Path,
    compiler: Compiler,
    flags: Sequence[str],
    keep_source: Path | None = None,
    *,
    arguments: Sequence[str] = (),
) -> None:
    """Compile one C++ file.

    Args:
        source_path: the text.
        output_path: the library to write.
        compiler: who compiles.
        flags: see `compile_flags`.
        keep_source: where the text is moved when it does not compile; None leaves it in place.
        arguments: what follows the source, such as libraries.

    Raises:
        ToolchainError: the compiler failed; the message carries the command, its exit code and the
            last lines it printed, and says where the text was kept.
    """
    command = (*compiler.command, *flags, str(source_path), *arguments, "-o", str(output_path))
    with progress(f"compiling {source_path.stem} with {compiler.kind}"):
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=os.environ | {"LC_ALL": "C"},
                check=False,
            )
        except OSError as error:
            raise ToolchainError(
                f"{compiler.path} could not be started: {error}.", command=command
            ) from error
    if done.returncode == 0:
        return
    kept, stderr = source_path, done.stderr
    if keep_source is not None:
        os.replace(source_path, keep_source)
        kept, stderr = keep_source, stderr.replace(str(source_path), str(keep_source))
        command = tuple(str(keep_source) if w == str(source_path) else w for w in command)
    tail = "\n".join(stderr.splitlines()[-STDERR_LINES:])
    raise ToolchainError(
        f"{compiler.kind} failed on {source_path.stem} with exit code {done.returncode}.\n"
        f"  command: {shlex.join(command)}\n"
        f"  source:  {kept}\n"
        f"The last lines it printed:\n{tail}",
        command=command,
        returncode=done.returncode,
        stderr=tail,
        source_path=str(kept),
    )
