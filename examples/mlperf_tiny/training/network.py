# SPDX-License-Identifier: MIT
"""The digit net in floating point: forward, backward, Adam. numpy only.

Activations are [pictures][rows][columns][channels]. Weights have TFLite's layout: convolution [out][kernel rows][kernel
columns][in], depthwise [1][kernel rows][kernel columns][channels], fully connected [out][in].
"""
import numpy as np


def same_padding(size, kernel, stride):
    """TensorFlow's SAME: output extent, pad before, pad after; the odd pad goes to the end."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return out, total // 2, total - total // 2


def windows(x, kernel, stride, fill=0):
    """Patches [n][out rows][out columns][kernel rows][kernel columns][channels] under SAME padding."""
    n, rows, columns, channels = x.shape
    out_rows, top, bottom = same_padding(rows, kernel, stride)
    out_columns, left, right = same_padding(columns, kernel, stride)
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    patches = np.empty((n, out_rows, out_columns, kernel, kernel, channels), x.dtype)
    for i in range(kernel):
        for j in range(kernel):
            patches[:, :, :, i, j] = padded[:, i:i + stride * out_rows:stride, j:j + stride * out_columns:stride]
    return patches


def scatter(patches, shape, kernel, stride):
    """The adjoint of windows()."""
    n, rows, columns, channels = shape
    out_rows, top, bottom = same_padding(rows, kernel, stride)
    out_columns, left, right = same_padding(columns, kernel, stride)
    padded = np.zeros((n, rows + top + bottom, columns + left + right, channels), patches.dtype)
    for i in range(kernel):
        for j in range(kernel):
            padded[:, i:i + stride * out_rows:stride, j:j + stride * out_columns:stride] += patches[:, :, :, i, j]
    return padded[:, top:top + rows, left:left + columns]


class Conv:
    def __init__(self, rng, name, inputs, outputs, kernel=3, stride=1, relu=True):
        self.name, self.kernel, self.stride, self.relu, self.depthwise = name, kernel, stride, relu, False
        spread = np.sqrt(2 / (kernel * kernel * inputs))
        self.w = rng.normal(0, spread, (outputs, kernel, kernel, inputs)).astype(np.float32)
        self.b = np.zeros(outputs, np.float32)

    def forward(self, x):
        self.shape = x.shape
        self.patches = windows(x, self.kernel, self.stride)
        rows = self.patches.reshape(-1, self.w[0].size)
        y = (rows @ self.w.reshape(len(self.w), -1).T + self.b).reshape(*self.patches.shape[:3], -1)
        self.y = np.maximum(y, 0) if self.relu else y
        return self.y

    def backward(self, d):
        if self.relu:
            d = d * (self.y > 0)
        flat = d.reshape(-1, d.shape[-1])
        self.dw = (flat.T @ self.patches.reshape(len(flat), -1)).reshape(self.w.shape)
        self.db = flat.sum(0)
        back = (flat @ self.w.reshape(len(self.w), -1)).reshape(self.patches.shape)
        return scatter(back, self.shape, self.kernel, self.stride)


class Depthwise:
    def __init__(self, rng, name, channels, kernel=3):
        self.name, self.kernel, self.stride, self.relu, self.depthwise = name, kernel, 1, True, True
        self.w = rng.normal(0, np.sqrt(2 / kernel**2), (1, kernel, kernel, channels)).astype(np.float32)
        self.b = np.zeros(channels, np.float32)

    def forward(self, x):
        self.shape = x.shape
        self.patches = windows(x, self.kernel, 1)
        self.y = np.maximum((self.patches * self.w[0]).sum((3, 4)) + self.b, 0)
        return self.y

    def backward(self, d):
        d = d * (self.y > 0)
        wide = d[:, :, :, None, None, :]
        self.dw = (self.patches * wide).sum((0, 1, 2))[None]
        self.db = d.sum((0, 1, 2))
        return scatter(wide * self.w[0], self.shape, self.kernel, 1)


class Linear:
    def __init__(self, rng, name, inputs, outputs):
        self.name = name
        self.w = rng.normal(0, np.sqrt(1 / inputs), (outputs, inputs)).astype(np.float32)
        self.b = np.zeros(outputs, np.float32)

    def forward(self, x):
        self.x = x
        return x @ self.w.T + self.b

    def backward(self, d):
        self.dw, self.db = d.T @ self.x, d.sum(0)
        return d @ self.w


class Network:
    """conv - conv - (depthwise - pointwise) + skip - conv - average pool 2x2 - fully connected - (softmax)."""

    def __init__(self, rng):
        self.conv1 = Conv(rng, "conv1", 1, 8, stride=2)
        self.conv2 = Conv(rng, "conv2", 8, 16)
        self.depthwise = Depthwise(rng, "depthwise", 16)
        self.pointwise = Conv(rng, "pointwise", 16, 16, kernel=1, relu=False)
        self.conv3 = Conv(rng, "conv3", 16, 24, stride=2)
        self.linear = Linear(rng, "logits", 96, 10)
        self.layers = [self.conv1, self.conv2, self.depthwise, self.pointwise, self.conv3, self.linear]

    def forward(self, x):
        """Logits; every activation that the quantised net stores is kept in self.seen."""
        a = self.conv1.forward(x)
        b = self.conv2.forward(a)
        c = self.depthwise.forward(b)
        d = self.pointwise.forward(c)
        self.sum = np.maximum(b + d, 0)
        e = self.conv3.forward(self.sum)
        n, rows, columns, channels = e.shape
        pooled = e.reshape(n, rows // 2, 2, columns // 2, 2, channels).mean((2, 4))
        logits = self.linear.forward(pooled.reshape(n, -1))
        self.seen = {"conv1": a, "conv2": b, "depthwise": c, "pointwise": d, "add": self.sum, "conv3": e,
                     "logits": logits}
        return logits

    def backward(self, d):
        e = self.conv3.y
        n, rows, columns, channels = e.shape
        d = self.linear.backward(d).reshape(n, rows // 2, 1, columns // 2, 1, channels) / 4
        d = np.broadcast_to(d, (n, rows // 2, 2, columns // 2, 2, channels)).reshape(e.shape)
        d = self.conv3.backward(d) * (self.sum > 0)
        d = d + self.depthwise.backward(self.pointwise.backward(d))
        self.conv1.backward(self.conv2.backward(d))


def cross_entropy(logits, labels):
    """Mean loss and its gradient."""
    z = logits - logits.max(1, keepdims=True)
    p = np.exp(z)
    p /= p.sum(1, keepdims=True)
    pick = np.arange(len(labels)), labels
    loss = -np.log(p[pick] + 1e-12).mean()
    p[pick] -= 1
    return loss, p / len(labels)


def train(network, pictures, labels, rng, epochs, batch=64, rate=3e-3, decay=1e-4, log=print):
    """Adam with decoupled weight decay; the rate falls along a cosine to zero."""
    state = [(np.zeros_like(p), np.zeros_like(p)) for layer in network.layers for p in (layer.w, layer.b)]
    steps, step = epochs * (len(labels) // batch), 0
    for epoch in range(epochs):
        order, total = rng.permutation(len(labels)), 0.0
        for start in range(0, len(labels) - batch + 1, batch):
            pick = order[start:start + batch]
            loss, gradient = cross_entropy(network.forward(pictures[pick]), labels[pick])
            network.backward(gradient.astype(np.float32))
            total += loss
            step += 1
            now = rate * 0.5 * (1 + np.cos(np.pi * step / steps)) * min(1, step / 100)
            gradients = [g for layer in network.layers for g in (layer.dw, layer.db)]
            parameters = [p for layer in network.layers for p in (layer.w, layer.b)]
            for p, g, (m, v) in zip(parameters, gradients, state):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                change = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
                p -= now * (change + decay * p if p.ndim > 1 else change)  # biases do not decay
        log(f"epoch {epoch + 1:2d}: loss {total / (len(labels) // batch):.4f}")
