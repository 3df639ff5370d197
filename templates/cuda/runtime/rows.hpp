#pragma once

// Stores of a few neighbouring elements by each thread.
//
// Threads of one instance each store to addresses far apart: 32 small pieces of memory for a warp's
// one store. Kept in shared memory until its row is complete, the elements of one instance are
// stored by neighbouring threads, whole sectors of 32 bytes at a time.

namespace anvil_rt {

// The thread's elements of a row of Count. `slot` is shared by the block: 40 bytes for each of its
// threads hold up to 32 bytes of values and what keeps them in different banks.
template <class T, int Count>
inline T* kept_row(unsigned char* slot, int thread) {
  constexpr int pitch = Count | 1;
  const int lane = thread % 32;
  return reinterpret_cast<T*>(slot + 40 * (thread - lane)) + lane * pitch;
}

// Element K of the thread's row.
template <class T, int Count, int K>
inline void keep(unsigned char* slot, T value) {
  kept_row<T, Count>(slot, static_cast<int>(threadIdx.x))[K] = value;
}

// row[0], row[1], ... become the elements kept; nothing where `row` is null. All threads of a warp
// call it. Afterwards the slot may hold another row.
template <class T, int Count>
inline void store_row(unsigned char* slot, T* row) {
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  __syncwarp();
  for (int k = 0; k < Count; ++k) {
    const int place = k * 32 + lane;
    const int other = place / Count;
    const int column = place % Count;
    const unsigned long long address =
        __shfl_sync(0xffffffffU, reinterpret_cast<unsigned long long>(row), other);
    if (address != 0) {
      reinterpret_cast<T*>(address)[column] =
          kept_row<T, Count>(slot, thread - lane + other)[column];
    }
  }
  __syncwarp();
}

}  // namespace anvil_rt
