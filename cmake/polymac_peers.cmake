# SPDX-License-Identifier: MIT
# Libraries that the benchmarks compare polymac with. Each is used where it is found and left out where it is not;
# polymac itself never needs one.
#
#   polymac_link_peers(<target>)      defines POLYMAC_PEER_<NAME>=1 and links, for each peer that was found
#
# Where to look beside the system, each a folder with include/ and lib/:
#   POLYMAC_ONEDNN_ROOT  POLYMAC_XNNPACK_ROOT  POLYMAC_LIBXSMM_ROOT  POLYMAC_OPENBLAS_ROOT  POLYMAC_MKL_ROOT
# `pip install mkl` into a virtual environment makes that environment a root for MKL.
include_guard(GLOBAL)
include(CheckCXXSourceCompiles)

foreach(peer IN ITEMS ONEDNN XNNPACK LIBXSMM OPENBLAS MKL)
  set(POLYMAC_${peer}_ROOT "" CACHE PATH "Folder of the library that the benchmarks compare with (include/, lib/)")
endforeach()
option(POLYMAC_PEERS "Compare with other libraries in the benchmarks" ON)

# polymac_find_peer(<NAME> HEADER .. LIBRARIES .. [BESIDE ..] [SUFFIXES ..] TEST ..): target polymac_peer_<NAME> if the
# header is found, all libraries are, and the test program links. Of the libraries BESIDE the first one, those that are
# in the user's folder are linked too (parts of a static build). All is looked for again when the root changes.
function(polymac_find_peer name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "HEADER;TEST" "LIBRARIES;BESIDE;SUFFIXES")
  set(root "${POLYMAC_${name}_ROOT}")
  if(NOT "${POLYMAC_PEER_${name}_LOOKED_IN}" STREQUAL "in ${root}")
    unset(POLYMAC_PEER_${name}_INCLUDE CACHE)
    unset(POLYMAC_PEER_${name}_WORKS CACHE)
    foreach(library IN LISTS arg_LIBRARIES arg_BESIDE)
      unset(POLYMAC_PEER_${name}_${library} CACHE)
    endforeach()
    unset(POLYMAC_PEER_${name}_RESHAPES CACHE)
    set(POLYMAC_PEER_${name}_LOOKED_IN "in ${root}" CACHE INTERNAL "")
  endif()
  set(only "")
  if(root)
    set(only NO_DEFAULT_PATH)
  endif()
  find_path(POLYMAC_PEER_${name}_INCLUDE ${arg_HEADER} HINTS "${root}" "${root}/include"
            PATH_SUFFIXES include ${arg_SUFFIXES} ${only})
  mark_as_advanced(POLYMAC_PEER_${name}_INCLUDE)
  set(libraries "")
  foreach(library IN LISTS arg_LIBRARIES)
    find_library(POLYMAC_PEER_${name}_${library} ${library} HINTS "${root}" PATH_SUFFIXES lib lib64 ${only})
    mark_as_advanced(POLYMAC_PEER_${name}_${library})
    list(APPEND libraries "${POLYMAC_PEER_${name}_${library}}")
  endforeach()
  if(NOT POLYMAC_PEER_${name}_INCLUDE OR "${libraries}" MATCHES "NOTFOUND")
    if(root)
      message(WARNING "polymac: POLYMAC_${name}_ROOT is '${root}', but there is no ${arg_HEADER} or no ${arg_LIBRARIES}")
    endif()
    return()
  endif()
  if(root)
    foreach(library IN LISTS arg_BESIDE)
      find_library(POLYMAC_PEER_${name}_${library} ${library} HINTS "${root}" PATH_SUFFIXES lib lib64 NO_DEFAULT_PATH)
      mark_as_advanced(POLYMAC_PEER_${name}_${library})
      if(POLYMAC_PEER_${name}_${library})
        list(APPEND libraries "${POLYMAC_PEER_${name}_${library}}")
      endif()
    endforeach()
  endif()
  list(APPEND libraries ${CMAKE_DL_LIBS})
  set(CMAKE_REQUIRED_INCLUDES "${POLYMAC_PEER_${name}_INCLUDE}")
  set(CMAKE_REQUIRED_LIBRARIES "${libraries};Threads::Threads")
  check_cxx_source_compiles("#include <${arg_HEADER}>\n${arg_TEST}" POLYMAC_PEER_${name}_WORKS)
  if(NOT POLYMAC_PEER_${name}_WORKS)
    return()
  endif()
  add_library(polymac_peer_${name} INTERFACE IMPORTED GLOBAL)
  target_include_directories(polymac_peer_${name} SYSTEM INTERFACE "${POLYMAC_PEER_${name}_INCLUDE}")
  target_link_libraries(polymac_peer_${name} INTERFACE ${libraries} Threads::Threads)
  target_compile_definitions(polymac_peer_${name} INTERFACE POLYMAC_PEER_${name}=1)
  message(STATUS "polymac: benchmarks compare with ${name} (${POLYMAC_PEER_${name}_INCLUDE})")
endfunction()

if(POLYMAC_PEERS)
  find_package(Threads REQUIRED)
  polymac_find_peer(ONEDNN HEADER dnnl.hpp LIBRARIES dnnl
    TEST "int main() { return dnnl::engine::get_count(dnnl::engine::kind::cpu) == 0; }")
  polymac_find_peer(OPENBLAS HEADER cblas.h LIBRARIES openblas SUFFIXES openblas openblas-pthread openblas-openmp
    TEST "int main() { openblas_set_num_threads(1); return 0; }")
  polymac_find_peer(XNNPACK HEADER xnnpack.h LIBRARIES XNNPACK
    BESIDE xnnpack-microkernels-prod pthreadpool cpuinfo
    TEST "int main() { return xnn_initialize(nullptr); }")
  # Version 2: its dispatch functions are not those of version 1 (Debian 12), which knows no AMX and is left out.
  polymac_find_peer(LIBXSMM HEADER libxsmm.h LIBRARIES xsmm SUFFIXES libxsmm
    TEST "int main() { return libxsmm_dispatch_brgemm({}, 0, 0, {}) != nullptr; }")
  if(TARGET polymac_peer_XNNPACK)
    set(CMAKE_REQUIRED_INCLUDES "${POLYMAC_PEER_XNNPACK_INCLUDE}")
    get_target_property(CMAKE_REQUIRED_LIBRARIES polymac_peer_XNNPACK INTERFACE_LINK_LIBRARIES)
    check_cxx_source_compiles("#include <xnnpack.h>
      int main() { return xnn_reshape_fully_connected_nc_qs8_qc8w(nullptr, 0, nullptr); }"
                              POLYMAC_PEER_XNNPACK_RESHAPES)
    unset(CMAKE_REQUIRED_INCLUDES)
    unset(CMAKE_REQUIRED_LIBRARIES)
    target_compile_definitions(polymac_peer_XNNPACK INTERFACE
      POLYMAC_PEER_XNNPACK_RESHAPES=$<BOOL:${POLYMAC_PEER_XNNPACK_RESHAPES}>)
  endif()
  # Only the path: MKL is loaded at run time, because it has the names of OpenBLAS.
  find_library(POLYMAC_PEER_MKL_LIBRARY NAMES mkl_rt libmkl_rt.so.3 libmkl_rt.so.2
               HINTS "${POLYMAC_MKL_ROOT}" "$ENV{MKLROOT}" PATH_SUFFIXES lib lib/intel64)
  mark_as_advanced(POLYMAC_PEER_MKL_LIBRARY)
  if(POLYMAC_PEER_MKL_LIBRARY)
    message(STATUS "polymac: benchmarks compare with MKL (${POLYMAC_PEER_MKL_LIBRARY})")
  endif()
endif()

function(polymac_link_peers target)
  foreach(peer IN ITEMS ONEDNN OPENBLAS XNNPACK LIBXSMM)
    if(TARGET polymac_peer_${peer})
      target_link_libraries(${target} PRIVATE polymac_peer_${peer})
    endif()
  endforeach()
  if(POLYMAC_PEERS AND POLYMAC_PEER_MKL_LIBRARY)
    target_compile_definitions(${target} PRIVATE "POLYMAC_PEER_MKL=\"${POLYMAC_PEER_MKL_LIBRARY}\"")
    target_link_libraries(${target} PRIVATE ${CMAKE_DL_LIBS})
  endif()
  if(POLYMAC_PEERS)
    target_compile_definitions(${target} PRIVATE POLYMAC_PEER_EIGEN=1)
  endif()
endfunction()
