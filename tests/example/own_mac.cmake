# SPDX-License-Identifier: MIT
# cmake -DPROGRAM=own_mac -DSOURCE=dir -P own_mac.cmake
# The example of an own arithmetic: what it prints, and that it is as short as it says.
cmake_minimum_required(VERSION 3.21)

execute_process(COMMAND "${PROGRAM}" RESULT_VARIABLE code OUTPUT_VARIABLE out)
# The sums are exact; only the last digit of a decibel may depend on the order in which squares are added.
set(expected "^arithmetic +bits +SQNR in dB +sums as defined
power_of_two +5 +16\\.[789] +yes
int8 +8 +5[56]\\.[0-9] +yes
$")
if(NOT code STREQUAL "0" OR NOT out MATCHES "${expected}")
  message(FATAL_ERROR "expected exit code 0 and a table of two right arithmetics, got ${code} and:\n${out}")
endif()

file(READ "${SOURCE}/examples/own_mac.cpp" text)
string(REGEX REPLACE "[^\n/# ]" "x" text "${text}")  # letters that mean nothing to lists
string(REGEX REPLACE "\n( *(//|#)[^\n]*)" "\n" text "\n${text}")
string(REGEX MATCHALL "[^\n]+" lines "${text}")
list(LENGTH lines count)
if(count GREATER 40)
  message(FATAL_ERROR "expected examples/own_mac.cpp to have at most 40 lines of code, got ${count}")
endif()
