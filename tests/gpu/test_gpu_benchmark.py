"""benchmarks/gpu.py runs: what needs no GPU for real, the rest on the emulated device."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = pytest.mark.compile


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script, with the settings of its command line."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    with jax.enable_x64(True):
        yield importlib.import_module("gpu")


def rows(text: str) -> list[list[str]]:
    """The cells of the tables of a section, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_static(gpu: Any, tmp_path: Path):
    bench = gpu.Bench(
        tmp_path, models=("matrix_product", "sum"), dtypes=("float32",), is_small=True
    )
    text = gpu.run_section("static", bench)
    assert bench.missed == [], text
    found = rows(text)
    assert [row[0] for row in found] == ["model", "matrix product", "sum"]
    assert "Machine: " in text


@pytest.mark.usefixtures("device")
def test_cases(gpu: Any, tmp_path: Path):
    bench = gpu.Bench(tmp_path, families=("contraction",), kernels=("auto",), cases=4)
    text = gpu.run_section("cases", bench)
    assert bench.missed == [], text
    assert rows(text)[1][:3] == ["contraction", "4 auto", "0"]
    assert "all results agree" in text

    folder = bench.folder("contraction", "auto")
    assert gpu.run_again(bench.runner, folder, [], 60.0)[0] == 0
    assert (folder / "again").read_bytes() == (folder / "out").read_bytes()


@pytest.mark.usefixtures("device")
def test_timing(gpu: Any, tmp_path: Path):
    bench = gpu.Bench(tmp_path, models=("mapped_roll_out",), dtypes=("float64",), is_small=True)
    text = gpu.run_section("timing", bench)
    assert "difference from JAX" in text
    speed = rows(text)[1]
    assert speed[:2] == ["quadrotor roll-out, lax.map", "float64"]
    assert "-" not in (speed[2], speed[3], speed[7], speed[9])
    assert float(speed[11]) < 1e-12
    assert "JAX has no GPU here" in text


@pytest.mark.usefixtures("device")
def test_what_is_emulated_is_not_written(gpu: Any, tmp_path: Path):
    page = tmp_path / "page.md"
    gpu._write(page, {"timing": "Emulated CUDA device 0"})
    assert not page.exists()
    gpu._write(page, {"static": "Text of a section."})
    gpu._write(page, {"timing": "Times."})
    assert "## Compilation\n\nText of a section.\n" in page.read_text()
    assert "## Speed\n\nTimes.\n" in page.read_text()
    assert "## Memory checks\n\nNot run yet.\n" in page.read_text()
