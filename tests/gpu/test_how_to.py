"""What docs/how-to/gpu.md shows runs as it stands, on the emulated device."""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.gpu.conftest import InProcess
from tests.support.cuda.emulator import Emulator
from tests.support.judge import difference
from tests.support.native import reference

pytestmark = pytest.mark.compile

_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "gpu.md"
_BATCH = 100_000

_PROGRAM = """
#include <cstdio>
#include <fstream>
#include <vector>
@includes@
int main() {
  std::vector<double> a(2 * @batch@), b(@batch@), c(2 * @batch@), d(2 * @batch@);
  std::ifstream file("in.bin", std::ios::binary);
  file.read(reinterpret_cast<char*>(a.data()), sizeof(double) * 2 * @batch@);
  file.read(reinterpret_cast<char*>(b.data()), sizeof(double) * @batch@);
  const double *states = a.data(), *torques = b.data();
  double* next = c.data();
  CUcontext context;
  if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 2;
  CUdeviceptr first, second, third;
  if (cuMemAlloc(&first, sizeof(double) * a.size())) return 3;
  if (cuMemAlloc(&second, sizeof(double) * b.size())) return 3;
  if (cuMemAlloc(&third, sizeof(double) * d.size())) return 3;
  if (cuMemcpyHtoD(first, a.data(), sizeof(double) * a.size())) return 4;
  if (cuMemcpyHtoD(second, b.data(), sizeof(double) * b.size())) return 4;
  const double* d_states = reinterpret_cast<const double*>(first);
  const double* d_torques = reinterpret_cast<const double*>(second);
  double* d_next = reinterpret_cast<double*>(third);
  CUstream stream;
  if (cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING)) return 5;
  {
@shown@
    if (!status) std::puts(status.text());
    if (cuStreamSynchronize(stream)) return 6;
  }
  if (cuMemcpyDtoH(d.data(), third, sizeof(double) * d.size())) return 7;
  std::ofstream result("out.bin", std::ios::binary);
  result.write(reinterpret_cast<const char*>(c.data()), sizeof(double) * 2 * @batch@);
  result.write(reinterpret_cast<const char*>(d.data()), sizeof(double) * 2 * @batch@);
}
"""


def _shown(language: str) -> str:
    (code,) = re.findall(rf"```{language}\n(.*?)```", _PAGE.read_text("utf-8"), re.DOTALL)
    return code


def test_the_page_runs(
    device: InProcess, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(_shown("python"), names)
    rng = np.random.default_rng(0)
    states, torques = rng.normal(size=(_BATCH, 2)), rng.normal(size=_BATCH)
    expected = reference(jax.vmap(names["pendulum"]), (states, torques))
    assert difference([names["steps"](states, torques)], expected, rtol=1e-13) is None

    includes, shown = _shown("cpp").split("\n\n", 1)
    program = _PROGRAM.replace("@includes@", includes).replace("@shown@", shown)
    Path("main.cpp").write_text(program.replace("@batch@", str(_BATCH)), "utf-8")
    Path("in.bin").write_bytes(states.tobytes() + torques.tobytes())
    binary = emulator.build(tmp_path / "main", "-Icpp", "main.cpp")
    assert emulator.run(binary) == ""
    results = np.fromfile("out.bin").reshape(2, _BATCH, 2)
    assert difference(list(results), [*expected, *expected], rtol=1e-13) is None
