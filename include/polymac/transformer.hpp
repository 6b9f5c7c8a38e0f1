// SPDX-License-Identifier: MIT
// The layers of a transformer, which polymac.hpp leaves out: attention and the cache of its keys and values, linear and
// hashed attention, rotary embedding, norms of rows, gated units, embeddings.
#pragma once

#include "polymac/layer/attention.hpp"
#include "polymac/layer/embedding.hpp"
#include "polymac/layer/gated.hpp"
#include "polymac/layer/hashed_attention.hpp"
#include "polymac/layer/kv_cache.hpp"
#include "polymac/layer/layer_norm.hpp"
#include "polymac/layer/linear_attention.hpp"
#include "polymac/layer/rms_norm.hpp"
#include "polymac/layer/rope.hpp"
