"""Judges Metal text without a Mac: clang++ through the shim ``tests/support/metal``.

`check` parses with address spaces as types and refuses what Metal lacks; `build` makes a shared
library of the same text for the host.
"""

import re
from pathlib import Path

from tests.support.command import run

SHIM = Path(__file__).parent / "metal"
WARNINGS = (
    "-Wall", "-Wextra", "-Wno-unused-function", "-Wdouble-promotion", "-Werror", "-fsigned-char",
)  # fmt: skip
# C++14, Metal's language (the shim lets `if constexpr` pass).
CHECK = ("clang++", "-std=c++14", "-fsyntax-only", "-x", "c++", f"-I{SHIM}", *WARNINGS)
RUN = (
    "clang++", "-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-DANVIL_METAL_RUN",
    f"-I{SHIM}", *WARNINGS, "-pthread",
)  # fmt: skip
# On Linux, clang has automatic reference counting for Apple's Objective-C runtime only.
HOST = (
    "clang++", "-x", "objective-c++", "-std=c++17", "-fobjc-arc", "-fobjc-runtime=macosx",
    "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{SHIM}",
)  # fmt: skip

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
# A declarator with a star or ampersand: a type, optionally const, at the start of a declaration or
# of a parameter. Products (`x * y`) start elsewhere, or are no types.
_TYPE = (
    r"(?:void|bool|char|float|half|int|uint|long|auto|T|U|S|unsigned char|\w+_t|(?:\w+::)+\w+_t)"
)
_BARE_POINTER = re.compile(
    rf"(?:^|[(,;{{<])\s*(?P<declaration>(?:const\s+)?{_TYPE}(?:\s+const)?\s*[*&]+\s*\w+)",
    re.MULTILINE,
)
_LAMBDA = re.compile(r"(?<![\w\])\[])\[[\w\s,&=*]*\]\s*(?:\([^)]*\)\s*)?(?:mutable\s*)?\{")
_LONG_LONG = re.compile(r"\blong long\b|\b\d+[uU]?(?:ll|LL)\b")


def objections(text: str) -> list[str]:
    """What the parse cannot see: pointers without an address space, lambdas, ``long long``."""
    code = _COMMENT.sub("", text)
    found = [f"no address space: {m['declaration']}" for m in _BARE_POINTER.finditer(code)]
    found += [f"lambda: {m.group()}" for m in _LAMBDA.finditer(code)]
    found += [f"not in Metal: {m.group()}" for m in _LONG_LONG.finditer(code)]
    return found


def check(text: str, folder: Path, name: str = "checked") -> None:
    """Parses Metal text in the checked mode.

    Raises:
        AssertionError: with what the compiler or `objections` say.
    """
    source = folder / f"{name}.metal"
    source.write_text(text, encoding="utf-8")
    assert not objections(text), "\n".join(objections(text))
    run([*CHECK, source])


def check_host(source: Path, *flags: str) -> None:
    """Parses Objective-C++ that calls Metal against the stubs of Apple's frameworks.

    Args:
        source: the file.
        *flags: more for the compiler, ``-fno-objc-arc``.

    Raises:
        AssertionError: with what the compiler says.
    """
    run([*HOST, *flags, source])


def build(text: str, harness: str, folder: Path, name: str = "kernels") -> Path:
    """A shared library of Metal text and of host C++ that calls it."""
    sources = (folder / f"{name}_metal.cpp", folder / f"{name}_host.cpp")
    for path, content in zip(sources, (text, harness), strict=True):
        path.write_text(content, encoding="utf-8")
    library = folder / f"{name}.so"
    run([*RUN, *sources, "-o", library])
    return library
