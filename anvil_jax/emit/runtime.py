"""The hand-written C++ headers under ``templates/runtime``, put together for one module.

A header is ordinary C++ that tests compile on its own: ``#pragma once``, ``#include <system>``,
``#include "other.hpp"``. In a generated module each needed header appears once, after those it
includes, without these lines; the system includes (and whole ``#if`` blocks that contain one) are
collected at the top of the file, since the rest ends up inside a namespace.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from anvil_jax.emit.environment import template_source
from anvil_jax.errors import ExportError

_SYSTEM_INCLUDE = re.compile(r"\s*#\s*include\s*(<[^>]+>)")
_LOCAL_INCLUDE = re.compile(r"\s*#\s*include\s*\"(?:\./|runtime/)?([^\"]+)\"")
_PRAGMA_ONCE = re.compile(r"\s*#\s*pragma\s+once\b")
_IF = re.compile(r"\s*#\s*if")
_ENDIF = re.compile(r"\s*#\s*endif")


@dataclass(frozen=True, slots=True)
class RuntimeText:
    """Headers joined in dependency order.

    Attributes:
        headers: file names, dependencies first.
        includes: system headers as written, ``<cmath>``, sorted.
        conditional_includes: ``#if`` blocks that include system headers.
        text: what remains of the headers.
    """

    headers: tuple[str, ...]
    includes: tuple[str, ...]
    conditional_includes: tuple[str, ...]
    text: str


def collect_runtime(names: Iterable[str], read: Callable[[str], str] | None = None) -> RuntimeText:
    """Join the headers `names` and all that they include.

    Args:
        names: file names under ``templates/runtime``, e.g. ``cholesky.hpp``.
        read: returns the text of a header; default reads the installed one.

    Raises:
        ExportError: headers include each other in a circle.
    """
    collected = _Collected(_installed if read is None else read)
    for name in sorted(set(names)):
        collected.add(name)
    return RuntimeText(
        headers=tuple(collected.bodies),
        includes=tuple(sorted(collected.includes)),
        conditional_includes=tuple(dict.fromkeys(collected.conditional)),
        text="\n\n".join(collected.bodies.values()),
    )


class _Collected:
    """The state of one collection: headers are added depth first."""

    def __init__(self, read: Callable[[str], str]) -> None:
        self.read = read
        self.bodies: dict[str, str] = {}
        self.includes: set[str] = set()
        self.conditional: list[str] = []
        self._open: list[str] = []

    def add(self, name: str) -> None:
        if name in self.bodies:
            return
        if name in self._open:
            circle = " -> ".join((*self._open[self._open.index(name) :], name))
            raise ExportError(f"runtime headers include each other: {circle}")
        self._open.append(name)
        kept = [block for block in _blocks(self.read(name)) if self._keeps(block)]
        self._open.pop()
        self.bodies[name] = "\n".join(kept).strip("\n")

    def _keeps(self, block: str) -> bool:
        """Whether a block stays in the text; includes are taken out and followed."""
        if _IF.match(block) and any(map(_SYSTEM_INCLUDE.match, block.splitlines())):
            self.conditional.append(block)
            return False
        if local := _LOCAL_INCLUDE.match(block):
            self.add(local.group(1))
            return False
        if system := _SYSTEM_INCLUDE.match(block):
            self.includes.add(system.group(1))
            return False
        return _PRAGMA_ONCE.match(block) is None


def _blocks(text: str) -> Iterator[str]:
    """The lines of a header, with each outermost ``#if`` ... ``#endif`` as one block."""
    block: list[str] = []
    depth = 0
    for line in text.splitlines():
        block.append(line)
        if _IF.match(line):
            depth += 1
        elif _ENDIF.match(line):
            depth -= 1
        if depth == 0:
            yield "\n".join(block)
            block = []


def _installed(name: str) -> str:
    return template_source(f"runtime/{name}")
