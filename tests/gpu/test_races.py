"""That the emulated device sees races, and nothing else: see tests/support/cuda/races.hpp."""

import signal
from pathlib import Path

import pytest

from tests.support.command import run
from tests.support.emulated import HOST, RACES

pytestmark = pytest.mark.compile

_PROGRAM = """
#include "@HOST@"
__global__ void kernel(double* x, char* bytes) {
  const int lane = static_cast<int>(threadIdx.x), place = static_cast<int>(blockIdx.x) * 64 + lane;
  __shared__ double tile[64];
  tile[lane] = lane;
  x[256 + place] = 1.0;
  @CODE@
  (void)place, (void)bytes;
}
int main() {
  static unsigned char memory[8192];
  double* x = reinterpret_cast<double*>(malloc(sizeof memory));
  char* bytes = reinterpret_cast<char*>(malloc(sizeof memory));
  memset(x, 0, sizeof memory);
  memset(bytes, 0, sizeof memory);
  for (int k = 0; k < 2; ++k) {
    anvil_host::launch(dim3(2), dim3(64), [&] { kernel(x, bytes); }, "kernel");
    x[256] += 1.0;  // not a thread
  }
}
"""

RIGHT = {
    "own element": "x[place] += 2.0;",
    "read by all": "x[place] = x[512];",
    "barrier of the block": "__syncthreads(); x[place] = tile[63 - lane];",
    "barrier of the warp": "__syncwarp(); x[place] = tile[lane ^ 1];",
    "two barriers": "__syncthreads(); x[place] = tile[63 - lane]; __syncthreads(); tile[lane] = 0;",
    "shuffles": "x[place] = __shfl_sync(~0u, x[256 + place], lane ^ 1);",
    "bytes beside each other": "bytes[place] = 1;",
}
WRONG = {
    "written by all": "x[0] = lane;",
    "one writes what another reads": "x[place] = x[(place + 1) % 128];",
    "read and added by all": "x[place % 3] += 1.0;",
    "no barrier": "x[place] = tile[63 - lane];",
    "barrier of the warp only": "__syncwarp(); x[place] = tile[63 - lane];",
    "barrier before, none behind": "__syncthreads(); x[place] = tile[63 - lane]; tile[lane] = 0;",
    "other block": "if (lane == 0) x[5] = 1.0; __syncthreads();",
    "copied at once": "memcpy(x, x + 100 + lane, sizeof(double));",
    "bytes of one word": "bytes[place / 2] = 1;",
}


def outcome(code: str, folder: Path, order: str, status: int) -> str:
    source, program = folder / "races.cpp", folder / "races"
    source.write_text(_PROGRAM.replace("@HOST@", str(HOST)).replace("@CODE@", code), "utf-8")
    run([*RACES, "-std=c++17", source, "-o", program])
    return run([program], status=status, env={"ANVIL_EMULATED_ORDER": order}).stderr


@pytest.mark.parametrize("name", RIGHT)
def test_order_is_respected(name: str, tmp_path: Path):
    assert outcome(RIGHT[name], tmp_path, "shuffled", 0) == ""


@pytest.mark.parametrize("name", WRONG)
def test_race_is_found(name: str, tmp_path: Path):
    said = outcome(WRONG[name], tmp_path, "reverse", -signal.SIGABRT)
    assert "race in kernel 'kernel'" in said
