# SPDX-License-Identifier: MIT
"""Trains the digit net, quantises it to int8 and writes ../digit_net.hpp. See README.md."""
import argparse
import datetime
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

import network
import quantise
import tflite

HERE = pathlib.Path(__file__).resolve().parent
MACS = 8 * 8 * 8 * 9 + 8 * 8 * 16 * 72 + 8 * 8 * 16 * 9 + 8 * 8 * 16 * 16 + 4 * 4 * 24 * 144 + 960


def export(work, seed, count):
    """Pixels u8 [n][16][16][1], labels, checksum of the series."""
    program, data = work / "export_digits", work / f"digits_{seed}_{count}.bin"
    sources = [HERE / "export_digits.cpp", HERE.parent / "draw_digit.hpp"]
    if not program.exists() or program.stat().st_mtime < max(s.stat().st_mtime for s in sources):
        compiler = os.environ.get("CXX", "c++")
        subprocess.run([compiler, "-std=c++20", "-O2", str(sources[0]), "-o", str(program)], check=True)
    done = subprocess.run([str(program), str(seed), str(count), str(data)], check=True, capture_output=True, text=True)
    rows = np.fromfile(data, np.uint8).reshape(count, 257)
    return rows[:, 1:].reshape(count, 16, 16, 1), rows[:, 0].astype(np.int64), done.stdout.strip()


def real(pixels):
    return pixels.astype(np.float32) / np.float32(255)


def float_answers(net, pixels):
    return np.concatenate([net.forward(real(pixels[i:i + 1000])).argmax(1) for i in range(0, len(pixels), 1000)])


def checksum_of(data):
    """FNV-1a, 64 bits, as hexadecimal digits."""
    total = 0xCBF29CE484222325
    for byte in data:
        total = (total ^ byte) * 0x100000001B3 % 2**64
    return f"{total:016X}"


def wrap(numbers, indent="    ", width=120):
    lines, line = [], indent
    for text in (f"{n}," for n in numbers):
        if len(line) + len(text) > width:
            lines.append(line.rstrip())
            line = indent
        line += text
    return "\n".join(lines + [line])


def header(file, goldens, log, facts):
    rows = "\n".join("    {" + ", ".join(str(v) for v in row) + "}," for row in goldens)
    comment = "\n".join("//   " + line for line in log)
    return f"""// SPDX-License-Identifier: MIT
// A small int8 digit classifier, trained by this project on drawn digits. Written by training/train_digits.py: do not
// edit. The array is a TFLite file: int8 [1][16][16][1] (pixel - 128) -> int8 [1][10], softmax.
//
{comment}
#pragma once

#include <cstddef>
#include <cstdint>

namespace digits {{

/// Series of the test pictures; the net was trained on series {facts["train_seed"]}.
inline constexpr std::uint64_t test_seed = {facts["test_seed"]};
/// Test pictures 0 .. test_count - 1, and digits::checksum over them.
inline constexpr int test_count = {facts["count"]};
inline constexpr std::uint64_t test_checksum = 0x{facts["checksum"].upper()};
/// Right answers on them: largest int8 logit (profile litert), and before quantisation.
inline constexpr int test_correct = {facts["correct"]};
inline constexpr int test_correct_float = {facts["correct_float"]};
/// Multiply-accumulates per picture.
inline constexpr std::size_t net_macs = {facts["macs"]};

// clang-format off
/// Logits (input of the softmax) of the first pictures of the series, by the integer reference in training/quantise.py.
inline constexpr std::int8_t golden_logits[{len(goldens)}][10] = {{
{rows}
}};

/// FNV-1a (64 bits) over the bytes of the logits of all test pictures in turn, in the two rounding profiles.
inline constexpr std::uint64_t logits_checksum_litert = 0x{facts["litert"]};
inline constexpr std::uint64_t logits_checksum_classic = 0x{facts["classic"]};

/// The net. Aligned as FlatBuffers wants it.
alignas(16) inline constexpr std::uint8_t digit_net[{len(file)}] = {{
{wrap(file)}
}};
// clang-format on

}}  // namespace digits
"""


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--work", type=pathlib.Path, required=True, help="folder for pictures and the .tflite file")
    arguments.add_argument("--header", type=pathlib.Path, default=HERE.parent / "digit_net.hpp")
    arguments.add_argument("--train", type=int, default=60000, help="pictures to train on")
    arguments.add_argument("--epochs", type=int, default=8)
    arguments.add_argument("--train-seed", type=int, default=1)
    arguments.add_argument("--test-seed", type=int, default=2026)
    options = arguments.parse_args()
    if options.train < 1000 or options.epochs < 1 or options.train_seed == options.test_seed:
        sys.exit("train_digits: expected --train >= 1000, --epochs >= 1 and two different seeds")
    options.work.mkdir(parents=True, exist_ok=True)
    log = []

    def say(line):
        log.append(line)
        print(line, flush=True)

    started = time.time()
    pixels, labels, _ = export(options.work, options.train_seed, options.train)
    test_pixels, test_labels, _ = export(options.work, options.test_seed, 10000)
    _, _, checksum = export(options.work, options.test_seed, 1000)
    say(f"trained {datetime.date.today()}, numpy {np.__version__}; {options.train} pictures of series "
        f"{options.train_seed}, {options.epochs} epochs, weights from seed 1")
    rng = np.random.default_rng(1)
    net = network.Network(rng)
    network.train(net, real(pixels), labels, rng, options.epochs, log=say)
    whole = quantise.Quantised(net, real(pixels[:2000]))

    right_float = float_answers(net, test_pixels) == test_labels
    logits = np.concatenate([whole.forward(test_pixels[i:i + 1000]) for i in range(0, 10000, 1000)])
    right = logits.argmax(1) == test_labels
    for count in (1000, 10000):
        say(f"first {count} pictures of series {options.test_seed}: float {right_float[:count].sum()}, "
            f"int8 {right[:count].sum()} right")
    file, logits_tensor = tflite.write(whole)
    (options.work / "digit_net.tflite").write_bytes(file)
    logits.tofile(options.work / "logits_i8_10000x10.bin")
    (options.work / "logits_tensor.txt").write_text(f"{logits_tensor}\n")
    facts = {"test_seed": options.test_seed, "train_seed": options.train_seed, "count": 1000, "checksum": checksum,
             "litert": checksum_of(logits[:1000].tobytes()),
             "classic": checksum_of(whole.forward(test_pixels[:1000], classic=True).tobytes()),
             "correct": right[:1000].sum(), "correct_float": right_float[:1000].sum(), "macs": MACS}
    options.header.write_text(header(file, logits[:16], log, facts))
    print(f"wrote {options.header}: {options.header.stat().st_size} bytes, net {len(file)} bytes, {MACS} MACs, "
          f"{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
