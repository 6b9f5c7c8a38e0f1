# SPDX-License-Identifier: MIT
# What the tests of the examples share: a folder of their own to run PROGRAM in, as a user does, and what is expected of it.
# Included with PROGRAM and STAGE set.
cmake_minimum_required(VERSION 3.21)

file(REMOVE_RECURSE "${STAGE}")
file(MAKE_DIRECTORY "${STAGE}")
# No data but what a test names; `given` is what the user's environment says.
set(given "$ENV{POLYMAC_DATA}")
set(ENV{POLYMAC_DATA} "${STAGE}/no data")

# example(<exit code> <argument>...): runs the program; sets out and err.
function(example code)
  execute_process(COMMAND "${PROGRAM}" ${ARGN} WORKING_DIRECTORY "${STAGE}" RESULT_VARIABLE got OUTPUT_VARIABLE out
                  ERROR_VARIABLE err)
  if(NOT got STREQUAL code)
    cmake_path(GET PROGRAM FILENAME name)
    list(JOIN ARGN " " line)
    message(FATAL_ERROR "${name} ${line}: expected exit code ${code}, got ${got}:\n${out}\n${err}")
  endif()
  set(out "${out}" PARENT_SCOPE)
  set(err "${err}" PARENT_SCOPE)
endfunction()

# expect(<out|err> <words>...): what must be there.
function(expect variable)
  foreach(words IN LISTS ARGN)
    string(FIND "${${variable}}" "${words}" at)
    if(at LESS 0)
      message(FATAL_ERROR "expected '${words}' in ${variable}, got:\n${${variable}}")
    endif()
  endforeach()
endfunction()

# expect_equal(<got> <expected> <what>)
function(expect_equal got expected what)
  if(NOT got STREQUAL expected)
    message(FATAL_ERROR "${what}: expected '${expected}', got '${got}'")
  endif()
endfunction()

# refuse(<exit code> <words of the error> <argument>...): the output must match `refused_output`, where that is set.
function(refuse code words)
  example(${code} ${ARGN})
  expect(err "${words}")
  if(DEFINED refused_output AND NOT out MATCHES "${refused_output}")
    message(FATAL_ERROR "${ARGN}: expected nothing on the standard output, got:\n${out}")
  endif()
endfunction()

# number(<variable> <key or index>...): a value of the JSON in `out`; null is an empty text.
function(number result)
  string(JSON value GET "${out}" ${ARGN})
  set(${result} "${value}" PARENT_SCOPE)
endfunction()

# expect_above_0(<who> <key or index>... KEYS <key>...): numbers of an object of the JSON in `out`.
function(expect_above_0 who)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "KEYS")
  foreach(key IN LISTS arg_KEYS)
    number(value ${arg_UNPARSED_ARGUMENTS} ${key})
    if(NOT value GREATER 0)
      message(FATAL_ERROR "${who}: expected ${key} above 0, got '${value}'")
    endif()
  endforeach()
endfunction()

# data_or_skip(<file below the folder of data>...): sets `data`, or says that the test is skipped and sets it to nothing.
function(data_or_skip)
  set(data "${given}")
  if(data STREQUAL "")
    set(data "${SOURCE}/../shared/data")
  endif()
  foreach(file IN LISTS ARGN)
    if(NOT EXISTS "${data}/${file}")
      execute_process(COMMAND "${CMAKE_COMMAND}" -E echo "SKIPPED: no ${file} in ${data} (set POLYMAC_DATA)")
      set(data "")
      break()
    endif()
  endforeach()
  set(data "${data}" PARENT_SCOPE)
endfunction()
