// SPDX-License-Identifier: MIT
// Reads the weights of karpathy's llama2.c (version 0 of its export: stories260K.bin, stories15M.bin).
#pragma once

#include "polymac/model/decoder_weights.hpp"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

POLYMAC_BEGIN
namespace io::llama2c {

/// From a file in memory, of any alignment; nothing of it is kept.
///
///     int32   width, hidden, layers, heads, key heads, vocabulary (below 0: a classifier of its own follows), context
///     float   the tensors of model::for_each_tensor, but for the classifier
///     float   2 x context x head size / 2 numbers, cosines and sines of older versions, which nobody reads
///     float   the classifier, where it has one
///
/// little-endian. Sizes are checked before memory is taken. Errors (`corrupt`): extents that make no decoder, a file of
/// another size than they ask for, weights that are no finite numbers.
inline result<model::decoder_weights> parse(std::span<const std::byte> file) {
  constexpr std::size_t header = 7 * sizeof(std::int32_t);
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < 4; ++i) value |= std::to_integer<std::uint32_t>(file[at + i]) << (8 * i);
    return value;
  };
  if (file.size() < header)
    return status::make(errc::corrupt, "llama2c: expected a header of ", header, " bytes, the file has ", file.size());
  std::int32_t fields[7];
  for (std::size_t i = 0; i < 7; ++i) fields[i] = static_cast<std::int32_t>(word(4 * i));
  const bool tied = fields[5] > 0;
  if (!tied && fields[5] > -(std::int32_t{1} << 30)) fields[5] = -fields[5];
  constexpr const char* names[] = {"width", "hidden", "layers", "heads", "key heads", "vocabulary", "context"};
  for (std::size_t i = 0; i < 7; ++i)
    if (fields[i] < 1)
      return status::make(errc::corrupt, "llama2c: expected a header of numbers above 0, ", names[i], " is ",
                          fields[i]);
  model::decoder_weights w;
  const auto extent = [&](std::size_t i) { return static_cast<std::size_t>(fields[i]); };
  w.shape = {extent(0), extent(1), extent(2), extent(3), extent(4), extent(5), extent(6)};
  if (const status s = check(w.shape); !s.ok()) return status::make(errc::corrupt, "llama2c: the header: ", s.text());
  const std::size_t count = model::parameters(w.shape, tied), unread = w.shape.context * w.shape.head_size();
  const std::uint64_t expected = header + sizeof(float) * (std::uint64_t{count} + unread);
  if (file.size() != expected)
    return status::make(errc::corrupt, "llama2c: a decoder of width ", w.shape.width, ", ", w.shape.layers,
                        " layers and ", w.shape.vocabulary, " tokens takes ", expected, " bytes, the file has ",
                        file.size());
  w.values.resize(count);
  std::size_t done = 0, at = header;
  status found;
  model::for_each_tensor(
      w.shape, tied, [&](const char* name, std::size_t layer, std::size_t rows, std::size_t columns) {
        if (!found.ok()) return;
        if (done + rows * columns == count && !tied) at += sizeof(float) * unread;  // the classifier is behind them
        for (std::size_t i = 0; i < rows * columns; ++i, ++done, at += 4) {
          w.values[done] = std::bit_cast<float>(word(at));
          if (std::isfinite(w.values[done])) continue;
          found = status::make(errc::corrupt, "llama2c: expected finite weights, number ", i, " of ", name,
                               " of layer ", layer, " is ", std::isnan(w.values[done]) ? "NaN" : "infinite");
          return;
        }
      });
  if (!found.ok()) return found;
  model::set_views(w, tied);
  return w;
}

}  // namespace io::llama2c
POLYMAC_END
