# SPDX-License-Identifier: MIT
# What tests, benchmarks and examples use; a consumer of polymac needs none of it. Each library is looked for on the
# machine (a CMake package, else its header) and fetched only if it is not there or too old. The archives are pinned by
# SHA256; each hash is the one that several package managers list for that release.
#
# Result: targets polymac_dependency_<name> for what this build needs of eigen, xsimd, flatbuffers, catch2, benchmark,
# sodium.
include_guard(GLOBAL)
include(FetchContent)

# The version in a header, by the macros that carry its parts.
function(polymac_header_version file macros out)
  file(READ "${file}" text)
  set(parts "")
  foreach(macro IN LISTS macros)
    if(text MATCHES "define ${macro} +([0-9]+)")
      list(APPEND parts ${CMAKE_MATCH_1})
    endif()
  endforeach()
  list(JOIN parts "." version)
  set(${out} "${version}" PARENT_SCOPE)
endfunction()

# polymac_find_headers(<name> PACKAGE .. TARGET .. HEADER .. SUFFIX .. VERSION_HEADER .. VERSION_MACROS .. OLDEST .. URL .. SHA256 .. INCLUDE ..)
# A header-only library. (A package built for another processor is not found when cross-compiling; its headers are.)
function(polymac_find_headers name)
  cmake_parse_arguments(PARSE_ARGV 1 arg ""
                        "PACKAGE;TARGET;HEADER;SUFFIX;VERSION_HEADER;OLDEST;URL;SHA256;INCLUDE" "VERSION_MACROS")
  set(target polymac_dependency_${name})
  add_library(${target} INTERFACE IMPORTED)
  # No version is asked of find_package: some packages call every other major version incompatible.
  find_package(${arg_PACKAGE} QUIET CONFIG)
  if(${arg_PACKAGE}_FOUND AND TARGET ${arg_TARGET} AND NOT ${arg_PACKAGE}_VERSION VERSION_LESS arg_OLDEST)
    # Only the directory: Debian's xsimd also wants to link a library (xtl) that it neither needs nor installs.
    target_include_directories(${target} SYSTEM INTERFACE "$<TARGET_PROPERTY:${arg_TARGET},INTERFACE_INCLUDE_DIRECTORIES>")
    message(STATUS "polymac: ${name} ${${arg_PACKAGE}_VERSION} (package)")
    return()
  endif()
  string(TOUPPER POLYMAC_${name}_INCLUDE_DIR directory)
  find_path(${directory} ${arg_HEADER} PATH_SUFFIXES ${arg_SUFFIX})
  if(${directory})
    polymac_header_version("${${directory}}/${arg_VERSION_HEADER}" "${arg_VERSION_MACROS}" version)
    if(NOT version VERSION_LESS arg_OLDEST)
      target_include_directories(${target} SYSTEM INTERFACE "${${directory}}")
      message(STATUS "polymac: ${name} ${version} (${${directory}})")
      return()
    endif()
  endif()
  message(STATUS "polymac: ${name} ${arg_OLDEST} or newer is not installed, fetching ${arg_URL}")
  # The directory does not exist, so that only the files are taken and nothing of the library is configured.
  FetchContent_Declare(${name} URL "${arg_URL}" URL_HASH "SHA256=${arg_SHA256}" SOURCE_SUBDIR files_only)
  FetchContent_MakeAvailable(${name})
  target_include_directories(${target} SYSTEM INTERFACE "${${name}_SOURCE_DIR}/${arg_INCLUDE}")
endfunction()

# polymac_find_library(<name> PACKAGE .. TARGET .. OLDEST .. URL .. SHA256 ..): a library that is linked.
function(polymac_find_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PACKAGE;TARGET;OLDEST;URL;SHA256" "")
  set(target polymac_dependency_${name})
  add_library(${target} INTERFACE IMPORTED)
  target_link_libraries(${target} INTERFACE ${arg_TARGET})
  find_package(${arg_PACKAGE} QUIET CONFIG)
  if(${arg_PACKAGE}_FOUND AND NOT ${arg_PACKAGE}_VERSION VERSION_LESS arg_OLDEST)
    message(STATUS "polymac: ${name} ${${arg_PACKAGE}_VERSION} (package)")
    return()
  endif()
  message(STATUS "polymac: ${name} ${arg_OLDEST} or newer is not installed, fetching ${arg_URL}")
  set(BENCHMARK_ENABLE_TESTING OFF CACHE BOOL "polymac does not run the tests of Google Benchmark")
  set(BENCHMARK_ENABLE_INSTALL OFF CACHE BOOL "polymac does not install Google Benchmark")
  set(CATCH_INSTALL_DOCS OFF CACHE BOOL "polymac does not install Catch2")
  FetchContent_Declare(${arg_PACKAGE} URL "${arg_URL}" URL_HASH "SHA256=${arg_SHA256}")
  FetchContent_MakeAvailable(${arg_PACKAGE})
endfunction()

polymac_find_headers(xsimd
  PACKAGE xsimd TARGET xsimd OLDEST 8.1
  HEADER xsimd/xsimd.hpp VERSION_HEADER xsimd/config/xsimd_config.hpp
  VERSION_MACROS XSIMD_VERSION_MAJOR XSIMD_VERSION_MINOR XSIMD_VERSION_PATCH
  URL https://github.com/xtensor-stack/xsimd/archive/refs/tags/13.0.0.tar.gz INCLUDE include
  SHA256 8bdbbad0c3e7afa38d88d0d484d70a1671a1d8aefff03f4223ab2eb6a41110a3)

# The library itself is not linked, so its package is of no use here (and has two spellings): only the header counts.
polymac_find_headers(flatbuffers
  PACKAGE polymac_no_package TARGET none OLDEST 1.12
  HEADER flatbuffers/flatbuffers.h VERSION_HEADER flatbuffers/base.h
  VERSION_MACROS FLATBUFFERS_VERSION_MAJOR FLATBUFFERS_VERSION_MINOR FLATBUFFERS_VERSION_REVISION
  URL https://github.com/google/flatbuffers/archive/refs/tags/v23.5.26.tar.gz INCLUDE include
  SHA256 1cce06b17cddd896b6d73cc047e36a254fb8df4d7ea18a46acf16c4c0cd3f3f3)

if(POLYMAC_BUILD_TESTS OR POLYMAC_BUILD_BENCH)
  polymac_find_headers(eigen
    PACKAGE Eigen3 TARGET Eigen3::Eigen OLDEST 3.4
    HEADER Eigen/Core SUFFIX eigen3 VERSION_HEADER Eigen/src/Core/util/Macros.h
    VERSION_MACROS EIGEN_WORLD_VERSION EIGEN_MAJOR_VERSION EIGEN_MINOR_VERSION
    URL https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz INCLUDE .
    SHA256 8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72)
endif()

if(POLYMAC_BUILD_TESTS)
  polymac_find_library(catch2
    PACKAGE Catch2 TARGET Catch2::Catch2 OLDEST 2.13
    URL https://github.com/catchorg/Catch2/archive/refs/tags/v3.4.0.tar.gz
    SHA256 122928b814b75717316c71af69bd2b43387643ba076a6ec16e7882bfb2dfacbb)
endif()

# Optional, and never fetched: only polymac/adapt/sodium.hpp needs it. Where it is missing (or built for another processor) what
# tests it is skipped, and benchmarks draw with a generator of the standard library.
if(POLYMAC_BUILD_TESTS OR POLYMAC_BUILD_BENCH)
  find_path(POLYMAC_SODIUM_INCLUDE_DIR sodium.h)
  find_library(POLYMAC_SODIUM_LIBRARY sodium)
  if(POLYMAC_SODIUM_INCLUDE_DIR AND POLYMAC_SODIUM_LIBRARY AND NOT CMAKE_CROSSCOMPILING)
    add_library(polymac_dependency_sodium INTERFACE IMPORTED)
    target_include_directories(polymac_dependency_sodium SYSTEM INTERFACE "${POLYMAC_SODIUM_INCLUDE_DIR}")
    target_link_libraries(polymac_dependency_sodium INTERFACE "${POLYMAC_SODIUM_LIBRARY}")
    message(STATUS "polymac: sodium (${POLYMAC_SODIUM_LIBRARY})")
  else()
    message(STATUS "polymac: sodium is not installed: policy::chacha20 is not tested")
  endif()
endif()

if(POLYMAC_BUILD_BENCH)
  polymac_find_library(benchmark
    PACKAGE benchmark TARGET benchmark::benchmark OLDEST 1.6
    URL https://github.com/google/benchmark/archive/refs/tags/v1.7.1.tar.gz
    SHA256 6430e4092653380d9dc4ccb45a1e2dc9259d581f4866dc0759713126056bc1d7)
endif()
