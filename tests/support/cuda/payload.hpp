// What the emulated NVRTC hands to the emulated driver in place of machine code.
//
// A "cubin" is a header and the bytes of a shared library. "PTX" is text that ends with a zero: a
// first line and the bytes in hexadecimal digits. Neither comes with its size, so each says it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace anvil_emulated {

struct Payload {
  bool is_ptx = false;
  int architecture = 0;
  std::vector<char> bytes;
};

struct CubinHeader {
  char magic[8];
  std::int64_t architecture;
  std::uint64_t size;
};

constexpr char kCubinMagic[] = "ANVLCUBN";
constexpr char kPtxMagic[] = "// emulated PTX of compute_";

inline std::vector<char> write_cubin(int architecture, const std::vector<char>& bytes) {
  CubinHeader header{};
  std::memcpy(header.magic, kCubinMagic, sizeof header.magic);
  header.architecture = architecture;
  header.size = bytes.size();
  const char* first = reinterpret_cast<const char*>(&header);
  std::vector<char> out(first, first + sizeof header);
  out.insert(out.end(), bytes.begin(), bytes.end());
  return out;
}

inline std::vector<char> write_ptx(int architecture, const std::vector<char>& bytes) {
  const char* digits = "0123456789abcdef";
  std::string text = kPtxMagic + std::to_string(architecture) + " size " +
                     std::to_string(bytes.size()) + "\n";
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    text += digits[value >> 4];
    text += digits[value & 15];
  }
  return std::vector<char>(text.c_str(), text.c_str() + text.size() + 1);
}

inline bool read_payload(const void* image, Payload& payload) {
  const char* text = static_cast<const char*>(image);
  if (std::strncmp(text, kCubinMagic, 8) == 0) {
    CubinHeader header;
    std::memcpy(&header, image, sizeof header);
    payload.architecture = static_cast<int>(header.architecture);
    payload.bytes.assign(text + sizeof header, text + sizeof header + header.size);
    return true;
  }
  if (std::strncmp(text, kPtxMagic, std::strlen(kPtxMagic)) != 0) return false;
  std::size_t size = 0;
  const char* first = text + std::strlen(kPtxMagic);
  if (std::sscanf(first, "%d size %zu", &payload.architecture, &size) != 2) return false;
  const char* digit = std::strchr(first, '\n') + 1;
  auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  for (std::size_t k = 0; k < size; ++k, digit += 2) {
    payload.bytes.push_back(static_cast<char>(value(digit[0]) * 16 + value(digit[1])));
  }
  payload.is_ptx = true;
  return true;
}

}  // namespace anvil_emulated
