"""C++ text in the Metal Shading Language: a dialect of C++14 without double and without ``std``.

`metal_dialect` changes spellings only: the printed kernels and the headers are written so that
nothing more is needed. What a header does differently on Metal (arithmetic in float, pointers into
any address space) is a header of its own, ``templates/metal/runtime/<name>``, which is taken
instead of ``templates/runtime/<name>``. ``templates/metal/prelude.hpp`` stands for the standard
library.
"""

import re
from collections.abc import Iterable

from jinja2 import TemplateNotFound

from anvil_jax.emit.environment import template_source
from anvil_jax.emit.runtime import collect_runtime
from anvil_jax.errors import ExportError

# General headers that are right in Metal as they are, but for spellings. The others either have a
# header of their own under templates/metal/runtime, or cannot be had on Metal.
_PORTABLE = frozenset({
    "cholesky.hpp", "convert.hpp", "eigen.hpp", "elementary.hpp", "exchange.hpp", "extrema.hpp",
    "integer.hpp", "lu.hpp", "qr.hpp", "row_product.hpp", "sorting.hpp", "triangular.hpp",
})  # fmt: skip

_SPELLINGS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<![\w:])(?:::)?std::"), "anvil_std::"),
    (re.compile(r" noexcept\b"), ""),
    (re.compile(r" ?\b__restrict(?:__)?\b"), ""),
    (re.compile(r"\blong long\b"), "long"),
    (re.compile(r"\b__builtin_(popcountll|clzll)\b"), r"anvil_std::\1"),
)


def metal_dialect(text: str) -> str:
    """The same declarations and statements as Metal spells them.

    ``std::`` becomes ``anvil_std::``; ``noexcept`` and ``__restrict__`` are dropped; ``long long``
    becomes ``long``, which has 64 bits there; what counts bits is the prelude's. Address spaces are
    not added: the text must name them.

    Args:
        text: C++14 with ``if constexpr``, without double, lambdas, exceptions and recursion.
    """
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    return text


def collect_metal_runtime(names: Iterable[str]) -> str:
    """The prelude and the headers `names` with all that they include, ready to be put first.

    Args:
        names: file names as under ``templates/runtime``, e.g. ``cholesky.hpp``.

    Returns:
        Metal text, each header once, dependencies first. System includes are dropped: the prelude
        holds what they would declare.

    Raises:
        ExportError: a header has no form for Metal.
    """
    headers = collect_runtime(names, read=_read)
    parts = (template_source("metal/prelude.hpp"), metal_dialect(headers.text))
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _read(name: str) -> str:
    """The text of a header: the general one only where it is known to be right."""
    if name in _PORTABLE:
        return template_source(f"runtime/{name}")
    try:
        return template_source(f"metal/runtime/{name}")
    except TemplateNotFound:
        raise ExportError(f"the run-time header {name} has no form for Metal") from None
