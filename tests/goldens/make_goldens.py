#!/usr/bin/env python3
"""Goldens: what the forward pass of a model file must give, computed independently of the program.

    python3 tests/goldens/make_goldens.py models/samba-47m-q4_k_m.gguf          writes tests/goldens/samba-47m-q4_k_m/
    python3 tests/goldens/make_goldens.py CHECKPOINT_DIR --name samba-47m-bf16  the same of a Hugging Face directory
    … --check goldens.npz       writes nothing, compares with the goldens that models/train/export.py wrote

Reads every weight (of a GGUF file: as the PyPI package `gguf` dequantises it) and runs models/train/samba_model.py in
float64 on the CPU over the token ids of short_ids.npy and long_ids.npy: 20 tokens of a story's begin, and 3000 of a
novel, which cross the window of 2048. Needs PyTorch, numpy, and gguf or safetensors (PyPI); about a minute.

Files are NumPy's .npy: ids, positions (int32); NAME/logits (positions, vocab), NAME/nll (ids - 1) (float32): the
negative log-likelihood of each next token, in nats.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "models" / "train"))
from samba_model import Samba, SambaConfig, window_attention_dense  # noqa: E402
from selective_scan import selective_scan_reference  # noqa: E402

# A block's tensors: docs/file-format.md -> the names of docs/model.md.
BLOCK_NAMES = {
    "attn_norm.weight": "mixer_norm.weight",
    "ffn_norm.weight": "mlp_norm.weight",
    "ssm_in.weight": "mixer.in_proj.weight",
    "ssm_conv1d.weight": "mixer.conv1d.weight",
    "ssm_conv1d.bias": "mixer.conv1d.bias",
    "ssm_x.weight": "mixer.x_proj.weight",
    "ssm_dt.weight": "mixer.dt_proj.weight",
    "ssm_dt.bias": "mixer.dt_proj.bias",
    "ssm_a": "mixer.A_log",
    "ssm_d": "mixer.D",
    "ssm_out.weight": "mixer.out_proj.weight",
    "attn_q.weight": "mixer.q_proj.weight",
    "attn_k.weight": "mixer.k_proj.weight",
    "attn_v.weight": "mixer.v_proj.weight",
    "attn_output.weight": "mixer.o_proj.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
GLOBAL_NAMES = {"token_embd.weight": "backbone.embeddings.weight", "output_norm.weight": "backbone.norm_f.weight"}


def read_gguf(path):
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)

    def field(key, default=None):
        return reader.fields[key].contents() if key in reader.fields else default

    kv_heads = field("samba.attention.head_count_kv")
    config = SambaConfig(
        vocab_size=field("samba.vocab_size"),
        hidden_size=field("samba.embedding_length"),
        num_hidden_layers=field("samba.block_count"),
        num_heads=field("samba.attention.head_count"),
        num_kv_heads=max(kv_heads) if isinstance(kv_heads, list) else kv_heads,
        window_size=field("samba.attention.sliding_window"),
        rope_theta=field("samba.rope.freq_base"),
        expand=field("samba.ssm.inner_size") // field("samba.embedding_length"),
        state_size=field("samba.ssm.state_size"),
        conv_kernel=field("samba.ssm.conv_kernel"),
        norm_eps=field("samba.attention.layer_norm_rms_epsilon"),
    )
    state = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).astype(np.float64))
        if tensor.name in GLOBAL_NAMES:
            state[GLOBAL_NAMES[tensor.name]] = values
            continue
        _, block, name = tensor.name.split(".", 2)
        if name == "ssm_a_log":
            continue  # the exact A_log of the checkpoint, for the way back; ssm_a is what runs
        if name == "ssm_a":
            values = torch.log(-values)
        if name == "ssm_conv1d.weight":
            values = values[:, None, :]
        state[f"backbone.layers.{block}.{BLOCK_NAMES[name]}"] = values
    return config, state


def read_checkpoint(folder):
    from safetensors.torch import load_file

    hf = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = SambaConfig(
        num_heads=hf["attn"]["num_heads"],
        num_kv_heads=hf["attn"]["num_kv_heads"],
        window_size=hf["attn"]["window_size"],
        rope_theta=hf["attn"]["rope_theta"],
        **{
            key: hf[key]
            for key in (
                "vocab_size",
                "hidden_size",
                "num_hidden_layers",
                "hidden_ratio",
                "expand",
                "state_size",
                "conv_kernel",
                "norm_eps",
            )
        },
    )
    return config, {name: t.double() for name, t in load_file(folder / "model.safetensors").items()}


@torch.no_grad()
def forward(model, ids):
    """(n) ids -> (n, vocab) logits and (n - 1) nll, float64."""
    t = torch.from_numpy(ids.astype(np.int64))[None]
    logits = model(t, model.rope(len(ids), "cpu", torch.float64))[0]
    return logits.numpy(), F.cross_entropy(logits[:-1], t[0, 1:], reduction="none").numpy()


def relative(got, want):
    """‖Δ‖/‖want‖ of each row."""
    return np.linalg.norm(got - want, axis=-1) / np.linalg.norm(want, axis=-1)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model", type=pathlib.Path)
    ap.add_argument("--name", help="the folder below tests/goldens (the model's file name)")
    ap.add_argument("--check", help="goldens.npz to compare with")
    a = ap.parse_args()
    config, state = read_checkpoint(a.model) if a.model.is_dir() else read_gguf(a.model)
    model = Samba(config, selective_scan_reference, window_attention_dense(config.window_size)).double().eval()
    model.load_state_dict(state)

    check = np.load(a.check) if a.check else None
    out = HERE / (a.name or a.model.stem)
    for sequence in ("short", "long"):
        ids, positions = (np.load(HERE / f"{sequence}_{what}.npy") for what in ("ids", "positions"))
        if check:
            ids, positions = check[f"{sequence}_ids"], check[f"{sequence}_pos"]
        logits, nll = forward(model, ids)
        print(f"{a.model.name} {sequence}: {len(ids)} tokens, mean nll {nll.mean():.6f}")
        if check:
            print(
                "  logits differ by", relative(logits[positions], check[f"{sequence}_logits"].astype(np.float64)).max()
            )
            print("  nll differs by", np.abs(nll - check[f"{sequence}_nll"]).max())
            continue
        out.mkdir(exist_ok=True)
        np.save(out / f"{sequence}_logits.npy", logits[positions].astype(np.float32))
        np.save(out / f"{sequence}_nll.npy", nll.astype(np.float32))


if __name__ == "__main__":
    main()
