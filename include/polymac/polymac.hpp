// SPDX-License-Identifier: MIT
// Everything but adapt/, io/ and probe/.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/concepts.hpp"
#include "polymac/core/config.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/fixed_point.hpp"
#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"
#include "polymac/epilogue/activation.hpp"
#include "polymac/epilogue/clamp.hpp"
#include "polymac/epilogue/dequantize.hpp"
#include "polymac/epilogue/epilogue.hpp"
#include "polymac/epilogue/requantize.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/layer/conv2d.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/mac/float32.hpp"
#include "polymac/mac/int16x8.hpp"
#include "polymac/mac/int8.hpp"
