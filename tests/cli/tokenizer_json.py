#!/usr/bin/env python3
"""Helper of tokenizer_json.sh, with Python's standard library alone but for `reference`:

    make KIND DIRECTORY          a Hugging Face directory: a tiny random samba, the tokenizer of tests/engine/fixtures
    ids KIND MODEL.gguf          `samba-lm tokenize` gives the fixture's ids, and the ids the text
    events MODEL.gguf LINES      the texts of --jsonl-stream are whole characters, together the text of their ids
    reference KIND DIRECTORY     PyPI's tokenizers loads DIRECTORY/tokenizer.json and gives the ids; exit 77 without it
"""
import json
import os
import random
import shutil
import struct
import subprocess
import sys

FIXTURES = os.path.join(os.environ["SOURCE"], "tests/engine/fixtures")
PROGRAM = os.environ["SAMBA_LM"]


def strings(kind):
    with open(f"{FIXTURES}/bpe_strings.json", encoding="ascii") as f:
        return [(row["text"], row[kind]) for row in json.load(f)]


def make(kind, directory):
    d, rows, width, inner, state, rank = 32, 1024, 256, 64, 4, 2
    rng = random.Random(1)
    shapes = {"backbone.embeddings.weight": (rows, d), "backbone.norm_f.weight": (d,)}
    for i in range(2):
        p = f"backbone.layers.{i}."
        shapes |= {p + "mixer_norm.weight": (d,), p + "mlp_norm.weight": (d,), p + "mlp.gate_proj.weight": (width, d),
                   p + "mlp.up_proj.weight": (width, d), p + "mlp.down_proj.weight": (d, width)}
    m = "backbone.layers.0.mixer."
    shapes |= {m + "in_proj.weight": (2 * inner, d), m + "conv1d.weight": (inner, 1, 4), m + "conv1d.bias": (inner,),
               m + "x_proj.weight": (rank + 2 * state, inner), m + "dt_proj.weight": (inner, rank), m + "dt_proj.bias": (inner,),
               m + "A_log": (inner, state), m + "D": (inner,), m + "out_proj.weight": (d, inner)}
    shapes |= {f"backbone.layers.1.mixer.{n}_proj.weight": (d, d) for n in "qkvo"}
    header, data = {}, b""
    for name, shape in shapes.items():
        n = 1
        for size in shape:
            n *= size
        values = struct.pack(f"<{n}f", *(1.0 if name.endswith("norm.weight") else rng.gauss(0, 0.2) for _ in range(n)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    os.makedirs(directory)
    with open(f"{directory}/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    config = {"model_type": "samba", "vocab_size": rows, "hidden_size": d, "num_hidden_layers": 2, "state_size": state, "conv_kernel": 4,
              "time_step_rank": rank, "hidden_ratio": 4, "attn": {"layers": [1], "num_heads": 2, "window_size": 16}, "eos_token_id": [0, 1000]}
    with open(f"{directory}/config.json", "w") as f:
        json.dump(config, f)
    shutil.copy(f"{FIXTURES}/bpe_{kind}.json", f"{directory}/tokenizer.json")


def tokenize(model, *arguments, text=b""):
    return subprocess.run([PROGRAM, "tokenize", "-m", model, *arguments], input=text, stdout=subprocess.PIPE, check=True).stdout


def ids(kind, model):
    for text, expected in strings(kind)[::7]:
        found = tokenize(model, "--plain", text=text.encode()).decode().strip()
        assert found == ",".join(map(str, expected)), (text, found, expected)
        if kind != "neox" and expected:  # NFC changes the text
            assert tokenize(model, "--ids", found) == text.encode(), text


def events(model, path):
    with open(path, "rb") as f:
        lines = [json.loads(line.decode("utf-8")) for line in f]
    tokens = [line["id"] for line in lines if line["type"] == "token" and line["id"] >= 0]
    shown = "".join(line["text"] for line in lines if line["type"] == "token")
    raw = tokenize(model, "--ids", ",".join(map(str, tokens)))
    assert len(tokens) > 20, tokens
    whole = raw.decode("utf-8", "ignore")  # ids without a piece are U+FFFD there as well
    assert shown.replace("\ufffd", "") == whole.replace("\ufffd", ""), (shown, raw)


def reference(kind, directory):
    try:
        from tokenizers import Tokenizer
    except ImportError:
        print("PyPI's tokenizers is not installed: what loads the tokenizer.json of the way back is not tested")
        sys.exit(77)
    t = Tokenizer.from_file(f"{directory}/tokenizer.json")
    t.encode_special_tokens = True
    for text, expected in strings(kind):
        assert t.encode(text, add_special_tokens=False).ids == expected, text
    first = Tokenizer.from_file(f"{FIXTURES}/bpe_{kind}.json")
    assert [t.id_to_token(i) for i in range(1024)] == [first.id_to_token(i) for i in range(1024)]


{"make": make, "ids": ids, "events": events, "reference": reference}[sys.argv[1]](*sys.argv[2:])
