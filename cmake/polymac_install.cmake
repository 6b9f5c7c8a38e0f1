# SPDX-License-Identifier: MIT
# `cmake --install`: the headers, the CMake package and the pkg-config file. All of them can be moved elsewhere.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(polymac_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/polymac")

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/polymac" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        FILES_MATCHING PATTERN "*.hpp")
install(TARGETS polymac EXPORT polymac-targets)
install(EXPORT polymac-targets NAMESPACE polymac:: DESTINATION "${polymac_package_dir}")

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/polymac-config.cmake.in"
                              "${PROJECT_BINARY_DIR}/polymac-config.cmake"
                              INSTALL_DESTINATION "${polymac_package_dir}" NO_SET_AND_CHECK_MACRO)
# While the version is 0.x, a new minor version may break.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/polymac-config-version.cmake"
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/polymac-config.cmake" "${PROJECT_BINARY_DIR}/polymac-config-version.cmake"
              "${PROJECT_SOURCE_DIR}/cmake/polymac_isa.cmake"
        DESTINATION "${polymac_package_dir}")

configure_file("${PROJECT_SOURCE_DIR}/cmake/polymac.pc.in" "${PROJECT_BINARY_DIR}/polymac.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/polymac.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")
