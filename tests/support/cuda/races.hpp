// Finds two threads of a launch that access the same element, one of them writing, without a barrier
// between them; included by fibers.hpp if ANVIL_HOST_RACES is defined.
//
// The program is compiled by clang++ with -fsanitize=thread -fno-sanitize-link-runtime: what the
// compiler calls before each access is defined here. Locals and shuffles are not looked at. Of the
// threads that have read an element two are remembered, so a race of a third may be missed.
#pragma once

#include <stdint.h>

extern "C" char __executable_start, _end;

namespace anvil_host {

// Who accessed an element, and how many barriers it had passed.
struct Access {
  unsigned block, thread, barriers, warp_barriers;
};

struct Cell {
  uintptr_t address;
  unsigned long launch;  // of the accesses; others count as none
  bool is_written;
  unsigned readers;
  Access writer, reader[2];
};

constexpr size_t kCells = size_t{1} << 22;
inline Cell* cells = nullptr;

inline Cell& cell_of(uintptr_t address) {
  if (cells == nullptr) cells = static_cast<Cell*>(calloc(kCells, sizeof(Cell)));
  if (cells == nullptr) fail("no memory", "to look for races");
  size_t k = (address * 0x9e3779b97f4a7c15u) >> 42;
  for (size_t tried = 0; tried < kCells; ++tried, k = (k + 1) % kCells) {
    Cell& cell = cells[k];
    if (cell.launch == grid.launches) {
      if (cell.address == address) return cell;
      continue;
    }
    cell.address = address;
    cell.launch = grid.launches;
    cell.is_written = false;
    cell.readers = 0;
    return cell;
  }
  fail("no room", "to look for races: a launch accesses too many elements");
}

inline bool is_same(const Access& a, const Access& b) {
  return a.block == b.block && a.thread == b.thread;
}

// Shared memory is static: each block has its own, although they lie in the same place.
inline bool is_shared(uintptr_t address) {
  return address >= reinterpret_cast<uintptr_t>(&__executable_start) &&
         address < reinterpret_cast<uintptr_t>(&_end);
}

inline void expect_order(const Access& earlier, const Access& now, uintptr_t address) {
  if (earlier.block != now.block) {
    if (is_shared(address)) return;
  } else if (earlier.thread == now.thread || earlier.barriers != now.barriers) {
    return;
  } else if (earlier.thread / kWarp == now.thread / kWarp &&
             earlier.warp_barriers != now.warp_barriers) {
    return;
  }
  char text[200];
  snprintf(text, sizeof text, "thread %u and thread %u of block %u", now.thread, earlier.thread,
           earlier.block);
  fail("race", text);
}

inline void record(uintptr_t address, bool writes) {
  const Fiber& fiber = grid.fibers[grid.current];
  const unsigned block =
      grid.block.x + grid.grid_size.x * (grid.block.y + grid.grid_size.y * grid.block.z);
  const Access now = {block, grid.current, fiber.barriers, fiber.warp_barriers};
  Cell& cell = cell_of(address);
  if (cell.is_written) expect_order(cell.writer, now, address);
  if (!writes) {
    const unsigned last = cell.readers == 0 ? 0 : (cell.readers - 1) % 2;
    if (cell.readers == 0 || !is_same(cell.reader[last], now)) {
      cell.reader[cell.readers % 2] = now;
      ++cell.readers;
    } else {
      cell.reader[last] = now;
    }
    return;
  }
  for (unsigned k = 0; k < 2 && k < cell.readers; ++k) expect_order(cell.reader[k], now, address);
  cell.is_written = true;
  cell.writer = now;
  cell.readers = 0;
}

// Elements of less than 4 bytes are looked at byte by byte, others by their parts of 4 bytes.
inline void record(const void* memory, size_t size, bool writes) {
  if (!grid.is_running) return;
  const uintptr_t first = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t stacks = reinterpret_cast<uintptr_t>(grid.stacks);
  const uintptr_t frame = reinterpret_cast<uintptr_t>(grid.frame);
  if (first - stacks < kStackSize * kMaxThreads) return;
  if (first - reinterpret_cast<uintptr_t>(grid.slots) < sizeof(*grid.slots) * kMaxThreads) return;
  if (first + kHostStack > frame && first < frame + kHostStack) return;
  const size_t step = size < 4 ? 1 : 4;
  for (size_t k = 0; k < size; k += step) record(first + k, writes);
}

inline void* recorded_copy(void* to, const void* from, size_t size) {
  record(from, size, false);
  record(to, size, true);
  auto* target = static_cast<unsigned char*>(to);
  auto* source = static_cast<const unsigned char*>(from);
  const bool is_forward = target <= source;
  for (size_t k = 0; k < size; ++k) {
    const size_t place = is_forward ? k : size - 1 - k;
    target[place] = source[place];
  }
  return to;
}

inline void* recorded_fill(void* to, int value, size_t size) {
  record(to, size, true);
  for (size_t k = 0; k < size; ++k) {
    static_cast<unsigned char*>(to)[k] = static_cast<unsigned char>(value);
  }
  return to;
}

}  // namespace anvil_host

extern "C" {
#define ANVIL_HOST_HOOKS(n)                                                                \
  void __tsan_read##n(void* p) { anvil_host::record(p, n, false); }                        \
  void __tsan_write##n(void* p) { anvil_host::record(p, n, true); }                        \
  void __tsan_unaligned_read##n(void* p) { anvil_host::record(p, n, false); }              \
  void __tsan_unaligned_write##n(void* p) { anvil_host::record(p, n, true); }
ANVIL_HOST_HOOKS(1)
ANVIL_HOST_HOOKS(2)
ANVIL_HOST_HOOKS(4)
ANVIL_HOST_HOOKS(8)
ANVIL_HOST_HOOKS(16)
#undef ANVIL_HOST_HOOKS
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
// Copies of whole objects, under the names that clang gives them before and since version 15.
#define ANVIL_HOST_COPIES(prefix)                                                          \
  void* prefix##memmove(void* to, const void* from, size_t size) {                         \
    return anvil_host::recorded_copy(to, from, size);                                      \
  }                                                                                        \
  void* prefix##memcpy(void* to, const void* from, size_t size) {                          \
    return anvil_host::recorded_copy(to, from, size);                                      \
  }                                                                                        \
  void* prefix##memset(void* to, int value, size_t size) {                                 \
    return anvil_host::recorded_fill(to, value, size);                                     \
  }
ANVIL_HOST_COPIES()
ANVIL_HOST_COPIES(__tsan_)
#undef ANVIL_HOST_COPIES
}
