// SPDX-License-Identifier: MIT
#include "bench.hpp"

#include <polymac/layer/pixel_pruned.hpp>
#include <polymac/probe/leakage.hpp>
#include <polymac/probe/probed.hpp>

#include <algorithm>
#include <utility>

namespace example {

namespace {

using watching = polymac::probe::leakage<polymac::probe::hamming_weight, random_engine>;
using watched = polymac::probe::probed<polymac::mac::int8, watching>;
using row_view = polymac::matrix_view<const std::int8_t>;
using sum_view = polymac::matrix_view<std::int32_t>;

/// Run: a layer and what it remembers; operator()(x, y), and active(pixel) of the last call.
template <class Run>
class device_of : public device {
 public:
  device_of(Run run, random_engine& noise) : run_(std::move(run)), leak_({}, sigma, noise) {}

  polymac::status measure(const pixels& x, observation& seen) override {
    std::int32_t sum = 0;
    leak_.restart(seen.trace);
    {
      const polymac::probe::scope<watching> here(leak_);
      if (auto s = run_(row_view(x.data(), 1, depth), sum_view(&sum, 1, 1)); !s.ok()) return s;
    }
    leak_.fill_up();
    for (std::size_t k = 0; k < depth; ++k) seen.active[k] = run_.active(k);
    return {};
  }

 private:
  Run run_;
  watching leak_;
};

constexpr std::array<std::int32_t, 0> no_bias{};

template <class Layer>
struct dense_run {
  Layer layer;
  auto operator()(row_view x, sum_view y) const { return layer(x, y); }
  static bool active(std::size_t) { return true; }
};
template <class Layer>
dense_run(Layer) -> dense_run<Layer>;

template <class Layer>
struct pruned_run {
  Layer layer;
  typename Layer::state state;
  std::vector<std::byte> memory;
  auto operator()(row_view x, sum_view y) { return layer(x, y, state, polymac::workspace(memory)); }
  bool active(std::size_t pixel) const { return state.active()(0, pixel) != 0; }
};

template <class Run>
polymac::result<std::unique_ptr<device>> device_with(Run run, random_engine& noise) {
  if (const auto& s = run.layer.status(); !s.ok()) return s;
  return std::unique_ptr<device>(std::make_unique<device_of<Run>>(std::move(run), noise));
}

/// Half of the pixels that are not important stay, drawn anew for each inference. The maps come from a generator whose
/// numbers are the same in every run of the program: for a simulation, not for a device.
template <polymac::policy::pruning Form>
polymac::result<std::unique_ptr<device>> pruned_device(bool with_important, const pixels& weights, std::uint64_t seed,
                                                       random_engine& noise) {
  namespace policy = polymac::policy;
  std::array<std::uint8_t, depth> important{};
  for (std::size_t k = 0; k < depth; ++k) important[k] = with_important && is_important(k) ? 1 : 0;
  auto layer = polymac::linear<watched, policy::pixel_pruning<Form, policy::rescale::none, random_engine>>(
      polymac::layer::first_layer, row_view(weights.data(), 1, depth), no_bias, polymac::epilogue::identity{}, {},
      {polymac::matrix_view<const std::uint8_t>(important.data(), 1, depth), policy::keep_share{0.5}});
  auto state = layer.make_state(random_engine(seed));
  std::vector<std::byte> memory(layer.workspace_bytes());
  return device_with(pruned_run<decltype(layer)>{std::move(layer), std::move(state), std::move(memory)}, noise);
}

/// Uniform in [0, count), of a generator of 64 bits; its bias is below 2^-50.
std::int8_t below(random_engine& random, std::uint64_t count) {
  return static_cast<std::int8_t>((random() >> 8) % count);
}

}  // namespace

const char* name_of(form f) {
  switch (f) {
    case form::unprotected:
      return "unprotected";
    case form::branch_skip:
      return "branch_skip";
    case form::important_pixels:
      return "branch_skip, important pixels";
    case form::zero_fixed:
      return "zero_fixed";
    case form::list_compact:
      return "list_compact";
    case form::list_shuffled:
      return "list_shuffled";
  }
  return "";
}

pixels random_pixels(random_engine& random) {
  pixels p{};
  for (auto& v : p) v = below(random, highest + 1);
  return p;
}
pixels random_weights(random_engine& random) {
  pixels p{};
  for (auto& v : p) v = static_cast<std::int8_t>(1 + below(random, highest));
  return p;
}

polymac::result<std::unique_ptr<device>> make_device(form f, const pixels& weights, std::uint64_t seed,
                                                     random_engine& noise) {
  using polymac::policy::pruning;
  switch (f) {
    case form::unprotected:
      break;
    case form::branch_skip:
      return pruned_device<pruning::branch_skip>(false, weights, seed, noise);
    case form::important_pixels:
      return pruned_device<pruning::branch_skip>(true, weights, seed, noise);
    case form::zero_fixed:
      return pruned_device<pruning::zero_fixed>(false, weights, seed, noise);
    case form::list_compact:
      return pruned_device<pruning::list_compact>(false, weights, seed, noise);
    case form::list_shuffled:
      return pruned_device<pruning::list_shuffled>(false, weights, seed, noise);
  }
  return device_with(dense_run{polymac::linear<watched>(row_view(weights.data(), 1, depth), no_bias)}, noise);
}

}  // namespace example
