# SPDX-License-Identifier: MIT
# cmake -DSOURCE=.. -DGENERATOR=.. -P aarch64.cmake
# Configures, builds and runs the preset aarch64: the cross build and the emulator.
cmake_minimum_required(VERSION 3.21)

foreach(program aarch64-linux-gnu-g++ qemu-aarch64)
  find_program(found_${program} ${program})
  if(NOT found_${program})
    execute_process(COMMAND "${CMAKE_COMMAND}" -E echo
                    "SKIPPED: ${program} is not installed (Debian: g++-aarch64-linux-gnu, qemu-user)")
    return()
  endif()
endforeach()

set(build "${SOURCE}/build/aarch64")
cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
set(ctest "${CMAKE_CTEST_COMMAND}")
if(NOT ctest)
  cmake_path(GET CMAKE_COMMAND PARENT_PATH bin)
  set(ctest "${bin}/ctest")
endif()

# A build directory of another generator cannot be used; it holds nothing that cannot be made anew.
if(EXISTS "${build}/CMakeCache.txt")
  file(STRINGS "${build}/CMakeCache.txt" generator REGEX "^CMAKE_GENERATOR:")
  if(NOT generator MATCHES "=${GENERATOR}$")
    file(REMOVE_RECURSE "${build}")
  endif()
endif()
execute_process(COMMAND "${CMAKE_COMMAND}" -G "${GENERATOR}" --preset aarch64 WORKING_DIRECTORY "${SOURCE}"
                COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${CMAKE_COMMAND}" --build "${build}" --parallel ${cores} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${ctest}" --test-dir "${build}" --output-on-failure --no-tests=error --parallel ${cores}
                COMMAND_ERROR_IS_FATAL ANY)
