"""Runs programs that have to succeed."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.requirements import require_program


def run(
    command: Sequence[str | Path], *, status: int = 0, **options: Any
) -> subprocess.CompletedProcess[str]:
    """A program that has ended, with what it printed; the test is skipped if it is not there.

    Args:
        command: the program and its arguments.
        status: the exit status to expect.
        **options: for `subprocess.run`.

    Raises:
        AssertionError: another exit status, with what the program said.
    """
    words = [str(word) for word in command]
    require_program(words[0])
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        check=False, **options,
    )  # fmt: skip
    said = "\n".join(map(_shortened, (done.stdout, done.stderr)))
    assert done.returncode == status, f"exit {done.returncode}: {' '.join(words)}\n{said}"
    return done


def _shortened(text: str) -> str:
    """Beginning and end: a compiler's first error, a sanitizer's last words."""
    return text if len(text) < 8000 else f"{text[:4000]}\n[...]\n{text[-4000:]}"
