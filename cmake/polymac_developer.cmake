# SPDX-License-Identifier: MIT
# How polymac compiles its own tests, examples and benchmarks. Nothing of it reaches a consumer.
include_guard(GLOBAL)
include(CheckCXXCompilerFlag)
include(CheckCXXSourceCompiles)

set(POLYMAC_MARCH "native" CACHE STRING "-march for polymac's own programs; empty: the compiler's default")
option(POLYMAC_WERROR "Warnings are errors in polymac's own programs" ${PROJECT_IS_TOP_LEVEL})
option(POLYMAC_SANITIZE "Address and undefined-behaviour sanitizer in all of polymac's own programs" OFF)

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()
find_program(POLYMAC_CCACHE ccache)
if(PROJECT_IS_TOP_LEVEL AND POLYMAC_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${POLYMAC_CCACHE}")
endif()

set(polymac_warning_flags -Wall -Wextra -Wpedantic -Wshadow -Wconversion)
if(POLYMAC_WERROR)
  list(APPEND polymac_warning_flags -Werror)
endif()

set(polymac_sanitizer_flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
list(JOIN polymac_sanitizer_flags " " CMAKE_REQUIRED_FLAGS)
check_cxx_source_compiles("int main() { return 0; }" POLYMAC_COMPILER_SANITIZES)
unset(CMAKE_REQUIRED_FLAGS)
if(POLYMAC_SANITIZE AND NOT POLYMAC_COMPILER_SANITIZES)
  message(FATAL_ERROR "polymac: POLYMAC_SANITIZE is ON, but this compiler cannot link -fsanitize=address,undefined")
endif()

# Flags of the instruction set that polymac's own programs are compiled for, unless a program names another one.
set(polymac_march_flags "")
if(POLYMAC_MARCH)
  check_cxx_compiler_flag("-march=${POLYMAC_MARCH}" POLYMAC_COMPILER_TAKES_MARCH_${POLYMAC_MARCH})
  if(POLYMAC_COMPILER_TAKES_MARCH_${POLYMAC_MARCH})
    set(polymac_march_flags "-march=${POLYMAC_MARCH}")
  elseif(NOT POLYMAC_MARCH STREQUAL "native")
    message(FATAL_ERROR "polymac: the compiler does not take -march=${POLYMAC_MARCH} (option POLYMAC_MARCH)")
  endif()
endif()
# An ISA of polymac_isa.cmake instead of an -march of the compiler (the presets isa-*).
set(POLYMAC_ISA "" CACHE STRING "ISA (scalar, avx2, ...) for polymac's own programs instead of POLYMAC_MARCH")
if(POLYMAC_ISA)
  polymac_isa_names(polymac_isas)
  if(NOT POLYMAC_ISA IN_LIST polymac_isas)
    message(FATAL_ERROR "polymac: POLYMAC_ISA is '${POLYMAC_ISA}'; this compiler can target: ${polymac_isas}")
  endif()
  polymac_isa_flags(${POLYMAC_ISA} polymac_march_flags)
endif()

# polymac_own_program(<target> [ISA <isa>]): the flags of one of polymac's own programs or object libraries.
function(polymac_own_program target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "ISA" "")
  set(isa_flags ${polymac_march_flags})
  if(arg_ISA)
    polymac_isa_flags(${arg_ISA} isa_flags)
  endif()
  target_link_libraries(${target} PRIVATE polymac::polymac polymac_dependency_xsimd)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_options(${target} PRIVATE ${polymac_warning_flags} ${isa_flags})
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  if(POLYMAC_SANITIZE)
    target_compile_options(${target} PRIVATE ${polymac_sanitizer_flags})
    target_link_options(${target} PRIVATE ${polymac_sanitizer_flags})
  endif()
endfunction()

# What examples and benchmarks share: files, command lines, tables.
function(polymac_link_example_common target)
  if(NOT TARGET polymac_example_common)
    file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/examples/common/*.cpp")
    add_library(polymac_example_common STATIC EXCLUDE_FROM_ALL ${sources})
    polymac_own_program(polymac_example_common)
    # Data is also looked for beside the sources, wherever a program is started.
    target_compile_definitions(polymac_example_common PRIVATE "POLYMAC_SOURCE_DIR=\"${PROJECT_SOURCE_DIR}\"")
  endif()
  target_link_libraries(${target} PRIVATE polymac_example_common)
endfunction()

# The reader of models, once, for two examples, a benchmark and the tests.
set(polymac_graph_reader_source "${PROJECT_SOURCE_DIR}/examples/mlperf_tiny/read_graph.cpp")
function(polymac_link_graph_reader target)
  if(NOT TARGET polymac_graph_reader)
    add_library(polymac_graph_reader OBJECT EXCLUDE_FROM_ALL ${polymac_graph_reader_source})
    polymac_own_program(polymac_graph_reader)
    target_link_libraries(polymac_graph_reader PRIVATE polymac_dependency_flatbuffers)
  endif()
  target_link_libraries(${target} PRIVATE polymac_graph_reader)
endfunction()

# Every layer of model::network besides, the longest compilation of all.
set(polymac_network_sources "${PROJECT_SOURCE_DIR}/examples/mlperf_tiny/build_network.cpp"
                            "${polymac_graph_reader_source}")
function(polymac_link_networks target)
  if(NOT TARGET polymac_networks)
    add_library(polymac_networks OBJECT EXCLUDE_FROM_ALL
                                        "${PROJECT_SOURCE_DIR}/examples/mlperf_tiny/build_network.cpp")
    polymac_own_program(polymac_networks)
    target_link_libraries(polymac_networks PRIVATE polymac_dependency_flatbuffers)
    if(POLYMAC_TESTS_REPRESENTATIVE)  # one small net of which the sums count
      target_compile_options(polymac_networks PRIVATE -O0)
      target_compile_definitions(polymac_networks PRIVATE POLYMAC_INLINE_AS_CALLS)
    endif()
  endif()
  target_link_libraries(${target} PRIVATE polymac_networks)
  polymac_link_graph_reader(${target})
  # With it g++ makes code of every step that network::run could call, in search of a call that it could inline, and
  # throws it away: two thirds of the time.
  target_compile_options(${target} PRIVATE "$<$<CXX_COMPILER_ID:GNU>:-fno-devirtualize>")
endfunction()
