// SPDX-License-Identifier: MIT
// Layers on several threads:
//
//     polymac::adapt::thread_pool pool(2);            // started once
//     polymac::parallel(pool, layer, x, y);           // same bits as layer(x, y)
//
// Where the threads come from is the executor's matter: thread_pool, openmp (with -fopenmp), tbb (include
// threads/tbb.hpp), callable (your own), serial, or any class that models the concept Executor.
#pragma once

#include "polymac/adapt/threads/executor.hpp"
#include "polymac/adapt/threads/openmp.hpp"
#include "polymac/adapt/threads/parallel.hpp"
#include "polymac/adapt/threads/pool.hpp"
