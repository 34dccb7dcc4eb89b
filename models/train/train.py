"""Trains a small Samba from tokenised sources. One process a GPU:

    torchrun --nproc_per_node=N train.py --data DIR --out DIR --minutes M

DIR/sources.json names the sources: {"name": {"weight": [at start, at end], "answer": W}}; W (default 1) weights the
loss on the assistant's words of that source (recall needs it: five digits in eight thousand tokens); for each source,
DIR/name.bin holds uint16 tokens (every document starts with token 1) and DIR/name.idx int64 document starts.
"""

import argparse
import json
import math
import os
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from samba_model import Samba, SambaConfig, window_attention_flex
from selective_scan import selective_scan

ap = argparse.ArgumentParser()
ap.add_argument("--data", required=True)
ap.add_argument("--out", required=True)
ap.add_argument("--minutes", type=float, default=20, help="wall-clock budget; the schedule is planned from it")
ap.add_argument("--seqlen", type=int, default=4096)
ap.add_argument("--batch", type=int, default=32, help="sequences a GPU a step")
ap.add_argument("--lr", type=float, default=3e-3)
ap.add_argument("--wd", type=float, default=0.1)
ap.add_argument("--config", default="{}")
ap.add_argument("--max_steps", type=int, default=0)
ap.add_argument("--init", default="", help="weights to go on from: a .pt of this script or a model.safetensors")
ap.add_argument(
    "--decay_from", type=float, default=0.5, help="the share of the run after which the learning rate falls to zero"
)
ap.add_argument("--fixed_steps", type=int, default=0)
a = ap.parse_args()

rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
if world > 1:
    dist.init_process_group("nccl")
torch.manual_seed(0)
torch.set_float32_matmul_precision("high")
T0 = time.time()
L = a.seqlen
cfg = SambaConfig(**json.loads(a.config))
model = Samba(cfg, selective_scan, window_attention_flex(cfg.window_size, L)).cuda()
if a.init.endswith(".safetensors"):
    from safetensors.torch import load_file

    model.load_state_dict(load_file(a.init, device="cuda"))  # casts bfloat16 up
elif a.init:
    model.load_state_dict(torch.load(a.init, map_location="cuda")["model"])
rope = model.rope(L, "cuda")
n_params = sum(p.numel() for p in model.parameters())

muon_p = [
    p
    for n, p in model.named_parameters()
    if p.ndim == 2 and not any(k in n for k in ("embeddings", "dt_proj", "A_log", "x_proj"))
]
ids = {id(p) for p in muon_p}
decay = [p for n, p in model.named_parameters() if id(p) not in ids and p.ndim == 2 and "A_log" not in n]
plain = [p for n, p in model.named_parameters() if id(p) not in ids and (p.ndim != 2 or "A_log" in n)]
opts = [
    torch.optim.Muon(muon_p, lr=a.lr, weight_decay=a.wd, adjust_lr_fn="match_rms_adamw"),
    torch.optim.AdamW(
        [{"params": decay, "weight_decay": a.wd}, {"params": plain, "weight_decay": 0.0}],
        lr=a.lr,
        betas=(0.9, 0.95),
        fused=True,
    ),
]


class Source:
    def __init__(self, name, weight, answer=1.0):
        self.answer = answer
        self.tok = np.memmap(f"{a.data}/{name}.bin", dtype=np.uint16, mode="r")
        idx = np.fromfile(f"{a.data}/{name}.idx", dtype=np.int64)
        idx = idx[idx < len(self.tok) - L - 1]
        hold = max(1, len(idx) // 200)  # the first 0.5 % of documents are for validation
        self.val, self.train, self.weight, self.name, self.seen = idx[:hold], idx[hold:], weight, name, 0
        self.n_train_tokens = len(self.tok) - int(idx[hold]) if len(idx) > hold else len(self.tok)


spec = json.load(open(f"{a.data}/sources.json"))
sources = [Source(n, s["weight"], s.get("answer", 1.0)) for n, s in spec.items()]
ASSISTANT = 5  # token id; the control tokens are 3 (system), 4 (user), 5 (assistant), 6 (end)
rng = np.random.default_rng(1234 + rank)


def batch(frac):
    w = np.array([s.weight[0] + (s.weight[1] - s.weight[0]) * frac for s in sources])
    rows, answer = [], []
    for s in rng.choice(len(sources), size=a.batch, p=w / w.sum()):
        s = sources[s]
        o = int(rng.choice(s.train))
        rows.append(s.tok[o : o + L + 1].astype(np.int64))
        s.seen += L
        answer.append(s.answer)
    t = torch.from_numpy(np.stack(rows)).pin_memory().cuda(non_blocking=True)
    x = t[:, :-1]
    at = torch.arange(L, device="cuda").where((x >= 3) & (x <= 6), 0).cummax(1).values  # the last control token so far
    w = torch.tensor(answer, device="cuda")[:, None].where(x.gather(1, at) == ASSISTANT, 1.0)
    return x, t[:, 1:], w / w.sum()


def loss_fn(x, y, w):
    logits = model(x, rope)
    return (F.cross_entropy(logits.float().flatten(0, 1), y.flatten(), reduction="none") * w.flatten()).sum()


step_fn = torch.compile(loss_fn)
flat_weight = torch.full((a.batch, L), 1.0 / (a.batch * L), device="cuda")


def validate():
    out = {}
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        for s in sources:
            o = s.val[np.linspace(0, len(s.val) - 1, min(len(s.val), a.batch)).astype(int)]
            o = np.resize(o, a.batch)
            t = torch.from_numpy(np.stack([s.tok[i : i + L + 1].astype(np.int64) for i in o])).cuda()
            out[s.name] = round(step_fn(t[:, :-1], t[:, 1:], flat_weight).item(), 4)
    return out


def save(tag):
    if rank == 0:
        torch.save(
            {"model": {k: v.detach().cpu() for k, v in model.state_dict().items()}, "config": cfg.__dict__},
            f"{a.out}/{tag}.pt",
        )


def reduce_grads():
    if world > 1:
        gs = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch._utils._flatten_dense_tensors(gs)
        dist.all_reduce(flat, op=dist.ReduceOp.AVG)
        for g, f in zip(gs, torch._utils._unflatten_dense_tensors(flat, gs)):
            g.copy_(f)


os.makedirs(a.out, exist_ok=True)
if rank == 0:
    print(
        f"{n_params / 1e6:.1f}M params, sources:",
        {s.name: f"{s.n_train_tokens / 1e6:.1f}M tokens" for s in sources},
        flush=True,
    )
total, step, warm, tokens = a.fixed_steps, 0, 100, 0
t_train = None
ema = None
while True:
    if step == 12 or (t_train is None and step > 12):  # compiled and warm: plan the schedule from the measured speed
        torch.cuda.synchronize()
        t_train = time.time()
        s0 = step
    if t_train is not None and step == s0 + 20 and not total:
        torch.cuda.synchronize()
        per = (time.time() - t_train) / 20
        left = a.minutes * 60 - (time.time() - T0)
        n = torch.tensor([step + left / per * 0.985], device="cuda")
        if world > 1:
            dist.broadcast(n, 0)
        total = int(n.item())
        if rank == 0:
            print(
                f"{per * 1e3:.0f} ms a step, {a.batch * L * world / per / 1e3:.0f}K tokens/s, {total} steps planned",
                flush=True,
            )
    horizon = total or 10**9
    frac = min(1.0, step / horizon)
    lr = (
        a.lr
        * min(1.0, (step + 1) / warm)
        * (1.0 if frac < a.decay_from else max(0.01, (1 - frac) / (1 - a.decay_from)))
    )
    for o in opts:
        for g in o.param_groups:
            g["lr"] = lr
    x, y, w = batch(frac)
    with torch.autocast("cuda", torch.bfloat16):
        loss = step_fn(x, y, w)
    loss.backward()
    reduce_grads()
    gn = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for o in opts:
        o.step()
        o.zero_grad(set_to_none=True)
    step += 1
    tokens += a.batch * L * world
    if rank == 0 and (step % 50 == 0 or step <= 3):
        l = loss.item()
        print(
            f"step {step}/{total or '?'} loss {l:.4f} grad {gn.item():.2f} lr {lr:.2e} "
            f"tokens {tokens / 1e6:.0f}M t {time.time() - T0:.0f}s",
            flush=True,
        )
        if not math.isfinite(l):
            raise SystemExit("loss is not finite")
    if step % 500 == 0:
        v = validate()
        if rank == 0:
            print(
                "  val", v, {s.name: round(s.seen * world / max(1, s.n_train_tokens), 2) for s in sources}, flush=True
            )
        save("last")
    if (total and step >= total) or (a.max_steps and step >= a.max_steps):
        break
v = validate()
if rank == 0:
    print("final val", v, f"{tokens / 1e6:.0f}M tokens in {time.time() - T0:.0f}s", flush=True)
save("final")
if world > 1:
    dist.barrier()
    dist.destroy_process_group()
