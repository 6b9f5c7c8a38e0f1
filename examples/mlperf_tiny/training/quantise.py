# SPDX-License-Identifier: MIT
"""Affine int8 after training, and an integer reference of the quantised net. numpy only.

real = scale * (q - zero_point). Activations: int8, one scale and zero point per tensor. Weights: int8 in [-127, 127],
zero point 0, one scale per output channel (fully connected: one for all). Bias: int32, scale = input scale * weight
scale.
Rounding as in LiteRT 2.3.0's reference kernels: convolution, depthwise and add double, fully connected single.
"""
import math

import numpy as np

from network import windows


class Tensor:
    """Scale and zero point of one activation tensor."""

    def __init__(self, low, high):
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        self.scale = np.float32((high - low) / 255)
        self.zero_point = int(np.clip(round(-128 - low / float(self.scale)), -128, 127))


class Layer:
    """Integer weights of a convolution, depthwise convolution or fully connected layer."""

    def __init__(self, layer, source, target, channel_axis):
        self.name, self.source, self.target = layer.name, source, target
        self.stride, self.relu = getattr(layer, "stride", 1), getattr(layer, "relu", False)
        self.depthwise, self.per_channel = getattr(layer, "depthwise", False), channel_axis is not None
        self.channel_axis = channel_axis or 0
        axes = None if channel_axis is None else tuple(i for i in range(layer.w.ndim) if i != channel_axis)
        self.scales = (np.atleast_1d(np.abs(layer.w).max(axes)) / 127).astype(np.float32)
        shape = [1] * layer.w.ndim
        shape[self.channel_axis] = -1
        self.w = np.clip(np.rint(layer.w / self.scales.reshape(shape)), -127, 127).astype(np.int8)
        self.bias_scales = (source.scale * self.scales).astype(np.float32)
        self.b = np.rint(layer.b / self.bias_scales).astype(np.int32)
        real = [float(source.scale) * float(s) / float(target.scale) for s in self.scales]
        pairs = [quantise_multiplier(r) for r in real]
        self.multiplier = np.array([p[0] for p in pairs], np.int64)
        self.shift = np.array([p[1] for p in pairs], np.int64)


def quantise_multiplier(real):
    """real = multiplier * 2^(shift - 31), multiplier in [2^30, 2^31)."""
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def requantise_double(x, multiplier, shift):
    """gemmlowp: rounding doubling high product (half up), then a right shift that rounds half away from zero."""
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    high = ((x.astype(np.int64) << left) * multiplier + (1 << 30)) >> 31
    mask = (np.int64(1) << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


def requantise_single(x, multiplier, shift):
    """One rounding, half up."""
    return (x.astype(np.int64) * multiplier + (np.int64(1) << (30 - shift))) >> (31 - shift)


def finish(sums, tensor, relu):
    """Adds the zero point, clamps, narrows."""
    return np.clip(sums + tensor.zero_point, tensor.zero_point if relu else -128, 127).astype(np.int8)


def contract(rows, weights):
    """Exact: products of 8-bit codes summed over < 2^20 terms fit into a double."""
    return (rows.astype(np.float64) @ weights.astype(np.float64)).astype(np.int64)


def convolution(layer, x):
    kernel = layer.w.shape[1]
    patches = windows(x.astype(np.int16), kernel, layer.stride, layer.source.zero_point) - layer.source.zero_point
    if layer.depthwise:
        sums = (patches.astype(np.int64) * layer.w[0]).sum((3, 4))
    else:
        sums = contract(patches.reshape(*patches.shape[:3], -1), layer.w.reshape(len(layer.w), -1).T)
    return finish(requantise_double(sums + layer.b, layer.multiplier, layer.shift), layer.target, layer.relu)


def add(a, b, first, second, target):
    """TFLite's add: both inputs 20 bits up, to the scale 2 * the larger one, added, down to the output; then ReLU."""
    double_scale = 2 * max(float(first.scale), float(second.scale))
    total = 0
    for x, tensor in ((a, first), (b, second)):
        m, s = quantise_multiplier(float(tensor.scale) / double_scale)
        total = total + requantise_double((x.astype(np.int64) - tensor.zero_point) << 20, m, np.int64(s))
    m, s = quantise_multiplier(double_scale / (2**20 * float(target.scale)))
    return finish(requantise_double(total, m, np.int64(s)), target, True)


def average_2x2(x):
    """TFLite's average pool: on codes, rounded half away from zero."""
    n, rows, columns, channels = x.shape
    sums = x.astype(np.int64).reshape(n, rows // 2, 2, columns // 2, 2, channels).sum((2, 4))
    return np.where(sums > 0, (sums + 2) // 4, -((-sums + 2) // 4)).astype(np.int8)


def fully_connected(layer, x, requantise):
    sums = contract(x.astype(np.int64) - layer.source.zero_point, layer.w.T) + layer.b
    return finish(requantise(sums, layer.multiplier, layer.shift), layer.target, False)


class Quantised:
    """The integer net; ranges come from running the float net on `calibration` pictures."""

    def __init__(self, network, calibration):
        network.forward(calibration)
        self.tensors = {name: Tensor(seen.min(), seen.max()) for name, seen in network.seen.items()}
        self.tensors["picture"] = Tensor(0, 1)
        t = self.tensors
        self.conv1 = Layer(network.conv1, t["picture"], t["conv1"], 0)
        self.conv2 = Layer(network.conv2, t["conv1"], t["conv2"], 0)
        self.depthwise = Layer(network.depthwise, t["conv2"], t["depthwise"], 3)
        self.pointwise = Layer(network.pointwise, t["depthwise"], t["pointwise"], 0)
        self.conv3 = Layer(network.conv3, t["add"], t["conv3"], 0)
        self.linear = Layer(network.linear, t["conv3"], t["logits"], None)

    def forward(self, pixels, classic=False):
        """Logits, int8, for pixels u8 [n][16][16][1]. Profile litert, or classic: fully connected rounds twice, too."""
        t = self.tensors
        b = convolution(self.conv2, convolution(self.conv1, (pixels.astype(np.int16) - 128).astype(np.int8)))
        d = convolution(self.pointwise, convolution(self.depthwise, b))
        e = convolution(self.conv3, add(b, d, t["conv2"], t["pointwise"], t["add"]))
        flat = average_2x2(e).reshape(len(pixels), -1)
        return fully_connected(self.linear, flat, requantise_double if classic else requantise_single)
