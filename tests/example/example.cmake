# SPDX-License-Identifier: MIT
# The examples, run as a user runs them.

# polymac_example_test(<program> [PREFIX <name>] [CASES <case>...] [DEFINITIONS <NAME=value>...]): runs <program>.cmake, once
# for each case, as <name>.<case>; the name is example.<program> unless it is given. A case `with_data` reads real data.
# Nothing where there is no such program.
function(polymac_example_test program)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PREFIX" "CASES;DEFINITIONS")
  if(NOT TARGET ${program})
    return()
  endif()
  if(NOT arg_PREFIX)
    set(arg_PREFIX example.${program})
  endif()
  list(TRANSFORM arg_DEFINITIONS PREPEND "-D")
  if(NOT arg_CASES)
    set(arg_CASES "-")
  endif()
  foreach(case IN LISTS arg_CASES)
    set(name ${arg_PREFIX})
    if(NOT case STREQUAL "-")
      string(APPEND name .${case})
    endif()
    add_test(NAME ${name} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
             COMMAND polymac_test_launcher any "${CMAKE_COMMAND}" -DCASE=${case} "-DPROGRAM=$<TARGET_FILE:${program}>"
                     "-DSTAGE=${CMAKE_CURRENT_BINARY_DIR}/example/${name}" "-DSOURCE=${PROJECT_SOURCE_DIR}"
                     ${arg_DEFINITIONS} -P "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${program}.cmake")
    set_tests_properties(${name} PROPERTIES LABELS example SKIP_RETURN_CODE 77)
    if(case STREQUAL "with_data")
      set_tests_properties(${name} PROPERTIES LABELS "example;data")
    endif()
  endforeach()
endfunction()

if(TARGET mlperf_tiny)
  add_executable(write_digit_net example/write_digit_net.cpp)
  polymac_own_program(write_digit_net)
  polymac_example_test(mlperf_tiny PREFIX example CASES without_data errors model_file with_data
                       DEFINITIONS "WRITER=$<TARGET_FILE:write_digit_net>")
endif()
polymac_example_test(own_mac)
polymac_example_test(arithmetics)
polymac_example_test(leakage)
polymac_example_test(streaming CASES drawn with_data)
polymac_example_test(stories CASES noise with_data)
