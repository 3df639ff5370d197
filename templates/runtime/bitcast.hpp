#pragma once

#include <cstring>

// The bits of a number.

namespace anvil_rt {

// The same bits read as another type of the same width.
template <class To, class From>
inline To bitcast(const From& x) {
  static_assert(sizeof(To) == sizeof(From), "bitcast needs two types of the same width");
  To result;
  std::memcpy(&result, &x, sizeof(To));
  return result;
}

}  // namespace anvil_rt
