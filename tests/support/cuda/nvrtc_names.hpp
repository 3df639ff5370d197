// After host.hpp, before the text of a program: hides what the host's headers offer and NVRTC does
// not, so that a kernel which needs it fails here as well. (Measured with NVRTC 12.9.)
#pragma once
#pragma GCC system_header  // what includes it may be compiled under strict warnings

namespace nvrtc_std {
template <class T> struct remove_reference { using type = T; };
template <class T> struct remove_reference<T&> { using type = T; };
template <class T> struct remove_reference<T&&> { using type = T; };
template <class T> constexpr typename remove_reference<T>::type&& move(T&& x) noexcept {
  return static_cast<typename remove_reference<T>::type&&>(x);
}
template <class T> constexpr T&& forward(typename remove_reference<T>::type& x) noexcept {
  return static_cast<T&&>(x);
}
}  // namespace nvrtc_std
#define std nvrtc_std

#undef INFINITY
#undef NAN
#undef HUGE_VAL
#undef HUGE_VALF
#undef M_PI
#undef M_PI_2
#undef M_E
#undef M_SQRT2
#undef isnormal
#undef fpclassify
#undef assert
#define assert(condition) \
  ((condition) ? (void)0 : anvil_host::fail("assertion failed", #condition))

#define int8_t int8_t_is_unknown_to_nvrtc
#define int16_t int16_t_is_unknown_to_nvrtc
#define int32_t int32_t_is_unknown_to_nvrtc
#define int64_t int64_t_is_unknown_to_nvrtc
#define uint8_t uint8_t_is_unknown_to_nvrtc
#define uint16_t uint16_t_is_unknown_to_nvrtc
#define uint32_t uint32_t_is_unknown_to_nvrtc
#define uint64_t uint64_t_is_unknown_to_nvrtc
#define uintptr_t uintptr_t_is_unknown_to_nvrtc
#define intptr_t intptr_t_is_unknown_to_nvrtc
#define uint uint_is_unknown_to_nvrtc
#define ulong ulong_is_unknown_to_nvrtc
#define __builtin_nan __builtin_nan_is_unknown_to_nvrtc
#define __builtin_nanf __builtin_nanf_is_unknown_to_nvrtc
#define __builtin_inf __builtin_inf_is_unknown_to_nvrtc
#define __builtin_huge_val __builtin_huge_val_is_unknown_to_nvrtc
