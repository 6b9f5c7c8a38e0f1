// SPDX-License-Identifier: MIT
// A layer in any arithmetic, from how its operands are encoded.
#pragma once

#include "arithmetic.hpp"
#include "polymac/arithmetics.hpp"

#include <chrono>
#include <utility>

namespace example {

/// A Codec says how real numbers become operands of an arithmetic:
///   mac               the arithmetic
///   code              an activation, or one k of it, or float where whole rows are encoded
///   block             k of an element
///   encode_weights(columns x depth reals, columns x elements, scales)    depth is a multiple of block
///   encode_picture(reals, codes, scale)       one scale for a picture
///   encode_rows(reals, elements)              instead of it, where scales belong to blocks of a row
/// A sum times the scale of the picture times that of the column is real.
template <class Codec>
class layer_of final : public encoded_layer {
  using mac = typename Codec::mac;
  using activation = typename mac::activation;
  using weight = typename mac::weight;
  using code = typename Codec::code;
  using sum = typename polymac::mac_traits<mac>::sum;
  using layer = polymac::layer::linear<mac>;
  using bias = std::conditional_t<polymac::mac_traits<mac>::integer, std::int32_t, float>;
  static constexpr bool whole_rows = requires(std::span<const float> from, std::span<activation> to) {
    Codec::encode_rows(from, to);
  };

 public:
  static encoded make(polymac::matrix_view<const float> weights) {
    const std::size_t elements = (weights.columns + Codec::block - 1) / Codec::block, depth = elements * Codec::block;
    std::vector<float> filled(weights.rows * depth), scales(weights.rows, 1.0F);
    for (std::size_t c = 0; c < weights.rows; ++c)
      std::copy_n(weights.row(c), weights.columns, filled.begin() + static_cast<std::ptrdiff_t>(c * depth));
    std::vector<weight> codes(weights.rows * elements);
    const polymac::matrix_view<weight> to(codes.data(), weights.rows, elements);
    if (auto s =
            Codec::encode_weights(polymac::matrix_view<const float>(filled.data(), weights.rows, depth), to, scales);
        !s.ok())
      return s;
    return std::unique_ptr<encoded_layer>(
        new layer_of(layer(polymac::matrix_view<const weight>(to), std::span<const bias>()), std::move(scales)));
  }

  polymac::status multiply(const windows& w, std::span<const float> picture, std::span<float> sums,
                           double& seconds) override {
    const std::size_t depth = layer_.depth() * Codec::block;
    rows_.assign(w.rows() * depth, code{});
    float scale = 1.0F;
    if constexpr (whole_rows) {
      gather(w, picture.data(), rows_.data(), depth);
      blocks_.resize(w.rows() * layer_.depth());
      if (auto s = Codec::encode_rows(rows_, blocks_); !s.ok()) return s;
    } else {
      codes_.resize(picture.size());
      if (auto s = Codec::encode_picture(picture, codes_, scale); !s.ok()) return s;
      gather(w, codes_.data(), rows_.data(), depth);
    }
    const auto x = operands(w.rows());
    if (!x.ok()) return x.status();
    sums_.resize(w.rows() * layer_.columns());
    const polymac::matrix_view<sum> y(sums_.data(), w.rows(), layer_.columns());
    const auto start = std::chrono::steady_clock::now();
    const auto done = layer_(*x, y);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (std::size_t i = 0; i < sums.size(); ++i)
      sums[i] = static_cast<float>(sums_[i]) * (scale * scales_[i % scales_.size()]);
    return done;
  }

 private:
  layer_of(layer l, std::vector<float> scales) : layer_(std::move(l)), scales_(std::move(scales)) {}

  polymac::result<polymac::matrix_view<const activation>> operands(std::size_t rows) const {
    if constexpr (whole_rows) {
      return polymac::matrix_view<const activation>(blocks_.data(), rows, layer_.depth());
    } else {
      const polymac::matrix_view<const code> all(rows_.data(), rows, layer_.depth() * Codec::block);
      if constexpr (std::is_same_v<code, activation>)
        return polymac::matrix_view<const activation>(all);
      else
        return polymac::as_blocks<activation>(all);
    }
  }

  layer layer_;
  std::vector<float> scales_;
  std::vector<code> codes_, rows_;
  std::vector<activation> blocks_;
  std::vector<sum> sums_;
};

}  // namespace example
