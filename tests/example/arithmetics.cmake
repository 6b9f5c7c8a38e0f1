# SPDX-License-Identifier: MIT
# cmake -DPROGRAM=arithmetics -DSTAGE=dir -P arithmetics.cmake
# Nets in every arithmetic, without data: the table, its JSON, and what is refused.
cmake_minimum_required(VERSION 3.21)

file(REMOVE_RECURSE "${STAGE}")
file(MAKE_DIRECTORY "${STAGE}")
set(ENV{POLYMAC_DATA} "${STAGE}/no data")

function(example code)
  execute_process(COMMAND "${PROGRAM}" ${ARGN} WORKING_DIRECTORY "${STAGE}" RESULT_VARIABLE got OUTPUT_VARIABLE out
                  ERROR_VARIABLE err)
  if(NOT got STREQUAL code)
    message(FATAL_ERROR "arithmetics ${ARGN}: expected exit code ${code}, got ${got}:\n${out}\n${err}")
  endif()
  set(out "${out}" PARENT_SCOPE)
endfunction()

# The program checks the orders itself; 300 digits take a second.
example(0 --inputs 300)
foreach(words "digit_net, 300 inputs" "yes  l_mul<4>" "yes  l_mul<3>" "yes  dfp int16")
  string(FIND "${out}" "${words}" at)
  if(at LESS 0)
    message(FATAL_ERROR "expected '${words}' in:\n${out}")
  endif()
endforeach()

example(0 --json --inputs 40)
string(JSON count LENGTH "${out}")
if(count LESS 15)
  message(FATAL_ERROR "expected at least 15 arithmetics, got ${count}")
endif()
math(EXPR last "${count} - 1")
foreach(row RANGE ${last})
  foreach(key relative_speed microjoules agreement weight_bits activation_bits)
    string(JSON value GET "${out}" ${row} ${key})
    if(NOT value GREATER 0)
      message(FATAL_ERROR "row ${row}: expected ${key} above 0, got '${value}'")
    endif()
  endforeach()
endforeach()
string(JSON name GET "${out}" 0 arithmetic)
string(JSON agreement GET "${out}" 0 agreement)
if(NOT name STREQUAL "float32" OR NOT agreement EQUAL 1)
  message(FATAL_ERROR "expected float32 first, which agrees with itself, got ${name}: ${agreement}")
endif()

example(0 --help)
example(2 --fast)
example(2 --inputs none)
example(2 --inputs 0)
example(2 --data)
example(1 --data "${STAGE}")
