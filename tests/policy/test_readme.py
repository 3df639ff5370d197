"""README's code blocks run, and its two commands are the ones CI runs."""

import re
import subprocess
import sys
from itertools import pairwise

import pytest

_FENCE = re.compile(r"^```(\w*)\s*$")


def code_blocks(text: str, language: str) -> list[tuple[int, str]]:
    """Fenced blocks of a language, each with the number of its first line."""
    lines = text.splitlines()
    fences = [(i, match[1]) for i, line in enumerate(lines) if (match := _FENCE.match(line))]
    return [
        (start + 2, "\n".join(lines[start + 1 : end]))
        for (start, name), (end, _) in list(pairwise(fences))[::2]
        if name == language
    ]


@pytest.fixture(scope="module")
def readme(root) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.mark.compile
def test_python_blocks_run(readme, compilers, tmp_path):
    blocks = code_blocks(readme, "python")
    assert blocks
    # One script; every statement keeps its line number, so that a traceback points into README.md.
    script = ""
    for line, block in blocks:
        script += "\n" * (line - 1 - script.count("\n")) + block + "\n"
    path = tmp_path / "README.py"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, path.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_set_up_is_two_commands(readme):
    commands = [
        line
        for _, block in code_blocks(readme, "sh")
        for line in block.splitlines()
        if line.startswith("python3 -m venv .venv")
    ]
    assert [line.rpartition(" && ")[2] for line in commands] == [
        ".venv/bin/python examples/quadrotor.py",
        ".venv/bin/python -m pytest",
    ]
