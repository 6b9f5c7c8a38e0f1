// SPDX-License-Identifier: MIT
// ResNet8 (MLPerf Tiny's image classification) in int8, built by hand from the public layers: what bench/compile_time
// compiles. The program also runs: its parameters are noise, and it prints what it makes of a drawn image.
#include <polymac/polymac.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <utility>
#include <vector>

namespace {

namespace pm = polymac;
using code = std::int8_t;

/// Reproducible noise in [-most, most].
class noise {
 public:
  int operator()(int most) {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<int>(state_ >> 16) % (2 * most + 1) - most;
  }

 private:
  std::uint32_t state_ = 1;
};

/// What a ReLU leaves uses all codes; other tensors are symmetric.
constexpr pm::affine rectified{0.05f, -128}, symmetric{0.05f, 0};

auto stages(std::size_t columns, std::size_t depth, const pm::affine& output) {
  const std::vector<double> scales(columns, 1.0 / (73.0 * std::sqrt(static_cast<double>(depth))));
  return pm::requantize(std::span<const double>(scales), output.zero_point) | pm::clamp(-128, 127);
}

constexpr pm::layer::quantization<pm::mac::int8> from_rectified{.activation_zero_point = -128};

auto convolution(noise& random, std::size_t kernel, std::size_t stride, std::size_t in, std::size_t out,
                 const pm::affine& output) {
  const std::size_t depth = kernel * kernel * in;
  std::vector<code> weights(out * depth);
  for (code& w : weights) w = static_cast<code>(random(127));
  std::vector<std::int32_t> bias(out);
  for (std::int32_t& b : bias) b = random(5000);
  return pm::conv2d<pm::mac::int8>({.stride = {stride, stride}, .padding = pm::same},
                                   pm::image_view<const code>(weights.data(), out, kernel, kernel, in), bias,
                                   stages(out, depth, output), from_rectified);
}

auto fully_connected(noise& random, std::size_t in, std::size_t out) {
  std::vector<code> weights(out * in);
  for (code& w : weights) w = static_cast<code>(random(127));
  const std::vector<std::int32_t> bias(out);
  return pm::linear<pm::mac::int8>(pm::matrix_view<const code>(weights.data(), out, in), bias,
                                   stages(out, in, symmetric), from_rectified);
}

/// height x width x channels codes.
struct image {
  std::size_t height, width, channels;
  std::vector<code> codes = std::vector<code>(height * width * channels);
  pm::image_view<code> view() { return {codes.data(), 1, height, width, channels}; }
  pm::image_view<const code> view() const { return {codes.data(), 1, height, width, channels}; }
};

class resnet8 {
  using convolution_layer = decltype(convolution(std::declval<noise&>(), 0, 0, 0, 0, rectified));

  /// Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes.
  struct block {
    convolution_layer first, second;
    std::vector<convolution_layer> shortcut;
    pm::layer::add<code> sum;  ///< shortcut + second, with ReLU

    block(noise& random, std::size_t stride, std::size_t in, std::size_t out)
        : first(convolution(random, 3, stride, in, out, rectified)),
          second(convolution(random, 3, 1, out, out, symmetric)),
          sum(stride == 1 ? rectified : symmetric, symmetric, rectified) {
      if (stride != 1) shortcut.push_back(convolution(random, 1, stride, in, out, symmetric));
    }
  };

 public:
  explicit resnet8(noise& random)
      : entry_(convolution(random, 3, 1, 3, 16, rectified)),
        blocks_{block(random, 1, 16, 16), block(random, 2, 16, 32), block(random, 2, 32, 64)},
        classes_(fully_connected(random, 64, 10)) {}

  /// x: 32 x 32 x 3; probabilities: 10 codes of scale 1/256, zero point -128.
  pm::status operator()(const image& x, std::span<code> probabilities) const {
    std::vector<std::byte> memory(workspace_bytes());
    const pm::workspace ws(memory);
    image a{32, 32, 16};
    if (auto s = entry_(x.view(), a.view(), ws); !s.ok()) return s;
    for (const block& b : blocks_) {
      const pm::extent2d size = b.first.output_size({a.height, a.width});
      const std::size_t channels = b.first.out_channels();
      image inner{size.height, size.width, channels}, outer = inner, beside = inner;
      if (auto s = b.first(a.view(), inner.view(), ws); !s.ok()) return s;
      if (auto s = b.second(inner.view(), outer.view(), ws); !s.ok()) return s;
      const image* shortcut = &a;
      if (!b.shortcut.empty()) {
        if (auto s = b.shortcut[0](a.view(), beside.view(), ws); !s.ok()) return s;
        shortcut = &beside;
      }
      if (auto s = b.sum(shortcut->view(), std::as_const(outer).view(), inner.view()); !s.ok()) return s;
      a = inner;
    }
    image mean{1, 1, 64};
    if (auto s = pool_(a.view(), mean.view()); !s.ok()) return s;
    code logits[10];
    const pm::matrix_view<code> out(logits, 1, 10);
    if (auto s = classes_(pm::matrix_view<const code>(mean.codes.data(), 1, 64), out); !s.ok()) return s;
    return softmax_(pm::matrix_view<const code>(logits, 1, 10), pm::matrix_view<code>(probabilities.data(), 1, 10));
  }

 private:
  std::size_t workspace_bytes() const {
    std::size_t most = entry_.workspace_bytes();
    for (const block& b : blocks_)
      for (const std::size_t bytes : {b.first.workspace_bytes(), b.second.workspace_bytes()})
        most = bytes > most ? bytes : most;
    return most;
  }

  convolution_layer entry_;
  block blocks_[3];
  pm::layer::average_pool2d<code> pool_{pm::window{{8, 8}, {8, 8}, {1, 1}, pm::valid}};
  decltype(fully_connected(std::declval<noise&>(), 0, 0)) classes_;
  pm::layer::softmax<code> softmax_{symmetric};
};

}  // namespace

int main() {
  noise random;
  const resnet8 net(random);
  image x{32, 32, 3};
  for (std::size_t i = 0; i < x.codes.size(); ++i)
    x.codes[i] = static_cast<code>(random(40) + static_cast<int>(i % 80));
  code probabilities[10];
  if (const auto s = net(x, probabilities); !s.ok()) {
    std::fprintf(stderr, "%s\n", s.c_str());
    return 1;
  }
  for (const code p : probabilities) std::printf("%.3f ", (p + 128) / 256.0);
  std::printf("\n");
  return 0;
}
