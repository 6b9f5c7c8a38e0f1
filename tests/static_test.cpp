// SPDX-License-Identifier: MIT
// What the compiler decides: which atom runs which arithmetic on which instruction set, and what the concepts admit.
// Almost all of this file is checked by compiling it, once for each instruction set.
#include "catch.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/isa/arithmetic_atoms.hpp"
#include "polymac/kernel/pack.hpp"

#include <concepts>
#include <cstdint>
#include <string>
#include <tuple>

namespace mac = polymac::mac;
namespace isa = polymac::isa;

namespace static_test {

// -- concepts --------------------------------------------------------------------------------------------------------

struct no_weight {
  using activation = int;
  using accumulator = int;
  static constexpr const char* name = "no_weight";
  static constexpr bool linear = true, exact = true;
  static constexpr int multiply_add(int c, int, int) noexcept { return c; }
};
struct may_throw {
  using activation = int;
  using weight = int;
  using accumulator = int;
  static constexpr const char* name = "may_throw";
  static constexpr bool linear = true, exact = true;
  static constexpr int multiply_add(int c, int a, int w) { return c + a * w; }
};
struct returns_another_type : may_throw {
  static constexpr long multiply_add(int c, int a, int w) noexcept { return c + a * w; }
};
struct complete : may_throw {
  static constexpr int multiply_add(int c, int a, int w) noexcept { return c + a * w; }
};
struct tag_without_base {
  static constexpr const char* name = "tag_without_base";
};
/// A user's instruction set without atoms of its own.
struct tag_of_a_user {
  using base = isa::scalar;
  static constexpr const char* name = "tag_of_a_user";
};

static_assert(polymac::Mac<mac::int8> && polymac::Mac<mac::uint8> && polymac::Mac<mac::int16x8>);
static_assert(polymac::Mac<mac::float32> && polymac::Mac<mac::bf16> && polymac::Mac<complete>);
static_assert(polymac::mac_traits<mac::bf16>::group == 2 && polymac::mac_traits<mac::float32>::group == 1);
static_assert(!polymac::Mac<int> && !polymac::Mac<void> && !polymac::Mac<isa::scalar>);
static_assert(!polymac::Mac<no_weight> && !polymac::Mac<may_throw> && !polymac::Mac<returns_another_type>);
static_assert(polymac::Isa<isa::scalar> && polymac::Isa<isa::avx512_vnni> && polymac::Isa<isa::neon_dotprod>);
static_assert(polymac::Isa<tag_of_a_user> && !polymac::Isa<int> && !polymac::Isa<mac::int8>);
static_assert(!polymac::Isa<tag_without_base>);

static_assert(std::same_as<polymac::mac_traits<mac::int16x8>::sum, std::int64_t>);
static_assert(std::same_as<polymac::mac_traits<mac::int8>::sum, std::int32_t>);
static_assert(std::same_as<polymac::mac_traits<mac::float32>::wide, float>);

// -- the table of atoms ----------------------------------------------------------------------------------------------

/// Is the atom that runs M on I the one written for From?
template <class M, class I, class From>
inline constexpr bool runs =
    std::same_as<typename isa::best_atom<M, I>::isa, From>&& std::same_as<typename isa::best_atom<M, I>::mac, M>;
/// The same for all three integer arithmetics.
template <class I, class From>
inline constexpr bool runs_integers =
    runs<mac::int8, I, From>&& runs<mac::uint8, I, From>&& runs<mac::int16x8, I, From>;

static_assert(runs_integers<isa::scalar, isa::scalar> && runs<mac::float32, isa::scalar, isa::scalar>);
static_assert(runs<mac::bf16, isa::scalar, isa::scalar>);
static_assert(runs<complete, isa::native, isa::scalar>);  // a new arithmetic runs at once
static_assert(runs<mac::int8, tag_of_a_user, isa::scalar>);
static_assert(isa::is_compiled<isa::scalar> && isa::is_compiled<isa::native>);
static_assert(std::same_as<std::tuple_element_t<0, isa::compiled>, isa::scalar>);

#if POLYMAC_HAS_XSIMD
template <class I, class From>
inline constexpr bool runs_float = runs<mac::float32, I, From>;
#else
template <class I, class>
inline constexpr bool runs_float = runs<mac::float32, I, isa::scalar>;
#endif

/// Arithmetics of arithmetics.hpp.
template <class I, class From>
inline constexpr bool runs_bits =
    runs<mac::binary, I, From>&& runs<mac::sign, I, From>&& runs<mac::bit_planes<2, 1>, I, From>;
template <class I, class From>
inline constexpr bool runs_codes = runs<mac::bit_weights<1>, I, From>&& runs<mac::bit_weights<4>, I, From>&&
    runs<mac::bit_weights<4, polymac::digits::booth, 64>, I, From>&& runs<mac::mx<polymac::e2m1>, I, From>;
template <class I, class From>
inline constexpr bool runs_fp8 = runs<mac::fp8<polymac::e5m2>, I, From>&& runs<mac::mx<polymac::e3m2>, I, From>;

#if defined(__SSE2__)
static_assert(isa::is_compiled<isa::sse2> && runs_integers<isa::sse2, isa::scalar>);
static_assert(runs_float<isa::sse2, isa::sse2> && runs<mac::bf16, isa::sse2, isa::scalar>);
#else
static_assert(!isa::is_compiled<isa::sse2>);
#endif
#if defined(__AVX2__) && defined(__FMA__)
static_assert(isa::is_compiled<isa::avx2> && runs_integers<isa::avx2, isa::avx2>);
static_assert(runs_float<isa::avx2, isa::avx2> && runs<mac::bf16, isa::avx2, isa::avx2>);
static_assert(runs_bits<isa::avx2, isa::avx2> && runs_codes<isa::avx2, isa::avx2> && runs_fp8<isa::avx2, isa::avx2>);
static_assert(runs<mac::spike, isa::avx2, isa::avx2> && runs<mac::l_mul<>, isa::avx2, isa::avx2>);
#else
static_assert(!isa::is_compiled<isa::avx2> && !isa::is_compiled<isa::avx_vnni> && !isa::is_compiled<isa::avx512>);
#endif
#if defined(__AVX2__) && defined(__FMA__) && defined(__AVXVNNI__)
static_assert(isa::is_compiled<isa::avx_vnni> && runs_integers<isa::avx_vnni, isa::avx_vnni>);
static_assert(runs_float<isa::avx_vnni, isa::avx2> && runs<mac::bf16, isa::avx_vnni, isa::avx2>);
static_assert(runs_codes<isa::avx_vnni, isa::avx_vnni> && runs<mac::spike, isa::avx_vnni, isa::avx_vnni>);
static_assert(runs_bits<isa::avx_vnni, isa::avx2> && runs_fp8<isa::avx_vnni, isa::avx2>);
#else
static_assert(!isa::is_compiled<isa::avx_vnni>);
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
static_assert(isa::is_compiled<isa::avx512> && runs_integers<isa::avx512, isa::avx512>);
static_assert(runs_float<isa::avx512, isa::avx512> && runs<mac::bf16, isa::avx512, isa::avx512>);
static_assert(runs_bits<isa::avx512, isa::avx512> && runs<mac::l_mul<>, isa::avx512, isa::avx512>);
static_assert(runs<mac::bit_weights<4>, isa::avx512, isa::avx512>);  // as int8
static_assert(runs<mac::mx<polymac::e2m1>, isa::avx512, isa::avx2>);
static_assert(runs<mac::fp8<polymac::e5m2>, isa::avx512, isa::avx512>);
#if defined(__AVX512VNNI__)
static_assert(isa::is_compiled<isa::avx512_vnni> && runs_integers<isa::avx512_vnni, isa::avx512_vnni>);
static_assert(runs_codes<isa::avx512_vnni, isa::avx512_vnni>);
static_assert(runs<mac::spike, isa::avx512_vnni, isa::avx512_vnni>);
static_assert(runs_float<isa::avx512_vnni, isa::avx512> && runs<mac::bf16, isa::avx512_vnni, isa::avx512>);
#if defined(__AVX512BF16__)
static_assert(isa::is_compiled<isa::avx512_bf16> && runs_integers<isa::avx512_bf16, isa::avx512_vnni>);
static_assert(runs<mac::bf16, isa::avx512_bf16, isa::avx512_bf16> && runs_float<isa::avx512_bf16, isa::avx512>);
#endif
#if POLYMAC_HAS_AMX_INT8
static_assert(isa::is_compiled<isa::amx_int8>);
static_assert(runs<mac::int8, isa::amx_int8, isa::amx_int8> && runs<mac::uint8, isa::amx_int8, isa::amx_int8>);
static_assert(runs<mac::int16x8, isa::amx_int8, isa::avx512_vnni> && runs_float<isa::amx_int8, isa::avx512>);
static_assert(runs<mac::bf16, isa::amx_int8, isa::avx512>);  // and not vdpbf16ps
#if POLYMAC_HAS_AMX_BF16
static_assert(isa::is_compiled<isa::amx_bf16> && std::same_as<isa::native, isa::amx_bf16>);
static_assert(runs<mac::int8, isa::amx_bf16, isa::amx_int8> && runs<mac::bf16, isa::amx_bf16, isa::amx_bf16>);
static_assert(runs<mac::int16x8, isa::amx_bf16, isa::avx512_vnni> && runs_float<isa::amx_bf16, isa::avx512>);
#else
static_assert(!isa::is_compiled<isa::amx_bf16> && std::same_as<isa::native, isa::amx_int8>);
#endif
#elif defined(__AVX512BF16__)
static_assert(!isa::is_compiled<isa::amx_int8> && std::same_as<isa::native, isa::avx512_bf16>);
#else
static_assert(!isa::is_compiled<isa::amx_int8> && std::same_as<isa::native, isa::avx512_vnni>);
#endif
#else
static_assert(std::same_as<isa::native, isa::avx512>);
#endif
#else
static_assert(!isa::is_compiled<isa::avx512> && !isa::is_compiled<isa::avx512_vnni>);
#endif
#if defined(__ARM_NEON) && defined(__aarch64__)
static_assert(isa::is_compiled<isa::neon> && runs_integers<isa::neon, isa::neon>);
static_assert(runs_float<isa::neon, isa::neon> && runs<mac::bf16, isa::neon, isa::scalar>);
static_assert(runs_bits<isa::neon, isa::neon> && runs_codes<isa::neon, isa::neon>);
static_assert(runs<mac::spike, isa::neon, isa::neon> && runs<mac::l_mul<>, isa::neon, isa::neon>);
static_assert(runs_fp8<isa::neon, isa::scalar>);
#if defined(__ARM_FEATURE_DOTPROD)
static_assert(isa::is_compiled<isa::neon_dotprod> && std::same_as<isa::native, isa::neon_dotprod>);
static_assert(runs<mac::int8, isa::neon_dotprod, isa::neon_dotprod>);
static_assert(runs<mac::uint8, isa::neon_dotprod, isa::neon_dotprod>);
static_assert(runs<mac::int16x8, isa::neon_dotprod, isa::neon>);
static_assert(runs_float<isa::neon_dotprod, isa::neon>);
static_assert(runs_codes<isa::neon_dotprod, isa::neon_dotprod> && runs_bits<isa::neon_dotprod, isa::neon>);
static_assert(runs<mac::spike, isa::neon_dotprod, isa::neon_dotprod>);
#else
static_assert(std::same_as<isa::native, isa::neon>);
#endif
#endif

// -- panel formats ---------------------------------------------------------------------------------------------------

/// All integer panels of x86 are alike, so weights packed for one instruction set serve the others.
template <class M, class I, std::size_t Columns, std::size_t Depth>
inline constexpr bool has_panel = (isa::best_atom<M, I>::columns == Columns) && (isa::best_atom<M, I>::depth == Depth);
#if defined(__AVX2__) && defined(__FMA__)
static_assert(has_panel<mac::int8, isa::native, 16, 4> && has_panel<mac::int8, isa::avx2, 16, 4>);
static_assert(has_panel<mac::uint8, isa::native, 16, 4> && has_panel<mac::uint8, isa::avx2, 16, 4>);
static_assert(has_panel<mac::int16x8, isa::native, 16, 2> && has_panel<mac::int16x8, isa::avx2, 16, 2>);
static_assert(has_panel<mac::bf16, isa::native, 16, 2> && has_panel<mac::bf16, isa::avx2, 16, 2>);
#endif

/// Atoms for few columns: the same bytes of a group, of half as many columns. None beside matrix registers.
template <class M>
inline constexpr bool has_narrow_panel = [] {
  using atom = isa::best_atom<M, isa::avx512_vnni>;
  using narrow = polymac::kernel::narrow_atom<atom>;
  return polymac::kernel::has_narrow<atom> && 2 * narrow::columns == atom::columns && narrow::depth == 2 * atom::depth;
}();
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && \
    defined(__AVX512VNNI__)
static_assert(has_narrow_panel<mac::int8> && has_narrow_panel<mac::uint8> && has_narrow_panel<mac::int16x8>);
static_assert(!polymac::kernel::has_narrow<isa::best_atom<mac::bf16, isa::native>>);
#endif

// -- the generic atom is a constant expression -----------------------------------------------------------------------

constexpr std::int32_t dot_product_at_compile_time() {
  using atom = isa::atom<mac::int8, isa::scalar>;
  std::int8_t weights[3 * atom::columns] = {};
  std::int32_t starts[atom::columns] = {};
  std::int32_t sums[atom::columns] = {};
  starts[15] = 1000;
  for (std::size_t k = 0; k < 3; ++k) weights[k * atom::columns + 15] = static_cast<std::int8_t>(k + 1);
  const std::int8_t row[] = {-128, 10, 1};
  const std::int8_t* rows[] = {row};
  atom::tile<1, 1> t{};
  atom::start<1, 1>(t, starts, 0);
  for (std::size_t k = 0; k < 3; ++k) atom::step<1, 1>(t, rows, k, weights + k * atom::columns, 0);
  atom::store<1, 1>(t, sums);
  return sums[15];
}
static_assert(dot_product_at_compile_time() == 1000 - 128 + 20 + 3);

}  // namespace static_test

TEST_CASE("The inline namespace names the strongest instruction set", "[static]") {
#define POLYMAC_TEST_TEXT2(x) #x
#define POLYMAC_TEST_TEXT(x) POLYMAC_TEST_TEXT2(x)
  const std::string tag = POLYMAC_TEST_TEXT(POLYMAC_ABI);
  const std::string native = isa::native::name;
  INFO(tag << " for " << native);
  // avx512_vnni is spelled avx512_fma_vnni there, avx_vnni avx2_fma_avxvnni, sse2 and neon as they are
  const std::string vector = native == "avx_vnni"         ? "avx2"
                             : native.starts_with("amx_") ? "avx512"
                                                          : native.substr(0, native.find('_'));
  REQUIRE(tag.find(vector) != std::string::npos);
  if (native == "avx512_bf16") REQUIRE(tag.find("_bf16") != std::string::npos);
  if (native == "amx_bf16") REQUIRE(tag.find("_amxbf16") != std::string::npos);
  if (native == "avx512_vnni") REQUIRE(tag.find("_vnni") != std::string::npos);
  if (native == "avx_vnni") REQUIRE(tag.find("_avxvnni") != std::string::npos);
  if (native == "neon_dotprod") REQUIRE(tag.find("_dotprod") != std::string::npos);
}
