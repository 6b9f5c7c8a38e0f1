// SPDX-License-Identifier: MIT
#include "picture.hpp"

#include "examples/common/files.hpp"

#include <algorithm>
#include <string_view>

namespace example {

namespace {

// PNG: ISO/IEC 15948; zlib: RFC 1950; deflate: RFC 1951, of which only stored blocks are used.

void put(bytes& to, std::uint32_t value, std::size_t count = 4) {  // most significant byte first
  for (std::size_t i = count; i-- > 0;) to.push_back(static_cast<std::byte>(value >> (8 * i)));
}

void put_chunk(bytes& to, std::string_view kind, std::span<const std::byte> content) {
  put(to, static_cast<std::uint32_t>(content.size()));
  const std::size_t checked = to.size();
  for (const char c : kind) to.push_back(static_cast<std::byte>(c));
  to.insert(to.end(), content.begin(), content.end());
  std::uint32_t crc = 0xFFFFFFFF;
  for (std::size_t i = checked; i < to.size(); ++i) {
    crc ^= std::to_integer<std::uint32_t>(to[i]);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc % 2 == 1 ? 0xEDB88320U : 0U);
  }
  put(to, ~crc);
}

bytes stored(const bytes& content) {
  bytes to;
  put(to, 0x7801, 2);
  std::uint32_t a = 1, b = 0;  // Adler-32
  for (const std::byte v : content) a = (a + std::to_integer<std::uint32_t>(v)) % 65521, b = (b + a) % 65521;
  for (std::size_t at = 0; at < content.size();) {
    const std::size_t size = std::min<std::size_t>(content.size() - at, 65535);
    const auto low = static_cast<std::uint32_t>(size % 256 * 256 + size / 256);  // least significant byte first
    put(to, at + size == content.size() ? 1 : 0, 1);
    put(to, low, 2);
    put(to, ~low, 2);
    to.insert(to.end(), content.begin() + static_cast<std::ptrdiff_t>(at),
              content.begin() + static_cast<std::ptrdiff_t>(at + size));
    at += size;
  }
  put(to, b << 16 | a);
  return to;
}

}  // namespace

polymac::status picture::write(const std::filesystem::path& path) const {
  bytes file, header, palette, lines;
  for (const unsigned c : {0x89U, 0x50U, 0x4EU, 0x47U, 0x0DU, 0x0AU, 0x1AU, 0x0AU}) put(file, c, 1);
  put(header, static_cast<std::uint32_t>(width_));
  put(header, static_cast<std::uint32_t>(height_));
  put(header, 0x0803, 2);  // eight bits, which are places in the palette
  put(header, 0, 3);
  constexpr unsigned tints[4][3] = {{255, 255, 255}, {255, 40, 30}, {255, 190, 0}, {60, 130, 255}};
  for (unsigned i = 0; i < 256; ++i)
    for (const unsigned strongest : tints[i / 64]) {
      const unsigned grey = i % 64 * 255 / 63;
      put(palette, i < 64 ? grey : (grey * 2 + strongest * 3) / 5, 1);
    }
  for (std::size_t row = 0; row < height_; ++row) {
    put(lines, 0, 1);  // no filter
    for (std::size_t column = 0; column < width_; ++column)
      lines.push_back(static_cast<std::byte>(pixels_[row * width_ + column]));
  }
  put_chunk(file, "IHDR", header);
  put_chunk(file, "PLTE", palette);
  put_chunk(file, "IDAT", stored(lines));
  put_chunk(file, "IEND", {});
  output_file out;
  if (auto s = out.open(path); !s.ok()) return s;
  if (auto s = out.write(file); !s.ok()) return s;
  return out.commit();
}

}  // namespace example
