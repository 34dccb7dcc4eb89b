#!/usr/bin/env python3
"""Writes a .pth of microsoft/Samba's training code in a preset's sizes, f32: what convert's memory is measured with.

    python3 tests/bench/make_pth.py models/presets/samba-3.8b.json OUT.pth [--optimizer]      needs torch, numpy

--optimizer adds AdamW's two moments, as the training code saves them: three times the bytes. Presets of Mamba and attention
blocks with MLPs. Values are zeros: a checkpoint's memory depends on its shapes alone.
"""

import json
import sys

import numpy as np
import torch


def shapes(preset):
    d, width, vocab = preset["d_model"], preset["d_ff"], preset["vocab_size"]
    inner, state, rank = 2 * d, 16, -(-d // 16)
    kv, group = preset["n_kv_heads"], preset["n_heads"] // preset["n_kv_heads"]
    head = d // preset["n_heads"]
    yield "transformer.wte.weight", (vocab, d)
    yield "lm_head.weight", (vocab, d)
    yield "transformer.ln_f.weight", (d,)
    for i in range(preset["n_blocks"]):
        p = f"transformer.h.{i}."
        yield p + "norm_1.weight", (d,)
        yield p + "norm_2.weight", (d,)
        if preset["pattern"][i % len(preset["pattern"])] == "mamba":
            mamba = {"in_proj.weight": (2 * inner, d), "conv1d.weight": (inner, 1, 4), "conv1d.bias": (inner,),
                     "x_proj.weight": (rank + 2 * state, inner), "dt_proj.weight": (inner, rank), "dt_proj.bias": (inner,),
                     "A_log": (inner, state), "D": (inner,), "out_proj.weight": (d, inner)}
            yield from ((p + "attn." + name, shape) for name, shape in mamba.items())
        else:
            yield p + "attn.attn.weight", (kv * (group + 2) * head, d)
            yield p + "attn.proj.weight", (d, d)
        yield p + "mlp.swiglu.w1.weight", (width, d)
        yield p + "mlp.swiglu.w2.weight", (width, d)
        yield p + "mlp.swiglu.w3.weight", (d, width)


# Pages that nobody wrote take no memory; torch.zeros would fill them.
def zeros(shape):
    return torch.from_numpy(np.zeros(shape, np.float32))


def main():
    preset = json.load(open(sys.argv[1]))
    model = {name: zeros(shape) for name, shape in shapes(preset)}
    checkpoint = {"model": model, "hparams": {"model_name": preset["name"]}, "iter_num": 100000}
    if "--optimizer" in sys.argv[3:]:
        checkpoint["optimizer"] = {"state": {name: {"step": torch.tensor(1.0), "exp_avg": zeros(w.shape),
                                                    "exp_avg_sq": zeros(w.shape)} for name, w in model.items()}}
    torch.save(checkpoint, sys.argv[2])


main()
