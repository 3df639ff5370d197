#pragma once

// The bits of a number. Shadows runtime/bitcast.hpp: there is no std::memcpy.

namespace anvil_rt {

// The same bits read as another type of the same width.
template <class To, class From>
inline To bitcast(From x) {
  static_assert(sizeof(To) == sizeof(From), "bitcast needs two types of the same width");
  return as_type<To>(x);
}

}  // namespace anvil_rt
