"""templates/runtime/piqp_supplier.hpp, compiled against an installed PIQP."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from anvil_jax.opti.external_qp import ExternalQP, QPStatus, layout_of
from anvil_jax.opti.piqp_native import PiqpInstallation
from tests.runtime.harness import WARNINGS, module_text

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]

SUPPLIER = """
using Supplier = anvil_rt::piqp_supplier<QPData>;
extern "C" {
int used();
void* make(const QPData* qp, int multistage);
int solve(void* supplier, QPData* qp);
void drop(void* supplier);
}
int used() { return anvil_rt::at_least_one(0); }
void* make(const QPData* qp, int multistage) { return new Supplier(*qp, true, multistage != 0); }
int solve(void* supplier, QPData* qp) { return Supplier::solve(supplier, qp); }
void drop(void* supplier) { delete static_cast<Supplier*>(supplier); }
"""

COUNTING = """
#include <cstddef>
#include <cstdio>

static bool counting = false;
static int allocations = 0;
extern "C" {
void* __libc_malloc(std::size_t size);
void* malloc(std::size_t size);
}
void* malloc(std::size_t size) {
  if (counting) ++allocations;
  return __libc_malloc(size);
}

int main() {
  const int starts[] = {0, 1, 2}, rows[] = {0, 1}, full_starts[] = {0, 1, 2}, full_rows[] = {0, 0};
  const double infinity = std::numeric_limits<double>::infinity();
  double p[] = {1, 2}, c[] = {0, -0.5}, a[] = {1, -1}, b[] = {0.1}, g[] = {1, 1};
  double h_l[] = {1}, h_u[] = {infinity}, x_l[] = {-1, -1}, x_u[] = {2, 2};
  double d[2], y[1], z[1], w[2];
  QPData qp = {2, 1, 1, 1, starts, rows, full_starts, full_rows, full_starts, full_rows,
               p, c, a, b, g, h_l, h_u, x_l, x_u, infinity, 1e-9, 60, 7, d, y, z, w, 0};
  anvil_rt::piqp_supplier<QPData> supplier(qp, true, false);
  allocations = used() - 1;
  counting = true;
  int failures = 0;
  for (int k = 0; k < 200; ++k) {
    p[0] = 1 + 0.01 * k;
    qp.changed = k % 3 == 0 ? 7 : 0;
    if (qp.changed == 0) p[0] = 1 + 0.01 * (k - k % 3);
    c[0] = -0.01 * k;
    h_l[0] = k % 5 == 0 ? -infinity : 1;
    x_u[0] = k % 7 == 0 ? infinity : 2;
    qp.penalty = k % 11 == 0 ? 1e3 : infinity;
    failures += supplier.solve(qp) != anvil_rt::qp_status::solved;
  }
  b[0] = 100;
  failures += supplier.solve(qp) != anvil_rt::qp_status::infeasible;
  counting = false;
  std::printf("%d %d\\n", failures, allocations);
  return 0;
}
"""


def record_type() -> str:
    """The C++ record as generated modules declare it."""
    text = (TEMPLATES / "sqp" / "qp_interface.hpp.j2").read_text(encoding="utf-8")
    found = re.search(r"struct QPData \{.*?\n\};\n", text, re.DOTALL)
    assert found is not None
    return found[0]


def compile_supplier(
    piqp: PiqpInstallation, compiler: str, folder: Path, *, counting: bool = False
) -> Path:
    """The supplier as a library, or as a program that counts allocations."""
    target = folder / f"{compiler}-{'count' if counting else 'supplier'}"
    code = record_type() + SUPPLIER + (COUNTING if counting else "")
    source = target.with_suffix(".cpp")
    source.write_text(module_text(["piqp_supplier.hpp"], code), encoding="utf-8")
    kind = [] if counting else ["-shared", "-fPIC"]
    options = ["-std=c++17", "-O2", *WARNINGS, *piqp.compile_arguments, *kind]
    command = [compiler, *options, str(source), "-o", str(target), *piqp.link_arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:4000]
    return target


class NativeSupplier:
    """The C++ supplier with the interface of `PiqpSupplier`; one for each layout it meets."""

    def __init__(self, library: Path, *, multistage: bool = False) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.make.restype = ctypes.c_void_p
        self._library.drop.argtypes = [ctypes.c_void_p]
        self._library.solve.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._multistage = multistage
        self._made: dict[bytes, int] = {}
        self.error: BaseException | None = None

    def callback(self, context: Any, address: int) -> int:
        """As `PiqpSupplier.callback`."""
        del context
        layout = layout_of(address)
        if layout not in self._made:
            record = ExternalQP.from_address(address)
            self._made[layout] = self._library.make(ctypes.byref(record), int(self._multistage))
        return QPStatus(self._library.solve(self._made[layout], address))

    def reraise(self) -> None:
        """Frees what was made."""
        for made in self._made.values():
            self._library.drop(made)
        self._made.clear()
