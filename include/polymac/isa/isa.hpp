// SPDX-License-Identifier: MIT
// Instruction sets as tags, each with the weaker one it falls back to, and what an atom is.
#pragma once

#include "polymac/core/concepts.hpp"

#include <cstddef>
#include <tuple>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {

struct scalar {
  using base = void;
  static constexpr const char* name = "scalar";
};
/// x86-64 without further flags: only the generic float atom.
struct sse2 {
  using base = scalar;
  static constexpr const char* name = "sse2";
};
/// AVX2 with FMA.
struct avx2 {
  using base = sse2;
  static constexpr const char* name = "avx2";
};
/// AVX-512 F, BW, VL, DQ.
struct avx512 {
  using base = avx2;
  static constexpr const char* name = "avx512";
};
/// 256-bit dot products (vpdpbusd ymm, VEX encoding).
struct avx_vnni {
  using base = avx2;
  static constexpr const char* name = "avx_vnni";
};
/// 512-bit dot products (vpdpbusd zmm).
struct avx512_vnni {
  using base = avx512;
  static constexpr const char* name = "avx512_vnni";
};
/// Dot products of two bf16 per lane (vdpbf16ps zmm).
struct avx512_bf16 {
  using base = avx512_vnni;
  static constexpr const char* name = "avx512_bf16";
};
/// Tiles of 16 rows x 64 bytes and their products of bytes; the operating system must permit them (cpu/permission.hpp).
struct amx_int8 {
  using base = avx512_vnni;
  static constexpr const char* name = "amx_int8";
};
/// Their products of bf16. The chain passes by avx512_bf16: on processors with tiles its instruction is slower than
/// float multiply-adds.
struct amx_bf16 {
  using base = amx_int8;
  static constexpr const char* name = "amx_bf16";
};
/// AArch64 Advanced SIMD.
struct neon {
  using base = scalar;
  static constexpr const char* name = "neon";
};
/// sdot and udot.
struct neon_dotprod {
  using base = neon;
  static constexpr const char* name = "neon_dotprod";
};

/// The sets that the compiler flags of this translation unit allow, weakest first.
using compiled = decltype(std::tuple_cat(std::tuple<scalar>{}
#if defined(__SSE2__)
                                         ,
                                         std::tuple<sse2>{}
#endif
#if defined(__AVX2__) && defined(__FMA__)
                                         ,
                                         std::tuple<avx2>{}
#endif
#if defined(__AVX2__) && defined(__FMA__) && defined(__AVXVNNI__)
                                         ,
                                         std::tuple<avx_vnni>{}
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
                                         ,
                                         std::tuple<avx512>{}
#if defined(__AVX512VNNI__)
                                         ,
                                         std::tuple<avx512_vnni>{}
#if defined(__AVX512BF16__)
                                         ,
                                         std::tuple<avx512_bf16>{}
#endif
#if POLYMAC_HAS_AMX_INT8
                                         ,
                                         std::tuple<amx_int8>{}
#endif
#if POLYMAC_HAS_AMX_BF16
                                         ,
                                         std::tuple<amx_bf16>{}
#endif
#endif
#endif
#if defined(__ARM_NEON) && defined(__aarch64__)
                                         ,
                                         std::tuple<neon>{}
#if defined(__ARM_FEATURE_DOTPROD)
                                         ,
                                         std::tuple<neon_dotprod>{}
#endif
#endif
                                         ));

/// The strongest of them.
using native = std::tuple_element_t<std::tuple_size_v<compiled> - 1, compiled>;

namespace detail {
template <class I, class List>
struct contains;
template <class I, class... Is>
struct contains<I, std::tuple<Is...>> : std::bool_constant<(std::is_same_v<I, Is> || ...)> {};
}  // namespace detail

/// Rows of the largest tile of an atom.
template <class Atom>
inline constexpr std::size_t most_rows = [] {
  if constexpr (requires { Atom::tall_rows; })
    return Atom::tall_rows > Atom::max_rows ? Atom::tall_rows : Atom::max_rows;
  else
    return Atom::max_rows;
}();

/// May code for I be compiled in this translation unit?
template <Isa I>
inline constexpr bool is_compiled = detail::contains<I, compiled>::value;

/// A register tile for one arithmetic on one instruction set. Specialised once per hand-written pair, in the file of
/// the instruction set; `best_atom` finds the strongest one along the chain of bases, and ends at the generic atom
/// that is made from the golden model.
///
/// An atom holds
///   mac, isa                       what it was written for
///   columns                        output columns of one panel of weights
///   depth                          consecutive k that one step takes together
///   max_rows, max_panels           largest tile that stays in registers
///   activation_offset              the atom computes sum((a + activation_offset) * w); packing takes the surplus off
///   tile<Rows, Panels>             the registers; Rows <= max_rows, Panels <= max_panels
///   start(tile, starts, stride)    sets every row to the start values of the panels (columns each, `stride` apart)
///   step(tile, rows, offset, weights, stride)
///                                  adds the products of rows[r][offset .. offset + depth) with one group of each
///                                  panel; `rows` is anything whose operator[] gives a pointer to a row;
///                                  `stride` is the distance of two panels in weights
///   store(tile, sums, stride)      writes Rows x (Panels * columns) sums, rows `stride` apart (side by side if left out)
///   store_part(tile, sums, stride, last)
///                                  optional: of the last panel only the first `last` columns
///   finishes_tiles, finish(tile, rows, offset, weights, stride, sums, sums_stride)
///                                  optional: the last two steps and the store in one, where that pays
/// and reads exactly depth activations per row and step: never past them.
///
/// An atom may also bring
///   tall_rows                      rows of its largest tile of one panel, where that is more than max_rows: so few
///                                  columns leave registers for more rows
///   panels_for(rows)               panels of the best tile of so many rows, where few rows take more than max_panels;
///                                  tiles of fewer panels exist too
///   prepared                       another atom of the same extents, for activations in another form
///   prepare(rows, row_count, offset, count, to, stride)
///                                  brings rows[r][offset .. offset + count), a multiple of depth, into that form, to
///                                  rows `stride` apart; may write up to 63 elements more behind each. The kernel does
///                                  so once for a tile of rows. `prepared` then has resume(tile, sums, stride), which takes
///                                  up what store has left, for rows that are prepared piece by piece
///
///   narrow                         another atom, of fewer columns and more depth, for weights of so few columns; they
///                                  are packed for it (kernel/pack.hpp, prefers_narrow)
///
/// An atom may bring a second shape that reads the same panels: `tiles`, a matrix register file for many rows at once.
/// See isa/amx_tiles.hpp for what it holds and kernel/contract_tiles.hpp for who uses it.
///
/// A panel is groups x columns x depth weights: element (group, column, d) belongs to k = group * depth + d.
template <Mac M, Isa I>
struct atom;

namespace detail {
template <class M, class I>
struct find_atom : find_atom<M, typename I::base> {};
template <class M, class I>
requires requires { sizeof(atom<M, I>); }
struct find_atom<M, I> {
  using type = atom<M, I>;
};
}  // namespace detail

/// The atom that runs arithmetic M where instruction set I may be used.
template <Mac M, Isa I>
using best_atom = typename detail::find_atom<M, I>::type;

}  // namespace isa
POLYMAC_END
