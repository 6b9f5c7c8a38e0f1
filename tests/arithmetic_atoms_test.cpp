// SPDX-License-Identifier: MIT
// The atoms of arithmetics.hpp against the golden models, as layers run them: encoded weights, prepared activations,
// chains, modes for special cases, codes and blocks; heights and widths of tiles, ends of rows, pieces of the depth.
#include "catch.hpp"
#include "polymac/arithmetics.hpp"
#include "support/arithmetics.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

namespace pm = polymac;
namespace mac = polymac::mac;

namespace {

using generator = polymac_test::random_source;
using polymac_test::guarded_buffer;
using polymac_test::placement;

int integer(generator& r, int low, int high) { return static_cast<int>(r.integer(low, high)); }
float real(generator& r) { return r.unit() * 2.0F - 1.0F; }

/// Floats of every kind: ordinary ones, zeros, and what is not in range or not a number.
[[maybe_unused]] float special(generator& r) {
  static constexpr float values[] = {0.0F,
                                     -0.0F,
                                     3.0e-39F,
                                     1.0e30F,
                                     -1.0e30F,
                                     1.0e-30F,
                                     3.4e38F,
                                     0x1p-126F,
                                     -0x1p127F,
                                     1.0F,
                                     std::numeric_limits<float>::infinity()};
  return integer(r, 0, 5) == 0 ? values[integer(r, 0, 10)] : real(r);
}

/// How operands of M are drawn. `Wild`: with special cases.
template <class M, bool Wild>
struct draw {
  static auto activation(generator& r) { return one<typename M::activation>(r); }
  static auto weight(generator& r) {
    if constexpr (requires { M::codes::least; }) {
      int code = 0;
      do code = integer(r, M::codes::least, M::codes::most);
      while (!M::codes::contains(code));
      return static_cast<typename M::weight>(code);
    } else {
      auto w = one<typename M::weight>(r);
      if constexpr (std::is_floating_point_v<decltype(w)>)
        if (!std::isfinite(w)) w = 2.0F;
      return w;
    }
  }
  template <class T>
  static T one(generator& r) {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(integer(r, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
    else
      return T(Wild ? special(r) : real(r));
  }
};
template <class Storage, int Shift, std::size_t Chain, class Promise, bool Wild>
struct draw<mac::dfp<Storage, Shift, Chain, Promise>, Wild> {
  static constexpr int limit = mac::dfp<Storage, Shift, Chain, Promise>::format::limit;
  static Storage activation(generator& r) { return static_cast<Storage>(integer(r, Wild ? limit - 3 : -limit, limit)); }
  static Storage weight(generator& r) { return activation(r); }
};
template <bool Wild>
struct draw<mac::fp16_sum16, Wild> {
  static pm::float16_pair activation(generator& r) { return {half(r), half(r)}; }
  static pm::float16_pair weight(generator& r) { return activation(r); }

 private:
  /// Near 1, or of any magnitude, subnormals among them, that leaves sums finite: ties and lost bits of every kind.
  static pm::float16 half(generator& r) {
    if (integer(r, 0, 1) == 0) return pm::float16(real(r));
    const int exponent = integer(r, 0, 18), bits = integer(r, 0, 0x3FF) | (integer(r, 0, 1) << 15) | (exponent << 10);
    return pm::float16::from_bits(static_cast<std::uint16_t>(bits));
  }
};
template <class Element, pm::mx_scale Scale, bool Wild>
struct draw<mac::mx<Element, Scale>, Wild> {
  static pm::mx_block<Element> activation(generator& r) {
    float values[32];
    const float scale = std::ldexp(1.0F, integer(r, -4, 4));
    for (float& v : values) v = real(r) * scale;
    auto block = pm::mx_block<Element>::encode(values, Scale);
    if (integer(r, 0, 4) == 0) block = {};
    if (Wild) block.scale = static_cast<std::uint8_t>(integer(r, 0, 255));
    return block;
  }
  static pm::mx_block<Element> weight(generator& r) {
    auto block = activation(r);
    if (block.is_nan()) block.scale = 254;
    return block;
  }
};
template <int Bits, class Encoding, std::size_t Group, bool Wild>
requires(Group > 0) struct draw<mac::bit_weights<Bits, Encoding, Group>, Wild> {
  using M = mac::bit_weights<Bits, Encoding, Group>;
  static auto activation(generator& r) {
    typename M::activation a;
    for (auto& v : a.values) v = static_cast<std::int8_t>(integer(r, -128, Wild ? -120 : 127));
    return a;
  }
  static auto weight(generator& r) {
    using codes = typename M::codes;
    typename M::weight w;
    w.scale = 0.01F + r.unit();
    if (!codes::two_or_three_values) w.zero_point = static_cast<std::int8_t>(integer(r, codes::least, codes::most));
    for (std::size_t k = 0; k < Group; ++k) {
      int code = 0;
      do code = integer(r, codes::least, codes::most);
      while (!codes::contains(code));
      w.set_code(k, code);
    }
    return w;
  }
};
[[maybe_unused]] std::uint64_t word(generator& r) { return r.bits(); }
template <bool Wild>
struct draw<mac::binary, Wild> {
  static pm::bit_word activation(generator& r) { return {Wild ? ~std::uint64_t{0} : word(r)}; }
  static pm::bit_word weight(generator& r) { return activation(r); }
};
template <bool Wild>
struct draw<mac::sign, Wild> {
  static mac::sign_word activation(generator& r) {
    const std::uint64_t valid = Wild ? ~std::uint64_t{0} : word(r);
    return {word(r) & valid, valid};
  }
  static mac::sign_word weight(generator& r) { return activation(r); }
};
template <bool Wild>
struct draw<mac::spike, Wild> {
  static pm::bit_word activation(generator& r) { return {word(r)}; }
  static auto weight(generator& r) {
    typename mac::spike::weight w;
    for (auto& v : w.values) v = static_cast<std::int8_t>(integer(r, -128, Wild ? -127 : 127));
    return w;
  }
};
template <int A, int W, bool AS, bool WS, bool Wild>
struct draw<mac::bit_planes<A, W, AS, WS>, Wild> {
  using M = mac::bit_planes<A, W, AS, WS>;
  template <class T>
  static T one(generator& r) {
    T t;
    for (std::size_t k = 0; k < 64; ++k) t.set(k, Wild ? T::least : integer(r, T::least, T::most));
    return t;
  }
  static auto activation(generator& r) { return one<typename M::activation>(r); }
  static auto weight(generator& r) { return one<typename M::weight>(r); }
};

/// The golden sum, in the order that the arithmetic promises, and the sum of the sizes of its products.
template <class M>
struct golden {
  using traits = pm::mac_traits<M>;
  typename traits::sum value;
  double sizes = 0.0;
  golden(typename M::accumulator bias, const typename M::activation* x, const typename M::weight* w,
         std::size_t depth) {
    typename M::accumulator c = bias;
    [[maybe_unused]] typename traits::chain_accumulator chain{};
    for (std::size_t k = 0; k < depth; ++k) {
      // The last one of a group is first; the end of a row is filled up with zeros.
      const std::size_t group = k / traits::group * traits::group, at = group + traits::group - 1 - (k - group);
      const std::size_t i = group + traits::group <= depth ? at : k;
      if constexpr (traits::chain > 0 && requires { typename M::chain_accumulator; }) {
        chain = M::multiply_add(chain, x[i], w[i]);
        if ((k + 1) % traits::chain == 0) {
          c = M::spill(c, chain);
          chain = {};
        }
      } else {
        c = M::multiply_add(c, x[i], w[i]);
      }
      sizes += std::abs(static_cast<double>(pm::total<M>(M::multiply_add(typename M::accumulator{}, x[i], w[i]))));
    }
    if constexpr (traits::chain > 0 && requires { typename M::chain_accumulator; }) c = M::spill(c, chain);
    value = pm::total<M>(c);
  }
};

/// Groups of codes may be fused or not; all others have the golden model's bits.
template <class M>
inline constexpr bool has_bits = !requires {
  M::group_size;
}
|| std::is_integral_v<typename M::accumulator>;

template <class M, class I, bool Wild>
void run_shape(generator& r, std::size_t rows, std::size_t columns, std::size_t depth) {
  using D = draw<M, Wild>;
  using sum = typename pm::mac_traits<M>::sum;
  using bias_type = std::conditional_t<std::is_integral_v<typename M::accumulator>, std::int32_t, float>;
  // Rows end where the memory of the process does.
  guarded_buffer<typename M::activation> x(rows * depth, placement::before_guard);
  guarded_buffer<typename M::weight> w(columns * depth, placement::before_guard);
  std::vector<bias_type> bias(columns);
  for (std::size_t i = 0; i < rows * depth; ++i) x.data()[i] = D::activation(r);
  for (std::size_t i = 0; i < columns * depth; ++i) w.data()[i] = D::weight(r);
  for (auto& v : bias) v = static_cast<bias_type>(integer(r, -1000, 1000));
  const auto layer = pm::linear<M, I>(pm::matrix_view<const typename M::weight>(w.data(), columns, depth), bias);
  std::vector<sum> y(rows * (columns + 3) + 1, sum{77});
  const pm::matrix_view<sum> out(y.data(), rows, columns, columns + 3);
  REQUIRE(layer(pm::matrix_view<const typename M::activation>(x.data(), rows, depth), out).ok());
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t c = 0; c < columns; ++c) {
      const golden<M> g(static_cast<typename M::accumulator>(bias[c]), x.data() + i * depth, w.data() + c * depth,
                        depth);
      const sum got = out(i, c);
      const auto difference = std::abs(static_cast<double>(got) - static_cast<double>(g.value));
      const bool both_nan = got != got && g.value != g.value;
      if (both_nan || got == g.value) continue;
      if constexpr (!has_bits<M>)
        if (difference <= 2.0 * M::error_bound(depth, g.sizes + std::abs(static_cast<double>(bias[c])))) continue;
      ++wrong;
    }
    for (std::size_t gap = 0; gap < 3; ++gap) wrong += y[i * (columns + 3) + columns + gap] != sum{77};
  }
  INFO(M::name << " on " << layer.explain().c_str() << ", " << rows << " x " << columns << " x " << depth);
  REQUIRE(wrong == 0);
}

/// Halves that panels hold as they are, which mac::fp16 takes on some processors only.
struct stored_halves : mac::fp16 {};

}  // namespace

#if defined(__AVX512F__) && POLYMAC_HAS_XSIMD
template <>
struct polymac::isa::atom<stored_halves, polymac::isa::avx512> : polymac::isa::detail::halves_in_panels<stored_halves> {
};
#endif

namespace {

/// Has M an atom of its own on I, that no weaker set has?
template <class M, class I>
inline constexpr bool has_own =
    std::is_same_v<typename pm::isa::best_atom<M, I>::isa, I> && !std::is_same_v<I, pm::isa::scalar>;

template <class I, class... M>
auto own_of(std::tuple<M...>)
    -> decltype(std::tuple_cat(std::conditional_t<has_own<M, I>, std::tuple<M>, std::tuple<>>{}...));

using twos = pm::digits::twos_complement;
/// In all programs: what each set has of its own, once.
using arithmetics = std::tuple<mac::fp16, mac::fp16_sum16, mac::fp8<pm::e4m3fn>, mac::l_mul<>, mac::dfp<std::int16_t>,
                               mac::mx<pm::e2m1>, mac::bit_weights<3>, mac::bit_weights<8, twos, 128>, mac::spike,
                               mac::binary, mac::sign, mac::bit_planes<2, 2>>;
/// In those of AVX-512: what is made of them by code that is the same for all sets.
#if defined(__AVX512F__)
using of_common_code =
    std::tuple<stored_halves, mac::fp8<pm::e5m2>, mac::l_mul_on<pm::bfloat16>, mac::mx<pm::e4m3fn>, mac::mx<pm::e3m2>,
               mac::mx<std::int8_t>, mac::bit_weights<1>, mac::bit_weights<pm::ternary_bits>,
               mac::bit_weights<1, twos, 64>, mac::bit_weights<4, twos, 32>>;
#else
using of_common_code = std::tuple<>;
#endif
/// Of an extension that no instruction set of ours implies, in the program for this machine.
#if defined(__AVX512VPOPCNTDQ__)
using of_popcount = std::tuple<mac::binary, mac::sign, mac::bit_planes<2, 2>>;
#else
using of_popcount = std::tuple<>;
#endif
#if defined(__AVX512FP16__) || defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
using of_halves = std::tuple<mac::fp16_sum16>;
#else
using of_halves = std::tuple<>;
#endif
using native = pm::isa::native;
/// Who has an atom where: one that is not found would be one that is not tested.
template <class I, class... M>
[[maybe_unused]] inline constexpr bool all_own = (has_own<M, I> && ...);
template <class I>
consteval bool is_as_documented() {
  namespace isa = pm::isa;
  if constexpr (std::is_same_v<I, isa::avx2>)
    return all_own<I, mac::fp16, mac::fp16_sum16, mac::fp8<pm::e4m3fn>, mac::fp8<pm::e5m2>, mac::l_mul<>,
                   mac::l_mul_on<pm::bfloat16>, mac::dfp<std::int16_t>, mac::dfp<std::int8_t>, mac::mx<pm::e4m3fn>,
                   mac::mx<pm::e5m2>, mac::mx<pm::e3m2>, mac::mx<pm::e2m3>, mac::mx<pm::e2m1>, mac::mx<std::int8_t>,
                   mac::bit_weights<1>, mac::bit_weights<4>, mac::bit_weights<8>, mac::bit_weights<4, twos, 32>,
                   mac::binary, mac::sign, mac::bit_planes<1, 2>, mac::spike>;
  else if constexpr (std::is_same_v<I, isa::avx_vnni>)
    return all_own<I, mac::dfp<std::int16_t>, mac::dfp<std::int8_t>, mac::mx<pm::e2m1>, mac::mx<std::int8_t>,
                   mac::bit_weights<1>, mac::bit_weights<4>, mac::bit_weights<8>, mac::bit_weights<4, twos, 32>,
                   mac::spike>;
  else if constexpr (std::is_same_v<I, isa::avx512>)
    return all_own<I, mac::fp16, stored_halves, mac::fp16_sum16, mac::fp8<pm::e4m3fn>, mac::fp8<pm::e5m2>, mac::l_mul<>,
                   mac::l_mul_on<pm::bfloat16>, mac::dfp<std::int16_t>, mac::binary, mac::sign, mac::bit_planes<2, 2>>;
  else if constexpr (std::is_same_v<I, isa::avx512_vnni>)
    return all_own<I, mac::dfp<std::int16_t>, mac::dfp<std::int8_t>, mac::mx<pm::e2m1>, mac::mx<pm::e2m3>,
                   mac::mx<std::int8_t>, mac::bit_weights<1>, mac::bit_weights<2>, mac::bit_weights<3>,
                   mac::bit_weights<4>, mac::bit_weights<8>, mac::bit_weights<pm::ternary_bits>,
                   mac::bit_weights<4, twos, 32>, mac::spike>;
  else if constexpr (std::is_same_v<I, isa::avx512_bf16>)
    return all_own<I, mac::fp8<pm::e4m3fn>, mac::mx<pm::e4m3fn>, mac::mx<pm::e5m2>, mac::mx<pm::e3m2>>;
  else if constexpr (std::is_same_v<I, isa::neon>)
    return all_own<I, mac::fp16, mac::l_mul<>, mac::l_mul_on<pm::bfloat16>, mac::mx<pm::e2m3>, mac::mx<pm::e2m1>,
                   mac::mx<std::int8_t>, mac::bit_weights<1>, mac::bit_weights<4>, mac::bit_weights<8>,
                   mac::bit_weights<4, twos, 32>, mac::binary, mac::sign, mac::bit_planes<1, 1>, mac::spike>;
  else if constexpr (std::is_same_v<I, isa::neon_dotprod>)
    return all_own<I, mac::mx<pm::e2m1>, mac::mx<std::int8_t>, mac::bit_weights<1>, mac::bit_weights<4>,
                   mac::bit_weights<8>, mac::bit_weights<4, twos, 32>, mac::spike>;
  else
    return true;
}
static_assert(!POLYMAC_HAS_XSIMD || is_as_documented<native>());

struct none {
  using activation = std::int8_t;
};
// A program without any says so.
#if defined(POLYMAC_TEST_ISA_ONLY)
using tested =
    decltype(std::tuple_cat(own_of<native>(arithmetics{}), own_of<native>(of_common_code{}), std::tuple<none>{}));
#else
using tested = decltype(std::tuple_cat(of_popcount{}, of_halves{}, std::tuple<none>{}));
#endif

}  // namespace

TEMPLATE_LIST_TEST_CASE("An arithmetic's layer equals its golden model", "[arithmetic]", tested) {
  using M = TestType;
  if constexpr (std::is_same_v<M, none>) {
    SUCCEED("the last of them");
  } else {
    POLYMAC_RANDOM(r, 91);
    using activation = typename M::activation;
    // Rows of every height of tile, columns of some panels and a rest, depths with ends and in pieces.
    constexpr std::size_t size = sizeof(activation) > 8 ? 32 : sizeof(activation) == 8 ? 16 : 1;
    const auto depth = [&](int most) { return static_cast<std::size_t>(integer(r, 1, most)) / size + 1; };
    for (const std::size_t rows : {1U, 2U, 3U, 5U, 6U, 13U, 29U})
      for (const std::size_t columns : {1U, 8U, 17U, 40U, 70U})
        run_shape<M, native, false>(r, rows, columns, depth(100));
    run_shape<M, native, false>(r, 7, 40, 2500 / size);
    run_shape<M, native, false>(r, 25, 150, 1300 / size);
    // Of halves and small floats only ordinary ones: what infinity times 0 is, is IEEE's.
    if constexpr (std::is_same_v<activation, float> || std::is_integral_v<activation> || sizeof(activation) >= 8)
      for (const std::size_t rows : {1U, 4U, 13U}) run_shape<M, native, true>(r, rows, 33, depth(300));
  }
}
