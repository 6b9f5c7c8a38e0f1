// SPDX-License-Identifier: MIT
// The one door to Catch2: tests include this and work with Catch2 2.13 and 3.
#pragma once

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>

using Catch::Approx;  // as Catch2 2.13 has it
#else
#include <catch2/catch.hpp>
#endif
