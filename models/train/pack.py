"""Tokenises text sources for train.py: reads FILE.jsonl[.xz] records, writes NAME.bin (uint16 tokens) and NAME.idx.

    python3 pack.py --spm tokenizer.model --out DIR NAME=KIND:FILE[,FILE…] …

KIND: text | chat | summary | bank | passkey | needle; for passkey, the number of documents stands in FILE's place.

Documents are shuffled; each is <s> tokens </s>. Chat: <|user|>…<|end|><|assistant|>…<|end|>, every text between
control tokens encoded by itself. A text longer than --max_doc tokens is cut into documents of that length.
"""

import argparse
import json
import lzma
import multiprocessing as mp
import os
import random

import numpy as np
import sentencepiece as spm

ap = argparse.ArgumentParser()
ap.add_argument("--spm", required=True)
ap.add_argument("--out", required=True)
ap.add_argument("--max_doc", type=int, default=4094)
ap.add_argument("--procs", type=int, default=os.cpu_count())
ap.add_argument("sources", nargs="+")
a = ap.parse_args()
sp = spm.SentencePieceProcessor(model_file=a.spm)
BOS, EOS = sp.bos_id(), sp.eos_id()
SYS, USER, ASSIST, END = (sp.piece_to_id(p) for p in ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"))
assert 0 not in (SYS, USER, ASSIST, END)
ROLE = {"system": SYS, "user": USER, "assistant": ASSIST}


def chat(messages):
    ids = [BOS]
    for m in messages:
        ids += [ROLE[m["role"]]] + sp.encode(m["content"].strip()) + [END]
    return [ids + [EOS]]


ASK_AFTER = [
    "Summarize the text above.",
    "Write a short summary of the text above.",
    "What is the text above about?",
    "Give a brief summary of this document.",
    "Summarize.",
]
ASK_BEFORE = [
    "Summarize the following text.",
    "Write a short summary of this text:",
    "Give a brief summary of the document below.",
]


def summary(r, rng):
    doc, s = r["document"].strip(), r["summary"].strip()
    ids = sp.encode(doc)
    if len(ids) > a.max_doc - 300:  # must end inside one training sequence
        return []
    if rng.random() < 0.7:
        u = doc + "\n\n" + rng.choice(ASK_AFTER)
    else:
        u = rng.choice(ASK_BEFORE) + "\n\n" + doc
    return chat([{"role": "user", "content": u}, {"role": "assistant", "content": s}])


FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
FILL_IDS = None


def passkey(rng):
    """A five-digit key hidden at a random depth of filler text (the retrieval task of arXiv 2305.16300)."""
    global FILL_IDS
    FILL_IDS = FILL_IDS or sp.encode(FILLER.strip())
    key = f"{rng.randrange(10000, 100000)}"
    most = (a.max_doc - 160) / len(FILL_IDS)
    n = int(rng.choice([rng.uniform(2, 20), rng.uniform(20, most), rng.uniform(most / 2, most)]))
    at = rng.randint(0, n)
    intro = (
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you "
        "about the important information there."
    )
    info = f"The pass key is {key}. Remember it. {key} is the pass key."
    text = " ".join([intro] + [FILLER.strip()] * at + [info] + [FILLER.strip()] * (n - at))
    if rng.random() < 0.5:
        return chat(
            [
                {"role": "user", "content": text + " What is the pass key?"},
                {"role": "assistant", "content": f"The pass key is {key}."},
            ]
        )
    return [[BOS] + sp.encode(text + f" What is the pass key? The pass key is {key}.") + [EOS]]


KINDS_OF_THINGS = (
    "red blue green old small golden silver black white broken tall round heavy secret lost first second third last "
    "north south wooden iron glass"
)
NOUNS = "door box house tower bridge book letter garden ship key room chest clock lamp cart mill well gate wagon castle"
THINGS = [f"{kind} {noun}" for kind in KINDS_OF_THINGS.split() for noun in NOUNS.split()]


def needle(r, rng):
    """One to six numbers planted in a passage of a book, asked for at its end in another order: recall over up to
    max_doc tokens."""
    ids = sp.encode(r["text"].strip())
    out = []
    for _ in range(max(1, min(24, len(ids) // 9000))):
        room = a.max_doc - 420
        n = int(
            rng.choice(
                [rng.uniform(150, 1800), rng.uniform(1500, 3500), rng.uniform(2000, room), rng.uniform(room / 2, room)]
            )
        )
        n = min(n, len(ids) - 2)
        if n < 100:
            return out
        at = rng.randrange(0, len(ids) - n)
        words = sp.decode(ids[at : at + n]).split(" ")
        k = rng.choice([1, 1, 2, 3, 4, 6])
        facts = (
            [("The pass key is {}. Remember it. {} is the pass key.", "What is the pass key?", "The pass key is {}.")]
            if rng.random() < 0.45
            else []
        )
        facts += [
            (
                rng.choice([f"The number of the {t} is {{}}.", f"Remember this: the number of the {t} is {{}}."]),
                f"What is the number of the {t}?",
                f"The number of the {t} is {{}}.",
            )
            for t in rng.sample(THINGS, k - len(facts) if k > len(facts) else 0)
        ]
        nums = [f"{rng.randrange(10000, 100000)}" for _ in facts]
        spots = sorted(((rng.randrange(len(words)), i) for i in range(len(facts))), reverse=True)
        for w, i in spots:
            words.insert(w, facts[i][0].format(*[nums[i]] * facts[i][0].count("{}")))
        text, order = " ".join(words), rng.sample(range(len(facts)), len(facts))
        m = []
        for j, i in enumerate(order):
            m += [
                {"role": "user", "content": (text + "\n\n" if j == 0 else "") + facts[i][1]},
                {"role": "assistant", "content": facts[i][2].format(nums[i])},
            ]
        out += chat(m)
    return out


SYSTEMS = [
    "You are a helpful assistant.",
    "You are Samba-47M, a small model.",
    "Answer briefly.",
    "You are a friendly assistant.",
    "Be helpful and honest.",
    "Answer in plain words.",
]


def bank(r, rng):
    """Hand-written records: {"q", "a"}, {"messages"} or {"document", "summary", "questions"}; each gives several
    chats."""

    def turns(*pairs):
        m = [{"role": "system", "content": rng.choice(SYSTEMS)}] if rng.random() < 0.25 else []
        for q, ans in pairs:
            if rng.random() < 0.15:
                q = q.lower().rstrip("?.!") if rng.random() < 0.5 else q.rstrip("?.!")
            m += [{"role": "user", "content": q}, {"role": "assistant", "content": ans}]
        return chat(m)

    if "messages" in r:
        return chat(r["messages"]) * 2
    if "q" in r:
        return [d for q in r["q"] for d in turns((q, rng.choice(r["a"])))]
    doc, out = r["document"].strip(), []
    for _ in range(2):
        out += turns((doc + "\n\n" + rng.choice(ASK_AFTER), r["summary"]))
    out += turns((rng.choice(ASK_BEFORE) + "\n\n" + doc, r["summary"]))
    qs = r.get("questions") or []
    for q, ans in qs:
        out += turns((doc + "\n\n" + q, ans))
    if qs:
        out += turns((doc + "\n\n" + rng.choice(ASK_AFTER), r["summary"]), *map(tuple, qs))
    return out


def text(t):
    ids = sp.encode(t.strip())
    if len(ids) < 16:
        return []
    n = a.max_doc
    return [[BOS] + ids[i : i + n] + [EOS] for i in range(0, len(ids), n) if len(ids) - i > 64 or i == 0]


def work(job):
    kind, seed, lines = job
    rng, out = random.Random(seed), []
    for line in lines:
        if kind == "passkey":
            docs = passkey(rng)
        else:
            r = json.loads(line)
            docs = {
                "text": lambda: text(r["text"]),
                "chat": lambda: chat(r["messages"]),
                "summary": lambda: summary(r, rng),
                "bank": lambda: bank(r, rng),
                "needle": lambda: needle(r, rng),
            }[kind]()
        out += [np.array(d, dtype=np.uint16) for d in docs]
    return out


def jobs(kind, files):
    if kind == "passkey":
        n = int(files[0])
        for i in range(0, n, 200):
            yield kind, i, [""] * min(200, n - i)
        return
    for f in files:
        op = lzma.open if f.endswith(".xz") else open
        with op(f, "rt", encoding="utf-8") as h:
            buf, size, k = [], 0, 0
            for line in h:
                buf.append(line)
                size += len(line)
                if size > 2_000_000:
                    yield kind, hash((f, k)) & 0xFFFFFFFF, buf
                    buf, size, k = [], 0, k + 1
            if buf:
                yield kind, hash((f, k)) & 0xFFFFFFFF, buf


if __name__ == "__main__":
    os.makedirs(a.out, exist_ok=True)
    for s in a.sources:
        name, rest = s.split("=", 1)
        kind, files = rest.split(":", 1)
        docs = []
        with mp.Pool(a.procs) as pool:
            for d in pool.imap_unordered(work, jobs(kind, files.split(","))):
                docs += d
        random.Random(0).shuffle(docs)
        lens = np.array([len(d) for d in docs], dtype=np.int64)
        np.concatenate(docs).tofile(f"{a.out}/{name}.bin")
        np.concatenate([[0], np.cumsum(lens)[:-1]]).tofile(f"{a.out}/{name}.idx")
        print(f"{name}: {len(docs)} documents, {lens.sum() / 1e6:.1f}M tokens", flush=True)
