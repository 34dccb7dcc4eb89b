"""After training: a Hugging Face style checkpoint (bfloat16 safetensors), float64 goldens, samples and checks, all from
a .pt file of train.py.

    python3 export.py --pt final.pt --spm tokenizer.model --out DIR [--heldout text.txt …]
                      [--mix model.safetensors SHARE]

--mix averages the weights with those of an earlier checkpoint (of the same run of training: they lie in one basin).
"""

import argparse
import json
import os
import random
import shutil

import numpy as np
import sentencepiece as spm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from samba_model import Samba, SambaConfig, window_attention_dense
from selective_scan import selective_scan, selective_scan_reference

ap = argparse.ArgumentParser()
ap.add_argument("--pt", required=True)
ap.add_argument("--spm", required=True)
ap.add_argument("--out", required=True)
ap.add_argument("--heldout", nargs="*", default=[])
ap.add_argument("--mix", nargs=2, default=None, metavar=("FILE", "SHARE"))
a = ap.parse_args()
os.makedirs(a.out, exist_ok=True)
sp = spm.SentencePieceProcessor(model_file=a.spm)
SYS, USER, ASSIST, END = (sp.piece_to_id(p) for p in ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"))


def as_stored(name, v):
    """Matrices are kept as bfloat16; vectors and A_log as float32."""
    return v if v.ndim < 2 or "A_log" in name else v.to(torch.bfloat16)


ck = torch.load(a.pt, map_location="cpu")
weights = ck["model"]
if a.mix:  # both as bfloat16 files hold them, so that the mean can be made again from the files
    share, other = float(a.mix[1]), load_file(a.mix[0])
    weights = {k: (1 - share) * as_stored(k, v).float() + share * other[k].float() for k, v in weights.items()}
cfg = SambaConfig(**ck["config"])

# The checkpoint, in flash-linear-attention's layout.
stored = {k: as_stored(k, v).contiguous() for k, v in weights.items()}
save_file(stored, f"{a.out}/model.safetensors", metadata={"format": "pt"})
with open(f"{a.out}/config.json", "w") as f:
    json.dump(cfg.to_hf(), f, indent=2)
shutil.copy(a.spm, f"{a.out}/tokenizer.model")
print("exported", os.path.getsize(f"{a.out}/model.safetensors") / 1e6, "MB")


def build(scan, dtype):
    m = Samba(cfg, scan, window_attention_dense(cfg.window_size))
    m.load_state_dict({k: v.float() for k, v in stored.items()})  # what the file holds
    return m.cuda().to(dtype).eval()


@torch.no_grad()
def write_goldens():
    """Logits of a float64 forward pass, at chosen positions, before and beyond the window."""
    exact = build(selective_scan_reference, torch.float64)
    text = open(a.heldout[0], encoding="utf-8").read() if a.heldout else "The grass is green. " * 2000
    gold = {
        "short": [1]
        + sp.encode("Once upon a time there was a little girl who lived in a small house near the forest."),
        "long": ([1] + sp.encode(text[20000:60000]))[:3000],
    }
    out = {}
    for name, ids in gold.items():
        t = torch.tensor([ids], device="cuda")
        lg = exact(t, exact.rope(len(ids), "cuda", torch.float64))[0]
        pos = [0, 1, 31, 32, 1023, 2046, 2047, 2048, 2049, 2500, len(ids) - 1]
        if len(ids) < 64:
            pos = list(range(len(ids)))
        out[f"{name}_ids"], out[f"{name}_pos"] = np.array(ids, np.int32), np.array(pos, np.int32)
        out[f"{name}_logits"] = lg[pos].float().cpu().numpy()
        nll = F.cross_entropy(lg[:-1].float(), t[0, 1:], reduction="none")
        out[f"{name}_nll"] = nll.cpu().numpy()
        print("golden", name, len(ids), "tokens, nll", nll.mean().item())
    np.savez_compressed(f"{a.out}/goldens.npz", **out)


write_goldens()
fast = build(selective_scan, torch.float32)


@torch.no_grad()
def logits_fast(ids):
    """(batch, n) -> (batch, n, vocab), any n."""
    n = ids.shape[1]
    ids = F.pad(ids, (0, -n % 32))
    with torch.autocast("cuda", torch.bfloat16):
        return fast(ids, fast.rope(ids.shape[1], "cuda"))[:, :n].float()


def user(text):
    return [1, USER] + sp.encode(text) + [END, ASSIST]


PLAIN = [
    "Once upon a time there was a little girl who",
    "The capital of France is",
    "The old castle stood on a hill",
    "Water is made of",
]
ASKED = [
    "Tell me a short story about a dog and a cat.",
    "What is the sun?",
    "Hello! How are you?",
    "Write three tips for staying healthy.",
    "What is the capital of Italy?",
    "Why is the sky blue?",
    "Write a poem about the sea.",
    "Explain what a computer is to a child.",
    "Summarize.\n\nTom went to the market to buy apples. On the way he met an old man who had lost his dog. Tom helped "
    "him to look for it, and they found it near the river. The old man gave Tom a silver coin.",
    "Give me a recipe for soup.",
    "Who was Shakespeare?",
]


@torch.no_grad()
def generate(prompts, n=160, temp=0.7, top_p=0.9, seed=0):
    g = torch.Generator("cuda").manual_seed(seed)
    lens = torch.tensor([len(p) for p in prompts], device="cuda")
    ids = torch.zeros(len(prompts), int(lens.max()) + n, dtype=torch.long, device="cuda")
    for i, p in enumerate(prompts):
        ids[i, : len(p)] = torch.tensor(p)
    rows = torch.arange(len(prompts), device="cuda")
    done = torch.zeros(len(prompts), dtype=torch.bool, device="cuda")
    for _ in range(n):
        lg = logits_fast(ids[:, : int(lens.max())])[rows, lens - 1] / temp
        p, idx = lg.softmax(-1).sort(descending=True)
        p[p.cumsum(-1) - p > top_p] = 0
        t = idx[rows, torch.multinomial(p, 1, generator=g)[:, 0]]
        ids[rows, lens] = torch.where(done, 0, t)
        done |= (t == END) | (t == 2)
        lens += (~done).long()
        if done.all():
            break
    return [sp.decode([t for t in ids[i, : int(lens[i])].tolist() if t > 6 or t == 0]) for i in range(len(prompts))]


def greedy(ids, n):
    """The n tokens that follow."""
    ids = list(ids)
    for _ in range(n):
        ids.append(int(logits_fast(torch.tensor([ids], device="cuda"))[0, -1].argmax()))
    return ids[-n:]


def report(line):
    print(line, flush=True)
    with open(f"{a.out}/report.txt", "a") as f:
        f.write(line + "\n")


FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."  # as in pack.py
INTRO = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about "
    "the important information there."
)


def key_line(key):
    return f"The pass key is {key}. Remember it. {key} is the pass key."


def retrieval_in_filler(rng):
    """Keys at random depth of filler text, at distances within and beyond the window."""
    for n_fill in (20, 60, 120, 240, 330, 480, 960):
        ok, total = 0, 10 if n_fill < 900 else 4
        for _ in range(total):
            key, at = rng.randrange(10000, 100000), rng.randint(0, n_fill)
            text = " ".join([INTRO] + [FILLER] * at + [key_line(key)] + [FILLER] * (n_fill - at))
            ids = [1] + sp.encode(text + " What is the pass key? The pass key is")
            ok += str(key) in sp.decode(greedy(ids, 6))
        report(f"passkey {n_fill} fillers, {len(ids)} tokens: {ok}/{total}")


def retrieval_in_book(rng, book):
    """The same in a passage of a book that training never saw, asked as a chat; the key lies in the first third."""
    for n in (1000, 2000, 3000, 4500, 7000, 12000):
        ok = 0
        for _ in range(8):
            key, at = rng.randrange(10000, 100000), rng.randrange(0, len(book) - n)
            words = sp.decode(book[at : at + n]).split(" ")
            words.insert(rng.randrange(len(words) // 3), key_line(key))
            reply = greedy(user(" ".join(words) + "\n\nWhat is the pass key?"), 12)
            ok += str(key) in sp.decode([t for t in reply if t > 6])
        report(f"pass key in {n} tokens of a book: {ok}/8")


def nll_by_context(path):
    """The same tokens judged with ever more context."""
    raw = open(path, encoding="utf-8").read()
    ids = [1] + sp.encode(raw)
    row, ends = [], range(16384, min(len(ids), 16384 * 9), 16384)
    for context in (256, 512, 1024, 2048, 4096, 8192, 16384):
        nll = 0.0
        for end in ends:
            t = torch.tensor([ids[end - context : end]], device="cuda")
            nll += F.cross_entropy(logits_fast(t[:, :-1])[0, -128:], t[0, -128:], reduction="mean").item()
        row.append(f"{context}: {nll / len(ends):.4f}")
    report(f"{os.path.basename(path)} {len(raw)} chars {len(ids)} tokens, mean nll of the same tokens by context {row}")


for t in generate([[1] + sp.encode(t) for t in PLAIN] + [user(t) for t in ASKED]):
    report("--- " + t)
rng = random.Random(5)
retrieval_in_filler(rng)
if a.heldout:
    retrieval_in_book(rng, sp.encode(open(a.heldout[0], encoding="utf-8").read()))
for path in a.heldout:
    nll_by_context(path)
