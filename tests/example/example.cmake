# SPDX-License-Identifier: MIT
# The main example, run as a user runs it.
if(TARGET mlperf_tiny)
  add_executable(write_digit_net example/write_digit_net.cpp)
  polymac_own_program(write_digit_net)
  foreach(case IN ITEMS without_data errors model_file with_data)
    add_test(NAME example.${case} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
             COMMAND polymac_test_launcher any "${CMAKE_COMMAND}" -DCASE=${case} "-DPROGRAM=$<TARGET_FILE:mlperf_tiny>"
                     "-DWRITER=$<TARGET_FILE:write_digit_net>" "-DSTAGE=${CMAKE_CURRENT_BINARY_DIR}/example/${case}"
                     "-DSOURCE=${PROJECT_SOURCE_DIR}" -P "${CMAKE_CURRENT_LIST_DIR}/run.cmake")
    set_tests_properties(example.${case} PROPERTIES LABELS example SKIP_RETURN_CODE 77)
  endforeach()
  set_tests_properties(example.with_data PROPERTIES LABELS "example;data")
endif()
if(TARGET own_mac)
  add_test(NAME example.own_mac WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
           COMMAND polymac_test_launcher any "${CMAKE_COMMAND}" "-DPROGRAM=$<TARGET_FILE:own_mac>"
                   "-DSOURCE=${PROJECT_SOURCE_DIR}" -P "${CMAKE_CURRENT_LIST_DIR}/own_mac.cmake")
  set_tests_properties(example.own_mac PROPERTIES LABELS example SKIP_RETURN_CODE 77)
endif()
if(TARGET arithmetics)
  add_test(NAME example.arithmetics WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
           COMMAND polymac_test_launcher any "${CMAKE_COMMAND}" "-DPROGRAM=$<TARGET_FILE:arithmetics>"
                   "-DSTAGE=${CMAKE_CURRENT_BINARY_DIR}/example/arithmetics" -P
                   "${CMAKE_CURRENT_LIST_DIR}/arithmetics.cmake")
  set_tests_properties(example.arithmetics PROPERTIES LABELS example SKIP_RETURN_CODE 77)
endif()
if(TARGET leakage)
  add_test(NAME example.leakage WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
           COMMAND polymac_test_launcher any "${CMAKE_COMMAND}" "-DPROGRAM=$<TARGET_FILE:leakage>"
                   "-DSTAGE=${CMAKE_CURRENT_BINARY_DIR}/example/leakage" -P "${CMAKE_CURRENT_LIST_DIR}/leakage.cmake")
  set_tests_properties(example.leakage PROPERTIES LABELS example SKIP_RETURN_CODE 77)
endif()
if(TARGET streaming)
  foreach(case IN ITEMS drawn with_data)
    add_test(NAME example.streaming.${case} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
             COMMAND polymac_test_launcher any "${CMAKE_COMMAND}" -DCASE=${case} "-DPROGRAM=$<TARGET_FILE:streaming>"
                     "-DSTAGE=${CMAKE_CURRENT_BINARY_DIR}/example/streaming_${case}" "-DSOURCE=${PROJECT_SOURCE_DIR}" -P
                     "${CMAKE_CURRENT_LIST_DIR}/streaming.cmake")
    set_tests_properties(example.streaming.${case} PROPERTIES LABELS example SKIP_RETURN_CODE 77)
  endforeach()
  set_tests_properties(example.streaming.with_data PROPERTIES LABELS "example;data")
endif()
if(TARGET stories)
  foreach(case IN ITEMS noise with_data)
    add_test(NAME example.stories.${case} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
             COMMAND polymac_test_launcher any "${CMAKE_COMMAND}" -DCASE=${case} "-DPROGRAM=$<TARGET_FILE:stories>"
                     "-DSTAGE=${CMAKE_CURRENT_BINARY_DIR}/example/stories_${case}" "-DSOURCE=${PROJECT_SOURCE_DIR}" -P
                     "${CMAKE_CURRENT_LIST_DIR}/stories.cmake")
    set_tests_properties(example.stories.${case} PROPERTIES LABELS example SKIP_RETURN_CODE 77)
  endforeach()
  set_tests_properties(example.stories.with_data PROPERTIES LABELS "example;data")
endif()
