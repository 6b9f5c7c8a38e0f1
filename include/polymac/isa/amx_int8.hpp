// SPDX-License-Identifier: MIT
// AMX-INT8: products of tiles of bytes, 16 rows x 16 columns x 64 deep in one instruction. The picture and the prices
// are those of amx_tiles.hpp.
//
// tdpbssd takes signed bytes on both sides and adds modulo 2^32: no flipped bits, no surplus to take off. tdpbusd is its
// sister for unsigned activations. Both equal the golden model for every input.
#pragma once

#include "polymac/isa/amx_tiles.hpp"
#include "polymac/isa/avx512_vnni.hpp"

#if POLYMAC_HAS_AMX_INT8 && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    defined(__AVX512DQ__) && defined(__AVX512VNNI__)

POLYMAC_BEGIN
namespace isa {
namespace detail {

/// s8 or u8 activations, s8 weights.
template <class M>
struct byte_tile_product {
  using mac = M;
  static constexpr std::size_t depth = 4;
  template <int Sums, int Activations, int Weights>
  static POLYMAC_INLINE void multiply_add() noexcept {
    if constexpr (std::is_signed_v<typename M::activation>)
      tile_unit::add_dot_s8s8<Sums, Activations, Weights>();
    else
      tile_unit::add_dot_u8s8<Sums, Activations, Weights>();
  }
};

}  // namespace detail

template <>
struct atom<mac::int8, amx_int8> : atom<mac::int8, avx512_vnni> {
  using isa = amx_int8;
  using tiles = detail::tile_blocks<detail::byte_tile_product<polymac::mac::int8>>;
};
template <>
struct atom<mac::uint8, amx_int8> : atom<mac::uint8, avx512_vnni> {
  using isa = amx_int8;
  using tiles = detail::tile_blocks<detail::byte_tile_product<polymac::mac::uint8>>;
};

}  // namespace isa
POLYMAC_END

#endif
