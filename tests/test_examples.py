"""The examples run and print what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.compile
def test_quadrotor(compilers, tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quadrotor.py", tmp_path / "cpp"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    error = re.search(r"agreement +(\S+) maximum relative difference from JAX", done.stdout)
    assert error is not None
    assert float(error[1]) < 1e-12
    assert re.search(r"native +[\d.]+ us per call", done.stdout)
    assert re.search(r"jax.jit +[\d.]+ us per call", done.stdout)

    # The exported self-test agrees with JAX without Python.
    program = tmp_path / "self_test"
    sources = sorted(str(path) for path in (tmp_path / "cpp").glob("*.cpp"))
    subprocess.run([compilers[0], "-std=c++17", *sources, "-o", str(program)], check=True)
    subprocess.run([str(program)], check=True)


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path.name


DOCS = EXAMPLES.parent / "docs"
PAGES = sorted(
    path for path in DOCS.rglob("*.md") if "```python" in path.read_text(encoding="utf-8")
)


@pytest.mark.compile
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_code_in_the_documentation_runs(page, compilers, tmp_path):
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    script = tmp_path / f"{page.stem}_page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_links_in_the_documentation_lead_somewhere():
    broken = [
        f"{page.name}: {target}"
        for page in [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []
