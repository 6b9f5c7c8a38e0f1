// SPDX-License-Identifier: MIT
// The layers of a transformer, which polymac.hpp leaves out: rotary embedding, norms of rows, gated units, embeddings.
#pragma once

#include "polymac/layer/embedding.hpp"
#include "polymac/layer/gated.hpp"
#include "polymac/layer/layer_norm.hpp"
#include "polymac/layer/rms_norm.hpp"
#include "polymac/layer/rope.hpp"
