#!/usr/bin/env python3
"""samba-lm beside llama.cpp on this machine's CPU: the same sizes, types and threads, run in turn (A B A B …).

llama.cpp has no Samba; a random Jamba of Samba's sizes costs it the same work (make_jamba.py). Its source lies in the
PyPI source package llama-cpp-python:

    pip download llama-cpp-python --no-deps --no-binary :all: -d peer && tar xzf peer/llama_cpp_python-*.tar.gz -C peer
    python3 tests/bench/compare_llama.py --source peer/llama_cpp_python-*/vendor/llama.cpp

This builds samba-lm (./dev), the peer and its models (once, below --work), measures the machine's limits before and
after, and prints a Markdown table of medians, ratios and shares of the limits. Needs numpy and gguf (PyPI), and a machine
on which nothing else runs.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGETS = ["llama-bench", "llama-quantize", "llama-batched-bench"]
# Our --type and llama-quantize's name of the nearest.
TYPES = {"bf16": "BF16", "q8_0": "Q8_0", "q4_k": "Q4_K_M"}


@dataclass(frozen=True)
class Case:
    size: str
    prompt: int = 0  # tokens of a prompt to read …
    generate: int = 0  # … or tokens to generate, in each sequence
    depth: int = 0
    batch: int = 1

    def __str__(self):
        if self.prompt:
            return f"{self.size} prefill {self.prompt}"
        if self.batch > 1:
            return f"{self.size} decode, batch {self.batch} (sum)"
        return f"{self.size} decode, " + (f"depth {self.depth}" if self.depth else "empty context")


CASES = [
    Case("421m", generate=64),
    Case("421m", generate=32, depth=2048),
    Case("421m", generate=16, depth=32768),
    Case("421m", prompt=512),
    Case("421m", prompt=4096),
    Case("421m", generate=32, batch=4),
    Case("421m", generate=32, batch=16),
    Case("47m", generate=256),
    Case("47m", prompt=512),
    Case("1.3b", generate=32),
    Case("1.3b", generate=16, depth=2048),
]


@dataclass
class Run:
    tokens_per_s: list
    gb_per_s: float = 0.0  # bytes that a decode must read, by its own account
    peak_bytes: int = 0
    n_params: int = 0


def run(command):
    """Standard output and peak resident bytes of a command that must succeed."""
    command = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        out.seek(0), err.seek(0)
        if status != 0:
            sys.exit(f"{' '.join(command)}\n{err.read()}\nended with {os.waitstatus_to_exitcode(status)}")
        return out.read(), usage.ru_maxrss * 1024


class Ours:
    def __init__(self, program):
        self.program = program

    def measure(self, case, dtype, threads, repetitions):
        command = [self.program, "bench", "--preset", f"samba-{case.size}", "--type", dtype, "-t", threads]
        command += ["-p", case.prompt, "-n", case.generate, "-d", case.depth, "-b", case.batch, "-r", repetitions]
        out, peak = run(command + ["--no-limits", "-o", "json"])
        (result,) = json.loads(out)
        return Run(result["tokens_per_s"]["samples"], result.get("gb_per_s") or 0.0, peak)


class Theirs:
    def __init__(self, build, models):
        self.bin, self.models = build / "bin", models

    def model(self, size, dtype):
        """The peer's model of that size and type, made when it is not there yet."""
        self.models.mkdir(parents=True, exist_ok=True)
        path = self.models / f"j{size}-{TYPES[dtype].lower()}.gguf"
        if path.exists():
            return path
        part = path.with_suffix(".part")
        if dtype == "bf16":
            run([sys.executable, HERE / "make_jamba.py", size, part])
        else:
            run([self.bin / "llama-quantize", self.model(size, "bf16"), part, TYPES[dtype]])
        return part.rename(path)

    def measure(self, case, dtype, threads, repetitions):
        if case.batch > 1:
            return self.measure_batch(case, dtype, threads, repetitions)
        command = [self.bin / "llama-bench", "-m", self.model(case.size, dtype), "-t", threads, "-r", repetitions]
        out, peak = run(command + ["-p", case.prompt, "-n", case.generate, "-d", case.depth, "-o", "json"])
        (result,) = json.loads(out)
        weights = result["model_size"] / 1e9
        samples = result["samples_ts"]
        return Run(samples, weights * statistics.median(samples), peak, result["model_n_params"])

    def measure_batch(self, case, dtype, threads, repetitions):
        samples, peak = [], 0
        command = [self.bin / "llama-batched-bench", "-m", self.model(case.size, dtype), "-t", threads, "-npp", 16]
        command += ["-c", case.batch * (16 + case.generate), "-ntg", case.generate, "-npl", case.batch]
        for _ in range(repetitions):
            out, peak = run(command + ["--output-format", "jsonl"])
            lines = [line for line in out.splitlines() if line.startswith("{")]
            samples.append(json.loads(lines[-1])["speed_tg"])
        return Run(samples, 0.0, peak)


def build_peer(source, build):
    flags = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF"]
    flags += [f"-DLLAMA_BUILD_{what}=OFF" for what in ("TESTS", "SERVER", "EXAMPLES")]
    run(["cmake", "-S", source, "-B", build, *flags])
    run(["cmake", "--build", build, "-j", os.cpu_count(), "--target", *TARGETS])


def limits(program, threads):
    """What the machine can do now, as bench_limits measures it."""
    return json.loads(run([program, threads])[0])


def share(case, dtype, result, peaks, n_params):
    """A run's share of the limit that bounds it, in percent; empty where none is known."""
    median = statistics.median(result.tokens_per_s)
    if case.prompt:
        kind = "bf16" if dtype == "bf16" else "int8"
        peak = peaks[f"{kind}_gflops"] or peaks["f32_gflops"]
        return f"{100 * 2 * n_params * median / 1e9 / peak:.0f}" if n_params else ""
    return f"{100 * result.gb_per_s / peaks['read_gb_per_s']:.0f}" if result.gb_per_s else ""


def compare(case, dtype, ours, theirs, a):
    """A B A B …; the two sides' runs, all samples together."""
    sides = {ours: Run([]), theirs: Run([])}
    for _ in range(a.rounds):
        for side, total in sides.items():
            r = side.measure(case, dtype, a.threads, a.repetitions)
            total.tokens_per_s += r.tokens_per_s
            total.gb_per_s = max(total.gb_per_s, r.gb_per_s)
            total.peak_bytes = max(total.peak_bytes, r.peak_bytes)
            total.n_params = r.n_params
    return sides[ours], sides[theirs]


def cpu_name():
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown CPU"


def arguments():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--source", type=pathlib.Path, help="llama.cpp's source; needed until the peer is built")
    ap.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "peer", help="builds and models of the peer")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--rounds", type=int, default=2, help="how often both sides run a case")
    ap.add_argument("--repetitions", type=int, default=3, help="of each run")
    ap.add_argument("--types", default="bf16,q8_0,q4_k")
    ap.add_argument("--cases", default="", help="only those whose name contains this")
    return ap.parse_args()


def main():
    a = arguments()
    a.work.mkdir(parents=True, exist_ok=True)
    build = a.work / "build"
    if not (build / "bin" / "llama-bench").exists():
        if not a.source:
            sys.exit(f"no llama-bench in {build}/bin: name llama.cpp's source with --source")
        build_peer(a.source, build)
    run([ROOT / "dev", "run", "--version"])
    release = ROOT / "build" / "release"
    run(["ninja", "-C", release, "bench_limits"])
    ours, theirs = Ours(release / "samba-lm"), Theirs(build, a.work / "models")

    limits_program = release / "tests" / "bench_limits"
    before = limits(limits_program, a.threads)
    rows = []
    for case in CASES:
        for dtype in a.types.split(","):
            if a.cases in str(case):
                rows.append((case, dtype, *compare(case, dtype, ours, theirs, a)))
                print(f"{case}, {dtype}: done", file=sys.stderr)
    after = limits(limits_program, a.threads)
    peaks = {key: max(before[key], after[key]) for key in before}

    print(f"{cpu_name()}, {a.threads} threads, medians of {a.rounds} × {a.repetitions} runs in turn; limits: {peaks}\n")
    print("| case | type | samba-lm tokens/s | llama.cpp | ratio | share of the limit, % (theirs) | peak MB (theirs) |")
    print("|---|---|---|---|---|---|---|")
    for case, dtype, our, their in rows:
        x, y = statistics.median(our.tokens_per_s), statistics.median(their.tokens_per_s)
        shares = [share(case, dtype, side, peaks, their.n_params) for side in (our, their)]
        memory = [f"{side.peak_bytes / 1e6:.0f}" for side in (our, their)]
        cells = [case, dtype, f"{x:.1f}", f"{y:.1f}", f"{x / y:.2f}"]
        print("|", " | ".join(map(str, cells)), f"| {shares[0]} ({shares[1]}) | {memory[0]} ({memory[1]}) |")


if __name__ == "__main__":
    main()
