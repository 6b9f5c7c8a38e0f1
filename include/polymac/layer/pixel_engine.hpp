// SPDX-License-Identifier: MIT
// What layers with pixel pruning have, whatever they slide over: the map, sums of rows of taps, and the layer inside.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/text.hpp"
#include "polymac/core/view.hpp"
#include "polymac/epilogue/epilogue.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/kernel/active_pixels.hpp"
#include "polymac/kernel/listed_rows.hpp"
#include "polymac/kernel/neurons.hpp"
#include "polymac/layer/quantization.hpp"
#include "polymac/policy/pixel_pruning.hpp"

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Refuses what no layer can do with M and P.
template <Mac M, policy::PixelPruning P>
consteval void require_generator() {
  using generator = typename P::generator;
  static_assert(
      requires { sizeof(generator); },
      "polymac: pixel_pruning draws with policy::chacha20 unless it is given another generator: include "
      "polymac/adapt/sodium.hpp and link libsodium");
  if constexpr (requires { sizeof(generator); })
    static_assert(policy::BitGenerator<generator>,
                  "polymac: pixel_pruning wants a generator that is a std::uniform_random_bit_generator");
  if constexpr (P::scale == policy::rescale::unbiased)
    static_assert(
        std::is_arithmetic_v<typename mac_traits<M>::wide> &&
            !requires(const typename M::accumulator& c) { M::total(c); },
        "polymac: pixel_pruning with rescale::unbiased needs an arithmetic whose sums are numbers");
}

/// What both layers have: the map, the stages, and sums of rows of taps, neuron by neuron.
template <Mac M, epilogue::Stage E, Isa I, policy::PixelPruning P>
class pixel_engine {
  using traits = mac_traits<M>;
  using activation = typename M::activation;
  using wide = typename traits::wide;

 public:
  using sum = typename traits::sum;
  using output = epilogue::output_of<E, sum>;
  using state = policy::pixel_state<typename P::generator>;
  static constexpr bool masks = P::form == policy::pruning::zero_fixed;
  static constexpr bool scales = P::scale == policy::rescale::unbiased;
  /// The layer inside hands on its sums where they are not finished yet; the bias waits, if products are scaled.
  /// Atoms that add up lists: written by hand, for weights as they are, with sums that are finished.
  using atom = isa::best_atom<M, I>;
  static constexpr bool has_lists = kernel::takes_lists<atom> && !isa::encodes_weights<atom> &&
                                    !std::is_same_v<typename atom::isa, isa::scalar> && traits::chain == 0 &&
                                    std::is_same_v<sum, typename traits::accumulator> &&
                                    !requires(const typename M::accumulator& c) {
    M::total(c);
  };
  using inner_stages = std::conditional_t<masks && !scales, E, epilogue::identity>;

  policy::pixel_choice choice;
  kernel::neuron_weights<M> neurons;
  E stages;
  buffer<wide> bias;  ///< of all columns, where products are scaled
  buffer<activation> zero_pixel;

  explicit pixel_engine(E s) : stages(std::move(s)) {}

  /// The sum of a column as the epilogue takes it.
  static constexpr sum finished(wide total_of_column) noexcept {
    if constexpr (requires(const typename M::accumulator& c) { M::total(c); })
      return total<M>(static_cast<typename M::accumulator>(total_of_column));
    else if constexpr (traits::integer)
      return kernel::detail::narrow<sum>(total_of_column);
    else
      return static_cast<sum>(total_of_column);
  }
  /// bias + important + drawn * droppable / kept. Of integers the quotient is rounded to the nearest, halves away from
  /// 0, and nothing overflows that the result does not; `important` and `drawn` are sums as a layer without bias gives
  /// them.
  constexpr sum scaled(wide start, wide important, wide drawn) const noexcept {
    const std::size_t all = choice.droppable(), kept = choice.kept();
    if (kept == 0) return finished(start + important);
    if constexpr (traits::integer) {
      const auto d = static_cast<wide>(all), k = static_cast<wide>(kept);
      const wide whole = drawn / k, rest = drawn % k;  // |rest| * d < 2^62
      const wide doubled = 2 * (rest < 0 ? -rest : rest);
      const wide rounded = (doubled * d + k) / (2 * k);
      return finished(start + important + whole * d + (rest < 0 ? -rounded : rounded));
    } else {
      return finished(start + important + drawn * (static_cast<wide>(all) / static_cast<wide>(kept)));
    }
  }

  /// Entries of a list of so many taps.
  static constexpr std::size_t list_entries(std::size_t taps) noexcept { return taps + 2; }
  /// The sums of one set of neurons over a row of taps.
  template <class Taps>
  void row_of(std::size_t set, const Taps& taps, state& s, kernel::listed_tap<activation>* list,
              sum* to) const noexcept {
    const auto is_important = [&](std::size_t y, std::size_t x) { return choice.is_important(y, x); };
    const auto is_drawn = [&](std::size_t y, std::size_t x) { return s.is_drawn(choice, y, x); };
    const std::size_t columns = neurons.columns();
    if constexpr (P::form == policy::pruning::branch_skip) {
      const auto at = [&](std::size_t tap, const auto& f) {
        std::size_t y = 0, x = 0;
        taps.find(tap, y, x);
        return f(y, x);
      };
      for (std::size_t c = 0; c < columns; ++c) {
        const auto sums = neurons.branching(
            set, c, !scales, !scales,
            [&](std::size_t tap) -> const activation* {
              std::size_t y = 0, x = 0;
              return taps.find(tap, y, x) ? taps.pixel(y, x) : nullptr;
            },
            [&](std::size_t tap) { return at(tap, is_important); }, [&](std::size_t tap) { return at(tap, is_drawn); });
        to[c] = scales ? scaled_sum(set, c, sums.important, sums.drawn) : finished(sums.important);
      }
    } else {
      auto words = s.words();
      std::size_t first = 0, second = 0;
      if constexpr (scales) {
        first = kernel::list_taps(taps, list, is_important);
        second = kernel::list_taps(taps, list + first, is_drawn);
      } else {
        first = kernel::list_taps(taps, list, [&](std::size_t y, std::size_t x) { return s.active()(y, x) != 0; });
      }
      if constexpr (P::form == policy::pruning::list_shuffled) {
        policy::detail::shuffle(words, list, first);
        policy::detail::shuffle(words, list + first, second);
      }
      for (std::size_t c = 0; c < columns; ++c) {
        const wide a = neurons.listed(set, c, list, first, !scales);
        to[c] = scales ? scaled_sum(set, c, a, neurons.listed(set, c, list + first, second, false)) : finished(a);
      }
    }
  }
  /// Sums of important pixels and of drawn ones become scaled sums, in the place of the first. `column`: of the first
  /// one.
  void scale_rows(sum* important, const sum* drawn, std::size_t rows, std::size_t stride, std::size_t column,
                  std::size_t columns) const noexcept {
    for (std::size_t r = 0; r < rows; ++r, important += stride, drawn += stride)
      for (std::size_t c = 0; c < columns; ++c)
        important[c] = scaled(bias.size() > 0 ? bias[column + c] : wide{}, static_cast<wide>(important[c]),
                              static_cast<wide>(drawn[c]));
  }

  /// Checks what is not checked by the layer inside.
  template <class Bias>
  polymac::status construct(const char* who, const policy::importance_map& map, std::size_t columns,
                            std::span<const Bias> given_bias, std::size_t channels, activation zero_point) noexcept {
    if (auto s = choice.construct(who, map); !s.ok()) return s;
    if (auto s = stages.check(columns); !s.ok()) return s;
    if constexpr (masks) {
      if (auto s = zero_pixel.resize_for_overwrite(channels); !s.ok()) return s;
      for (std::size_t c = 0; c < channels; ++c) zero_pixel[c] = zero_point;
    }
    if constexpr (scales) {
      if (auto s = bias.resize_for_overwrite(given_bias.size()); !s.ok()) return s;
      for (std::size_t c = 0; c < given_bias.size(); ++c) bias[c] = static_cast<wide>(given_bias[c]);
    }
    return {};
  }
  /// The policy and what it leaves, in words; cycles predicted for this layer and for the dense one: 0: neuron by
  /// neuron.
  text<255> words(double cycles, double dense_cycles) const noexcept {
    const std::size_t all = choice.pixels();
    auto t = text<255>::join(P::name, scales ? ", unbiased: " : ": ", choice.active(), " of ", all, " pixels (",
                             (100 * choice.active() + all / 2) / all, " % of the products) for each inference, ");
    if (masks) {
      t.append("the others masked by zero points: no faster than dense, ");
    } else if (cycles <= 0) {
      t.append("neuron by neuron through the golden model: slower than dense by far, ");
    } else {
      const auto hundredths = static_cast<std::size_t>(100 * dense_cycles / cycles + 0.5);
      t.append(text<95>::join("lists for the ", atom::isa::name, " atom, predicted ", hundredths / 100, ".",
                              hundredths / 10 % 10, hundredths % 10, " x dense",
                              hundredths < 100 ? " (slower), " : ", ")
                   .view());
    }
    return t;
  }
  /// Why a state cannot be used with this map; ok where it can.
  polymac::status check_state(const char* who, const state& s) const noexcept {
    if (!s.status().ok()) return s.status();
    if (!s.is_for(choice))
      return polymac::status::make(errc::shape, who, ": expected a state for ", choice.extent().height, " x ",
                                   choice.extent().width, " pixels, as make_state() of this layer gives, got one for ",
                                   s.active().rows, " x ", s.active().columns);
    return {};
  }
  state make_state(typename P::generator generator) const {
    state s(std::move(generator));
    s.reserve(choice);
    polymac::detail::raise_unless_ok(s.status());
    return s;
  }

 private:
  constexpr sum scaled_sum(std::size_t set, std::size_t c, wide important, wide drawn) const noexcept {
    if constexpr (scales)  // as layers without bias give them
      return scaled(neurons.bias(set, c), static_cast<wide>(finished(important)), static_cast<wide>(finished(drawn)));
    else
      return finished(important);
  }
};

/// A layer around another one, Inner, on inputs without the pixels that are not drawn.
template <Mac M, epilogue::Stage E, Isa I, policy::PixelPruning P, class Inner>
class pixel_pruned_layer {
 public:
  using mac = M;
  using activation = typename M::activation;
  using sum = typename pixel_engine<M, E, I, P>::sum;
  using output = typename pixel_engine<M, E, I, P>::output;
  using state = typename pixel_engine<M, E, I, P>::state;

  const polymac::status& status() const noexcept { return status_; }
  /// The map: pixels, droppable(), kept(), active().
  const policy::pixel_choice& pixels() const noexcept { return engine_.choice; }
  /// What the maps are drawn with, and the last one: a state for one stream of images or rows.
  state make_state(typename P::generator generator) const { return engine_.make_state(std::move(generator)); }

 protected:
  using engine = pixel_engine<M, E, I, P>;

  /// `shaped`: what Inner takes before the bias.
  template <class Bias, class... Shaped>
  pixel_pruned_layer(std::span<const Bias> bias, E stages, const quantization<M>& q, const Shaped&... shaped)
      : engine_(std::move(stages)),
        inner_(shaped..., engine::masks && engine::scales ? bias.first(0) : bias, inner_stages(), q) {}
  /// In words; cycles as of pixel_engine::words.
  text<767> words(double cycles, double dense_cycles, std::size_t workspace) const noexcept {
    return text<767>::join("pixel_pruned around ", inner_.explain().view(), "; ",
                           engine_.words(cycles, dense_cycles).view(), "workspace ", workspace, " bytes");
  }
  static polymac::status check_workspace(const char* who, workspace ws, std::size_t needed) noexcept {
    if (ws.data != nullptr && ws.size >= needed) return {};
    return polymac::status::make(errc::short_buffer, who, ": expected a workspace of ", needed, " bytes, got ",
                                 ws.data == nullptr ? std::size_t{0} : ws.size);
  }

  engine engine_;
  Inner inner_;
  polymac::status status_;

 private:
  auto inner_stages() const {
    if constexpr (std::is_same_v<typename engine::inner_stages, E>)
      return engine_.stages;
    else
      return epilogue::identity{};
  }
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
