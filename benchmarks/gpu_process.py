"""Scripts of this folder as processes of their own, and the compiler for what they build."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


def find_compiler() -> str:
    """A C++ compiler for the host."""
    return next((name for name in ("g++", "clang++") if shutil.which(name)), "c++")


def environment(**extra: str) -> dict[str, str]:
    """Of a process that imports anvil_jax, tests and what is in this folder."""
    paths = [str(_HERE.parent), str(_HERE), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **extra}


def run_script(
    script: Path, words: Sequence[object], seconds: float, **extra: str
) -> tuple[list[dict[str, Any]], str]:
    """What a script printed as lines of JSON, and why it did not print more.

    Args:
        script: the file.
        words: its arguments.
        seconds: after which it is stopped.
        **extra: set in its environment.
    """
    command = [sys.executable, str(script), *map(str, words)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds,
            env=environment(**extra),
        )  # fmt: skip
        output = done.stdout
        error = (done.stderr or f"exit status {done.returncode}") if done.returncode else ""
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode(errors="replace")
        error = f"stopped after {seconds:.0f} s"
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines], error[-400:].strip()
