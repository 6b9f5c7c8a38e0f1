// SPDX-License-Identifier: MIT
// The bench: a neuron of a first layer, its secret weights, and what of it can be seen from outside.
#pragma once

#include <polymac/core/error.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <vector>

namespace example {

/// Pixels of the input, each with one weight of the neuron: as many samples a trace has at most.
inline constexpr std::size_t depth = 16;
/// Pixels are 0 to 127, weights 1 to 127.
inline constexpr int highest = 127;
/// Spread of the noise of a sample, whose signal is the number of bits of the sum that are set.
inline constexpr double sigma = 2.0;

using pixels = std::array<std::int8_t, depth>;
using random_engine = std::mt19937_64;

/// The first layer in the forms that policy::pixel_pruning has.
enum class form { unprotected, branch_skip, important_pixels, zero_fixed, list_compact, list_shuffled };
inline constexpr std::array all_forms{form::unprotected, form::branch_skip,  form::important_pixels,
                                      form::zero_fixed,  form::list_compact, form::list_shuffled};
const char* name_of(form f);
/// Pixels that form::important_pixels always keeps: every fourth. The others keep half of them, as all forms do.
constexpr bool is_important(std::size_t pixel) { return pixel % 4 == 0; }

/// What one inference shows: a sample for each product that was executed, then noise; and which pixels took part, which
/// an attacker has to find out.
struct observation {
  std::array<float, depth> trace{};
  std::array<bool, depth> active{};
};

/// A device that runs the layer.
class device {
 public:
  virtual ~device() = default;
  virtual polymac::status measure(const pixels& x, observation& seen) = 0;
};

/// `noise`: of the measurement, which goes on from device to device. `seed`: of the maps of active pixels.
polymac::result<std::unique_ptr<device>> make_device(form f, const pixels& weights, std::uint64_t seed,
                                                     random_engine& noise);

/// Uniformly distributed pixels, and weights.
pixels random_pixels(random_engine& random);
pixels random_weights(random_engine& random);

/// Traces with known inputs.
struct campaign {
  form subject{};
  pixels weights{};
  std::vector<pixels> inputs;
  std::vector<observation> seen;
};

}  // namespace example
