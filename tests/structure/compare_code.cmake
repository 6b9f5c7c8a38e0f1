# SPDX-License-Identifier: MIT
# cmake -DOBJDUMP=.. -DFIRST=a.o -DSECOND=b.o -DEXPECT=same|different -P compare_code.cmake
# The instructions of two object files, function by function, without addresses.
function(code_of object out)
  execute_process(COMMAND "${OBJDUMP}" -d --no-show-raw-insn --no-addresses "${object}" OUTPUT_VARIABLE code
                  COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX REPLACE "^[^\n]*\n[^\n]*file format[^\n]*\n" "" code "${code}")
  # Functions have sections of their own, in an order that does not matter.
  string(REPLACE ";" "," code "${code}")
  string(REPLACE "Disassembly of section" ";" functions "${code}")
  list(SORT functions)
  list(JOIN functions "" code)
  set(${out} "${code}" PARENT_SCOPE)
endfunction()
code_of("${FIRST}" first)
code_of("${SECOND}" second)
string(REGEX MATCHALL "\n" lines "${first}")
list(LENGTH lines count)
if(count LESS 500)
  message(FATAL_ERROR "expected the code of a layer, got ${count} lines")
endif()
if(EXPECT STREQUAL "same" AND NOT first STREQUAL second)
  message(FATAL_ERROR "the dense layer has other machine code (${count} lines of it) beside policies")
elseif(EXPECT STREQUAL "different" AND first STREQUAL second)
  message(FATAL_ERROR "another layer has the same machine code: nothing is compared")
endif()
message("${count} lines of code: ${EXPECT}")
