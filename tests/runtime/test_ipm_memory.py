"""The interior-point headers under sanitizers, and that solving takes no memory from the heap."""

import shutil
import subprocess

import pytest

from tests.runtime.harness import WARNINGS, module_text
from tests.runtime.quadratic_programs import HEADERS

pytestmark = pytest.mark.compile

# Random programs around a feasible point, solved from nothing and from the solution: with hard and
# soft rows, fixed and free first states, and no room for more sides than there are.
PROGRAM = """
#include <cstdio>
#include <cstdlib>
#include <new>
#include <random>

static long allocations = 0;
void* operator new(std::size_t size) {
  ++allocations;
  if (void* found = std::malloc(size)) return found;
  throw std::bad_alloc();
}
void operator delete(void* pointer) noexcept { std::free(pointer); }
void operator delete(void* pointer, std::size_t) noexcept { std::free(pointer); }

namespace {
using namespace anvil_rt;
int failures = 0;
std::mt19937 generator(1);
double normal() { return std::normal_distribution<double>()(generator); }
double positive() { return std::uniform_real_distribution<double>()(generator); }

template <class T, class Program>
void check(Program& qp) {
  ipm_options<T> options;
  const qp_result<T> cold = qp.solve(options);
  options.warm_start = true;
  const qp_result<T> warm = qp.solve(options);
  const bool solved = cold.status == qp_status::solved && warm.status == qp_status::solved;
  if (!solved || warm.iterations > cold.iterations) ++failures;
}

template <class T, int N, int NX, int NU, int NG, int Sides>
void stages() {
  constexpr int NZ = NX + NU;
  static riccati_ipm<T, N, NX, NU, NG, Sides> qp;
  for (int trial = 0; trial < 20; ++trial) {
    qp.reset();
    T z[N + 1][NZ];
    for (int k = 0; k <= N; ++k) {
      for (int i = 0; i < NZ; ++i) {
        qp.hessian[k][i * NZ + i] = T(positive());
        qp.gradient[k][i] = T(normal());
        if (k == 0 || i >= NX) z[k][i] = T(normal());
      }
      for (int i = k < N ? 0 : NX * NZ; i < (NX + NG) * NZ; ++i) {
        qp.jacobian[k][i] = T(0.4 * normal());
      }
      for (int i = 0; i < NX + NG; ++i) {
        T image = T(0);
        for (int j = 0; j < NZ; ++j) image += qp.jacobian[k][i * NZ + j] * z[k][j];
        if (i < NX && k < N) z[k + 1][i] = image;
        if (i < NX) continue;
        qp.lower_bound[k][NZ + i - NX] = image - T(positive());
        if (trial % 3 == 0) qp.row_penalty[k][NZ + i - NX] = T(positive());
      }
      for (int i = 0; i < NZ; ++i) {
        const bool fixed = k == 0 && i < NX && trial % 2 == 0;
        qp.lower_bound[k][i] = fixed ? z[k][i] : z[k][i] - T(positive());
        qp.upper_bound[k][i] = fixed ? z[k][i] : z[k][i] + T(positive());
      }
    }
    check<T>(qp);
  }
  // The last trial used all the room for sides.
  qp.upper_bound[1][NZ] = T(1e3);
  if (qp.solve({}).status != qp_status::numerics) ++failures;
}

template <class T, int NV, int E, int I>
void dense() {
  static dense_ipm<T, NV, E, I> qp;
  for (int trial = 0; trial < 20; ++trial) {
    qp.reset();
    T x[NV];
    for (int i = 0; i < NV; ++i) {
      x[i] = T(normal());
      qp.hessian[i * NV + i] = T(positive());
      qp.gradient[i] = T(normal());
      qp.upper_bound[i] = x[i] + T(positive());
    }
    for (int r = 0; r < E + I; ++r) {
      T image = T(0);
      for (int i = 0; i < NV; ++i) {
        qp.jacobian[r * NV + i] = T(normal());
        image += qp.jacobian[r * NV + i] * x[i];
      }
      qp.lower_bound[NV + r] = r < E ? image : image - T(positive());
      qp.upper_bound[NV + r] = r < E ? image : image + T(positive());
      if (trial % 3 == 0) qp.row_penalty[NV + r] = T(positive());
    }
    check<T>(qp);
  }
}
}  // namespace

int main() {
  stages<double, 5, 3, 2, 5, 6 * (10 + 5)>();
  dense<float, 5, 1, 3>();
  std::printf("%d failures, %ld allocations\\n", failures, allocations);
  return failures == 0 && allocations == 0 ? 0 : 1;
}
"""


def test_sanitizers_find_nothing_and_the_heap_is_not_used(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    source, target = tmp_path / "programs.cpp", tmp_path / "programs"
    source.write_text(module_text(HEADERS, PROGRAM), encoding="utf-8")
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command = ["g++", "-std=c++17", "-O1", *WARNINGS, *sanitizers, str(source), "-o"]
    built = subprocess.run([*command, str(target)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[:8000]
    run = subprocess.run([str(target)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, (run.stdout + run.stderr)[-8000:]
