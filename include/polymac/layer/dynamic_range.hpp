// SPDX-License-Identifier: MIT
// Dynamic range quantisation: float activations, integer weights, integer sums.
#pragma once

#include "polymac/core/affine.hpp"
#include "polymac/core/buffer.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/elementwise.hpp"
#include "polymac/layer/view_check.hpp"
#include "polymac/mac/float32.hpp"

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace layer {

namespace detail {

/// To the nearest integer, half away from zero, for magnitudes below 2^22; without branches, which compilers would not
/// vectorise. The float below a half carries everything from n + 1/2 on to n + 1 (the sum rounds up to it), and nothing
/// below.
constexpr std::int32_t round_half_away(float x) noexcept {
  constexpr float below_half = 0.5f - 1.0f / (1 << 25);
  const std::uint32_t sign = std::bit_cast<std::uint32_t>(x) & 0x80000000u;
  return static_cast<std::int32_t>(x + std::bit_cast<float>(std::bit_cast<std::uint32_t>(below_half) | sign));
}

/// code = clamp(round(x * inverse), -127, 127), half away from zero; NaN becomes 0.
struct symmetric_code {
  float inverse;
  constexpr std::int8_t operator()(float x) const noexcept {
    const float scaled = x * inverse;
    const float number = scaled == scaled ? scaled : 0.0f;
    const float raised = number < -127.0f ? -127.0f : number;
    return static_cast<std::int8_t>(round_half_away(raised > 127.0f ? 127.0f : raised));
  }
};

/// code less zero point = clamp(round(zero point + x * inverse), -128, 127) - zero point; NaN becomes 0.
struct offset_code {
  float inverse, zero;
  constexpr std::int16_t operator()(float x) const noexcept {
    const float code = mac::float32_unfused::multiply_add(zero, x, inverse);
    const float number = code == code ? code : zero;
    const float raised = number < -128.0f ? -128.0f : number;
    const std::int32_t whole = round_half_away(raised > 127.0f ? 127.0f : raised);
    return static_cast<std::int16_t>(whole - static_cast<std::int32_t>(zero));
  }
};

/// real = clamp(sum * activation scale * weight scale + bias).
struct real_of_sum {
  activation_range<float> range;
  float activation_scale;
  template <std::signed_integral Sum>
  constexpr float operator()(Sum sum, float weight_scale, float bias) const noexcept {
    return range.apply(
        mac::float32_unfused::multiply_add(bias, static_cast<float>(sum), activation_scale * weight_scale));
  }
};

/// Largest magnitude of image n; NaN where one element is NaN. Magnitudes are compared as their bits, which have the
/// same order and put NaN above everything.
constexpr float largest_magnitude(const image_view<const float>& x, std::size_t n) noexcept {
  const bool joined = x.pixel_stride == x.channels || x.width == 1;
  const std::size_t pixels = joined ? 1 : x.width, length = joined ? x.width * x.channels : x.channels;
  std::uint32_t most = 0;
  for (std::size_t h = 0; h < x.height; ++h)
    for (std::size_t w = 0; w < pixels; ++w) {
      const float* p = x.pixel(n, h, w);
      for (std::size_t i = 0; i < length; ++i) {
        const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(p[i]) & 0x7FFFFFFFu;
        most = magnitude > most ? magnitude : most;
      }
    }
  return std::bit_cast<float>(most);
}

/// Scale and zero point (a whole number in [-128, 127]) of the codes for image n, which is finite and not all 0: TFLite
/// forms them in double from the least and the largest value, 0 among them.
struct offset_scale {
  float scale;
  float zero;
};
constexpr offset_scale offset_quantization(const image_view<const float>& x, std::size_t n) noexcept {
  // Compared as integers of the same order, for compilers do not vectorise a minimum of floats; -0 comes before 0, which
  // makes no difference below.
  const auto ordered = [](std::int32_t bits) { return bits ^ ((bits >> 31) & 0x7FFFFFFF); };
  std::int32_t least = 0, most = 0;
  for (std::size_t h = 0; h < x.height; ++h)
    for (std::size_t w = 0; w < x.width; ++w) {
      const float* p = x.pixel(n, h, w);
      for (std::size_t i = 0; i < x.channels; ++i) {
        const std::int32_t key = ordered(std::bit_cast<std::int32_t>(p[i]));
        least = key < least ? key : least;
        most = key > most ? key : most;
      }
    }
  const float low = std::bit_cast<float>(ordered(least)), high = std::bit_cast<float>(ordered(most));
  const double scale = (static_cast<double>(high) - static_cast<double>(low)) / 255.0;
  const double below = static_cast<double>(low) / scale, above = static_cast<double>(high) / scale;  // in [-255, 255]
  // From the end that is nearer to 0, where the error of the division is smaller.
  const double exact = 128.0 - below < 127.0 + above ? -128.0 - below : 127.0 - above;
  const double bounded = exact < -128.0 ? -128.0 : exact > 127.0 ? 127.0 : exact;
  const auto whole = static_cast<std::int32_t>(bounded < 0.0 ? bounded - 0.5 : bounded + 0.5);  // half away from zero
  // So small a range that its scale is no float above 0 holds nothing that its codes could tell apart.
  const auto rounded = static_cast<float>(scale);
  return {rounded > 0.0f ? rounded : std::numeric_limits<float>::min(), static_cast<float>(whole)};
}

}  // namespace detail

/// A layer with int8 (or int4) weights on float activations, which are quantised when it runs ("dynamic range
/// quantisation", TFLite's hybrid kernels):
///
///   s[n] = max |x[n]| / 127                                   for every image n of the batch, every row of a matrix
///   q    = clamp(round(x * (127 / max |x[n]|)), -127, 127)    half away from zero; 0 where the whole image is 0
///   y    = clamp(s[n] * weight scale[column] * sum of q * w + bias[column])
///
/// TFLite does the same for fully connected layers, and for convolutions with one weight scale. Its convolutions with
/// one weight scale per channel, and all its depthwise ones, quantise with a zero point instead, as a layer on
/// mac::int16x8 does here (a code less its zero point has 9 bits):
///
///   s[n] = (max(x[n], 0) - min(x[n], 0)) / 255                z[n]: the code of 0, nudged to a whole number
///   q    = clamp(round(z[n] + x * (1 / s[n])), -128, 127) - z[n]
///
/// Roundings are those of TFLite's kernel (the product with the inverse, no fused multiply-add): codes that lie half
/// way are frequent, and a last bit would decide about them.
/// NaN or infinity anywhere in an image makes all its results NaN.
///
///   Layer    conv2d, depthwise_conv2d or linear on mac::int8 or mac::int16x8, with epilogue::identity, without bias
///            and zero points
///
/// Running is noexcept and allocates nothing; codes and sums lie in the workspace.
template <class Layer>
class dynamic_range {
  using code = typename Layer::activation;
  using sum_type = typename Layer::output;
  static constexpr bool with_zero_point = std::same_as<code, std::int16_t>;
  static_assert((std::same_as<code, std::int8_t> && std::same_as<sum_type, std::int32_t>) ||
                    (with_zero_point && std::same_as<sum_type, std::int64_t>),
                "polymac: dynamic_range wraps a layer of mac::int8 or mac::int16x8 that gives raw sums "
                "(epilogue::identity)");
  static constexpr bool matrices = requires(const Layer& l) { l.depth(); };

 public:
  using activation = float;
  using output = float;

  /// weight_scales: one, or one for each output column, finite and above 0; bias: one real for each column, or none.
  /// Throws polymac::error (or sets `status()` where exceptions are off) on what does not fit.
  constexpr dynamic_range(Layer layer, std::span<const float> weight_scales, std::span<const float> bias = {},
                          activation_range<float> range = {})
      : layer_(std::move(layer)), range_(range) {
    status_ = construct(weight_scales, bias);
    polymac::detail::raise_unless_ok(status_);
  }

  constexpr const polymac::status& status() const noexcept { return status_; }
  constexpr const Layer& inner() const noexcept { return layer_; }

  /// Bytes of workspace for inputs and outputs of these extents: a code for each input, a sum for each output, three
  /// numbers for each image, and what the inner layer needs. The largest number where that exceeds the address space.
  constexpr std::size_t workspace_bytes(std::size_t batch, std::size_t inputs, std::size_t outputs) const noexcept {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    if (batch > most / 64 || inputs > most / 64 || outputs > most / 64) return most;
    return part_begin(batch, inputs, outputs, 3) + inner_bytes() + alignment;
  }
  constexpr std::size_t workspace_bytes(const image_view<const float>& x, const image_view<float>& y) const noexcept {
    return workspace_bytes(x.batch, elements(x), elements(y));
  }
  constexpr std::size_t workspace_bytes(const matrix_view<const float>& x, const matrix_view<float>& y) const noexcept {
    return workspace_bytes(as_image(x), as_image(y));
  }

  /// x and y as the inner layer takes them, with floats. `ws` needs workspace_bytes(x, y), at any alignment; what it has
  /// beyond that is lent to the inner layer. Fails on views that do not fit, and then leaves y untouched.
  polymac::status operator()(image_view<const float> x, image_view<float> y, workspace ws) const noexcept
      requires(!matrices) {
    return run(x, y, ws);
  }
  polymac::status operator()(matrix_view<const float> x, matrix_view<float> y,
                             workspace ws) const noexcept requires matrices {
    return run(as_image(x), as_image(y), ws);
  }

  /// The inner layer, in words.
  constexpr text<511> explain() const noexcept {
    return text<511>::join("float activations quantised to 8 bits at run time, ", layer_.explain().c_str());
  }

 private:
  static constexpr std::size_t alignment = 64;

  template <class T>
  static constexpr std::size_t elements(const image_view<T>& v) noexcept {
    return v.batch * v.height * v.width * v.channels;
  }
  template <class T>
  static constexpr image_view<T> image(image_view<T> v, std::size_t n) noexcept {
    v.data += n * v.image_stride;
    v.batch = 1;
    return v;
  }
  constexpr std::size_t inner_bytes() const noexcept {
    if constexpr (matrices)
      return 0;
    else
      return layer_.workspace_bytes();
  }
  constexpr std::size_t columns() const noexcept {
    if constexpr (matrices)
      return layer_.columns();
    else
      return layer_.out_channels();
  }
  /// Where in the workspace begin: 0 sums, 1 scales of the images (three times `batch`), 2 codes, 3 the rest.
  static constexpr std::size_t part_begin(std::size_t batch, std::size_t inputs, std::size_t outputs,
                                          std::size_t part) noexcept {
    const std::size_t bytes[] = {outputs * sizeof(sum_type), 3 * batch * sizeof(float), inputs * sizeof(code)};
    std::size_t begin = 0;
    for (std::size_t i = 0; i < part; ++i) begin += (bytes[i] + alignment - 1) / alignment * alignment;
    return begin;
  }

  constexpr polymac::status construct(std::span<const float> scales, std::span<const float> bias) noexcept {
    if (!layer_.status().ok()) return layer_.status();
    const std::size_t count = columns();
    if (scales.size() != 1 && scales.size() != count)
      return polymac::status::make(errc::shape, "dynamic_range: expected 1 or ", count, " weight scales, got ",
                                   scales.size());
    if (!bias.empty() && bias.size() != count)
      return polymac::status::make(errc::shape, "dynamic_range: expected a bias for each of ", count,
                                   " columns or none, got ", bias.size());
    for (std::size_t i = 0; i < scales.size(); ++i)
      if (!(scales[i] > 0.0f && polymac::detail::finite(scales[i])))
        return polymac::status::make(errc::parameter, "dynamic_range: expected finite weight scales above 0, channel ",
                                     i);
    if (auto s = polymac::detail::check("dynamic_range", range_); !s.ok()) return s;
    if (auto s = scales_.resize(count); !s.ok()) return s;
    if (auto s = bias_.resize(count); !s.ok()) return s;
    for (std::size_t i = 0; i < count; ++i) {
      scales_[i] = scales[scales.size() == 1 ? 0 : i];
      bias_[i] = bias.empty() ? 0.0f : bias[i];
    }
    return {};
  }

  polymac::status run(image_view<const float> x, image_view<float> y, workspace ws) const noexcept {
    if (!status_.ok()) return status_;
    if (auto s = detail::check_view("dynamic_range", "input", x); !s.ok()) return s;
    if (auto s = detail::check_view("dynamic_range", "output", y); !s.ok()) return s;
    if (x.batch != y.batch || y.channels != columns())
      return polymac::status::make(errc::shape, "dynamic_range: expected an output of batch ", x.batch, " and ",
                                   columns(), " channels, got ", y.batch, " and ", y.channels);
    const std::size_t batch = x.batch, inputs = elements(x), outputs = elements(y);
    if (batch == 0) return {};
    const std::size_t needed = workspace_bytes(batch, inputs, outputs);
    if (ws.data == nullptr || ws.size < needed)
      return polymac::status::make(errc::short_buffer, "dynamic_range: expected a workspace of ", needed,
                                   " bytes, got ", ws.data == nullptr ? std::size_t{0} : ws.size);
    const std::size_t skip = (alignment - reinterpret_cast<std::uintptr_t>(ws.data) % alignment) % alignment;
    const auto part = [&](std::size_t i) { return ws.data + skip + part_begin(batch, inputs, outputs, i); };
    // Trivial types: the bytes become objects by being written, before anything reads them.
    auto* const sums = reinterpret_cast<sum_type*>(part(0));
    auto* const scales = reinterpret_cast<float*>(part(1));
    auto* const codes = reinterpret_cast<code*>(part(2));
    float* const inverses = scales + batch;
    float* const zeros = inverses + batch;
    for (std::size_t n = 0; n < batch; ++n) {
      const float most = detail::largest_magnitude(x, n);
      // All zero: the codes are 0 whatever the scale. Not finite: the scale carries it into every result.
      scales[n] = polymac::detail::finite(most) ? most / 127.0f : std::numeric_limits<float>::quiet_NaN();
      inverses[n] = most > 0.0f && polymac::detail::finite(most) ? 127.0f / most : 0.0f;
      zeros[n] = 0.0f;
      if (with_zero_point && inverses[n] != 0.0f) {
        const auto [scale, zero] = detail::offset_quantization(x, n);
        scales[n] = scale;
        inverses[n] = 1.0f / scale;
        zeros[n] = zero;
      }
    }
    const image_view<code> q(codes, batch, x.height, x.width, x.channels);
    const image_view<sum_type> sum(sums, batch, y.height, y.width, y.channels);
    // Image by image, so that what is one number for all of it does not hinder compilers to vectorise.
    for (std::size_t n = 0; n < batch; ++n) {
      const auto from = image(x, n);
      const auto to = image(q, n);
      const auto quantise = [&](const auto& code_of) noexcept {
        kernel::elementwise(kernel::extents_of(to), code_of, kernel::operand_of(to), kernel::operand_of(from));
      };
      if constexpr (with_zero_point)
        quantise(detail::offset_code{inverses[n], zeros[n]});
      else
        quantise(detail::symmetric_code{inverses[n]});
    }
    const std::size_t rest = ws.size - static_cast<std::size_t>(part(3) - ws.data);
    if (auto s = call(q, sum, workspace(part(3), rest)); !s.ok()) return s;
    for (std::size_t n = 0; n < batch; ++n) {
      const auto from = image(sum, n);
      const auto to = image(y, n);
      kernel::elementwise(kernel::extents_of(to), detail::real_of_sum{range_, scales[n]}, kernel::operand_of(to),
                          kernel::operand_of(from), kernel::operand<const float>{scales_.data(), {0, 0, 0, 1}},
                          kernel::operand<const float>{bias_.data(), {0, 0, 0, 1}});
    }
    return {};
  }

  polymac::status call(const image_view<code>& q, const image_view<sum_type>& sum, workspace ws) const noexcept {
    if constexpr (matrices) {
      static_cast<void>(ws);
      return layer_(matrix_view<const code>(q.data, q.batch, q.channels),
                    matrix_view<sum_type>(sum.data, sum.batch, sum.channels));
    } else {
      return layer_(q, sum, ws);
    }
  }

  Layer layer_;
  buffer<float> scales_;
  buffer<float> bias_;
  activation_range<float> range_;
  polymac::status status_;
};

}  // namespace layer
POLYMAC_END
