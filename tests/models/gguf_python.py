"""Our files and the Python package `gguf` agree: it reads what we write and dequantises every tensor to the same values.

    gguf_python.py check SAMBA_LM     convert a tiny checkpoint to every type; compare with gguf's values (exit 77 without gguf)
    gguf_python.py make               write fixtures/types.gguf and fixtures/types.npy anew: blocks of every type and their
                                      values by gguf, for the machines that have no gguf (gguf_fixture_test.cpp)
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"]
ROWS, COLS = 2, 256


def make():
    """Two rows of each type: random bits in the blocks, random f16 scales of a sensible size."""
    rng = np.random.default_rng(7)
    writer = gguf.GGUFWriter(f"{HERE}/fixtures/types.gguf", "fixture")
    values = []
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        n = ROWS * COLS // block
        raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
        scale = lambda: rng.normal(0, 0.01, n).astype("<f2").view(np.uint8).reshape(n, 2)
        if name == "F32":
            raw = rng.normal(0, 1, n).astype("<f4").view(np.uint8)
        elif name == "F16":
            raw = rng.normal(0, 1, n).astype("<f2").view(np.uint8)
            raw[:2] = (1, 0)  # the smallest subnormal
        elif name == "BF16":
            raw = (rng.normal(0, 1, n).astype("<f4").view("<u4") >> 16).astype("<u2").view(np.uint8)
        elif name in ("Q8_0", "Q4_0"):
            raw[:, :2] = scale()
        elif name == "Q6_K":
            raw[:, -2:] = scale()
        else:
            raw[:, :2], raw[:, 2:4] = scale(), scale()
        raw = raw.reshape(ROWS, -1)
        values.append(gguf.dequantize(raw, kind).astype(np.float32).reshape(-1))
        writer.add_tensor(name.lower(), raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    np.save(f"{HERE}/fixtures/types.npy", np.stack(values).astype("<f4"))


def values_of(path):
    return {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float32) for t in gguf.GGUFReader(path).tensors}


def write_checkpoint(folder):
    """A Samba of two layers, d_model 256, so that rows are whole blocks of every type."""
    rng = np.random.default_rng(1)
    d, inner, width = 256, 512, 768
    shapes = {"embeddings.weight": (64, d), "norm_f.weight": (d,)}
    for i in (0, 1):
        layer = f"layers.{i}."
        shapes |= {layer + "mixer_norm.weight": (d,), layer + "mlp_norm.weight": (d,)}
        shapes |= {layer + f"mlp.{n}_proj.weight": (width, d) for n in ("gate", "up")} | {layer + "mlp.down_proj.weight": (d, width)}
    mamba = {"in_proj.weight": (2 * inner, d), "conv1d.weight": (inner, 1, 4), "conv1d.bias": (inner,), "x_proj.weight": (48, inner),
             "dt_proj.weight": (inner, 16), "dt_proj.bias": (inner,), "A_log": (inner, 16), "D": (inner,), "out_proj.weight": (d, inner)}
    shapes |= {"layers.0.mixer." + k: v for k, v in mamba.items()}
    shapes |= {f"layers.1.mixer.{n}_proj.weight": (d, d) for n in "qkvo"}
    header, data = {}, b""
    for name, shape in shapes.items():
        bits = rng.normal(0, 0.05, shape).astype("<f4").tobytes()
        header["backbone." + name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(bits)]}
        data += bits
    text = json.dumps(header).encode()
    with open(f"{folder}/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    config = {"model_type": "samba", "vocab_size": 64, "hidden_size": d, "num_hidden_layers": 2, "hidden_ratio": 4,
              "tie_word_embeddings": True, "attn": {"layers": [1], "num_heads": 4, "window_size": 32}}
    with open(f"{folder}/config.json", "w") as f:
        json.dump(config, f)


def check(samba_lm):
    run = lambda *args: subprocess.run([samba_lm, *args], check=True, stdout=subprocess.DEVNULL)
    ours = np.load(f"{HERE}/fixtures/types.npy")
    for row, (name, values) in zip(ours, values_of(f"{HERE}/fixtures/types.gguf").items()):
        assert np.array_equal(row, values.reshape(-1)), f"the committed fixture is not gguf's: {name}"
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(folder)
        for kind in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "q4_k_m"):
            small, wide = f"{folder}/{kind}.gguf", f"{folder}/{kind}-wide.gguf"
            run("convert", folder, "-o", small, "--type", kind, "--no-tokenizer")
            run("quantize", small, wide, "f32")
            reader = gguf.GGUFReader(small)
            assert reader.fields["general.architecture"].contents() == "samba"
            assert reader.fields["samba.attention.head_count_kv"].contents() == [0, 4]
            theirs, our_values = values_of(small), values_of(wide)
            assert theirs.keys() == our_values.keys()
            for name, values in theirs.items():
                assert np.array_equal(values.reshape(-1), our_values[name].reshape(-1)), f"{kind}: {name} differs"
            types = sorted({t.tensor_type.name for t in reader.tensors})
            print(f"{kind}: {len(theirs)} tensors of {', '.join(types)} have the same values")


if __name__ == "__main__":
    if sys.argv[1:] == ["make"]:
        make()
    elif len(sys.argv) == 3 and sys.argv[1] == "check":
        check(sys.argv[2])
    else:
        sys.exit(__doc__)
