# SPDX-License-Identifier: MIT
"""Compares the integer reference with LiteRT's reference kernels. Needs numpy and ai-edge-litert. See README.md."""
import argparse
import pathlib
import re
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

HERE = pathlib.Path(__file__).resolve().parent


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--work", type=pathlib.Path, required=True, help="folder that train_digits.py wrote to")
    arguments.add_argument("--header", type=pathlib.Path, default=HERE.parent / "digit_net.hpp")
    arguments.add_argument("--count", type=int, default=1000, help="pictures, at most 10000")
    options = arguments.parse_args()
    text = options.header.read_text()
    seed = int(re.search(r"test_seed = (\d+)", text)[1])
    net = bytes(int(n) for n in re.findall(r"\d+", re.search(r"digit_net\[\d+\] = \{([^}]*)", text)[1]))
    if net != (options.work / "digit_net.tflite").read_bytes():
        sys.exit("check_litert: the header and the folder hold different nets")
    rows = np.fromfile(options.work / f"digits_{seed}_10000.bin", np.uint8).reshape(-1, 257)[:options.count]
    expected = np.fromfile(options.work / "logits_i8_10000x10.bin", np.int8).reshape(-1, 10)
    tensor = int((options.work / "logits_tensor.txt").read_text())

    litert = Interpreter(model_content=net, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1,
                         experimental_preserve_all_tensors=True)
    litert.allocate_tensors()
    source, target = litert.get_input_details()[0], litert.get_output_details()[0]
    different = pictures = correct = 0
    for row, logits in zip(rows, expected):
        litert.set_tensor(source["index"], (row[1:].astype(np.int16) - 128).astype(np.int8).reshape(1, 16, 16, 1))
        litert.invoke()
        wrong = int((litert.get_tensor(tensor)[0] != logits).sum())
        different, pictures = different + wrong, pictures + (wrong > 0)
        correct += int(litert.get_tensor(target["index"])[0].argmax() == row[0])
    print(f"{len(rows)} pictures: {different} of {10 * len(rows)} logits differ, in {pictures} pictures; "
          f"LiteRT's answers: {correct} right")
    sys.exit(different != 0)


if __name__ == "__main__":
    main()
