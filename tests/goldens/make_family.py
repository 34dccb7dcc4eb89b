"""Toy random checkpoints of every kind that `convert` takes, with the logits of an independent float64 pass.

    python3 make_family.py        # needs torch, numpy, safetensors; rewrites tests/goldens/family/

Written from docs/model.md and docs/checkpoints.md alone: plain matrix products over whole sequences, no state, no cache.
Each fixture is NAME/ with the checkpoint (model.pth, or config.json and model.safetensors), preset.json where the
checkpoint is a .pth, ids.npy (int32) and logits.npy (float32, one row a position).
"""
import json
import math
import os
import shutil
import zipfile

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "family")
D, VOCAB, STATE, CONV, N_IDS = 32, 64, 16, 4, 40
INNER, RANK = 2 * D, D // 16
G = torch.Generator().manual_seed(20406)


def rand(*shape, scale=None):
    scale = scale or shape[-1] ** -0.5
    return (torch.randn(*shape, generator=G) * scale).to(torch.bfloat16).float()


def norm_weight(n=D):
    return (1 + rand(n, scale=0.1)).to(torch.bfloat16).float()


# ---- weights, in the names of the mixers ---------------------------------------------------------------------------


def mamba_weights(bias=False):
    w = {"in_proj.weight": rand(2 * INNER, D), "conv1d.weight": rand(INNER, 1, CONV, scale=0.5), "conv1d.bias": rand(INNER, scale=0.1),
         "x_proj.weight": rand(RANK + 2 * STATE, INNER), "dt_proj.weight": rand(INNER, RANK), "dt_proj.bias": rand(INNER, scale=0.5) - 3,
         "A_log": torch.log(torch.arange(1, STATE + 1).float()).repeat(INNER, 1) + rand(INNER, STATE, scale=0.1),
         "D": norm_weight(INNER), "out_proj.weight": rand(D, INNER)}
    if bias:
        w |= {"in_proj.bias": rand(2 * INNER, scale=0.1), "out_proj.bias": rand(D, scale=0.1)}
    return w


def attention_weights(heads, kv, bias=False, qk_norm=False, short=False):
    hd = D // heads
    w = {"q_proj.weight": rand(heads * hd, D, scale=0.5), "k_proj.weight": rand(kv * hd, D, scale=0.5), "v_proj.weight": rand(kv * hd, D), "o_proj.weight": rand(D, D)}
    if bias:
        w |= {f"{p}_proj.bias": rand(n * hd, scale=0.3) for p, n in (("q", heads), ("k", kv), ("v", kv))}
    if short:
        w |= {f"{p}_conv1d.weight": rand(n * hd, 1, CONV, scale=0.5) for p, n in (("q", heads), ("k", kv), ("v", kv))}
    if qk_norm:
        w |= {"q_norm.weight": norm_weight(hd), "k_norm.weight": norm_weight(hd)}
    return w


def recurrent_weights(heads, keys, values, gla):
    w = {f"{p}_proj.weight": rand(n, D, scale=0.5) for p, n in (("q", keys), ("k", keys), ("v", values), ("g", values))}
    if gla:  # biases of both signs: channels that forget within tokens, and some that hardly do
        w |= {"gk_proj.0.weight": rand(16, D), "gk_proj.1.weight": rand(keys, 16, scale=1.0), "gk_proj.1.bias": rand(keys, scale=4.0)}
    return w | {"g_norm_swish_gate.weight": norm_weight(values // heads), "o_proj.weight": rand(D, values)}


MEGA_Z, MEGA_CHUNK, MEGA_RANK = 16, 12, 2


def mega_weights():
    scan = {k: v for k, v in mamba_weights().items() if "proj" not in k}
    scan |= {"conv1d.weight": rand(D, 1, CONV, scale=0.5), "conv1d.bias": rand(D, scale=0.1), "A_log": scan["A_log"][:D], "D": scan["D"][:D],
             "x_proj.weight": rand(MEGA_RANK + 2 * STATE, D), "dt_proj.weight": rand(D, MEGA_RANK), "dt_proj.bias": rand(D, scale=0.5) - 3}
    n_mix = 3 * D + MEGA_Z
    return {"move." + k: v for k, v in scan.items()} | {
        "v_proj.weight": rand(D, D), "v_proj.bias": rand(D, scale=0.3), "mx_proj.weight": rand(n_mix, D, scale=0.5), "mx_proj.bias": rand(n_mix, scale=0.3),
        "h_proj.weight": rand(D, D), "h_proj.bias": rand(D, scale=0.3), "gamma": rand(2, MEGA_Z, scale=2.0), "beta": rand(2, MEGA_Z, scale=0.5),
        "rel_pos_bias.alpha": rand(1, MEGA_Z, scale=0.5), "rel_pos_bias.beta": rand(1, MEGA_Z, scale=0.5)}


def mlp_weights(width):
    return {"gate": rand(width, D), "up": rand(width, D), "down": rand(D, width)}


# ---- the equations -------------------------------------------------------------------------------------------------


def rmsnorm(x, w):
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * w.double()


def linear(x, w, name):
    y = x @ w[name + ".weight"].double().T
    return y + w[name + ".bias"].double() if name + ".bias" in w else y


def conv_silu(u, taps, bias=0):
    padded = torch.cat([torch.zeros(CONV - 1, u.shape[1], dtype=torch.float64), u])
    return F.silu(sum(padded[j:j + len(u)] * taps[:, 0, j].double() for j in range(CONV)) + bias)


def scan(u, w):
    rank = w["dt_proj.weight"].shape[1]
    dt, b, c = (u @ w["x_proj.weight"].double().T).split([rank, STATE, STATE], -1)
    delta = F.softplus(linear(dt, w, "dt_proj"))
    a, s, out = -torch.exp(w["A_log"].double()), torch.zeros(u.shape[1], STATE, dtype=torch.float64), []
    for t in range(len(u)):
        s = torch.exp(delta[t, :, None] * a) * s + (delta[t] * u[t])[:, None] * b[t]
        out.append(s @ c[t] + w["D"].double() * u[t])
    return torch.stack(out)


def mamba(x, w):
    u, z = linear(x, w, "in_proj").chunk(2, -1)
    u = conv_silu(u, w["conv1d.weight"], w["conv1d.bias"].double())
    return linear(scan(u, w) * F.silu(z), w, "out_proj")


def attention(x, w, heads, kv, window, rope=True, theta=10000.0):
    hd, n = D // heads, len(x)
    q, k, v = (linear(x, w, p + "_proj") for p in "qkv")
    if "q_conv1d.weight" in w:
        q, k, v = (conv_silu(m, w[p + "_conv1d.weight"]) for p, m in zip("qkv", (q, k, v)))
    q, k, v = (m.view(n, -1, hd).transpose(0, 1) for m in (q, k, v))
    if "q_norm.weight" in w:
        q, k = rmsnorm(q, w["q_norm.weight"]), rmsnorm(k, w["k_norm.weight"])
    pos = torch.arange(n, dtype=torch.float64)
    if rope:
        angle = pos[:, None] * theta ** -(torch.arange(0, hd, 2, dtype=torch.float64) / hd)
        def turn(m):
            a, b = m.chunk(2, -1)
            return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)
        q, k = turn(q), turn(k)
    k, v = k.repeat_interleave(heads // kv, 0), v.repeat_interleave(heads // kv, 0)
    back = pos[:, None] - pos
    hidden = (back < 0) | (back >= window if window else torch.zeros_like(back, dtype=torch.bool))
    p = (q @ k.transpose(1, 2) / math.sqrt(hd)).masked_fill(hidden, -math.inf).softmax(-1)
    return linear((p @ v).transpose(0, 1).reshape(n, -1), w, "o_proj")


def rotate(m, theta=10000.0):
    n, hd = m.shape[-2:]
    angle = torch.arange(n, dtype=torch.float64)[:, None] * theta ** -(torch.arange(0, hd, 2, dtype=torch.float64) / hd)
    a, b = m.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


# Without a state: o_t = sum over s <= t of (q_t · (decay from s to t ∘ k_s)) v_s, the decay as a sum of logarithms.
def decayed(q, k, v, log_decay):
    total = log_decay.cumsum(-2)
    n, out = q.shape[-2], torch.zeros_like(v)
    for t in range(n):
        between = torch.exp(total[:, t:t + 1] - total[:, :t + 1])
        scores = (q[:, t:t + 1] * between * k[:, :t + 1]).sum(-1) / math.sqrt(q.shape[-1])
        out[:, t] = (scores[..., None] * v[:, :t + 1]).sum(-2)
    return out


def recurrent(x, w, heads, log_decay, rope):
    n = len(x)
    split = lambda m: m.view(n, heads, -1).transpose(0, 1)
    q, k, v, g = (split(linear(x, w, p + "_proj")) for p in "qkvg")
    if rope:
        q, k = rotate(q), rotate(k)
    o = rmsnorm(decayed(q, k, v, log_decay(split, q)), w["g_norm_swish_gate.weight"]) * F.silu(g)
    return linear(o.transpose(0, 1).reshape(n, -1), w, "o_proj")


def gla(x, w, heads):
    gate = linear(x @ w["gk_proj.0.weight"].double().T, w, "gk_proj.1")
    return recurrent(x, w, heads, lambda split, q: split(F.logsigmoid(gate) / 16), rope=False)


def retention(x, w, heads):
    gamma = torch.log(1 - 2.0 ** (-5 - torch.arange(heads, dtype=torch.float64)))
    return recurrent(x, w, heads, lambda split, q: gamma[:, None, None].expand_as(q), rope=True)


# What is added to x, so that x + mega(n, w, x) = x + u (h - x); n is x normed.
def mega(n, w, x):
    move = {k[5:]: v for k, v in w.items() if k.startswith("move.")}
    v = F.silu(linear(n, w, "v_proj"))
    m = F.silu(scan(conv_silu(n, move["conv1d.weight"], move["conv1d.bias"].double()), move))
    u, z, r, h0 = linear(m, w, "mx_proj").split([D, MEGA_Z, D, D], -1)
    z = F.silu(z)
    q, k = (z * w["gamma"][i].double() + w["beta"][i].double() for i in (0, 1))
    out = []
    for first in range(0, len(x), MEGA_CHUNK):
        part = slice(first, first + MEGA_CHUNK)
        n_part = len(x[part])
        alpha, beta = (rotate(w["rel_pos_bias." + name].double().expand(n_part, -1)) for name in ("alpha", "beta"))
        scores = q[part] @ k[part].T / math.sqrt(MEGA_Z) + alpha @ beta.T
        hidden = torch.ones(n_part, n_part).triu(1).bool()
        out.append(scores.masked_fill(hidden, -math.inf).softmax(-1) @ v[part])
    h = F.silu(h0 + linear(torch.cat(out) * F.silu(r), w, "h_proj"))
    return torch.sigmoid(u) * (h - x)


def mlp(x, w):
    return (F.silu(x @ w["gate"].double().T) * (x @ w["up"].double().T)) @ w["down"].double().T


# A model: {"embedding", "head" or None, "norm", "layers": [[(kind, norm, weights, arguments), …], …]}
def forward(model, ids):
    x = model["embedding"].double()[torch.tensor(ids)]
    for layer in model["layers"]:
        for kind, norm, w, args in layer:
            mixers = {"mamba": mamba, "attention": attention, "gla": gla, "retention": retention, "mlp": mlp, "mega": lambda n, w: mega(n, w, x)}
            x = x + mixers[kind](rmsnorm(x, norm), w, *args)
    head = model["embedding"] if model["head"] is None else model["head"]
    return rmsnorm(x, model["norm"]) @ head.double().T


def build(layers, untied=False):
    return {"embedding": rand(VOCAB, D, scale=1.0), "head": rand(VOCAB, D) if untied else None, "norm": norm_weight(),
            "layers": [[(kind, norm_weight(), w, args) for kind, w, *args in layer] for layer in layers]}


# ---- microsoft/Samba -----------------------------------------------------------------------------------------------


def interleaved(w, heads, kv):
    hd, group = D // heads, heads // kv
    q, k, v = (w[p + "_proj.weight"].view(kv, -1, hd, D) for p in "qkv")
    return torch.cat([q, k, v], 1).reshape(kv * (group + 2) * hd, D)


def microsoft_names(model):
    sd = {"transformer.wte.weight": model["embedding"], "lm_head.weight": model["embedding"] if model["head"] is None else model["head"],
          "transformer.ln_f.weight": model["norm"]}
    for i, layer in enumerate(model["layers"]):
        p, kinds = f"transformer.h.{i}.", [kind for kind, *_ in layer]
        three = kinds == ["mamba", "attention", "mlp"]
        for j, (kind, norm, w, args) in enumerate(layer):
            if kind == "mamba":
                name, norm_name = ("mb.", "norm_m") if three else ("mixer.", "norm") if kinds == ["mamba"] else ("attn.", "norm_1")
                sd |= {p + name + k: v for k, v in w.items()}
            elif kind == "mega":  # with a buffer that was never initialised
                norm_name = "attn.norm"
                sd |= {p + "attn." + k: v for k, v in w.items()} | {p + "attn.rel_pos_bias._float_tensor": torch.tensor([math.nan])}
            elif kind in ("gla", "retention"):
                norm_name = "norm_1"
                sd |= {p + "attn." + k: v for k, v in w.items()}
            elif kind == "attention":
                norm_name = "norm_attn" if three else "norm_1"
                sd |= {p + "attn.attn.weight": interleaved(w, *args[:2]), p + "attn.proj.weight": w["o_proj.weight"]}
                sd |= {p + "attn." + k: v for k, v in w.items() if "conv1d" in k}
            else:
                norm_name = "norm_2" if j else "norm_1"
                sd |= {p + ("mlp" if j else "attn") + f".swiglu.{m}.weight": w[n] for m, n in (("w1", "gate"), ("w2", "up"), ("w3", "down"))}
            sd[p + norm_name + ".weight"] = norm
    return sd


def save_pth(name, model, preset, rename=lambda k: k, change=lambda k, v: v):
    d = start(name, model)
    sd = {rename(k): change(k, v) for k, v in microsoft_names(model).items()}
    optimizer = {"state": {"transformer.wte.weight": {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4, 4)}}, "param_groups": [{"lr": 4e-4, "betas": (0.9, 0.95)}]}
    hparams = {"model_name": preset["name"], "learning_rate": 4e-4, "max_tokens": 10 ** 25, "fused": True, "seed": 1 << 40, "none": None}
    torch.save({"model": sd, "optimizer": optimizer, "hparams": hparams, "iter_num": 7, "step_count": 3}, f"{d}/model.pth")
    json.dump(preset, open(f"{d}/preset.json", "w"), indent=1)


def preset(name, pattern, n_blocks, heads=4, kv=4, window=16, **more):
    return {"name": name, "d_model": D, "d_ff": 48, "vocab_size": VOCAB, "context_length": 64, "tied": True, "n_heads": heads,
            "n_kv_heads": kv, "window": window, "n_blocks": n_blocks, "pattern": pattern} | more


def start(name, model):
    d = f"{HERE}/{name}"
    os.makedirs(d)
    ids = torch.randint(0, VOCAB, (N_IDS,), generator=G).tolist()
    np.save(f"{d}/ids.npy", np.array(ids, np.int32))
    np.save(f"{d}/logits.npy", forward(model, ids).float().numpy())
    return d


MLP = lambda: ("mlp", mlp_weights(48))
MAMBA = lambda **k: ("mamba", mamba_weights(**k))
ATTN = lambda heads=4, kv=4, window=16, rope=True, theta=10000.0, **k: ("attention", attention_weights(heads, kv, **k), heads, kv, window, rope, theta)


def microsoft():
    samba = build([[MAMBA(), MLP()], [ATTN(), MLP()]])
    save_pth("samba", samba, preset("Toy", ["mamba", "attention"], 2))
    save_pth("wrapped", samba, preset("Toy", ["mamba", "attention"], 2),
             rename=lambda k: "_forward_module._orig_mod." + k.replace("attn.", "_fsdp_wrapped_module.attn._checkpoint_wrapped_module.", 1).replace("mlp.", "module.mlp.", 1),
             change=lambda k, v: v.to(torch.bfloat16).t().contiguous().t() if k.endswith("w1.weight") else v.to(torch.float16) if k.endswith("norm_1.weight") else v)
    archive = f"{HERE}/wrapped/model.pth"  # the same entries, deflated
    with zipfile.ZipFile(archive) as old:
        entries = [(i.filename, old.read(i)) for i in old.infolist()]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as new:
        for entry, data in entries:
            new.writestr(entry, data)
    nope = [ATTN(rope=False), MLP()]
    save_pth("nope", build([[MAMBA(), MLP()], nope]), preset("Toy_nope", ["mamba", "attention"], 2, rope=False))
    save_pth("gqa", build([[MAMBA(), MLP()], [ATTN(kv=2), MLP()], [ATTN(kv=1, window=5), MLP()]]),
             preset("Toy_gqa", ["mamba", {"mixer": "attention", "n_kv_heads": 2}, {"mixer": "attention", "n_kv_heads": 1, "window": 5}], 3))
    save_pth("mamba_swa_mlp", build([[MAMBA(), ATTN(), MLP()], [MAMBA(), ATTN(), MLP()]]), preset("Toy_mamba_swa_mlp", [{"mixer": "mamba", "d_ff": 0}, "attention"], 4))
    save_pth("mlp2", build([[("mlp", mlp_weights(64)), MLP()], [ATTN(), MLP()]]), preset("Toy_mlp2", [{"mixer": "none", "d_ff": 64}, {"mixer": "none"}, "attention"], 3))
    save_pth("mamba_alone", build([[MAMBA()], [MAMBA()]]), preset("Toy_mamba", [{"mixer": "mamba", "d_ff": 0}], 2))
    save_pth("full_attention", build([[MAMBA(), MLP()], [ATTN(window=0), MLP()], [ATTN(), MLP()]], untied=True),
             preset("Toy_full", ["mamba", {"mixer": "attention", "window": 0}, "attention"], 3, tied=False))


# ---- Hugging Face --------------------------------------------------------------------------------------------------


def hugging_face_names(model, mixer_norm, joined_mlp):
    sd = {"backbone.embeddings.weight": model["embedding"], "backbone.norm_f.weight": model["norm"]}
    if model["head"] is not None:
        sd["lm_head.weight"] = model["head"]
    for i, layer in enumerate(model["layers"]):
        p = f"backbone.layers.{i}."
        for kind, norm, w, _ in layer:
            if kind == "mlp":
                sd[p + "mlp_norm.weight"] = norm
                gate = {"gate": torch.cat([w["gate"], w["up"]])} if joined_mlp else {"gate": w["gate"], "up": w["up"]}
                sd |= {p + f"mlp.{n}_proj.weight": v for n, v in (gate | {"down": w["down"]}).items()}
            else:
                sd[p + mixer_norm + ".weight"] = norm
                sd |= {p + "mixer." + k: v for k, v in w.items()}
    return sd


def save_hf(name, model, config, dtype=torch.float32, mixer_norm="mixer_norm", joined_mlp=False):
    d = start(name, model)
    sd = hugging_face_names(model, mixer_norm, joined_mlp)
    keep = lambda k, v: v if v.ndim < 2 or "A_log" in k else v.to(dtype)
    save_file({k: keep(k, v).contiguous().clone() for k, v in sd.items()}, f"{d}/model.safetensors", metadata={"format": "pt"})
    json.dump(config, open(f"{d}/config.json", "w"), indent=1)


def hf_config(layers, attn, **more):
    return {"architectures": ["SambaForCausalLM"], "model_type": "samba", "vocab_size": VOCAB, "hidden_size": D, "num_hidden_layers": layers,
            "state_size": STATE, "expand": 2, "conv_kernel": CONV, "hidden_ratio": 4, "norm_eps": 1e-5, "use_bias": False, "use_conv_bias": True,
            "hidden_act": "swish", "time_step_rank": "auto", "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, "attn": attn} | more


def hugging_face():
    W = 256  # the width that hidden_ratio 4 gives for any small model
    mlp_ = lambda: ("mlp", mlp_weights(W))
    one = {"layers": [1], "num_heads": 4, "num_kv_heads": 2, "window_size": 16}
    save_hf("hf_samba", build([[MAMBA(), mlp_()], [ATTN(kv=2), mlp_()]]), hf_config(2, one), torch.bfloat16)
    save_hf("hf_biases", build([[MAMBA(bias=True), mlp_()], [ATTN(kv=2, bias=True, qk_norm=True, theta=500.0), mlp_()]], untied=True),
            hf_config(2, one | {"qkv_bias": True, "qk_norm": True, "rope_theta": 500.0}, use_bias=True, tie_word_embeddings=False), torch.float16)
    save_hf("hf_layers", build([[ATTN(heads=2, kv=2, window=0), mlp_()], [MAMBA(), mlp_()], [ATTN(heads=4, kv=1, window=7), mlp_()]]),
            hf_config(3, [{"layers": [0], "num_heads": 2}, {"layers": [2], "num_heads": 4, "num_kv_heads": 1, "window_size": 7}]), joined_mlp=True)
    save_hf("hf_no_attention", build([[MAMBA(), mlp_()]]), hf_config(1, None))
    mamba = {"model_type": "mamba", "vocab_size": VOCAB, "hidden_size": D, "num_hidden_layers": 2, "state_size": STATE, "conv_kernel": CONV, "expand": 2,
             "intermediate_size": INNER, "time_step_rank": RANK, "use_bias": False, "use_conv_bias": True, "layer_norm_epsilon": 1e-5, "residual_in_fp32": True, "bos_token_id": 0, "eos_token_id": 0}
    save_hf("hf_mamba", build([[MAMBA()], [MAMBA()]]), mamba, mixer_norm="norm")
    save_hf("hf_thetas", build([[ATTN(theta=50.0), mlp_()], [MAMBA(), mlp_()], [ATTN(), mlp_()], [ATTN(heads=2, kv=2, theta=50.0), mlp_()]]),
            hf_config(4, [{"layers": [0], "num_heads": 4, "window_size": 16, "rope_theta": 50.0}, {"layers": [2], "num_heads": 4, "window_size": 16},
                          {"layers": [3], "num_heads": 2, "window_size": 16, "rope_theta": 50.0}]), torch.bfloat16)


# ---- what came later: behind the others, whose random numbers stay the same ------------------------------------------


def short_convolutions():
    save_pth("short_conv", build([[MAMBA(), MLP()], [ATTN(kv=2, short=True), MLP()], [ATTN(kv=1, window=5, short=True), MLP()]]),
             preset("Toy_sc", ["mamba", {"mixer": "attention", "n_kv_heads": 2}, {"mixer": "attention", "n_kv_heads": 1, "window": 5}], 3))


def recurrent_mixers():
    gla_ = lambda heads: ("gla", recurrent_weights(heads, D // 2, D, True), heads)
    retention_ = lambda heads: ("retention", recurrent_weights(heads, D, 2 * D, False), heads)
    save_pth("gla", build([[gla_(2), MLP()], [ATTN(), MLP()]], untied=True), preset("Toy_gla", [{"mixer": "gla", "n_heads": 2}, "attention"], 2, tied=False))
    save_pth("retention", build([[retention_(2), MLP()], [ATTN(), MLP()], [retention_(1), MLP()]]),
             preset("Toy_ret", [{"mixer": "retention", "n_heads": 2}, "attention", {"mixer": "retention", "n_heads": 1}], 3))


def mega_s6():
    mega_ = lambda: ("mega", mega_weights())
    save_pth("mega", build([[mega_(), MLP()], [mega_(), MLP()]]),
             preset("Toy_mega", [{"mixer": "mega", "z_dim": MEGA_Z, "chunk": MEGA_CHUNK}], 2, d_inner=D, dt_rank=MEGA_RANK))
    save_pth("mega_sc", build([[mega_(), MLP()], [ATTN(short=True), MLP()]]),  # beside an attention, whose ring comes behind
             preset("Toy_mega_sc", [{"mixer": "mega", "z_dim": MEGA_Z, "chunk": MEGA_CHUNK}, "attention"], 2, d_inner=D, dt_rank=MEGA_RANK))


if __name__ == "__main__":
    shutil.rmtree(HERE, ignore_errors=True)
    microsoft()
    hugging_face()
    short_convolutions()
    recurrent_mixers()
    mega_s6()
    print(sum(os.path.getsize(os.path.join(r, f)) for r, _, fs in os.walk(HERE) for f in fs) // 1024, "KB")
