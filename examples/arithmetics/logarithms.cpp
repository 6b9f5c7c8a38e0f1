// SPDX-License-Identifier: MIT
#include "encoded_layer.hpp"
#include "energy.hpp"

#include <array>
#include <cmath>

namespace example {

namespace {

using polymac::matrix_view;
using polymac::status;

/// Floats whose bits are added. The product is too large or too small by what the mantissas say, by 3.9 % on the average
/// of l_mul<3>, and that adds up from layer to layer, where other errors cancel. So a weight becomes the word of so many
/// bits whose products are right on the average over activations with uniform mantissas; activations are truncated.
template <class M>
struct logarithms {
  using mac = M;
  using code = float;
  static constexpr std::size_t block = 1;
  static status encode_weights(matrix_view<const float> from, matrix_view<float> to, std::span<float>) {
    const encoder encode;
    for (std::size_t c = 0; c < from.rows; ++c)
      for (std::size_t k = 0; k < from.columns; ++k) to(c, k) = encode(from(c, k));
    return {};
  }
  static status encode_picture(std::span<const float> from, std::span<float> to, float&) {
    std::copy(from.begin(), from.end(), to.begin());
    return {};
  }

 private:
  class encoder {
    static constexpr int words = 1 << M::mantissa_bits;  ///< mantissas
   public:
    encoder() {
      for (int j = -1; j <= words; ++j) {
        double products = 0, activations = 0;
        for (int i = 0; i < 256; ++i) {
          const float a = 1 + (static_cast<float>(i) + 0.5F) / 256;
          products += double{M::product(a, word(j))};
          activations += double{a};
        }
        meaning_[static_cast<std::size_t>(j + 1)] = products / activations;
      }
    }
    float operator()(float w) const {
      if (w == 0) return w;
      int exponent = 0;
      const double fraction = 2 * std::frexp(std::abs(double{w}), &exponent);  // from 1 to 2
      std::size_t best = 0;
      for (std::size_t j = 1; j < meaning_.size(); ++j)
        if (std::abs(meaning_[j] - fraction) < std::abs(meaning_[best] - fraction)) best = j;
      return std::copysign(std::ldexp(word(static_cast<int>(best) - 1), exponent - 1), w);
    }

   private:
    /// 1 + j / words; -1 and `words` are the neighbours below 1 and at 2.
    static float word(int j) {
      const float step = 1.0F / static_cast<float>(words);
      return j < 0 ? 1 - step / 2 : 1 + static_cast<float>(j) * step;
    }
    std::array<double, words + 2> meaning_{};
  };
};

}  // namespace

void add_logarithms(std::vector<arithmetic>& list) {
  using namespace polymac;
  list.push_back({"l_mul<4>", 13, 13, energy::l_mul, layer_of<logarithms<mac::l_mul<4>>>::make});
  list.push_back({"l_mul<3>", 12, 12, energy::l_mul, layer_of<logarithms<mac::l_mul<3>>>::make});
}

}  // namespace example
