"""Turns runtime headers into shared libraries the way a generated module would.

The headers are text that ends up inside other people's programs, so each one is pasted inside an
unnamed namespace, as the emitter does it (that is where unused functions would warn), and compiled
by every compiler at hand under the warnings a careful user turns on, as errors.
"""

import ctypes
import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

RUNTIME = Path(__file__).resolve().parents[2] / "templates" / "runtime"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
MODULE_FLAGS = ["-O2", "-march=native", "-fno-math-errno", "-fno-trapping-math"]
BUILDS = {
    "g++": ["g++", *MODULE_FLAGS, "-ffp-contract=fast"],
    "clang++": ["clang++", *MODULE_FLAGS, "-ffp-contract=fast"],
    # The narrowest vectors and no fused multiply-add, under the sanitizer.
    "ubsan": ["g++", "-O1", "-ffp-contract=off", "-fsanitize=undefined", "-fno-sanitize-recover"],
}

DTYPES = {
    "float": np.dtype("float32"),
    "double": np.dtype("float64"),
    "bool": np.dtype("bool"),
    **{f"std::int{n}_t": np.dtype(f"int{n}") for n in (8, 16, 32, 64)},
    **{f"std::uint{n}_t": np.dtype(f"uint{n}") for n in (8, 16, 32, 64)},
}
INTEGERS = [name for name in DTYPES if name.startswith("std::")]
FLOATS = ["float", "double"]


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library whose functions take pointers to NumPy arrays and nothing else."""

    handle: ctypes.CDLL

    def __call__(self, name: str, *arrays: np.ndarray) -> None:
        """Calls `name` with the addresses of contiguous arrays."""
        assert all(array.flags.c_contiguous for array in arrays)
        function = getattr(self.handle, name)
        function.restype = None
        function(*[ctypes.c_void_p(array.ctypes.data) for array in arrays])

    def map(self, name: str, dtype: npt.DTypeLike, *arrays: np.ndarray) -> np.ndarray:
        """Result of a loop written by `elementwise`, of the shape of the first array."""
        result = np.zeros(arrays[0].shape, dtype)
        self(name, np.array([result.size]), *map(np.ascontiguousarray, arrays), result)
        return result


@dataclass(frozen=True, slots=True)
class Builder:
    """Compiles headers and code with one command; `folder` is shared by the test processes."""

    command: list[str]
    folder: Path

    @property
    def is_slow(self) -> bool:
        """Whether the sanitizer makes compiling take several times as long."""
        return any("sanitize" in option for option in self.command)

    def __call__(self, headers: Sequence[str], code: str) -> Library:
        """The library of `code`, which sees `headers`."""
        text = module_text(headers, code)
        key = hashlib.sha256("\0".join([*self.command, text]).encode()).hexdigest()[:20]
        library = self.folder / f"{key}.so"
        if not library.exists():
            private = self.folder / f"{key}-{os.getpid()}"
            source = private.with_suffix(".cpp")
            source.write_text(text, encoding="utf-8")
            command = [*self.command, "-std=c++17", *WARNINGS, "-shared", "-fPIC", str(source)]
            result = subprocess.run(
                [*command, "-o", str(private)], capture_output=True, text=True, check=False
            )
            assert result.returncode == 0, result.stderr[:8000]
            private.replace(library)
        return Library(ctypes.CDLL(str(library)))


def module_text(headers: Sequence[str], code: str) -> str:
    """`headers` and what they include, each once, in an unnamed namespace; then `code`."""
    includes = {"#include <cstdint>": None}
    body: list[str] = []
    seen: set[str] = set()

    def paste(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        for line in (RUNTIME / name).read_text(encoding="utf-8").splitlines():
            if match := re.fullmatch(r'#include "(.+)"', line):
                paste(match[1])
            elif line.startswith("#include"):
                includes[line] = None
            elif line != "#pragma once":
                body.append(line)

    for name in headers:
        paste(name)
    return "\n".join([*includes, "namespace {", *body, "}", code, ""])


def symbol(*parts: object) -> str:
    """An identifier made of `parts`, for the name of an `extern "C"` function."""
    return "f_" + re.sub(r"\W+", "_", "_".join(str(part) for part in parts))


def elementwise(name: str, inputs: Sequence[str], output: str, call: str) -> str:
    """C++ of a loop that stores `call`, an expression of x, y and z; for `Library.map`."""
    pairs = list(zip(inputs, "xyz", strict=False))
    parameters = "".join(f"const {kind}* {letter}s, " for kind, letter in pairs)
    values = " ".join(f"const {kind} {letter} = {letter}s[i];" for kind, letter in pairs)
    return (
        f'extern "C" void {name}(const long long* count, {parameters}{output}* out);\n'
        f"void {name}(const long long* count, {parameters}{output}* out) {{\n"
        f"  for (long long i = 0; i < *count; ++i) {{ {values} out[i] = {call}; }}\n}}\n"
    )


def ulp_error(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance from `exact` (of higher precision) in units in the last place of `got`'s dtype.

    Equal infinities, NaN for NaN and a zero of the right sign count as 0; a wrong one as infinity.
    """
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        _, exponent = np.frexp(np.abs(exact))
        unit = np.ldexp(np.ones_like(exact), np.maximum(exponent - 1, info.minexp) - info.nmant)
        error = np.abs(got.astype(exact.dtype) - exact) / unit
    special = ~np.isfinite(rounded) | (rounded == 0)
    same = (np.isnan(got) & np.isnan(rounded)) | (
        (got == rounded) & (np.signbit(got) == np.signbit(rounded))
    )
    # Next to overflow and underflow the neighbour is right within one unit as well.
    near = np.isfinite(exact) & (error <= 2) & (np.signbit(got) == np.signbit(exact))
    return np.where(special | ~np.isfinite(got), np.where(same | near, 0.0, np.inf), error)
