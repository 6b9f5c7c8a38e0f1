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

namespace detail {
/// Written<I>, of I or of the strongest of the weaker sets for which somebody has written it; `void` where there is none.
template <template <class> class Written, class I>
struct strongest : strongest<Written, typename I::base> {};
template <template <class> class Written>
struct strongest<Written, void> {
  using type = void;
};
template <template <class> class Written, class I>
requires requires { sizeof(Written<I>); }
struct strongest<Written, I> {
  using type = Written<I>;
};
}  // namespace detail

/// Rows of the largest tile of an atom.
template <class Atom>
inline constexpr std::size_t most_rows = [] {
  if constexpr (requires { Atom::tall_rows; })
    return Atom::tall_rows > Atom::max_rows ? Atom::tall_rows : Atom::max_rows;
  else
    return Atom::max_rows;
}();

namespace detail {
template <class Atom>
struct panel_format {
  using element = typename Atom::weight;
  static constexpr bool encodes = false;
  static constexpr std::size_t group_elements = Atom::columns * Atom::depth;
};
template <class Atom>
requires requires { typename Atom::packed; }
struct panel_format<Atom> {
  using element = typename Atom::packed;
  static constexpr bool encodes = true;
  static constexpr std::size_t group_elements = Atom::group_elements;
};
}  // namespace detail

/// What the panels of an atom are made of: its weights as they are, or `Atom::packed`.
template <class Atom>
using packed_of = typename detail::panel_format<Atom>::element;
/// Elements of one group of k of one panel.
template <class Atom>
inline constexpr std::size_t group_elements = detail::panel_format<Atom>::group_elements;
namespace detail {
struct no_summary {};
template <class Atom>
struct summary_of {
  using type = no_summary;
};
template <class Atom>
requires requires { typename Atom::summary; }
struct summary_of<Atom> {
  using type = typename Atom::summary;
};
}  // namespace detail

/// What an atom wants to know of all weights, and of the activations of a tile of rows.
template <class Atom>
using summary_of = typename detail::summary_of<Atom>::type;
template <class Atom>
inline constexpr bool has_summary = !std::is_same_v<summary_of<Atom>, detail::no_summary>;
/// Ways to do its steps that an atom has.
template <class Atom>
inline constexpr std::size_t modes_of = [] {
  if constexpr (requires { Atom::modes; })
    return std::size_t{Atom::modes};
  else
    return std::size_t{1};
}();

/// Those of them that have tiles, the first ones; the others, which hardly any data need, add up one row beside one panel.
template <class Atom>
inline constexpr std::size_t tile_modes_of = [] {
  if constexpr (requires { Atom::tile_modes; })
    return std::size_t{Atom::tile_modes};
  else
    return modes_of<Atom>;
}();

/// Groups after which an atom spills its sums, 0: never.
template <class Atom>
inline constexpr std::size_t chain_groups_of = [] {
  if constexpr (requires { Atom::chain_groups; })
    return std::size_t{Atom::chain_groups};
  else
    return std::size_t{0};
}();

/// Are weights encoded for the panels?
template <class Atom>
inline constexpr bool encodes_weights = detail::panel_format<Atom>::encodes;

/// Are groups of k that are 0 for all columns of a list left out? `Atom::is_listed`.
template <class Atom>
inline constexpr bool is_listed = requires {
  requires Atom::is_listed;
};

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
///   finishes_tiles, finish(tile, rows, offset, weights, stride, sums, sums_stride, last)
///                                  optional: the last two steps and store_part in one, where that pays
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
///                                  up what store has left, for rows that are prepared piece by piece. Its activations
///                                  may be of another type: floats for halves. `prepared_depth`: k of a row that are prepared at
///                                  a time, where the kernel's choice (1024 bytes, more of wider ones) is not best
///   packed, group_elements, encode(weights, to)
///                                  another type of the panels' elements, so many of them for a group, and how a group
///                                  of columns x depth weights becomes such: halves as floats, codes of a few bits
///   panels_together                panels whose weights are encoded in view of each other:
///                                  encode(weights of all of them, which one, to)
///   padding_weight                 (integers) what encoded zeros beyond the depth are multiplied as, if not as 0
///   summary, modes, mode(weights, activations), step_in<Mode>(...)
///                                  data with special cases: encode(weights, columns, to, summary) and prepare(..., stride,
///                                  summary of the weights, summary) note what there is; `prepared` has as many ways to
///                                  do a step, and the kernel takes the one that mode() of both summaries says for a
///                                  tile of rows; `tile_modes` of them have tiles (all, if left out), the others are slow
///   chain_groups, spill(tile)      sums that are gathered in another type after so many groups, and by `store`:
///                                  mac::dfp
///   is_listed, list_panels         groups of k that are 0 in so many panels are not packed, and left out by a list
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
/// The atom of an arithmetic that multiplies as M does: the same registers and panels under its name.
template <class M, class Atom>
struct renamed_atom : Atom {
  using mac = M;
};
template <class M, class Atom>
requires requires { typename Atom::narrow; }
struct renamed_atom<M, Atom> : Atom {
  using mac = M;
  using narrow = renamed_atom<M, typename Atom::narrow>;
};

/// An arithmetic may say with `using atoms = isa::arithmetic_atoms` that its atoms are in a header that the layers do not
/// include: without it the generic one would silently take their place.
template <class M>
consteval bool knows_atoms() {
  if constexpr (requires { typename M::atoms; }) return requires {
      sizeof(typename M::atoms);
    };
  else
    return true;
}

template <class M, class I>
struct find_atom : find_atom<M, typename I::base> {};
template <class M, class I>
requires requires { sizeof(atom<M, I>); }
struct find_atom<M, I> {
  using type = atom<M, I>;
};
template <class M, class I>
requires(
    !requires { sizeof(atom<M, I>); } &&
    requires { sizeof(atom<typename M::computed_as, I>); }) struct find_atom<M, I> {
  using type = renamed_atom<M, atom<typename M::computed_as, I>>;
};
}  // namespace detail

namespace detail {
template <class M, class I>
struct known_atom : find_atom<M, I> {
  static_assert(knows_atoms<M>(),
                "polymac: the atoms of this arithmetic are not known here: include polymac/arithmetics.hpp");
};
}  // namespace detail

/// The atom that runs arithmetic M where instruction set I may be used: its own, or that of the arithmetic whose
/// products are the same for the operands that M has, `M::computed_as`; of two the one nearer to I.
template <Mac M, Isa I>
using best_atom = typename detail::known_atom<M, I>::type;

}  // namespace isa
POLYMAC_END
