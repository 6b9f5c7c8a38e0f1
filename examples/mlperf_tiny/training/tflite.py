# SPDX-License-Identifier: MIT
"""Writes the quantised net as a TFLite file. Python only: a table, a vector and a text are all that a FlatBuffer needs.

Field numbers, enumeration values and alignments are those of TFLite's schema, version 3.
"""
import struct

import numpy as np

INT8, INT32 = 9, 2
SAME, VALID = 0, 1
NONE, RELU = 0, 1
ADD, AVERAGE_POOL_2D, CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, RESHAPE, SOFTMAX = 0, 1, 3, 4, 9, 22, 25
VERSIONS = {ADD: 2, AVERAGE_POOL_2D: 2, CONV_2D: 3, DEPTHWISE_CONV_2D: 3, FULLY_CONNECTED: 4, RESHAPE: 1, SOFTMAX: 2}
OPTIONS = {CONV_2D: 1, DEPTHWISE_CONV_2D: 2, AVERAGE_POOL_2D: 5, FULLY_CONNECTED: 8, SOFTMAX: 9, ADD: 11, RESHAPE: 17}


class Table:
    """Fields by number: (struct format, value) for a scalar, else a Table, Vector or str."""

    def __init__(self, **fields):
        self.fields = {int(key[1:]): value for key, value in fields.items() if value is not None}


class Vector:
    """Scalars of one struct format, or tables and texts (format None)."""

    def __init__(self, items, kind=None, align=4):
        self.items, self.kind, self.align = items, kind, align


class Writer:
    """Parents before children, as offsets point forward."""

    def __init__(self):
        self.out, self.vtables = bytearray(), {}

    def pad(self, align, ahead=0):
        self.out += bytes(-(len(self.out) + ahead) % align)

    def link(self, at, child):
        struct.pack_into("<I", self.out, at, self.place(child) - at)

    def place(self, item):
        return {Table: self.table, Vector: self.vector, str: self.text}[type(item)](item)

    def text(self, text):
        self.pad(4)
        at = len(self.out)
        self.out += struct.pack("<I", len(text)) + text.encode("ascii") + b"\0"
        return at

    def vector(self, vector):
        size = 4 if vector.kind is None else struct.calcsize("<" + vector.kind)
        self.pad(4)
        self.pad(max(vector.align, size), ahead=4)
        at = len(self.out)
        self.out += struct.pack("<I", len(vector.items))
        if vector.kind is not None:
            self.out += struct.pack(f"<{len(vector.items)}{vector.kind}", *vector.items)
            return at
        self.out += bytes(4 * len(vector.items))
        for i, child in enumerate(vector.items):
            self.link(at + 4 + 4 * i, child)
        return at

    def table(self, table):
        sizes = {n: struct.calcsize("<" + v[0]) if isinstance(v, tuple) else 4 for n, v in table.fields.items()}
        offsets, end = [0] * (max(sizes, default=-1) + 1), 4
        for n in sorted(sizes, key=lambda n: (-sizes[n], n)):  # large fields first: no holes
            offsets[n], end = end, end + sizes[n]
        layout = struct.pack(f"<HH{len(offsets)}H", 4 + 2 * len(offsets), end, *offsets)
        if layout not in self.vtables:
            self.pad(2)
            self.vtables[layout] = len(self.out)
            self.out += layout
        self.pad(4)
        at = len(self.out)
        self.out += struct.pack("<i", at - self.vtables[layout]) + bytes(end - 4)
        for n, value in table.fields.items():
            if isinstance(value, tuple):
                struct.pack_into("<" + value[0], self.out, at + offsets[n], value[1])
            else:
                self.link(at + offsets[n], value)
        return at

    def file(self, root, identifier):
        self.out = bytearray(4) + identifier
        struct.pack_into("<I", self.out, 0, self.table(root))
        self.pad(16)
        return bytes(self.out)


class Graph:
    def __init__(self):
        self.tensors, self.buffers, self.operators, self.codes = [], [Table()], [], []

    def tensor(self, name, shape, kind, scales, zero_points, data=None, channel_axis=None):
        buffer = 0  # the empty one: filled at run time
        if data is not None:
            buffer = len(self.buffers)
            self.buffers.append(Table(f0=Vector(np.ascontiguousarray(data).tobytes(), "B", align=16)))
        quantisation = None
        if scales is not None:
            quantisation = Table(f2=Vector([float(s) for s in scales], "f"), f3=Vector(zero_points, "q"),
                                 f6=("i", channel_axis) if channel_axis else None)
        self.tensors.append(Table(f0=Vector(shape, "i"), f1=("b", kind), f2=("I", buffer), f3=name, f4=quantisation))
        return len(self.tensors) - 1

    def activation(self, name, shape, tensor):
        return self.tensor(name, shape, INT8, [tensor.scale], [tensor.zero_point])

    def weights(self, layer):
        axis = layer.channel_axis if layer.per_channel else None
        zeros = [0] * len(layer.scales)
        return [self.tensor(layer.name + "/weights", layer.w.shape, INT8, layer.scales, zeros, layer.w, axis),
                self.tensor(layer.name + "/bias", layer.b.shape, INT32, layer.bias_scales, zeros, layer.b)]

    def operator(self, code, inputs, output, options):
        if code not in self.codes:
            self.codes.append(code)
        self.operators.append(Table(f0=("I", self.codes.index(code)), f1=Vector(inputs, "i"), f2=Vector([output], "i"),
                                    f3=("B", OPTIONS[code]), f4=options))
        return output

    def convolution(self, layer, x, shape):
        y = self.activation(layer.name, shape, layer.target)
        strides = {"f0": ("b", SAME), "f1": ("i", layer.stride), "f2": ("i", layer.stride)}
        act = ("b", RELU if layer.relu else NONE)
        if layer.depthwise:
            return self.operator(DEPTHWISE_CONV_2D, [x] + self.weights(layer), y,
                                 Table(**strides, f3=("i", 1), f4=act, f5=("i", 1), f6=("i", 1)))
        return self.operator(CONV_2D, [x] + self.weights(layer), y, Table(**strides, f3=act, f4=("i", 1), f5=("i", 1)))

    def model(self, inputs, outputs, name, description):
        codes = [Table(f0=("b", c), f2=("i", VERSIONS[c]), f3=("i", c)) for c in self.codes]
        subgraph = Table(f0=Vector(self.tensors), f1=Vector(inputs, "i"), f2=Vector(outputs, "i"),
                         f3=Vector(self.operators), f4=name)
        return Writer().file(Table(f0=("I", 3), f1=Vector(codes), f2=Vector([subgraph]), f3=description,
                                   f4=Vector(self.buffers)), b"TFL3")


def write(net):
    """The file's bytes for a quantise.Quantised net, and the index of its logits tensor."""
    g, t = Graph(), net.tensors
    picture = g.activation("picture", [1, 16, 16, 1], t["picture"])
    a = g.convolution(net.conv1, picture, [1, 8, 8, 8])
    b = g.convolution(net.conv2, a, [1, 8, 8, 16])
    c = g.convolution(net.depthwise, b, [1, 8, 8, 16])
    d = g.convolution(net.pointwise, c, [1, 8, 8, 16])
    s = g.operator(ADD, [b, d], g.activation("add", [1, 8, 8, 16], t["add"]), Table(f0=("b", RELU)))
    e = g.convolution(net.conv3, s, [1, 4, 4, 24])
    pool = Table(f0=("b", VALID), f1=("i", 2), f2=("i", 2), f3=("i", 2), f4=("i", 2), f5=("b", NONE))
    p = g.operator(AVERAGE_POOL_2D, [e], g.activation("pool", [1, 2, 2, 24], t["conv3"]), pool)
    flat_shape = g.tensor("flat/shape", [2], INT32, None, None, np.array([1, 96], np.int32))
    f = g.operator(RESHAPE, [p, flat_shape], g.activation("flat", [1, 96], t["conv3"]), Table(f0=Vector([1, 96], "i")))
    logits = g.activation("logits", [1, 10], t["logits"])
    g.operator(FULLY_CONNECTED, [f] + g.weights(net.linear), logits, Table(f0=("b", NONE)))
    answer = g.tensor("answer", [1, 10], INT8, [1 / 256], [-128])
    g.operator(SOFTMAX, [logits], answer, Table(f0=("f", 1.0)))
    return g.model([picture], [answer], "digits", "polymac digit net"), logits
