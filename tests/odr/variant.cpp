// SPDX-License-Identifier: MIT
// Compiled once per instruction set by polymac_add_isa_variants().
#include "shared.hpp"

#define ODR_ENTRY POLYMAC_DETAIL_JOIN(variant_, POLYMAC_ISA_ENTRY)

extern const variant ODR_ENTRY;
constinit const variant ODR_ENTRY = {polymac::isa::native::name, &polymac::odr::same_name};
