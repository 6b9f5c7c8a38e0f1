#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads what the benchmarks wrote and says where polymac stands against the machine and against the best peer.

    build/release/bench/gemm_bench --benchmark_repetitions=5 --benchmark_out=gemm.json --benchmark_out_format=json
    python3 bench/compare.py gemm.json [more.json ...] [--markdown FILE] [--summary FILE] [--svg FILE]
        [--json FILE]

Every figure is the median of the repetitions. For each row: polymac's GMAC/s, its share of the machine's peak (v: of
the peak without AMX; b: of the read bandwidth), the goal for that row, the best peer and the ratio to it; then the
geometric mean for each arithmetic and the losing rows. The goals ("bars") are this project's own, from its issue on
speed; they exist for two kinds of machine and are left out on others.
"""
import argparse
import html
import json
import math
import statistics
import sys
from collections import defaultdict


def fail(text):
    sys.exit(f"compare: {text}")


# ---- goals ----------------------------------------------------------------------------------------------------------
# A goal is a letter and a number: p share of the peak, v of the peak without AMX, b of the bandwidth, x times the best
# peer, o times oneDNN, and e.g. ("int8_requantised", 0.85): times polymac's own speed in that arithmetic.
MACHINES = {"avx512_vnni": "wide VNNI", "amx": "AMX"}
# The instruction sets of polymac's build that are held against the goals of such a machine.
BUILDS = {"avx512_vnni": ["avx512_vnni", "avx512_bf16"], "amx": ["amx_int8", "amx_bf16"]}


def goals():
    """{(kind of machine, "group/arithmetic/shape"): goal}"""
    table = {}

    def add(work, rows, wide, amx):
        for row in rows.split():
            for machine, goal in (("avx512_vnni", wide), ("amx", amx)):
                if goal:
                    table[machine, f"{work}/{row}"] = goal

    cube = "{0}x{0}x{0}".format
    middle, convolutions = "128x3072x768 128x768x3072 512x2048x2048", "784x128x1152 196x256x2304"
    one_row = "1x4096x4096 1x1024x1024 1x768x3072"
    int8 = [(cube(256), "p0.96", "p0.58"), (f"{cube(512)} 128x768x768", "p0.96", "p0.64"),
            (cube(1024), "p0.96", "p0.58"), (f"{cube(2048)} {middle}", "p0.96", "p0.52"),
            (convolutions, "p0.96", "p0.58"), ("3136x64x576", "p0.96", "p0.48"), ("49x512x4608", "p0.95", "p0.30")]
    for rows, wide, amx in int8:
        add("gemm/int8", rows, wide, amx)
        add("gemm/int8_requantised", rows, "p0.95", amx)
    for rows, wide, amx in [
            (cube(128), "p0.95", "p0.48"), (cube(64), "p0.93", "p0.40"), (cube(32), "v0.90", "v0.75"),
            (cube(16), "v0.58", "v0.42"), (cube(8), "v0.25", "v0.15"), ("125x64x64", "p0.90", "p0.40"),
            ("1024x16x64", "p0.86", "p0.26"), ("300x8x72", "p0.65", "p0.18"), ("16x4096x4096", "p0.91", "b0.95"),
            (one_row, "b0.90", "b0.90"), ("1x128x128", "b0.80", "b0.65")]:
        add("gemm/int8", rows, wide, amx)
    small = [(cube(128), "p0.85"), (cube(64), "p0.75"), (cube(32), "p0.60"), (cube(16), "p0.35"),
             ("1024x16x64", "p0.74"), ("300x8x72", "p0.60")]
    for rows, wide in small:
        add("gemm/int8_requantised", rows, wide, "x1.5")
    for machine, row in list(table):
        if row.startswith("gemm/int8_requantised/"):
            table[machine, row.replace("requantised", "requantised_exact")] = ("int8_requantised", 0.85)
    large = " ".join(map(cube, (256, 512, 1024, 2048)))
    add("gemm/float32", f"{large} {convolutions} 3136x64x576 49x512x4608", "p0.97", "p0.95")
    add("gemm/float32", cube(64), "p0.96", "p0.92")
    add("gemm/float32", cube(32), "p0.95", "p0.92")
    add("gemm/float32", "1024x16x64", "p0.92", "p0.88")
    products = f"{cube(512)} 784x128x1152"
    add("gemm/bf16", products, "p0.95", "p0.60")
    add("gemm/dfp8", cube(512), "p0.95", "p0.64")
    add("gemm/dfp8", "784x128x1152", "p0.95", "p0.58")
    for arithmetic, wide, amx in [
            ("dfp16", "p0.85", "p0.80"), ("dfp16_statistical", "p0.94", "p0.88"), ("fp16", "p0.95", "p0.95"),
            ("fp8_e4m3", ("bf16", 0.85), ("bf16", 0.85)), ("mxfp8", ("bf16", 0.85), ("bf16", 0.85)),
            ("mxfp4", ("int8", 0.70), ("int8", 0.70)), ("l_mul", "p0.80", "p0.85"), ("l_mul_bf16", "p0.60", "p0.80"),
            ("binary", "p0.60", "p0.60")]:
        add(f"gemm/{arithmetic}", products, wide, amx)
    for arithmetic, wide, amx in [("w4", 1.6, 1.7), ("w2", 2.2, 2.6), ("ternary", 2.2, 2.6)]:
        add(f"gemm/{arithmetic}", "32x4096x4096", "p0.80", ("int8", 1.5))
        add(f"gemm/{arithmetic}", "128x4096x4096", "p0.80", ("int8", 0.9))
        add(f"gemm/{arithmetic}", "1x4096x4096", ("int8", wide), ("int8", amx))
    for rows, wide, amx, wide_float, amx_float in [
            ("3x3_56x56x64_64 3x3_28x28x128_128 3x3_14x14x256_256", "p0.95", "p0.60", "p0.95", "p0.92"),
            ("3x3_7x7x512_512", "p0.95", "p0.38", "p0.95", "p0.92"),
            ("7x7s2_224x224x3_64", "p0.80", "p0.24", "p0.94", "p0.90"),
            ("1x1_56x56x64_256", "p0.83", "p0.25", "p0.95", "p0.92"),
            ("1x1_56x56x256_64", "p0.95", "p0.55", "p0.95", "p0.92"),
            ("1x1_28x28x512_128", "p0.95", "p0.67", "p0.95", "p0.92"),
            ("3x3_32x32x16_16", "p0.86", "p0.22", "p0.93", "p0.85"),
            ("3x3s2_32x32x16_32", "p0.86", "p0.18", "p0.93", "p0.85"),
            ("3x3_8x8x64_64", "p0.93", "p0.33", "p0.93", "p0.85"),
            ("1x1_25x5x64_64", "p0.83", "p0.16", "p0.93", "p0.85")]:
        add("conv/int8", rows, wide, amx)
        add("conv/float32", rows, wide_float, amx_float)
    for shape in ("112x112x32", "56x56x128", "14x14x512", "25x5x64"):
        for stride in ("", "s2"):
            add("depthwise/int8", shape + stride, "o2.0", "o2.5")
            add("depthwise/float32", shape + stride, *(["o1.6" if stride else "o1.3"] * 2))
    return table


THREADS_GOAL = 1.85
THREADS_SHAPES = ("1024x1024x1024 ", "3x3_56x56x64", "3x3_28x28x128", "3x3_14x14x256", "3x3_7x7x512")
MEAN_GOALS = {("avx512_vnni", "gemm/int8"): 1.02, ("amx", "gemm/int8"): 1.20}

# ---- reading --------------------------------------------------------------------------------------------------------


class Row:
    """One computation by everybody who did it."""

    def __init__(self, key):
        self.group, self.arithmetic, self.shape = key
        self.by = {}  # who -> {counter: median}

    @property
    def name(self):
        return f"{self.work}/{self.shape}"

    @property
    def work(self):
        return f"{self.group}/{self.arithmetic}" if self.arithmetic else self.group

    def speed(self, who):
        counters = self.by.get(who, {})
        return counters.get("GMAC") or counters.get("ns") or counters.get("bytes/s", 0.0) * 1e-9

    @property
    def unit(self):
        counters = next(iter(self.by.values()))
        return "ns" if "ns" in counters else "GMAC/s" if counters.get("GMAC") else "GB/s"

    def best_peer(self):
        """(name, speed), or None"""
        peers = [(self.speed(w), w) for w in self.by if w != "polymac"]
        if not peers:
            return None
        speed, who = max(peers)
        return who, speed

    def ratio(self):
        peer = self.best_peer()
        return self.speed("polymac") / peer[1] if peer and peer[1] and "polymac" in self.by else None


def read(paths):
    """The machine, the rows in the order of the files, and what was not counted."""
    contexts, samples, labels, skipped = [], {}, {}, {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as f:
                data = json.load(f)
            benchmarks = data["benchmarks"]
        except OSError as error:
            fail(f"cannot read {path}: {error.strerror}. Run the benchmarks with --benchmark_out={path} "
                 "--benchmark_out_format=json, or all of it by: sh cmake/get-started.sh bench")
        except (ValueError, KeyError) as error:
            fail(f"{path} is not the JSON of a complete benchmark run ({error}); was it stopped?")
        contexts.append(data.get("context", {}))
        for b in benchmarks:
            if b.get("run_type") == "aggregate":
                continue
            parts = [p for p in b.get("run_name", b["name"]).split("/")
                     if p != "manual_time" and not p.startswith(("repeats:", "iterations:"))]
            if len(parts) < 3:
                continue
            if len(parts) == 3:  # model/<net>/<who>, mac/<arithmetic>/<instruction set>
                is_net = parts[0] == "model"
                parts = [parts[0], "", parts[2], parts[1]] if is_net else [*parts[:2], "polymac", parts[2]]
            if parts[0] == "threads":  # threads/<arithmetic>/<executor>/<shape>: all of them are polymac
                parts = [*parts[:2], "polymac", f"{parts[3]} {parts[2]}"]
            group, arithmetic, who, shape = parts[0], parts[1], parts[2], "/".join(parts[3:])
            if b.get("error_occurred"):
                name = "/".join(filter(None, (group, arithmetic, who, shape)))
                skipped[name] = b.get("error_message", "no reason given")
                continue
            per_key = samples.setdefault((group, arithmetic, shape), {}).setdefault(who, defaultdict(list))
            for counter in ("GMAC", "peak", "vector_peak", "bandwidth", "bytes/s", "isa_peak", "scaling"):
                if counter in b:
                    per_key[counter].append(b[counter])
            if arithmetic == "hand_over":
                per_key["ns"].append(b["real_time"])
            labels[group, arithmetic, shape, who] = b.get("label", "")
    if not samples:
        fail("no rows of the form <group>/<arithmetic>/<who>/<shape> in " + ", ".join(paths))
    for name in ("cpu", "machine", "compiler", "isa"):
        values = sorted({c[name] for c in contexts if name in c})
        if len(values) > 1:
            fail(f"these files do not belong together: {name} is " + " and ".join(values))
    machine = {}
    for c in contexts:
        for name, value in c.items():
            if name.startswith(("peak_", "vector_peak_", "bandwidth_")) and "instruction" not in name:
                machine[name] = max(machine.get(name, 0.0), float(value))  # the quietest moment
            else:
                machine.setdefault(name, value)
    rows = []
    for key, by in samples.items():
        row = Row(key)
        for who, counters in by.items():
            row.by[who] = {c: statistics.median(v) for c, v in counters.items()}
            row.by[who]["label"] = labels[*key, who]
            row.by[who]["samples"] = max(map(len, counters.values()), default=0)
        rows.append(row)
    place = {}  # of a shape in the list of goals, whatever its arithmetic
    for _, name in goals():
        group, _, shape = name.split("/")
        place.setdefault((group, shape), len(place))
    rows.sort(key=lambda r: (WORKS.index(r.work) if r.work in WORKS else len(WORKS), r.work, shape_order(r.shape),
                             place.get((r.group, r.shape), len(place)), r.shape))
    return machine, rows, skipped


WORKS = [f"{group}/{arithmetic}"
         for group, arithmetics in (("gemm", "int8 int8_requantised int8_requantised_exact int16x8 float32 bf16 dfp8 "
                                     "dfp16 dfp16_statistical fp16 fp8_e4m3 mxfp8 mxfp4 l_mul l_mul_bf16 w4 w2 "
                                     "ternary binary"),
                                    ("conv", "int8 int8_exact float32"), ("depthwise", "int8 int8_exact float32"),
                                    ("gemm_pack", "int8 int8_requantised int8_requantised_exact int16x8 float32 bf16"))
         for arithmetic in arithmetics.split()]


def shape_order(shape):
    """Of products: cubes by size, then the others, then those of few rows. Others: as the goals list them."""
    sizes = shape.split("x")
    if len(sizes) != 3 or not all(n.isdigit() for n in sizes):
        return (0, 0)
    rows, columns, depth = map(int, sizes)
    if rows == columns == depth:
        return (0, rows)
    return (1, 0) if rows > 16 else (2, -rows)


# ---- judging --------------------------------------------------------------------------------------------------------


def judge(row, rows_by_name, goal):
    """(share as text, goal as text, met: True, False or None)"""
    ours = row.by.get("polymac", {})
    if row.group == "threads":
        if "scaling" not in ours:
            return "", "", None
        wanted = THREADS_GOAL if row.shape.startswith(THREADS_SHAPES) else None
        return (f"{ours['scaling']:.2f} t", f"{wanted:.2f} t" if wanted else "",
                round(ours["scaling"], 2) >= wanted if wanted else None)
    kind = goal[0] if isinstance(goal, str) else None
    basis = {"p": "peak", "v": "vector_peak", "b": "bandwidth"}.get(kind)
    if basis is None:
        memory = row.group == "gemm_pack" or row.shape.startswith("1x") and row.group == "gemm"
        basis = {"mac": "isa_peak", "depthwise": "vector_peak"}.get(row.group, "bandwidth" if memory else "peak")
    if basis not in ours:
        basis = "peak"
    mark = {"peak": "", "vector_peak": " v", "bandwidth": " b", "isa_peak": " i"}[basis]
    share = (f"{ours[basis]:.2f}" if ours[basis] >= 0.1 else f"{ours[basis]:.3f}") + mark if basis in ours else ""
    if goal is None:
        return share, "", None
    if kind in ("p", "v", "b"):
        wanted = float(goal[1:])
        text = f"{wanted:.2f}{mark}"
        return share, text, round(ours[basis], 2) >= wanted if basis in ours else None
    if kind in ("x", "o"):
        wanted = float(goal[1:])
        peer = row.best_peer() if kind == "x" else ("onednn", row.speed("onednn"))
        text = f"{wanted:.1f} x " + ("peer" if kind == "x" else "oneDNN")
        return share, text, row.speed("polymac") >= wanted * peer[1] if peer and peer[1] else None
    other, wanted = goal
    base = rows_by_name.get(f"{row.group}/{other}/{row.shape}")
    text = f"{wanted:.2f} of {other}"
    return share, text, row.speed("polymac") >= wanted * base.speed("polymac") if base else None


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(v) for v in values)) if values else None


def evaluate(machine, rows):
    """What is printed, drawn and written: one dictionary for each row, and one for each arithmetic."""
    table, by_name = goals(), {r.name: r for r in rows}
    kind = machine.get("machine", "")
    if machine.get("isa") not in BUILDS.get(kind, []):
        kind = ""
    lines, means = [], {}
    for row in rows:
        if "polymac" not in row.by:
            continue
        share, goal, met = judge(row, by_name, table.get((kind, row.name)))
        peer = row.best_peer()
        ours = row.by["polymac"]
        lines.append({"row": row.name, "work": row.work, "shape": row.shape, "speed": row.speed("polymac"),
                      "unit": row.unit, "share": share, "goal": goal, "met": met,
                      "peer": peer[0] if peer else None, "peer_speed": peer[1] if peer else None,
                      "ratio": row.ratio(), "label": ours.get("label", ""), "counters": row.by})
    for work in dict.fromkeys(line["work"] for line in lines):
        ratios = [line["ratio"] for line in lines if line["work"] == work and line["ratio"]]
        if ratios:
            means[work] = {"mean": geometric_mean(ratios), "rows": len(ratios),
                           "lost": sum(r < 1 for r in ratios), "goal": MEAN_GOALS.get((kind, work))}
    return lines, means


# ---- writing --------------------------------------------------------------------------------------------------------


def heading(machine):
    kind = MACHINES.get(machine.get("machine", ""), machine.get("machine", "unknown"))
    return (f"{machine.get('cpu', 'unknown processor')} ({kind}), {machine.get('compiler', 'unknown compiler')}, "
            f"polymac for {machine.get('isa', '?')}, one thread, {str(machine.get('date', ''))[:10]}")


COLUMNS = ["", "polymac", "share", "goal", "", "best peer", "", "ratio"]


def cells(line):
    verdict = {True: "met", False: "missed", None: ""}[line["met"]]
    peer = [line["peer"], f"{line['peer_speed']:.1f}", f"{line['ratio']:.2f}"] if line["peer"] else ["-", "", ""]
    return [line["shape"], f"{line['speed']:.1f}", line["share"], line["goal"], verdict, *peer]


def print_text(machine, lines, means, skipped, out):
    def write(text=""):
        print(text, file=out)

    write(heading(machine))
    write("polymac and peer in GMAC/s (packing: GB/s read and written; hand_over: ns); share of the peak; v: of the")
    write("peak without AMX, b: of the read bandwidth, i: of the instruction set's own peak, t: times one thread")
    for work in dict.fromkeys(line["work"] for line in lines):
        rows = [cells(line) for line in lines if line["work"] == work]
        widths = [max(len(c[i]) for c in [COLUMNS, *rows]) for i in range(len(COLUMNS))]
        write(f"\n{work}")
        for row in [COLUMNS, *rows]:
            write("  " + "  ".join(c.ljust(w) if i in (0, 4, 5) else c.rjust(w)
                                   for i, (c, w) in enumerate(zip(row, widths))).rstrip())
        if work in means:
            m = means[work]
            goal = f", goal {m['goal']:.2f}" if m["goal"] else ""
            write(f"  geometric mean of polymac / best peer: {m['mean']:.2f} over {m['rows']} rows{goal}; "
                  f"{m['lost']} lost")
    lost = losing(lines)
    write(f"\nlosing rows: {len(lost)}" if means else "\nno peer: nothing to compare with")
    for line in lost:
        write(f"  {line['ratio']:.2f}  {line['row']} against {line['peer']}")
    missed = [line for line in lines if line["met"] is False]
    judged = sum(line["met"] is not None for line in lines)
    if judged:
        write(f"\ngoals: {judged - len(missed)} of {judged} met")
    if skipped:
        write("\nnot counted:")
        reasons = defaultdict(list)
        for name, reason in skipped.items():
            reasons[name.rsplit("/", 1)[0], reason].append(name.rsplit("/", 1)[1])
        for (who, reason), shapes in reasons.items():
            write(f"  {who}: {', '.join(shapes)}: {reason}")


def losing(lines):
    return sorted((line for line in lines if line["ratio"] and line["ratio"] < 1), key=lambda line: line["ratio"])


def summary(machine, lines, means):
    if not means:
        return heading(machine) + ". No peer: nothing to compare with.\n"
    text = [heading(machine) + ". Written by `bench/compare.py`.", "",
            "| | rows | polymac / best peer (geometric mean) | ahead | furthest ahead | furthest behind | goals met |",
            "|---|---|---|---|---|---|---|"]
    for work, m in means.items():
        rows = [line for line in lines if line["work"] == work and line["ratio"]]
        ends = [f"{r['ratio']:.2f} {r['shape']} ({r['peer']})"
                for r in (end(rows, key=lambda line: line["ratio"]) for end in (max, min))]
        judged = [line["met"] for line in lines if line["work"] == work and line["met"] is not None]
        met = f"{sum(judged)} of {len(judged)}" if judged else "-"
        text.append(f"| {work} | {m['rows']} | **{m['mean']:.2f}** | {m['rows'] - m['lost']} | {ends[0]} | {ends[1]} | "
                    f"{met} |")
    lost = losing(lines)
    text += ["", f"Losing rows ({len(lost)}):", ""]
    for work in means:
        rows = ", ".join(f"{r['shape']} {r['ratio']:.2f}" for r in lost if r["work"] == work)
        if rows:
            text.append(f"- {work}: {rows}")
    return "\n".join(text) + "\n"


def markdown(machine, lines, means):
    text = []
    for work in dict.fromkeys(line["work"] for line in lines):
        rows = [line for line in lines if line["work"] == work]
        text += ["", f"**{work}**, {rows[0]['unit']}" +
                 (f": {means[work]['mean']:.2f} x the best peer" if work in means else ""), ""]
        text += ["| | polymac | share | goal | | best peer | | ratio |", "|---|---|---|---|---|---|---|---|"]
        for line in rows:
            c = cells(line)
            if line["ratio"] and line["ratio"] < 1:
                c[-1] = f"**{c[-1]}**"
            text.append("| " + " | ".join(c) + " |")
    text += ["", "Share: of the peak of the fastest instruction; v: without AMX; b: of the read bandwidth of the cache",
             "that holds the weights; i: of the instruction set's own peak; t: times one thread. Goals are our own."]
    return summary(machine, lines, means) + "\n".join(text) + "\n"


# ---- the roofline picture -------------------------------------------------------------------------------------------


class Panel:
    """Speed against multiply-accumulates per byte, both logarithmic."""
    WIDTH, HEIGHT, LEFT, TOP = 560, 470, 66, 86

    def __init__(self, number, title, x_range, y_range):
        self.title, self.x_range, self.y_range = title, x_range, y_range
        self.x0 = self.LEFT + number * (self.WIDTH + 84)
        self.y0 = self.TOP
        self.parts = []

    def x(self, value):
        low, high = map(math.log10, self.x_range)
        return self.x0 + (math.log10(value) - low) / (high - low) * self.WIDTH

    def y(self, value):
        low, high = map(math.log10, self.y_range)
        return self.y0 + self.HEIGHT - (math.log10(value) - low) / (high - low) * self.HEIGHT

    def line(self, a, b, css):
        self.parts.append(f'<line class="{css}" x1="{self.x(a[0]):.1f}" y1="{self.y(a[1]):.1f}" '
                          f'x2="{self.x(b[0]):.1f}" y2="{self.y(b[1]):.1f}"/>')

    def text(self, x, y, words, css="", anchor="start", turn=None):
        turned = f' transform="rotate({turn:.1f} {x:.1f} {y:.1f})"' if turn is not None else ""
        for halo in (" halo", "") if css.endswith("name") else ("",):  # first in white, to cover lines behind it
            self.parts.append(f'<text class="{css}{halo}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}>'
                              f"{html.escape(words)}</text>")

    def frame(self):
        self.text(self.x0, self.y0 - 14, self.title, "panel")
        for value in decades(*self.x_range):
            self.line((value, self.y_range[0]), (value, self.y_range[1]), "grid")
            self.text(self.x(value), self.y0 + self.HEIGHT + 18, f"{value:g}", "tick", "middle")
        for value in decades(*self.y_range):
            self.line((self.x_range[0], value), (self.x_range[1], value), "grid")
            self.text(self.x0 - 8, self.y(value) + 4, f"{value:g}", "tick", "end")
        self.text(self.x0 + self.WIDTH / 2, self.y0 + self.HEIGHT + 42,
                  "multiply-accumulates per byte of least traffic", "axis", "middle")
        self.text(self.x0 - 46, self.y0 + self.HEIGHT / 2, "GMAC/s", "axis", "middle", -90)

    def roofs(self, peaks, bandwidths):
        """peaks: (name, GMAC/s), highest first; bandwidths: (name, GB/s), fastest first."""
        (x_low, x_high), (y_low, y_high) = self.x_range, self.y_range
        if not peaks:
            return
        slope = -math.degrees(math.atan2(self.HEIGHT / math.log10(y_high / y_low),
                                         self.WIDTH / math.log10(x_high / x_low)))
        top = peaks[0][1]
        for i, (name, bandwidth) in enumerate(bandwidths):
            begin, end = max(x_low, y_low / bandwidth), min(x_high, top / bandwidth)
            if begin >= end:
                continue
            self.line((begin, begin * bandwidth), (end, end * bandwidth), "roof")
            at, off = begin * 1.1, 14 if i + 1 == len(bandwidths) else -5  # the last one has room below its line
            turn = math.radians(slope)
            self.text(self.x(at) - off * math.sin(turn), self.y(at * bandwidth) + off * math.cos(turn),
                      f"{name} {bandwidth:.0f} GB/s", "roofname", "start", slope)
        for i, (name, peak) in enumerate(peaks):
            begin = max(x_low, peak / bandwidths[0][1]) if bandwidths else x_low
            self.line((begin, peak), (x_high, peak), "roof" if i == 0 else "roof lower")
            if i == 0:
                self.text(self.x0 + self.WIDTH - 6, self.y(peak) - 6, f"{name}: {peak:.0f}", "roofname", "end")
            else:  # the dots are further right
                self.text(self.x(begin) + 14, self.y(peak) - 6, f"{name}: {peak:.0f}", "roofname")


def decades(low, high):
    return [10.0 ** e for e in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]


STYLE = """
text { font: 12px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #444c56; }
.title { font-size: 19px; font-weight: 600; fill: #1c2128; } .subtitle { font-size: 12.5px; fill: #57606a; }
.panel { font-size: 15px; font-weight: 600; fill: #1c2128; } .axis { font-size: 12.5px; } .tick { font-size: 11px; }
.grid { stroke: #e4e8ec; stroke-width: 1; } .roof { stroke: #8b949e; stroke-width: 1.8; }
.lower { stroke-dasharray: 6 4; } .roofname { font-size: 11px; fill: #6e7781; }
.win { stroke: #1f6feb; stroke-width: 1.4; opacity: .55; } .loss { stroke: #d1242f; stroke-width: 1.4; opacity: .55; }
.ours { fill: #1f6feb; stroke: #fff; stroke-width: 1; } .peer { fill: #fff; stroke: #bc4c00; stroke-width: 1.7; }
.name { font-size: 10.5px; fill: #57606a; }
.halo { stroke: #fff; stroke-width: 3.5px; stroke-linejoin: round; }
"""


def mark(panel, x, y, css, square, title):
    cx, cy, r = panel.x(x), panel.y(y), 4.6
    tip = f"<title>{html.escape(title)}</title>"
    if square:
        panel.parts.append(f'<rect class="{css}" x="{cx - r:.1f}" y="{cy - r:.1f}" width="{2 * r}" height="{2 * r}" '
                           f'rx="1">{tip}</rect>')
    else:
        panel.parts.append(f'<circle class="{css}" cx="{cx:.1f}" cy="{cy:.1f}" r="{r}">{tip}</circle>')


def roofline(machine, lines):
    """Products with raw sums and convolutions, integers on the left and float32 on the right."""
    subjects = [("int8", ("gemm/int8", "conv/int8")), ("float32", ("gemm/float32", "conv/float32"))]
    panels = []
    for arithmetic, works in subjects:
        dots = []
        for line in lines:
            ours = line["counters"]["polymac"]
            if line["work"] in works and ours.get("GMAC") and ours.get("bytes/s"):
                dots.append((line, ours["GMAC"] * 1e9 / ours["bytes/s"]))
        if not dots:
            continue
        peaks = {}
        for counter, key in (("peak", "peak_instruction_"), ("vector_peak", "vector_peak_instruction_")):
            rates = [c["GMAC"] / c[counter] for line, _ in dots for c in line["counters"].values() if c.get(counter)]
            if rates:
                peaks.setdefault(machine.get(key + arithmetic, counter), statistics.median(rates))
        bandwidths = [(level, machine[f"bandwidth_{level}"]) for level in ("L1", "L2", "L3", "memory")
                      if f"bandwidth_{level}" in machine]
        speeds = [v for line, _ in dots for v in (line["speed"], line["peer_speed"]) if v]
        xs = [x for _, x in dots]
        y_range = (min(speeds) / 2, max([*peaks.values(), *speeds]) * 1.6)
        panel = Panel(len(panels), arithmetic, (min(xs) / 5, max(xs) * 2), y_range)
        panel.frame()
        panel.roofs(sorted(peaks.items(), key=lambda p: -p[1]), bandwidths)
        names = []
        for line, x in dots:
            if line["peer"]:
                css = "win" if line["ratio"] >= 1 else "loss"
                panel.line((x, line["speed"]), (x, line["peer_speed"]), css)
        for line, x in sorted(dots, key=lambda d: -d[0]["speed"]):
            square = line["work"].startswith("conv")
            if line["peer"]:
                mark(panel, x, line["peer_speed"], "peer", square,
                     f"{line['row']}: {line['peer']} {line['peer_speed']:.1f} GMAC/s")
            mark(panel, x, line["speed"], "ours", square, f"{line['row']}: polymac {line['speed']:.1f} GMAC/s")
            lowest = min(v for v in (line["speed"], line["peer_speed"]) if v)
            names.append((panel.x(x), panel.y(lowest) + 16, line["shape"].replace("_", " ")))
        taken = [(panel.x(x), panel.y(v)) for line, x in dots for v in (line["speed"], line["peer_speed"]) if v]
        shown = []
        for x, y, words in names:  # a name is written where it covers nothing
            half = 2.9 * len(words)
            free = all(abs(x - a) > half + 7 or abs(y - 4 - b) > 11 for a, b in taken) and \
                all(abs(x - a) > half + h + 4 or abs(y - b) > 12 for a, b, h in shown)
            if free and panel.x0 + half < x < panel.x0 + panel.WIDTH - half and y < panel.y0 + panel.HEIGHT - 4:
                shown.append((x, y, half))
                panel.text(x, y, words, "name", "middle")
        panels.append(panel)
    if not panels:
        fail("--svg needs rows of gemm_bench or conv_bench with GMAC and bytes/s")
    last = panels[-1]
    width, height = last.x0 + last.WIDTH + 24, last.y0 + last.HEIGHT + 94
    y = height - 22
    left, title = Panel.LEFT, "polymac and the best peer under the roof of the machine"
    explained = "circle: product (rows x columns x depth), square: convolution; blue line: polymac ahead, red: behind"
    legend = [f'<circle class="ours" cx="{left + 6}" cy="{y - 4}" r="4.6"/>',
              f'<text x="{left + 18}" y="{y}">polymac</text>',
              f'<circle class="peer" cx="{left + 96}" cy="{y - 4}" r="4.6"/>',
              f'<text x="{left + 108}" y="{y}">best peer of the row</text>',
              f'<text x="{left + 250}" y="{y}">{explained}</text>']
    size = f'width="{width}" height="{height}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size}>',
                      f"<style>{STYLE}</style>", f'<rect {size} fill="#fff"/>',
                      f'<text class="title" x="{left}" y="30">{title}</text>',
                      f'<text class="subtitle" x="{left}" y="50">{html.escape(heading(machine))}</text>',
                      *(part for p in panels for part in p.parts), *legend, "</svg>"]) + "\n"


def write_file(path, text):
    try:
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE", help="JSON of the benchmarks")
    parser.add_argument("--markdown", metavar="FILE", help="write all tables for a README")
    parser.add_argument("--summary", metavar="FILE", help="write one line for each arithmetic and the losing rows")
    parser.add_argument("--svg", metavar="FILE", help="draw the roofline picture")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON")
    options = parser.parse_args()
    machine, rows, skipped = read(options.files)
    lines, means = evaluate(machine, rows)
    print_text(machine, lines, means, skipped, sys.stdout)
    if options.markdown:
        write_file(options.markdown, markdown(machine, lines, means))
    if options.summary:
        write_file(options.summary, summary(machine, lines, means))
    if options.svg:
        write_file(options.svg, roofline(machine, lines))
    if options.json:
        write_file(options.json, json.dumps({"machine": machine, "rows": lines, "means": means, "not_counted": skipped},
                                            indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()
