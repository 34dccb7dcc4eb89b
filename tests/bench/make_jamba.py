#!/usr/bin/env python3
"""Writes a random Jamba in llama.cpp's GGUF with Samba's sizes: the peer of compare_llama.py. Jamba has the same mixers
(Mamba-1, attention, gated MLP), without RoPE and window, so a token costs the same work. bf16 weights.

    python3 tests/bench/make_jamba.py 47m|421m|1.3b OUT.gguf        needs numpy and gguf (PyPI)
"""

import sys

import gguf
import numpy as np

# d_model, blocks, heads, kv heads, head_dim, d_ff, vocabulary
SIZES = {
    "47m": (512, 12, 8, 2, 64, 1536, 8192),
    "421m": (1536, 12, 12, 12, 128, 4096, 32000),
    "1.3b": (2304, 18, 18, 18, 128, 6144, 32000),
}
D_STATE, D_CONV = 16, 4


def main():
    size, path = sys.argv[1:]
    d, n_layers, heads, kv_heads, head_dim, d_ff, vocab = SIZES[size]
    d_inner, dt_rank = 2 * d, -(-d // 16)
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(1 << 22, dtype=np.float32)  # repeated: fast, and a byte costs the same
    w = gguf.GGUFWriter(path, "jamba")

    def bf16(name, *shape):
        values = (np.resize(normal, int(np.prod(shape))) * shape[-1] ** -0.5).reshape(shape)
        upper = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        w.add_tensor(name, upper, raw_dtype=gguf.GGMLQuantizationType.BF16)

    def f32(name, values):
        w.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))

    w.add_name(size)
    w.add_context_length(1 << 20)
    w.add_embedding_length(d)
    w.add_block_count(n_layers)
    w.add_feed_forward_length(d_ff)
    w.add_head_count(heads)
    w.add_head_count_kv([0 if i % 2 == 0 else kv_heads for i in range(n_layers)])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_ssm_conv_kernel(D_CONV)
    w.add_ssm_inner_size(d_inner)
    w.add_ssm_state_size(D_STATE)
    w.add_ssm_time_step_rank(dt_rank)
    w.add_vocab_size(vocab)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    w.add_tokenizer_model("llama")
    w.add_token_list([f"<t{i}>" for i in range(vocab)])
    w.add_token_scores([0.0] * vocab)
    w.add_token_types([1] * vocab)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)

    bf16("token_embd.weight", vocab, d)
    f32("output_norm.weight", np.ones(d))
    for i in range(n_layers):
        p = f"blk.{i}."
        f32(p + "attn_norm.weight", np.ones(d))
        f32(p + "ffn_norm.weight", np.ones(d))
        if i % 2 == 0:
            bf16(p + "ssm_in.weight", 2 * d_inner, d)
            f32(p + "ssm_conv1d.weight", rng.standard_normal((d_inner, D_CONV)))
            f32(p + "ssm_conv1d.bias", np.zeros(d_inner))
            bf16(p + "ssm_x.weight", dt_rank + 2 * D_STATE, d_inner)
            f32(p + "ssm_dt_norm.weight", np.ones(dt_rank))
            f32(p + "ssm_b_norm.weight", np.ones(D_STATE))
            f32(p + "ssm_c_norm.weight", np.ones(D_STATE))
            bf16(p + "ssm_dt.weight", d_inner, dt_rank)
            f32(p + "ssm_dt.bias", np.full(d_inner, -4))
            f32(p + "ssm_a", -np.exp(rng.standard_normal((d_inner, D_STATE))))
            f32(p + "ssm_d", np.ones(d_inner))
            bf16(p + "ssm_out.weight", d, d_inner)
        else:
            bf16(p + "attn_q.weight", heads * head_dim, d)
            bf16(p + "attn_k.weight", kv_heads * head_dim, d)
            bf16(p + "attn_v.weight", kv_heads * head_dim, d)
            bf16(p + "attn_output.weight", d, heads * head_dim)
        bf16(p + "ffn_gate.weight", d_ff, d)
        bf16(p + "ffn_up.weight", d_ff, d)
        bf16(p + "ffn_down.weight", d, d_ff)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()
