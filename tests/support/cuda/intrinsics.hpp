// Functions that CUDA has and the host's <math.h> lacks; included by host.hpp.
//
// Those that a C library may add one day under the same name are templates: the library's function
// is then the better match, and nothing is ambiguous.
#pragma once
#pragma GCC system_header  // what includes it may be compiled under strict warnings

namespace anvil_host {

// The type a mathematical function computes in for an argument of type T.
template <class T> struct RealOf { using type = double; };
template <> struct RealOf<float> { using type = float; };
template <class T> using Real = typename RealOf<T>::type;

template <class To, class From> inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same number of bits");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

constexpr double kPi = 3.14159265358979323846;

// sin(pi x), exact at multiples of one half.
inline double sine_of_pi(double x) {
  const double rest = x - 2 * round(x / 2);
  if (rest > 0.5) return sin(kPi * (1 - rest));
  if (rest < -0.5) return sin(kPi * (-1 - rest));
  return sin(kPi * rest);
}

// Quantile of the normal distribution: bisection to the last bit, as speed does not matter here.
inline double normal_quantile(double p) {
  if (!(p > 0 && p < 1)) return p == 0 ? -HUGE_VAL : p == 1 ? HUGE_VAL : nan("");
  double low = -40, high = 40;
  for (int k = 0; k < 200; ++k) {
    const double middle = 0.5 * (low + high);
    if (middle == low || middle == high) break;
    (0.5 * erfc(-middle * 0.70710678118654752440) < p ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

inline double error_quantile(double y) {
  if (!(y > -1 && y < 1)) return y == -1 ? -HUGE_VAL : y == 1 ? HUGE_VAL : nan("");
  double low = -7, high = 7;
  for (int k = 0; k < 200; ++k) {
    const double middle = 0.5 * (low + high);
    if (middle == low || middle == high) break;
    (erf(middle) < y ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

}  // namespace anvil_host

template <class T> inline anvil_host::Real<T> rsqrt(T x) {
  return 1 / sqrt(static_cast<anvil_host::Real<T>>(x));
}
template <class T> inline float rsqrtf(T x) { return 1 / sqrtf(static_cast<float>(x)); }
template <class T> inline anvil_host::Real<T> rcbrt(T x) {
  return 1 / cbrt(static_cast<anvil_host::Real<T>>(x));
}
template <class T> inline float rcbrtf(T x) { return 1 / cbrtf(static_cast<float>(x)); }
template <class T> inline anvil_host::Real<T> sinpi(T x) {
  return static_cast<anvil_host::Real<T>>(anvil_host::sine_of_pi(x));
}
template <class T> inline float sinpif(T x) {
  return static_cast<float>(anvil_host::sine_of_pi(x));
}
template <class T> inline anvil_host::Real<T> cospi(T x) {
  return static_cast<anvil_host::Real<T>>(anvil_host::sine_of_pi(0.5 - fabs(fmod(x, 2.0))));
}
template <class T> inline float cospif(T x) { return cospi(static_cast<float>(x)); }
template <class T> inline anvil_host::Real<T> erfinv(T x) {
  return static_cast<anvil_host::Real<T>>(anvil_host::error_quantile(x));
}
template <class T> inline float erfinvf(T x) { return erfinv(static_cast<float>(x)); }
template <class T> inline anvil_host::Real<T> normcdfinv(T x) {
  return static_cast<anvil_host::Real<T>>(anvil_host::normal_quantile(x));
}
template <class T> inline float normcdfinvf(T x) { return normcdfinv(static_cast<float>(x)); }
template <class T> inline anvil_host::Real<T> normcdf(T x) {
  const double tail = erfc(-static_cast<double>(x) * 0.70710678118654752440);
  return static_cast<anvil_host::Real<T>>(0.5 * tail);
}
template <class T> inline float normcdff(T x) { return normcdf(static_cast<float>(x)); }
template <class T> inline float fdividef(T x, T y) { return x / y; }
template <class T> inline float __fdividef(T x, T y) { return x / y; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __frsqrt_rn(float x) { return 1 / sqrtf(x); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }

// One rounding each, never contracted with a neighbour: a product that is stored is rounded.
#define ANVIL_HOST_ROUNDED(name, T, op) \
  inline T name(T x, T y) {                \
    volatile T result = x op y;            \
    return result;                         \
  }
ANVIL_HOST_ROUNDED(__dadd_rn, double, +)
ANVIL_HOST_ROUNDED(__dsub_rn, double, -)
ANVIL_HOST_ROUNDED(__dmul_rn, double, *)
ANVIL_HOST_ROUNDED(__ddiv_rn, double, /)
ANVIL_HOST_ROUNDED(__fadd_rn, float, +)
ANVIL_HOST_ROUNDED(__fsub_rn, float, -)
ANVIL_HOST_ROUNDED(__fmul_rn, float, *)
ANVIL_HOST_ROUNDED(__fdiv_rn, float, /)
#undef ANVIL_HOST_ROUNDED
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dsqrt_rn(double x) { return sqrt(x); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }

inline int __float_as_int(float x) { return anvil_host::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return anvil_host::bits<unsigned>(x); }
inline float __int_as_float(int x) { return anvil_host::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return anvil_host::bits<float>(x); }
inline long long __double_as_longlong(double x) { return anvil_host::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return anvil_host::bits<double>(x); }
inline int __double2int_rn(double x) { return static_cast<int>(rint(x)); }
inline int __double2int_rz(double x) { return static_cast<int>(x); }
inline int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>((static_cast<unsigned long long>(x) * y) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  __extension__ typedef unsigned __int128 Wide;
  return static_cast<unsigned long long>((static_cast<Wide>(x) * y) >> 64);
}

template <class T> inline T __ldg(const T* address) { return *address; }
template <class T> inline T __ldcg(const T* address) { return *address; }
template <class T> inline T __ldcs(const T* address) { return *address; }

// The device has these in the global namespace.
#define ANVIL_HOST_MIN_MAX(T)                        \
  inline T min(T x, T y) { return y < x ? y : x; }   \
  inline T max(T x, T y) { return x < y ? y : x; }
ANVIL_HOST_MIN_MAX(int)
ANVIL_HOST_MIN_MAX(unsigned)
ANVIL_HOST_MIN_MAX(long)
ANVIL_HOST_MIN_MAX(unsigned long)
ANVIL_HOST_MIN_MAX(long long)
ANVIL_HOST_MIN_MAX(unsigned long long)
#undef ANVIL_HOST_MIN_MAX
inline float min(float x, float y) { return fminf(x, y); }
inline float max(float x, float y) { return fmaxf(x, y); }
inline double min(double x, double y) { return fmin(x, y); }
inline double max(double x, double y) { return fmax(x, y); }

// Threads take turns only at barriers, so that plain accesses are atomic.
#define ANVIL_HOST_ATOMIC(name, value)                    \
  template <class T, class U> inline T name(T* p, U y) {  \
    const T x = *p;                                       \
    *p = static_cast<T>(value);                           \
    return x;                                             \
  }
ANVIL_HOST_ATOMIC(atomicAdd, x + y)
ANVIL_HOST_ATOMIC(atomicSub, x - y)
ANVIL_HOST_ATOMIC(atomicExch, y)
ANVIL_HOST_ATOMIC(atomicMin, static_cast<T>(y) < x ? static_cast<T>(y) : x)
ANVIL_HOST_ATOMIC(atomicMax, x < static_cast<T>(y) ? static_cast<T>(y) : x)
ANVIL_HOST_ATOMIC(atomicAnd, x & y)
ANVIL_HOST_ATOMIC(atomicOr, x | y)
ANVIL_HOST_ATOMIC(atomicXor, x ^ y)
ANVIL_HOST_ATOMIC(atomicInc, x >= y ? 0 : x + 1)
#undef ANVIL_HOST_ATOMIC
template <class T> inline T atomicCAS(T* p, T expected, T value) {
  const T x = *p;
  if (x == expected) *p = value;
  return x;
}

namespace anvil_host {

inline unsigned warp_begin() { return grid.current / kWarp * kWarp; }
inline unsigned lane() { return grid.current % kWarp; }

// The value of `source` in the own warp; lanes that do not exist answer with the own value.
template <class T> inline T exchange(T value, unsigned source, bool valid) {
  static_assert(sizeof(T) <= 16, "shuffles move at most 16 bytes");
  memcpy(grid.slots[grid.current], &value, sizeof value);
  wait(State::at_warp_barrier);
  const unsigned from = warp_begin() + source;
  if (valid && from < thread_count()) memcpy(&value, grid.slots[from], sizeof value);
  wait(State::at_warp_barrier);
  return value;
}

// Counts the non-zero values in [begin, end) once all of these threads have shown theirs.
inline unsigned vote(int value, unsigned begin, unsigned end, State barrier, unsigned* mask) {
  memcpy(grid.slots[grid.current], &value, sizeof value);
  wait(barrier);
  unsigned count = 0;
  for (unsigned k = begin; k < end; ++k) {
    int other;
    memcpy(&other, grid.slots[k], sizeof other);
    if (other == 0) continue;
    ++count;
    if (mask != nullptr) *mask |= 1u << (k - begin);
  }
  wait(barrier);
  return count;
}

inline unsigned warp_end() {
  const unsigned end = warp_begin() + kWarp;
  return end < thread_count() ? end : thread_count();
}

}  // namespace anvil_host

template <class T> inline T __shfl_sync(unsigned, T value, int source, int width = 32) {
  const unsigned base = anvil_host::lane() & ~static_cast<unsigned>(width - 1);
  return anvil_host::exchange(value, base + (static_cast<unsigned>(source) & (width - 1u)), true);
}
template <class T> inline T __shfl_down_sync(unsigned, T value, unsigned delta, int width = 32) {
  const unsigned lane = anvil_host::lane();
  return anvil_host::exchange(value, lane + delta, lane % width + delta < unsigned(width));
}
template <class T> inline T __shfl_up_sync(unsigned, T value, unsigned delta, int width = 32) {
  const unsigned lane = anvil_host::lane();
  return anvil_host::exchange(value, lane - delta, lane % width >= delta);
}
template <class T> inline T __shfl_xor_sync(unsigned, T value, int mask, int width = 32) {
  const unsigned lane = anvil_host::lane(), source = lane ^ static_cast<unsigned>(mask);
  return anvil_host::exchange(value, source, source / width <= lane / width);
}
inline unsigned __ballot_sync(unsigned, int value) {
  unsigned mask = 0;
  anvil_host::vote(value, anvil_host::warp_begin(), anvil_host::warp_end(),
                   anvil_host::State::at_warp_barrier, &mask);
  return mask;
}
inline int __any_sync(unsigned, int value) { return __ballot_sync(0, value) != 0; }
inline int __all_sync(unsigned, int value) { return __ballot_sync(0, value == 0) == 0; }
inline int __syncthreads_count(int value) {
  return static_cast<int>(anvil_host::vote(value, 0, anvil_host::thread_count(),
                                           anvil_host::State::at_block_barrier, nullptr));
}
inline int __syncthreads_or(int value) { return __syncthreads_count(value) != 0; }
inline int __syncthreads_and(int value) { return __syncthreads_count(value == 0) == 0; }
