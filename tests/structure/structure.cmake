# SPDX-License-Identifier: MIT
# Tests of the shape of the code, included by tests/CMakeLists.txt.

# ---- one compiler call: syntax only, every ISA's flags together, so that no header is empty --------------------------
set(widest "")
foreach(isa IN LISTS polymac_test_isas)
  polymac_isa_flags(${isa} flags)
  list(APPEND widest ${flags})
endforeach()
list(REMOVE_DUPLICATES widest)
separate_arguments(flags NATIVE_COMMAND "${CMAKE_CXX_FLAGS}")
set(check_syntax "${CMAKE_CXX_COMPILER}" ${flags} -fsyntax-only ${polymac_warning_flags} ${widest}
                 "-I${PROJECT_SOURCE_DIR}/include" "-I${PROJECT_SOURCE_DIR}")
foreach(name xsimd eigen flatbuffers sodium)
  if(NOT TARGET polymac_dependency_${name})
    continue()
  endif()
  # Not -isystem: it would tear the system's own directories out of their order.
  set(directories "$<TARGET_PROPERTY:polymac_dependency_${name},INTERFACE_INCLUDE_DIRECTORIES>")
  list(APPEND check_syntax "$<$<BOOL:${directories}>:-idirafter$<JOIN:${directories},$<SEMICOLON>-idirafter>>")
endforeach()

# ---- every header compiles alone, and twice ------------------------------------------------------------------------
file(GLOB_RECURSE headers RELATIVE "${PROJECT_SOURCE_DIR}/include" CONFIGURE_DEPENDS
     "${PROJECT_SOURCE_DIR}/include/*.hpp")
if(NOT TARGET polymac_dependency_sodium)
  list(REMOVE_ITEM headers polymac/adapt/sodium.hpp)
  add_test(NAME header.adapt/sodium COMMAND "${CMAKE_COMMAND}" -E echo "SKIPPED: libsodium was not there")
  set_tests_properties(header.adapt/sodium PROPERTIES SKIP_REGULAR_EXPRESSION "^SKIPPED" LABELS structure)
endif()
foreach(header IN LISTS headers)
  string(REGEX REPLACE "^polymac/|\\.hpp$" "" name "${header}")
  set(source "${CMAKE_CURRENT_BINARY_DIR}/headers/${name}.cpp")
  file(CONFIGURE OUTPUT "${source}" CONTENT "#include <${header}>\n#include <${header}>\n")
  add_test(NAME "header.${name}" COMMAND ${check_syntax} -std=c++20 "${source}" COMMAND_EXPAND_LISTS)
  set_tests_properties("header.${name}" PROPERTIES LABELS structure)
endforeach()

# ---- the benchmarks compile ------------------------------------------------------------------------------------------
# For this machine, without peers and without code: that takes minutes, and `cmake --build --target bench` makes it.
file(GLOB benchmarks CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/*.cpp")
list(FILTER benchmarks EXCLUDE REGEX "/compile_time[^/]*$")
if(TARGET bench AND TARGET polymac_dependency_benchmark)
  foreach(source IN LISTS benchmarks)
    cmake_path(GET source STEM name)
    set(directories "$<TARGET_PROPERTY:polymac_dependency_benchmark,INTERFACE_INCLUDE_DIRECTORIES>")
    add_test(NAME "bench.${name}"
             COMMAND ${check_syntax} "$<$<BOOL:${directories}>:-idirafter$<JOIN:${directories},$<SEMICOLON>-idirafter>>"
                     "-I${PROJECT_SOURCE_DIR}/examples" -Wno-uninitialized -Wno-maybe-uninitialized -std=c++20 "${source}"
             COMMAND_EXPAND_LISTS)
    set_tests_properties("bench.${name}" PROPERTIES LABELS structure)
  endforeach()
endif()

# ---- tests that are not built compile --------------------------------------------------------------------------------
get_property(unbuilt GLOBAL PROPERTY polymac_unbuilt_sources)
foreach(source IN LISTS unbuilt)
  cmake_path(GET source STEM name)
  set(directories "$<TARGET_PROPERTY:polymac_dependency_catch2,INTERFACE_INCLUDE_DIRECTORIES>")
  add_test(NAME "syntax.${name}"
           COMMAND ${check_syntax} "$<$<BOOL:${directories}>:-idirafter$<JOIN:${directories},$<SEMICOLON>-idirafter>>"
                   "-I${CMAKE_CURRENT_SOURCE_DIR}" -Wno-uninitialized -Wno-maybe-uninitialized -std=c++20
                   "-DPOLYMAC_SOURCE_DIR=\"${PROJECT_SOURCE_DIR}\"" "${CMAKE_CURRENT_SOURCE_DIR}/${source}"
           COMMAND_EXPAND_LISTS)
  set_tests_properties("syntax.${name}" PROPERTIES LABELS structure)
endforeach()

# ---- who includes whom ---------------------------------------------------------------------------------------------
add_test(NAME structure.includes
         COMMAND "${CMAKE_COMMAND}" -P "${CMAKE_CURRENT_LIST_DIR}/check_includes.cmake"
                 "${PROJECT_SOURCE_DIR}/include/polymac")
# The check itself must be able to fail: a small tree with one breach of each rule.
add_test(NAME structure.includes_finds_breaches
         COMMAND "${CMAKE_COMMAND}" -DEXPECT_BREACHES=7 -P "${CMAKE_CURRENT_LIST_DIR}/check_includes.cmake"
                 "${CMAKE_CURRENT_LIST_DIR}/breaches")
set_tests_properties(structure.includes structure.includes_finds_breaches PROPERTIES LABELS structure)

# ---- policies that are not there cost nothing -----------------------------------------------------------------------
# The machine code of a dense layer is the same, instruction by instruction, whatever policies are in sight.
if(CMAKE_OBJDUMP AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT CMAKE_CROSSCOMPILING AND NOT POLYMAC_SANITIZE)
  foreach(name alone beside_policies other)
    add_library(polymac_dense_${name} OBJECT "${CMAKE_CURRENT_LIST_DIR}/dense/${name}.cpp")
    polymac_own_program(polymac_dense_${name})
    target_compile_options(polymac_dense_${name} PRIVATE -O2 -g0 -ffunction-sections)
  endforeach()
  foreach(case "beside_policies same" "other different")
    separate_arguments(case)
    list(POP_FRONT case name expect)
    add_test(NAME structure.dense_code_${expect}
             COMMAND "${CMAKE_COMMAND}" "-DOBJDUMP=${CMAKE_OBJDUMP}" "-DFIRST=$<TARGET_OBJECTS:polymac_dense_alone>"
                     "-DSECOND=$<TARGET_OBJECTS:polymac_dense_${name}>" -DEXPECT=${expect} -P
                     "${CMAKE_CURRENT_LIST_DIR}/compare_code.cmake")
    set_tests_properties(structure.dense_code_${expect} PROPERTIES LABELS structure)
  endforeach()
endif()

# ---- sources that must not compile ---------------------------------------------------------------------------------
# The first line of tests/fail/<name>.cpp is `// expect: words`; an error that holds these words must come. Another
# line may be `// flags: flag...` (default -std=c++20).
file(GLOB fail_sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/fail/*.cpp")
foreach(source IN LISTS fail_sources)
  cmake_path(GET source STEM name)
  file(READ "${source}" text)
  if(NOT text MATCHES "^// expect: ([^\n]+)\n")
    message(FATAL_ERROR "polymac: the first line of ${source} must be '// expect: words of the error'")
  endif()
  string(REGEX REPLACE "([][+.*()^$?|\\])" "\\\\\\1" words "${CMAKE_MATCH_1}")
  set(standard -std=c++20)
  if(text MATCHES "\n// flags: ([^\n]+)\n")
    separate_arguments(standard UNIX_COMMAND "${CMAKE_MATCH_1}")
  endif()
  add_test(NAME "fail.${name}" COMMAND ${check_syntax} ${standard} "${source}" COMMAND_EXPAND_LISTS)
  set_tests_properties("fail.${name}" PROPERTIES LABELS structure PASS_REGULAR_EXPRESSION "error: [^\n]*${words}")
endforeach()

# ---- two instruction sets in one program -----------------------------------------------------------------------------
list(LENGTH polymac_test_isas count)
if(count GREATER 1)
  add_executable(odr_test odr/main.cpp)
  target_link_libraries(odr_test PRIVATE polymac::polymac polymac_dependency_xsimd)
  target_compile_options(odr_test PRIVATE ${polymac_warning_flags})
  polymac_add_isa_variants(odr_test SOURCES odr/variant.cpp)
  add_test(NAME structure.odr COMMAND odr_test)
  set_tests_properties(structure.odr PROPERTIES LABELS structure)
  if(CMAKE_NM)
    add_test(NAME structure.odr_symbols
             COMMAND "${CMAKE_COMMAND}" "-DNM=${CMAKE_NM}" "-DPROGRAM=$<TARGET_FILE:odr_test>" "-DCOUNT=${count}"
                     -P "${CMAKE_CURRENT_LIST_DIR}/check_symbols.cmake")
    set_tests_properties(structure.odr_symbols PROPERTIES LABELS structure)
  endif()
endif()

# ---- without exceptions and RTTI -----------------------------------------------------------------------------------
if(EXISTS "${PROJECT_SOURCE_DIR}/include/polymac/polymac.hpp")
  add_executable(no_exceptions structure/no_exceptions.cpp)
  polymac_own_program(no_exceptions)
  target_compile_options(no_exceptions PRIVATE -fno-exceptions -fno-rtti "$<$<CONFIG:Release>:-O1>")
  add_test(NAME structure.no_exceptions COMMAND no_exceptions)
  set_tests_properties(structure.no_exceptions PROPERTIES LABELS structure)
endif()

# ---- the README's example compiles and runs as it stands there -----------------------------------------------------
set(readme "${PROJECT_SOURCE_DIR}/README.md")
if(EXISTS "${readme}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${readme}")
  file(READ "${readme}" text)
  # Brackets and semicolons mean something to CMake's lists only; one match is one string.
  if(text MATCHES "<!-- example: hello -->[ \n]*```cpp\n(([^`]|`[^`])*)```")
    file(CONFIGURE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/readme_example.cpp" CONTENT "${CMAKE_MATCH_1}" @ONLY)
    add_executable(readme_example "${CMAKE_CURRENT_BINARY_DIR}/readme_example.cpp")
    polymac_own_program(readme_example)
    target_compile_options(readme_example PRIVATE "$<$<CONFIG:Release>:-O1>")
    add_test(NAME structure.readme_example COMMAND readme_example)
  else()
    add_test(NAME structure.readme_example
             COMMAND "${CMAKE_COMMAND}" -E cat "README.md has no cpp block after <!-- example: hello -->")
  endif()
  set_tests_properties(structure.readme_example PROPERTIES LABELS structure)
endif()
