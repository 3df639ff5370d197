"""Device text on the host: CUDA's words defined away, a block of threads made of real threads."""

import ctypes
import subprocess
from pathlib import Path

from tests.runtime.harness import WARNINGS, Library

# The words come after the headers, some of which spell attributes with them. `run_block` calls
# f(lane) by as many threads; all of them must reach every __syncthreads(), as on a device.
HOST_WORDS = r"""
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __shared__
#define __forceinline__ inline
#define __noinline__

namespace host {

inline std::mutex mutex;
inline std::condition_variable all_arrived;
inline int threads = 1, arrived = 0;
inline unsigned long barriers = 0;

template <class F>
void run_block(int lanes, F f) {
  threads = lanes;
  std::vector<std::thread> block;
  for (int lane = 0; lane < lanes; ++lane) block.emplace_back([=] { f(lane); });
  for (std::thread& one : block) one.join();
}

}  // namespace host

inline void __syncthreads() {
  std::unique_lock<std::mutex> lock(host::mutex);
  const unsigned long mine = host::barriers;
  if (++host::arrived == host::threads) {
    host::arrived = 0;
    ++host::barriers;
    host::all_arrived.notify_all();
  } else {
    host::all_arrived.wait(lock, [mine] { return host::barriers != mine; });
  }
}
"""


def build_on_host(device_text: str, code: str, folder: Path) -> Library:
    """The library of `code`, ordinary C++ that sees `device_text`; compiled by g++."""
    source, library = folder / "device.cpp", folder / "device.so"
    source.write_text(f"{HOST_WORDS}\n{device_text}\n{code}\n", encoding="utf-8")
    command = ["g++", "-std=c++17", "-O1", "-ffp-contract=off", *WARNINGS, "-shared", "-fPIC"]
    command += ["-pthread", str(source), "-o", str(library)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:8000]
    return Library(ctypes.CDLL(str(library)))
