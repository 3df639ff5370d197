"""C++ text turned into CUDA device text, and the run-time headers put together for a device.

The headers under ``templates/runtime`` and the printed kernels are ordinary C++. `cuda_dialect`
marks their functions for the device and sends what they take from the standard library to
namespace ``anvil_std``, which ``templates/cuda/prelude.hpp`` defines: the result needs no header,
so that NVRTC compiles it on its own, and nvcc does it next to the real library. Where a header is
slow or wrong on a device, ``templates/cuda/runtime`` holds one of the same name that takes its
place. Start reading at `collect_cuda_runtime`.
"""

import re
from collections.abc import Iterable

from jinja2 import TemplateNotFound

from anvil_jax.emit.environment import template_source
from anvil_jax.emit.runtime import collect_runtime
from anvil_jax.errors import ExportError

_STANDARD = re.compile(r"\bstd::")
_BIT_COUNT = re.compile(r"\b__builtin_(popcountll|clzll)\b")
# The start of a function definition or declaration at the beginning of a line: a parenthesis
# comes before anything that would make it a variable, a type or a using declaration.
_FUNCTION = re.compile(
    r"^(?P<forced>__attribute__\(\(always_inline\)\) )?(?P<word>inline|constexpr)\b"
    r"(?=[^(={;]*\()",
    re.MULTILINE,
)
_PRAGMA_ONCE = re.compile(r"^#pragma once\n+", re.MULTILINE)


def cuda_dialect(text: str) -> str:
    """Device text of C++ `text`, a run-time header or printed kernels.

    Functions at the beginning of a line that are ``inline`` or ``constexpr`` get ``__device__``,
    those that must be inlined ``__forceinline__`` as well; ``std::`` becomes ``anvil_std::``, and
    so do the compiler's functions that count bits. Functions that say neither word, and members
    of classes, keep their text.
    """
    text = _STANDARD.sub("anvil_std::", text)
    text = _BIT_COUNT.sub(r"anvil_std::\1", text)
    return _FUNCTION.sub(_on_device, text)


def collect_cuda_runtime(names: Iterable[str]) -> str:
    """Device text of the prelude, the headers `names` and all that they include, each once.

    It includes nothing. System headers of the originals are dropped: the prelude stands for them.
    The text may be put inside a namespace.

    Args:
        names: file names under ``templates/runtime``, e.g. ``cholesky.hpp``.

    Raises:
        ExportError: no such header, or headers include each other in a circle.
    """
    prelude = _PRAGMA_ONCE.sub("", template_source("cuda/prelude.hpp")).strip("\n")
    runtime = cuda_dialect(collect_runtime(names, _device_header).text)
    return f"{prelude}\n\n{runtime}".rstrip("\n") + "\n"


def _on_device(match: re.Match[str]) -> str:
    if match["forced"]:
        # `__forceinline__` is itself an `inline`.
        rest = "" if match["word"] == "inline" else f" {match['word']}"
        return f"__device__ __forceinline__{rest}"
    return f"__device__ {match['word']}"


def _device_header(name: str) -> str:
    """Text of a run-time header; the device's own one shadows the general one."""
    try:
        return template_source(f"cuda/runtime/{name}")
    except TemplateNotFound:
        pass
    try:
        return template_source(f"runtime/{name}")
    except TemplateNotFound:
        raise ExportError(f"there is no run-time header {name}") from None
