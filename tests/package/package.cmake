# SPDX-License-Identifier: MIT
# Four users of the library, each built as a project of its own; included by tests/CMakeLists.txt.
# Two of them use an installed copy, which has been moved since it was installed.
if(NOT EXISTS "${PROJECT_SOURCE_DIR}/include/polymac/polymac.hpp")
  message(STATUS "polymac: no package tests, for there is no polymac/polymac.hpp")
  return()
endif()
set(stage "${CMAKE_CURRENT_BINARY_DIR}/package")

function(polymac_package_test case)
  add_test(NAME package.${case}
           COMMAND polymac_test_launcher any "${CMAKE_COMMAND}" -DCASE=${case} "-DSOURCE=${PROJECT_SOURCE_DIR}"
                   "-DSTAGE=${stage}" "-DBUILD=${PROJECT_BINARY_DIR}" "-DGENERATOR=${CMAKE_GENERATOR}"
                   "-DCOMPILER=${CMAKE_CXX_COMPILER}" -P "${PROJECT_SOURCE_DIR}/tests/package/run.cmake")
  set_tests_properties(package.${case} PROPERTIES LABELS package SKIP_RETURN_CODE 77 ${ARGN})
endfunction()

polymac_package_test(install FIXTURES_SETUP polymac_installed)
polymac_package_test(find_package FIXTURES_REQUIRED polymac_installed)
polymac_package_test(pkg_config FIXTURES_REQUIRED polymac_installed)
polymac_package_test(add_subdirectory)
polymac_package_test(fetch_content)
