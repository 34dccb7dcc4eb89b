#!/usr/bin/env python3
"""How good summaries are: ROUGE of the program's methods against the lead and random sentences.

usage: summaries.py --program build/release/samba-lm DATA.jsonl[.xz] [--sample 100] [--methods quote,write]

DATA has JSON lines with "document" and "summary" (the reference). Needs PyPI's rouge-score. Every method has the same
sentences to choose from (those that quote would consider: 8 to 40 words, with an end mark) and the reference's length,
at most 100 words. Printed: ROUGE-1, -2 and -L (F, with stemming), their mean, and the mean against the lead's, with
intervals of 95 % from 10,000 bootstrap samples of the documents.
"""
import argparse
import json
import lzma
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from rouge_score import rouge_scorer

MOST_WORDS = 100
KINDS = ("rouge1", "rouge2", "rougeL")


def read_records(path, least, most, having, lacking):
    """Records whose documents have so many words and whose references are more than a line and answer no question."""
    opened = lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else open(path, encoding="utf-8")
    with opened as lines:
        for line in lines:
            record = json.loads(line)
            if record.get("kind") == "meeting-span":  # a part of a meeting, summed up for a question
                continue
            if any(key not in record for key in having) or any(key in record for key in lacking):
                continue
            if least <= len(record["document"].split()) <= most and len(record["summary"].split()) >= 30:
                yield record


def summarize(program, text, *options):
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        run = subprocess.run([*program, "summarize", file.name, "--json", "--quiet", *options],
                             capture_output=True, check=True)
    return json.loads(run.stdout)


def fitting(sentences, words):
    """Sentences in this order, skipping what no longer fits."""
    taken = []
    for sentence in sentences:
        n = len(sentence.split())
        if n <= words:
            words -= n
            taken.append(sentence)
    return taken


def summaries_of(program, record, methods, generator):
    document, words = record["document"], min(len(record["summary"].split()), MOST_WORDS)
    everything = summarize(program, document, "--method", "quote", "--section", "16384", "--words", "10000")
    sentences = [s["text"] for s in everything["sentences"]]
    shuffled = sentences[:]
    generator.shuffle(shuffled)
    chosen = set(fitting(shuffled, words))
    texts = {"random": " ".join(s for s in sentences if s in chosen), "lead": " ".join(fitting(sentences, words))}
    for method in methods:
        found = summarize(program, document, "--method", method, "--words", str(words))
        texts[method] = " ".join(found["summary"].split()[:words] if method != "quote" else [found["summary"]])
    return texts


def mean(values):
    return sum(values) / len(values)


def interval(values, generator, rounds=10000):
    means = sorted(mean(generator.choices(values, k=len(values))) for _ in range(rounds))
    return means[int(0.025 * rounds)], means[int(0.975 * rounds)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--program", default="build/release/samba-lm", help="and its options, in one string")
    parser.add_argument("--methods", default="quote")
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--least", type=int, default=200, help="words of a document")
    parser.add_argument("--most", type=int, default=12000)
    parser.add_argument("--having", action="append", default=[], metavar="KEY", help="only records with this key")
    parser.add_argument("--lacking", action="append", default=[], metavar="KEY", help="only records without it")
    args = parser.parse_args()

    program, methods = args.program.split(), args.methods.split(",")
    generator = random.Random(args.seed)
    records = list(read_records(args.data, args.least, args.most, args.having, args.lacking))
    records = generator.sample(records, min(args.sample, len(records)))
    scorer = rouge_scorer.RougeScorer(KINDS, use_stemmer=True)
    scores = {}  # method: for each document [ROUGE-1, -2, -L]
    for i, record in enumerate(records):
        for method, text in summaries_of(program, record, methods, generator).items():
            found = scorer.score(record["summary"], text)
            scores.setdefault(method, []).append([100 * found[kind].fmeasure for kind in KINDS])
        if sys.stderr.isatty():
            print(f"\r{i + 1} of {len(records)} documents", end="", file=sys.stderr)
    print(file=sys.stderr)

    print(f"| method, {len(records)} documents | ROUGE-1 | ROUGE-2 | ROUGE-L | mean | against the lead |")
    print("|---|---|---|---|---|---|")
    lead = [mean(s) for s in scores["lead"]]
    for method, rows in scores.items():
        means = [mean(s) for s in rows]
        columns = [mean([row[k] for row in rows]) for k in range(len(KINDS))] + [mean(means)]
        against = ""
        if method != "lead":
            differences = [a - b for a, b in zip(means, lead)]
            low, high = interval(differences, generator)
            against = f"{mean(differences):+.1f} [{low:.1f}, {high:.1f}]"
        print(f"| {method} | " + " | ".join(f"{c:.1f}" for c in columns) + f" | {against} |")


if __name__ == "__main__":
    main()
