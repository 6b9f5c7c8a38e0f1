# SPDX-License-Identifier: MIT
# cmake -DNM=.. -DPROGRAM=.. -DCOUNT=.. -P check_symbols.cmake
# The program must hold COUNT copies of the function `same_name`, each under the tag of its own instruction set.
execute_process(COMMAND "${NM}" -C "${PROGRAM}" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "polymac::v[0-9]+_[0-9]+_[a-z0-9_]+::odr::same_name\\(" copies "${symbols}")
list(REMOVE_DUPLICATES copies)
list(LENGTH copies found)
message("copies: ${copies}")
if(NOT found EQUAL COUNT)
  message(FATAL_ERROR "expected ${COUNT} tagged copies of one function, found ${found}")
endif()
