// Grids, blocks and barriers on the host.
//
// The blocks of a grid run one after the other. The threads of a block are fibers, each of which
// runs until a barrier or its end; a block whose first thread meets no barrier costs plain calls.
// What CUDA leaves undefined about barriers ends the program with a message. In the environment,
// ANVIL_EMULATED_ORDER = forward | reverse | shuffled chooses the order of threads and blocks, so
// that a barrier that is missing shows as a result that depends on it.
//
// Not seen here: races between blocks that run in any order, accesses outside of a buffer (compile
// with -fsanitize=address,undefined for these; fibers are announced to the address sanitizer), and
// the memory model below the granularity of a barrier.
#pragma once
#pragma GCC system_header  // what includes it may be compiled under strict warnings

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define ANVIL_HOST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ANVIL_HOST_ASAN 1
#endif
#endif

#ifdef ANVIL_HOST_ASAN
extern "C" void __sanitizer_start_switch_fiber(void** fake, const void* bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void* fake, const void** bottom, size_t* size);
#else
// A jump between stacks; the name the headers give to it refuses that where they are hardened.
extern "C" [[noreturn]] void anvil_host_jump(jmp_buf, int) __asm__("_longjmp");
#endif

#ifdef ANVIL_HOST_RACES
// What follows is not the text that is looked at.
#pragma clang attribute push(__attribute__((no_sanitize("thread"))), apply_to = function)
#endif

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace anvil_host {

constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kWarp = 32;
constexpr size_t kStackSize = size_t{256} << 10;
constexpr size_t kHostStack = size_t{16} << 20;

enum class State { ready, at_block_barrier, at_warp_barrier, ended };

// A stack and what runs on it. `fake` belongs to the address sanitizer.
struct Fiber {
  ucontext_t context;
  // Where a fiber that has run before goes on; a switch by it makes no system call.
  jmp_buf jump;
  State state = State::ended;
  bool created = false;
  bool started = false;
  void* fake = nullptr;
  // How many of each it has passed.
  unsigned barriers = 0, warp_barriers = 0;
};

struct Grid {
  dim3 thread{0, 0, 0}, block{0, 0, 0};
  dim3 block_size{}, grid_size{};
  // Counts the blocks that were run; shared memory of an earlier one is stale.
  unsigned long epoch = 0;
  unsigned long launches = 0;
  const void* frame = nullptr;  // on the stack of the caller of `launch`
  bool is_running = false;
  unsigned char* dynamic_shared = nullptr;
  size_t dynamic_shared_size = 0;

  const char* kernel = "";
  void (*body)(void*) = nullptr;
  void* body_data = nullptr;

  bool on_fiber = false;
  unsigned current = 0;
  Fiber scheduler;  // the stack of the caller of `launch`
  const void* scheduler_bottom = nullptr;
  size_t scheduler_size = 0;
  Fiber* fibers = nullptr;
  unsigned char* stacks = nullptr;
  unsigned* order = nullptr;
  // What the threads show each other in shuffles.
  unsigned char (*slots)[16] = nullptr;
  unsigned long random = 0;

  ~Grid() {
    if (stacks != nullptr) munmap(stacks, kStackSize * kMaxThreads);
    delete[] fibers;
    free(order);
    free(slots);
  }
};

inline Grid grid;

[[noreturn]] inline void fail(const char* what, const char* detail) {
  fflush(stdout);
  fprintf(stderr, "emulated CUDA: %s in kernel '%s', block (%u, %u, %u): %s\n", what, grid.kernel,
          grid.block.x, grid.block.y, grid.block.z, detail);
  abort();
}

inline dim3 position(unsigned index, dim3 size) {
  return {index % size.x, index / size.x % size.y, index / size.x / size.y};
}

inline unsigned thread_count() {
  return grid.block_size.x * grid.block_size.y * grid.block_size.z;
}

// Switches between the scheduler and a fiber, in either direction.
// `bottom` and `size` describe the stack of `to`; the last two receive that of who switches back.
inline void change(Fiber& from, Fiber& to, const void* bottom, size_t size,
                   const void** bottom_back, size_t* size_back) {
#ifdef ANVIL_HOST_ASAN
  __sanitizer_start_switch_fiber(&from.fake, bottom, size);
  swapcontext(&from.context, &to.context);
  __sanitizer_finish_switch_fiber(from.fake, bottom_back, size_back);
#else
  (void)bottom, (void)size, (void)bottom_back, (void)size_back;
  if (_setjmp(from.jump) != 0) return;
  if (to.started) anvil_host_jump(to.jump, 1);
  to.started = true;
  setcontext(&to.context);
#endif
}

inline void leave_fiber(State state) {
  Fiber& fiber = grid.fibers[grid.current];
  fiber.state = state;
  change(fiber, grid.scheduler, grid.scheduler_bottom, grid.scheduler_size,
         &grid.scheduler_bottom, &grid.scheduler_size);
}

// What every stack runs: one thread of a block after the other, so that it is set up only once.
inline void fiber_main() {
#ifdef ANVIL_HOST_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &grid.scheduler_bottom, &grid.scheduler_size);
#endif
  for (;;) {
    grid.body(grid.body_data);
    leave_fiber(State::ended);
  }
}

inline void resume(unsigned index) {
  Fiber& fiber = grid.fibers[index];
  unsigned char* stack = grid.stacks + kStackSize * index;
  if (!fiber.created) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack;
    fiber.context.uc_stack.ss_size = kStackSize;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
    fiber.created = true;
  }
  grid.scheduler.started = true;
  grid.current = index;
  grid.thread = position(index, grid.block_size);
  grid.on_fiber = true;
  change(grid.scheduler, fiber, stack, kStackSize, nullptr, nullptr);
  grid.on_fiber = false;
}

inline void wait(State barrier) {
  if (!grid.on_fiber) {
    fail("divergent barrier", "a thread waits although the first thread ended without waiting");
  }
  Fiber& fiber = grid.fibers[grid.current];
  ++(barrier == State::at_block_barrier ? fiber.barriers : fiber.warp_barriers);
  leave_fiber(barrier);
}

inline void prepare() {
  if (grid.fibers != nullptr) return;
  void* stacks = mmap(nullptr, kStackSize * kMaxThreads, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stacks == MAP_FAILED) fail("no memory", "for the stacks of the threads");
  grid.stacks = static_cast<unsigned char*>(stacks);
  grid.fibers = new Fiber[kMaxThreads];
  grid.order = static_cast<unsigned*>(malloc(sizeof(unsigned) * kMaxThreads));
  grid.slots = static_cast<unsigned char(*)[16]>(calloc(kMaxThreads, 16));
}

// The chosen order of `n` things: entry k says which comes k-th.
enum class Order { forward, reverse, shuffled };

inline Order chosen_order() {
  const char* name = getenv("ANVIL_EMULATED_ORDER");
  if (name == nullptr || *name == 0 || strcmp(name, "forward") == 0) return Order::forward;
  if (strcmp(name, "reverse") == 0) return Order::reverse;
  if (strcmp(name, "shuffled") == 0) return Order::shuffled;
  fail("unknown ANVIL_EMULATED_ORDER", name);
}

inline unsigned long random_below(unsigned long n) {
  grid.random = grid.random * 6364136223846793005ul + 1442695040888963407ul;
  return (grid.random >> 33) % n;
}

inline void set_thread_order(Order order, unsigned n) {
  for (unsigned k = 0; k < n; ++k) grid.order[k] = order == Order::reverse ? n - 1 - k : k;
  if (order != Order::shuffled) return;
  for (unsigned k = n; k > 1; --k) {
    const unsigned other = static_cast<unsigned>(random_below(k));
    const unsigned kept = grid.order[k - 1];
    grid.order[k - 1] = grid.order[other];
    grid.order[other] = kept;
  }
}

// Lets those warps go on whose threads all wait at a barrier of the warp (or have ended).
inline bool release_warps(unsigned n) {
  bool released = false;
  for (unsigned begin = 0; begin < n; begin += kWarp) {
    const unsigned end = begin + kWarp < n ? begin + kWarp : n;
    unsigned waiting = 0, ended = 0;
    for (unsigned k = begin; k < end; ++k) {
      waiting += grid.fibers[k].state == State::at_warp_barrier;
      ended += grid.fibers[k].state == State::ended;
    }
    if (waiting == 0 || waiting + ended != end - begin) continue;
    released = true;
    for (unsigned k = begin; k < end; ++k) {
      if (grid.fibers[k].state == State::at_warp_barrier) grid.fibers[k].state = State::ready;
    }
  }
  return released;
}

// Lets the block go on; false when all its threads have ended.
inline bool release(unsigned n) {
  unsigned count[4] = {0, 0, 0, 0};
  unsigned first[4] = {0, 0, 0, 0};
  for (unsigned k = n; k-- > 0;) {
    const int state = static_cast<int>(grid.fibers[k].state);
    ++count[state];
    first[state] = k;
  }
  const int block = static_cast<int>(State::at_block_barrier);
  const int warp = static_cast<int>(State::at_warp_barrier);
  const int ended = static_cast<int>(State::ended);
  if (count[ended] == n) return false;
  if (count[warp] != 0 && release_warps(n)) return true;
  if (count[block] == n) {
    for (unsigned k = 0; k < n; ++k) grid.fibers[k].state = State::ready;
    return true;
  }
  char text[200];
  snprintf(text, sizeof text,
           "of %u threads, %u wait for the block (first: %u), %u wait for their warp (first: %u), "
           "%u have ended (first: %u)",
           n, count[block], first[block], count[warp], first[warp], count[ended], first[ended]);
  fail("divergent barrier", text);
}

inline void run_block(Order order) {
  const unsigned n = thread_count();
  ++grid.epoch;
  if (grid.dynamic_shared_size != 0) memset(grid.dynamic_shared, 0xff, grid.dynamic_shared_size);
  set_thread_order(order, n);
  for (unsigned k = 0; k < n; ++k) {
    Fiber& fiber = grid.fibers[k];
    fiber.state = State::ready;
    fiber.barriers = fiber.warp_barriers = 0;
  }

  resume(grid.order[0]);
  if (grid.fibers[grid.order[0]].state == State::ended) {
    for (unsigned k = 1; k < n; ++k) {
      grid.current = grid.order[k];
      grid.thread = position(grid.current, grid.block_size);
      grid.body(grid.body_data);
    }
    return;
  }
  do {
    for (unsigned k = 0; k < n; ++k) {
      if (grid.fibers[grid.order[k]].state == State::ready) resume(grid.order[k]);
    }
    if (order == Order::shuffled) set_thread_order(order, n);
  } while (release(n));
}

// Runs `body` once for each thread of the grid.
template <class Body>
void launch(dim3 grid_size, dim3 block_size, Body body, const char* kernel = "kernel",
            size_t dynamic_shared = 0) {
  grid.kernel = kernel;
  grid.grid_size = grid_size;
  grid.block_size = block_size;
  if (thread_count() == 0 || thread_count() > kMaxThreads) {
    fail("wrong block size", "a block has 1 to 1024 threads");
  }
  prepare();
  ++grid.launches;
  grid.frame = &kernel;
  grid.is_running = true;
  grid.body = [](void* data) { (*static_cast<Body*>(data))(); };
  grid.body_data = &body;
  grid.dynamic_shared_size = dynamic_shared;
  void* memory = nullptr;
  if (posix_memalign(&memory, 128, dynamic_shared) != 0) fail("no memory", "for shared memory");
  grid.dynamic_shared = static_cast<unsigned char*>(memory);

  const Order order = chosen_order();
  const unsigned long blocks =
      static_cast<unsigned long>(grid_size.x) * grid_size.y * grid_size.z;
  // A walk in steps prime to the number of blocks visits each of them once.
  unsigned long step = 1, index = 0;
  if (order == Order::reverse) step = blocks - 1, index = blocks - 1;
  if (order == Order::shuffled) {
    grid.random = 1;
    index = random_below(blocks);
    auto shared_factor = [&](unsigned long a, unsigned long b) {
      while (b != 0) {
        const unsigned long rest = a % b;
        a = b;
        b = rest;
      }
      return a != 1;
    };
    do {
      step = 1 + random_below(blocks);
    } while (blocks > 1 && shared_factor(step, blocks));
  }
  for (unsigned long k = 0; k < blocks; ++k, index = (index + step) % blocks) {
    grid.block = {static_cast<unsigned>(index % grid_size.x),
                  static_cast<unsigned>(index / grid_size.x % grid_size.y),
                  static_cast<unsigned>(index / grid_size.x / grid_size.y)};
    run_block(order);
  }
  grid.is_running = false;
  free(memory);
  grid.dynamic_shared = nullptr;
}

// Fills a variable in shared memory when a block meets it first: what an earlier block left there
// must not be read. `seen` is kept beside the variable.
inline void refresh_shared(void* variable, size_t size, unsigned long& seen) {
  if (seen == grid.epoch) return;
  seen = grid.epoch;
  memset(variable, 0xff, size);
}

}  // namespace anvil_host

inline const dim3& threadIdx = anvil_host::grid.thread;
inline const dim3& blockIdx = anvil_host::grid.block;
inline const dim3& blockDim = anvil_host::grid.block_size;
inline const dim3& gridDim = anvil_host::grid.grid_size;
constexpr int warpSize = 32;

inline void __syncthreads() { anvil_host::wait(anvil_host::State::at_block_barrier); }
inline void __syncwarp(unsigned = 0xffffffffu) {
  anvil_host::wait(anvil_host::State::at_warp_barrier);
}

#ifdef ANVIL_HOST_RACES
#include "races.hpp"
#pragma clang attribute pop
#endif
