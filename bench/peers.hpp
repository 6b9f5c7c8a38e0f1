// SPDX-License-Identifier: MIT
// The peers that CMake found (cmake/polymac_peers.cmake).
#pragma once

#if POLYMAC_PEER_EIGEN
#include "bench/peer/eigen.hpp"
#endif
#if POLYMAC_PEER_LIBXSMM
#include "bench/peer/libxsmm.hpp"
#endif
#if POLYMAC_PEER_ONEDNN
#include "bench/peer/onednn.hpp"
#endif
#if POLYMAC_PEER_OPENBLAS
#include "bench/peer/openblas.hpp"
#endif
#if POLYMAC_PEER_XNNPACK
#include "bench/peer/xnnpack.hpp"
#endif
#ifdef POLYMAC_PEER_MKL
#include "bench/peer/mkl.hpp"
#endif

namespace bench::peer {}  // namespace bench::peer
