// SPDX-License-Identifier: MIT
// Cuts a caller's workspace into the scratch memory of a contraction.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/view.hpp"
#include "polymac/kernel/contract.hpp"

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

POLYMAC_BEGIN
namespace kernel {

/// Calls run(scratch) with memory out of `ws`, or says how many bytes were expected. In a constant expression, where
/// bytes cannot become pointers, memory of that evaluation serves instead.
template <class Activation, class Extent, class Run>
constexpr status with_scratch(const char* who, const Extent& extent, workspace ws, const Run& run) noexcept {
  if (std::is_constant_evaluated()) {
    buffer<const Activation*> pointers;
    buffer<Activation> block;
    static_cast<void>(pointers.resize(extent.pointers));
    static_cast<void>(block.resize(extent.block));
    run(scratch<Activation>{pointers.data(), block.data(), block.size()});
    return {};
  }
  if (ws.size < extent.bytes() || ws.data == nullptr)
    return status::make(errc::short_buffer, who, ": expected a workspace of ", extent.bytes(), " bytes, got ",
                        ws.data == nullptr ? std::size_t{0} : ws.size);
  const auto aligned = [](std::byte* p, std::size_t alignment) {
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    return p + (alignment - address % alignment) % alignment;
  };
  std::byte* const table = aligned(ws.data, alignof(const Activation*));
  std::byte* const block = aligned(table + extent.pointers * sizeof(const Activation*), Extent::block_alignment);
  // Trivial types: the bytes become objects by being written, which the kernel does before it reads them.
  const auto before = static_cast<std::size_t>(block - ws.data);
  const std::size_t left = ws.size > before ? ws.size - before : 0;  // more than was asked for is welcome
  run(scratch<Activation>{reinterpret_cast<const Activation**>(table),
                          left > 0 ? reinterpret_cast<Activation*>(block) : nullptr, left / sizeof(Activation)});
  return {};
}

}  // namespace kernel
POLYMAC_END
