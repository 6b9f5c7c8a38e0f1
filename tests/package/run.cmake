# SPDX-License-Identifier: MIT
# cmake -DCASE=.. -DSOURCE=.. -DSTAGE=.. -DBUILD=.. -DGENERATOR=.. -DCOMPILER=.. -P run.cmake
# One of the package tests. Everything is made anew under STAGE.
cmake_minimum_required(VERSION 3.21)

function(run)
  list(JOIN ARGV " " line)
  message("> ${line}")
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

set(installed "${STAGE}/installed copy")
set(build "${STAGE}/${CASE}")
file(REMOVE_RECURSE "${build}")

if(CASE STREQUAL "install")
  # Installed in one place and moved to another, with a space in its name: nothing in the package may know the first.
  file(REMOVE_RECURSE "${STAGE}/first place" "${installed}")
  run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${STAGE}/first place")
  file(RENAME "${STAGE}/first place" "${installed}")

elseif(CASE STREQUAL "pkg_config")
  find_program(PKG_CONFIG pkg-config)
  find_program(MAKE NAMES make gmake)
  if(NOT PKG_CONFIG OR NOT MAKE)
    run("${CMAKE_COMMAND}" -E echo "SKIPPED: pkg-config or make is not installed")
    return()
  endif()
  set(ENV{PKG_CONFIG_PATH} "${installed}/share/pkgconfig")
  file(MAKE_DIRECTORY "${build}")
  run("${MAKE}" -C "${SOURCE}/tests/package/pkg_config" "BUILD=${build}" "CXX=${COMPILER}")
  run("${build}/app")

else()
  run("${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${SOURCE}/tests/package/${CASE}" -B "${build}"
      "-DCMAKE_CXX_COMPILER=${COMPILER}" -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG"
      "-DCMAKE_PREFIX_PATH=${installed}"
      "-DPOLYMAC_SOURCE=${SOURCE}")
  run("${CMAKE_COMMAND}" --build "${build}")
  run("${build}/app")
endif()
