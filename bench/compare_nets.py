#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the networks of MLPerf Tiny with polymac, LiteRT and OpenVINO, one thread on one core, and prints a table.

The three take turns, several rounds of each network, and the median of the rounds counts, so that a slow moment of a
shared machine meets all of them. polymac runs in its own process (model_bench), which also writes the inputs and its
outputs; the peers get the same inputs. Every output of the peers is compared with polymac's: polymac is bit-exact with
LiteRT's reference kernels, the peers' fast paths round in other ways, and the table says how often.

Copying an input in is counted for polymac and not for the peers. LiteRT runs its XNNPACK delegate. OpenVINO is told to
compute float networks in float32; an input is always set, for without one it runs an empty batch.
"""
import argparse
import datetime
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALL = """  python3 -m venv build/peers
  build/peers/bin/pip install ai-edge-litert openvino numpy
  build/peers/bin/python bench/compare_nets.py"""
TIMED_INPUTS = 16  # as model_bench: the first inputs in turn


def fail(text):
    sys.exit(f"compare_nets: {text}")


def import_peers(names):
    """The modules that were asked for, or the end of the program with the way to get them."""
    missing = []
    modules = {}
    for module, package in [("numpy", "numpy")] + [(PEERS[n].module, PEERS[n].package) for n in names]:
        try:
            modules[module] = __import__(module, fromlist=["_"])
        except ImportError as error:
            missing.append(f"{package} ({error})")
    if missing:
        fail("not installed for this Python: " + ", ".join(missing) + "\nA virtual environment has room for them:\n\n"
             + INSTALL + "\n\nor leave a peer out: --peers litert, --peers openvino")
    return modules


class LiteRT:
    module, package, title = "ai_edge_litert.interpreter", "ai-edge-litert", "LiteRT"

    def __init__(self, modules, path, is_float):
        self.net = modules[self.module].Interpreter(model_path=str(path), num_threads=1)
        self.net.allocate_tensors()
        [self.input], self.output = self.net.get_input_details(), self.net.get_output_details()
        self.type, self.shape = self.input["dtype"], tuple(self.input["shape"])
        operators = {op["op_name"] for op in self.net._get_ops_details()}
        self.note = "" if "DELEGATE" in operators else "XNNPACK took none of the operators"
        # invoke() looks for views of its memory first, half a microsecond that is Python's and not the network's.
        self.run = getattr(getattr(self.net, "_interpreter", None), "Invoke", self.net.invoke)

    def set(self, x):
        self.net.set_tensor(self.input["index"], x)

    def outputs(self):
        return [self.net.get_tensor(o["index"]) for o in self.output]


class OpenVINO:
    module, package, title = "openvino", "openvino", "OpenVINO"

    def __init__(self, modules, path, is_float):
        ov = modules[self.module]
        core = ov.Core()
        model = core.read_model(str(path))
        [port] = model.inputs
        if port.partial_shape.is_dynamic:  # an open batch
            model.reshape([1, *(d.get_length() for d in list(port.partial_shape)[1:])])
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                    "ENABLE_CPU_PINNING": False}
        if is_float:
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        compiled = core.compile_model(model, "CPU", settings)
        if compiled.get_property("INFERENCE_NUM_THREADS") != 1:
            raise RuntimeError("OpenVINO did not take one thread")
        [port] = compiled.inputs
        self.shape, self.type = tuple(port.shape), port.element_type.to_dtype()
        self.request = compiled.create_infer_request()
        self.tensor = ov.Tensor(port.element_type, port.shape)
        self.request.set_input_tensor(self.tensor)
        self.note = ""

    def set(self, x):
        self.tensor.data[:] = x

    def run(self):
        self.request.infer(share_inputs=True, share_outputs=True)

    def outputs(self):
        return [t.data.copy() for t in self.request.output_tensors]


PEERS = {"litert": LiteRT, "openvino": OpenVINO}


def run_model_bench(options, net, outputs=None):
    """One round of polymac on a network: microseconds, GMAC/s, instruction set."""
    command = [str(options.model_bench), f"--benchmark_filter=^model/{net}/polymac$", "--benchmark_format=json",
               f"--benchmark_min_time={options.seconds}"]
    if outputs:
        command.append(f"--outputs={outputs}")
    environment = dict(os.environ, POLYMAC_DATA=str(options.data))
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        fail(f"{' '.join(command)} failed:\n{done.stderr}")
    [row] = json.loads(done.stdout)["benchmarks"]
    if row.get("error_occurred"):
        fail(f"polymac did not run {net}: {row.get('error_message')}")
    return row["us"], row["GMAC"], row["label"]


def list_nets(options):
    done = subprocess.run([str(options.model_bench), "--benchmark_list_tests=true"], capture_output=True, text=True,
                          env=dict(os.environ, POLYMAC_DATA=str(options.data)))
    if done.returncode != 0:
        fail(f"{options.model_bench} failed:\n{done.stderr}")
    nets = [line.split("/")[1] for line in done.stdout.split() if line.startswith("model/")]
    return [n for n in nets if re.search(options.nets, n)]


def run_peer(peer, inputs, seconds):
    """One round of a peer: mean microseconds of an inference."""
    clock = time.perf_counter_ns
    spent, count, limit = 0, 0, seconds * 1e9
    while spent < limit:
        for x in inputs:
            peer.set(x)
            begin = clock()
            peer.run()
            spent += clock() - begin
        count += len(inputs)
    return spent / count / 1e3


def answers_of(np, peer, inputs):
    answers = []
    for x in inputs:
        peer.set(x)
        peer.run()
        answers.append(np.concatenate([o.reshape(-1) for o in peer.outputs()]))
    return np.stack(answers)


def agreement(np, ours, theirs):
    """How far the peer's outputs are from polymac's, over all inputs."""
    if ours.dtype.kind == "f":
        most = float(np.abs(ours).max())
        return {"largest_difference": float(np.abs(ours - theirs).max()) / most if most else 0.0}
    difference = np.abs(ours.astype(np.int32) - theirs.astype(np.int32))
    return {"equal": float((difference == 0).mean()), "largest_difference": int(difference.max())}


def agreement_text(a):
    if "equal" in a:
        return f"{100 * a['equal']:.2f} % equal, off by <= {a['largest_difference']}"
    return f"within {a['largest_difference']:.0e}"


def measure(options, modules, net, folder):
    np = modules["numpy"]
    file = options.data / "mlperf_tiny" / f"{net}.tflite"
    is_float = net.endswith("fp32")
    _, _, isa = run_model_bench(options, net, folder)
    peers = {name: PEERS[name](modules, file, is_float) for name in options.peers}
    first = next(iter(peers.values()))
    raw = np.fromfile(folder / f"{net}.input.bin", dtype=first.type)
    inputs = raw.reshape(-1, *first.shape)
    ours = np.fromfile(folder / f"{net}.output.bin", dtype=first.type).reshape(len(inputs), -1)
    row = {"net": net, "inputs": len(inputs), "isa": isa, "us": {}, "agreement": {}, "notes": []}
    for name, peer in peers.items():
        if peer.type != first.type or peer.shape != first.shape:
            fail(f"{net}: {peer.title} takes {peer.type} {peer.shape}, {first.title} {first.type} {first.shape}")
        theirs = answers_of(np, peer, inputs)
        if theirs.dtype != ours.dtype or theirs.shape != ours.shape:
            fail(f"{net}: {peer.title} gives {theirs.dtype} {theirs.shape}, polymac {ours.dtype} {ours.shape}")
        row["agreement"][name] = agreement(np, ours, theirs)
        if peer.note:
            row["notes"].append(f"{peer.title}: {peer.note}")
    rounds = {name: [] for name in ["polymac", *peers]}
    gmac = []
    for _ in range(options.rounds):
        us, rate, _ = run_model_bench(options, net)
        rounds["polymac"].append(us)
        gmac.append(rate)
        for name, peer in peers.items():
            rounds[name].append(run_peer(peer, inputs[:TIMED_INPUTS], options.seconds))
    row["rounds_us"] = rounds
    row["us"] = {name: statistics.median(times) for name, times in rounds.items()}
    row["GMAC"] = statistics.median(gmac)
    row["ratio"] = min(row["us"][name] for name in peers) / row["us"]["polymac"]
    return row


def processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def table_of(report):
    peers = report["peers"]
    head = ["net", "polymac us", *(f"{PEERS[p].title} us" for p in peers), "ratio", "GMAC/s", "ISA",
            *(f"{PEERS[p].title}'s outputs" for p in peers)]
    lines = [[r["net"], f"{r['us']['polymac']:.2f}", *(f"{r['us'][p]:.2f}" for p in peers), f"{r['ratio']:.2f}",
              f"{r['GMAC']:.1f}", r["isa"], *(agreement_text(r["agreement"][p]) for p in peers)]
             for r in report["nets"]]
    return head, lines


def print_table(report, markdown):
    head, lines = table_of(report)
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    texts = {0, *range(len(head) - 1 - len(report["peers"]), len(head))}

    def print_line(cells):
        padded = [c.ljust(w) if i in texts else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))]
        print("| " + " | ".join(padded) + " |" if markdown else "  ".join(padded).rstrip())

    print(f"{report['processor']}, {report['date']}, one thread on core {report['core']}, median of {report['rounds']} "
          f"rounds, " + ", ".join(f"{PEERS[p].title} {v}" for p, v in report["peers"].items()) + "\n")
    print_line(head)
    if markdown:
        print("|" + "|".join("-" * (w + 1) + ("-" if i in texts else ":") for i, w in enumerate(widths)) + "|")
    for line in lines:
        print_line(line)
    print()
    for kind, mean in report["geometric_mean"].items():
        print(f"geometric mean of the ratios, {kind}: {mean:.2f}")
    losing = [r["net"] for r in report["nets"] if r["ratio"] < 1]
    print("polymac is slower than the faster peer on: " + (", ".join(losing) if losing else "none"))
    for row in report["nets"]:
        for note in row["notes"]:
            print(f"note: {row['net']}: {note}")
    print("ratio: time of the faster peer / time of polymac; above 1 polymac is faster")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model-bench", type=Path, default=ROOT / "build/release/bench/model_bench",
                        help="the program (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=None,
                        help="the data folder (default: POLYMAC_DATA, ../shared/data)")
    parser.add_argument("--peers", default=",".join(PEERS), help="(default: %(default)s)")
    parser.add_argument("--nets", default="", help="only networks that this regular expression finds")
    parser.add_argument("--rounds", type=int, default=7, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a round (default: %(default)s)")
    parser.add_argument("--core", type=int, default=None, help="core to run on (default: the last one)")
    parser.add_argument("--json", metavar="FILE", help="also write everything that was measured; - is standard output, "
                        "instead of the table")
    parser.add_argument("--markdown", action="store_true", help="the table in Markdown")
    options = parser.parse_args()
    options.peers = [p for p in options.peers.split(",") if p]
    unknown = [p for p in options.peers if p not in PEERS]
    if unknown or not options.peers:
        fail(f"--peers: expected some of {', '.join(PEERS)}, got '{', '.join(unknown)}'")
    if options.rounds < 1 or options.seconds <= 0:
        fail("expected --rounds of at least 1 and --seconds above 0")
    if options.data is None:
        options.data = Path(os.environ.get("POLYMAC_DATA") or ROOT.parent / "shared/data")
    if not (options.data / "mlperf_tiny").is_dir():
        fail(f"there are no networks at {options.data / 'mlperf_tiny'}; set POLYMAC_DATA or --data")
    options.model_bench = options.model_bench.resolve()
    if not options.model_bench.is_file():
        fail(f"there is no {options.model_bench}; build it:\n  cmake --preset release -DPOLYMAC_BUILD_BENCH=ON && "
             "cmake --build build/release --target model_bench\nor say where it is: --model-bench")
    return options


def pin(core):
    """Keeps this process and what it starts on one core, before any peer makes its threads."""
    if not hasattr(os, "sched_setaffinity"):
        print("compare_nets: this system does not pin processes; the figures are less steady", file=sys.stderr)
        return "any"
    allowed = sorted(os.sched_getaffinity(0))
    if core is None:
        core = allowed[-1]
    elif core not in allowed:
        fail(f"--core: expected one of {allowed}, got {core}")
    os.sched_setaffinity(0, {core})
    return core


def main():
    options = parse_arguments()
    core = pin(options.core)
    modules = import_peers(options.peers)
    from importlib.metadata import version
    nets = list_nets(options)
    if not nets:
        fail(f"no network matches --nets '{options.nets}'")
    report = {"processor": processor(), "date": datetime.date.today().isoformat(), "core": core,
              "rounds": options.rounds, "peers": {p: version(PEERS[p].package) for p in options.peers}, "nets": []}
    with tempfile.TemporaryDirectory() as folder:
        for net in nets:
            print(f"compare_nets: {net}", file=sys.stderr)
            report["nets"].append(measure(options, modules, net, Path(folder)))
    report["geometric_mean"] = {}
    for kind, is_float in [("int8", False), ("float32", True)]:
        ratios = [r["ratio"] for r in report["nets"] if r["net"].endswith("fp32") == is_float]
        if ratios:
            report["geometric_mean"][kind] = geometric_mean(ratios)
    if options.json == "-":
        print(json.dumps(report, indent=1))
        return
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    print_table(report, options.markdown)


if __name__ == "__main__":
    main()
