#pragma once

// What device text takes from the standard library, written without a header.
//
// NVRTC has no standard headers, and those that nvcc includes are for the host. Namespace
// anvil_std has the members of std that the run-time headers and generated kernels use, with the
// same meaning, and sends the mathematics to CUDA's global functions. Nothing else is defined, so
// that this text can stand next to the real headers, and inside a namespace.

#if defined(__CUDACC__)
// What a module does not use is still declared, and templates compare unsigned numbers with 0.
#pragma nv_diag_suppress 177, 186
#endif

namespace anvil_std {

using size_t = decltype(sizeof(0));

template <bool Condition, class A, class B>
struct conditional {
  using type = A;
};
template <class A, class B>
struct conditional<false, A, B> {
  using type = B;
};

// The types of <cstdint>, as the ABI of the host defines them: `long` has 64 bits but on Windows.
using int8_t = signed char;
using int16_t = short;
using int32_t = int;
using int64_t = conditional<sizeof(long) == 8, long, long long>::type;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = conditional<sizeof(long) == 8, unsigned long, unsigned long long>::type;

template <class T, T V>
struct integral_constant {
  using value_type = T;
  using type = integral_constant;
  static constexpr T value = V;
  __device__ constexpr operator T() const noexcept { return V; }
};
using true_type = integral_constant<bool, true>;
using false_type = integral_constant<bool, false>;

template <class A, class B>
struct is_same : false_type {};
template <class A>
struct is_same<A, A> : true_type {};

template <class T>
struct is_floating_point : integral_constant<bool, is_same<T, float>::value ||
                                                       is_same<T, double>::value> {};

// The integer types by their signedness; `unsigned_type` of `bool` is not defined, as in std.
template <class Signed, class Unsigned>
struct integer_pair {
  using signed_type = Signed;
  using unsigned_type = Unsigned;
};
template <class T>
struct integer_types {};
template <>
struct integer_types<char> : integer_pair<signed char, unsigned char> {};
template <>
struct integer_types<signed char> : integer_pair<signed char, unsigned char> {};
template <>
struct integer_types<unsigned char> : integer_pair<signed char, unsigned char> {};
template <>
struct integer_types<short> : integer_pair<short, unsigned short> {};
template <>
struct integer_types<unsigned short> : integer_pair<short, unsigned short> {};
template <>
struct integer_types<int> : integer_pair<int, unsigned> {};
template <>
struct integer_types<unsigned> : integer_pair<int, unsigned> {};
template <>
struct integer_types<long> : integer_pair<long, unsigned long> {};
template <>
struct integer_types<unsigned long> : integer_pair<long, unsigned long> {};
template <>
struct integer_types<long long> : integer_pair<long long, unsigned long long> {};
template <>
struct integer_types<unsigned long long> : integer_pair<long long, unsigned long long> {};

template <class T>
struct make_signed {
  using type = typename integer_types<T>::signed_type;
};
template <class T>
struct make_unsigned {
  using type = typename integer_types<T>::unsigned_type;
};

// Of the types in use, those that are not floating-point are integers.
template <class T>
struct is_integral : integral_constant<bool, !is_floating_point<T>::value> {};
template <class T>
struct is_signed : integral_constant<bool, (T(-1) < T(0))> {};
template <>
struct is_signed<bool> : false_type {};

// Of integers, by their width.
template <class T>
struct numeric_limits {
  static constexpr bool is_signed = anvil_std::is_signed<T>::value;
  static constexpr int digits = static_cast<int>(8 * sizeof(T)) - (is_signed ? 1 : 0);
  __device__ static constexpr T max() noexcept {
    return static_cast<T>(~0ULL >> (64 - digits));
  }
  __device__ static constexpr T min() noexcept {
    return is_signed ? static_cast<T>(-max() - 1) : T(0);
  }
  __device__ static constexpr T lowest() noexcept { return min(); }
  __device__ static constexpr T epsilon() noexcept { return T(0); }
  __device__ static constexpr T infinity() noexcept { return T(0); }
  __device__ static constexpr T quiet_NaN() noexcept { return T(0); }
};
template <>
struct numeric_limits<bool> {
  __device__ static constexpr bool max() noexcept { return true; }
  __device__ static constexpr bool min() noexcept { return false; }
  __device__ static constexpr bool lowest() noexcept { return false; }
};

// NVRTC can cast bits in a constant expression; other compilers have functions for the numbers.
#if defined(__CUDACC_RTC__)
constexpr double infinite = __builtin_bit_cast(double, 0x7ff0000000000000ULL);
constexpr double not_a_number = __builtin_bit_cast(double, 0x7ff8000000000000ULL);
#else
constexpr double infinite = __builtin_huge_val();
constexpr double not_a_number = __builtin_nan("");
#endif

template <>
struct numeric_limits<float> {
  __device__ static constexpr float max() noexcept { return 0x1.fffffep127f; }
  __device__ static constexpr float min() noexcept { return 0x1p-126f; }
  __device__ static constexpr float denorm_min() noexcept { return 0x1p-149f; }
  __device__ static constexpr float lowest() noexcept { return -0x1.fffffep127f; }
  __device__ static constexpr float epsilon() noexcept { return 0x1p-23f; }
  __device__ static constexpr float infinity() noexcept { return static_cast<float>(infinite); }
  __device__ static constexpr float quiet_NaN() noexcept {
    return static_cast<float>(not_a_number);
  }
};
template <>
struct numeric_limits<double> {
  __device__ static constexpr double max() noexcept { return 0x1.fffffffffffffp1023; }
  __device__ static constexpr double min() noexcept { return 0x1p-1022; }
  __device__ static constexpr double denorm_min() noexcept { return 0x1p-1074; }
  __device__ static constexpr double lowest() noexcept { return -0x1.fffffffffffffp1023; }
  __device__ static constexpr double epsilon() noexcept { return 0x1p-52; }
  __device__ static constexpr double infinity() noexcept { return infinite; }
  __device__ static constexpr double quiet_NaN() noexcept { return not_a_number; }
};

template <class T>
__device__ __forceinline__ void swap(T& a, T& b) {
  const T old = a;
  a = b;
  b = old;
}

// The sizes are known where this is called: what is left is a move between registers.
__device__ __forceinline__ void* memcpy(void* to, const void* from, size_t size) {
  return ::memcpy(to, from, size);
}

// Number of bits set, and of those above the highest one set, in 64.
template <class Bits>
__device__ constexpr int popcountll(Bits bits) {
#if defined(__CUDA_ARCH__)
  return __popcll(bits);
#else
  return __builtin_popcountll(bits);
#endif
}
template <class Bits>
__device__ constexpr int clzll(Bits bits) {
#if defined(__CUDA_ARCH__)
  return __clzll(static_cast<long long>(bits));
#else
  return __builtin_clzll(bits);
#endif
}

// A float keeps to CUDA's functions of float, which end in f.
#define ANVIL_STD_UNARY(name)                                                   \
  __device__ __forceinline__ float name(float x) { return ::name##f(x); }       \
  __device__ __forceinline__ double name(double x) { return ::name(x); }
#define ANVIL_STD_BINARY(name)                                                            \
  __device__ __forceinline__ float name(float x, float y) { return ::name##f(x, y); }     \
  __device__ __forceinline__ double name(double x, double y) { return ::name(x, y); }

ANVIL_STD_UNARY(sqrt)
ANVIL_STD_UNARY(cbrt)
ANVIL_STD_UNARY(fabs)
ANVIL_STD_UNARY(exp)
ANVIL_STD_UNARY(exp2)
ANVIL_STD_UNARY(expm1)
ANVIL_STD_UNARY(log)
ANVIL_STD_UNARY(log2)
ANVIL_STD_UNARY(log1p)
ANVIL_STD_UNARY(sin)
ANVIL_STD_UNARY(cos)
ANVIL_STD_UNARY(tan)
ANVIL_STD_UNARY(asin)
ANVIL_STD_UNARY(acos)
ANVIL_STD_UNARY(atan)
ANVIL_STD_UNARY(sinh)
ANVIL_STD_UNARY(cosh)
ANVIL_STD_UNARY(tanh)
ANVIL_STD_UNARY(asinh)
ANVIL_STD_UNARY(acosh)
ANVIL_STD_UNARY(atanh)
ANVIL_STD_UNARY(erf)
ANVIL_STD_UNARY(erfc)
ANVIL_STD_UNARY(lgamma)
ANVIL_STD_UNARY(tgamma)
ANVIL_STD_UNARY(floor)
ANVIL_STD_UNARY(ceil)
ANVIL_STD_UNARY(trunc)
ANVIL_STD_UNARY(nearbyint)
ANVIL_STD_UNARY(rint)
ANVIL_STD_BINARY(atan2)
ANVIL_STD_BINARY(pow)
ANVIL_STD_BINARY(fmod)
ANVIL_STD_BINARY(hypot)
ANVIL_STD_BINARY(copysign)
ANVIL_STD_BINARY(nextafter)

#undef ANVIL_STD_UNARY
#undef ANVIL_STD_BINARY

__device__ __forceinline__ float fma(float x, float y, float z) { return ::fmaf(x, y, z); }
__device__ __forceinline__ double fma(double x, double y, double z) { return ::fma(x, y, z); }
// ::signbit is a macro, a function or missing, depending on the compiler.
__device__ __forceinline__ bool signbit(float x) { return ::copysignf(1.0f, x) < 0.0f; }
__device__ __forceinline__ bool signbit(double x) { return ::copysign(1.0, x) < 0.0; }

}  // namespace anvil_std
