"""C++ identifiers: which names a user may choose, and how other names are turned into valid ones.

`check_identifier` refuses (names the user typed: modules, functions, constants); `identifier` and
`unique_identifiers` repair (names found in pytree paths), always in the same way.
"""

import re
import unicodedata
from collections.abc import Iterable

from anvil_jax.errors import ArgumentError

_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
    char32_t class compl concept const consteval constexpr constinit const_cast continue co_await
    co_return co_yield decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq
    nullptr operator or or_eq private protected public register reinterpret_cast requires return
    short signed sizeof static static_assert static_cast struct switch template this thread_local
    throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while
    xor xor_eq
"""

# Macros of the standard headers and of GNU mode, and the names every generated module declares.
_RESERVED = """
    EOF FILE HUGE_VAL I INFINITY NAN NULL assert complex errno imaginary linux major minor unix
    stdin stdout stderr main std anvil_rt anvil_jit Buffer WS_t ws call evaluate init_ws floor_div
"""
# Functions that the C library puts into the global scope.
_LIBRARY = """
    abort abs acos acosh asin asinh atan atan2 atanh atexit atof atoi bsearch calloc cbrt ceil clock
    copysign cos cosh div erf erfc exit exp exp2 expm1 fabs fdim floor fma fmax fmin fmod free frexp
    getenv hypot ilogb index j0 j1 jn labs ldexp ldiv lgamma log log10 log1p log2 logb malloc memcpy
    memset modf nan pow printf puts qsort raise rand read realloc remainder remove rename rint round
    scalbn signal signbit sin sinh sqrt srand strlen system tan tanh tgamma time trunc write y0 y1
    yn
"""

# Targets that CMake makes itself (policy CMP0037).
_TARGETS = """
    ALL_BUILD INSTALL PACKAGE RUN_TESTS ZERO_CHECK all clean edit_cache help install package
    package_source preinstall rebuild_cache test
"""
CPP_KEYWORDS = frozenset(_KEYWORDS.split())
RESERVED_NAMES = frozenset(_RESERVED.split())
C_LIBRARY = frozenset(_LIBRARY.split())
CMAKE_TARGETS = frozenset(_TARGETS.split())

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_TYPE_NAMES = re.compile(r"(IN|OUT)[0-9]+_t\Z")


def is_identifier(name: str) -> bool:
    """Whether `name` can be declared in generated code: not a keyword, macro or reserved name."""
    return (
        _IDENTIFIER.match(name) is not None
        and "__" not in name
        and name not in CPP_KEYWORDS
        and name not in RESERVED_NAMES
        and _TYPE_NAMES.match(name) is None
    )


def check_identifier(name: object, what: str) -> str:
    """`name`, when it is a usable C++ identifier.

    Args:
        name: what the user chose.
        what: what is named, for the message: ``function``, ``module``, ``constant``.

    Raises:
        ArgumentError: `name` is not a string or not a usable identifier.
    """
    if not isinstance(name, str):
        raise ArgumentError(f"the {what} name must be a string, not {type(name).__name__}")
    if not is_identifier(name):
        if name in CPP_KEYWORDS:
            why = "is a C++ keyword"
        elif name in RESERVED_NAMES or _TYPE_NAMES.match(name):
            why = "is reserved in generated code"
        elif "__" in name or name.startswith("_"):
            why = "is reserved by C++ (leading or double underscore)"
        else:
            why = "is not a C++ identifier (ASCII letters, digits and underscores, letter first)"
        raise ArgumentError(
            f"the {what} name {name!r} {why}; use for example {identifier(name, what)!r}"
        )
    return name


def identifier(text: str, fallback: str) -> str:
    """A usable C++ identifier that reads like `text`; `fallback` when nothing of it is usable.

    Greek and accented letters are spelled in ASCII (``θ`` becomes ``theta``).
    """
    name = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9]", "_", _ascii(text))).strip("_")
    if not name:
        name = fallback
    if not name[0].isalpha():
        name = f"{fallback}_{name}"
    return name if is_identifier(name) else f"{name}_"


def unique_identifiers(names: Iterable[str], taken: Iterable[str] = ()) -> tuple[str, ...]:
    """`names` with ``_2``, ``_3``, ... added to those that came before or are in `taken`."""
    names = tuple(names)
    used = set(taken)
    # A suffixed name must not take the place of a later name that is spelled like it.
    reserved = set(names)
    result = []
    for name in names:
        unique, count = name, 1
        while unique in used or (count > 1 and unique in reserved):
            count += 1
            unique = f"{name.rstrip('_')}_{count}"
        used.add(unique)
        result.append(unique)
    return tuple(result)


def _ascii(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(_ascii_letter(c) for c in decomposed if not unicodedata.combining(c))


def _ascii_letter(letter: str) -> str:
    if letter.isascii():
        return letter
    # "GREEK SMALL LETTER THETA" -> theta, "GREEK CAPITAL LETTER DELTA" -> Delta
    found = re.search(r"(SMALL|CAPITAL) LETTER ([A-Z]+)", unicodedata.name(letter, ""))
    if found is None:
        return "_"
    word = found.group(2).lower()
    return word.capitalize() if found.group(1) == "CAPITAL" else word
