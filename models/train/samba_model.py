"""Samba in PyTorch: Mamba and sliding-window attention blocks in turn, each followed by a SwiGLU MLP.

Parameter names and maths are those of the `samba` model type of flash-linear-attention
(`SambaForCausalLM`), so a state dict saved from here is a checkpoint that library loads.
Source: Ren et al., "Samba", arXiv 2406.07522, section 2.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class SambaConfig:
    vocab_size: int = 8192
    hidden_size: int = 512
    num_hidden_layers: int = 12  # mixer + MLP blocks; even ones are Mamba, odd ones attention
    num_heads: int = 8
    num_kv_heads: int = 2
    window_size: int = 2048
    rope_theta: float = 10000.0
    hidden_ratio: int = 4
    expand: int = 2
    state_size: int = 16
    conv_kernel: int = 4
    norm_eps: float = 1e-5

    @property
    def d_inner(self):
        return self.expand * self.hidden_size

    @property
    def dt_rank(self):
        return math.ceil(self.hidden_size / 16)

    @property
    def ffn(self):
        return 256 * math.ceil(int(self.hidden_size * self.hidden_ratio * 2 / 3) / 256)

    def to_hf(self):
        return {
            "architectures": ["SambaForCausalLM"],
            "model_type": "samba",
            "torch_dtype": "bfloat16",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "state_size": self.state_size,
            "expand": self.expand,
            "conv_kernel": self.conv_kernel,
            "hidden_ratio": self.hidden_ratio,
            "norm_eps": self.norm_eps,
            "use_bias": False,
            "use_conv_bias": True,
            "hidden_act": "swish",
            "time_step_rank": self.dt_rank,
            "tie_word_embeddings": True,
            "max_position_embeddings": self.window_size,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "attn": {
                "layers": list(range(1, self.num_hidden_layers, 2)),
                "num_heads": self.num_heads,
                "num_kv_heads": self.num_kv_heads,
                "qkv_bias": False,
                "window_size": self.window_size,
                "rope_theta": self.rope_theta,
            },
        }


def f32(x):
    """At least float32: statistics, the residual stream and the recurrence never use less."""
    return x if x.dtype == torch.float64 else x.float()


class RMSNorm(nn.Module):
    def __init__(self, d, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(d)), eps

    def forward(self, x):
        x = f32(x)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Mamba(nn.Module):
    def __init__(self, c: SambaConfig, scan):
        super().__init__()
        self.c, self.scan = c, scan
        d, r, n = c.d_inner, c.dt_rank, c.state_size
        self.in_proj = nn.Linear(c.hidden_size, 2 * d, bias=False)
        self.conv1d = nn.Conv1d(d, d, c.conv_kernel, groups=d, padding=c.conv_kernel - 1)
        self.x_proj = nn.Linear(d, r + 2 * n, bias=False)
        self.dt_proj = nn.Linear(r, d)
        self.out_proj = nn.Linear(d, c.hidden_size, bias=False)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, n + 1).float()).repeat(d, 1))
        self.D = nn.Parameter(torch.ones(d))
        nn.init.uniform_(self.dt_proj.weight, -(r**-0.5), r**-0.5)
        dt = torch.exp(torch.rand(d) * (math.log(0.1) - math.log(1e-3)) + math.log(1e-3)).clamp(min=1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(self, x, rope=None):
        c, L = self.c, x.shape[1]
        u, z = self.in_proj(x).chunk(2, dim=-1)
        w, k = self.conv1d.weight, c.conv_kernel
        up = f32(F.pad(u, (0, 0, k - 1, 0)))
        u = F.silu(sum(up[:, i : i + L] * w[:, 0, i] for i in range(k)) + self.conv1d.bias).to(x.dtype)
        dt, B, C = self.x_proj(u).split([c.dt_rank, c.state_size, c.state_size], dim=-1)
        y = self.scan(
            u,
            F.linear(dt, self.dt_proj.weight),
            -torch.exp(f32(self.A_log)),
            B,
            C,
            f32(self.D),
            f32(self.dt_proj.bias),
            z,
        )
        return self.out_proj(y)


def rotate(x, rope):  # x: (batch, heads, seqlen, head_dim)
    cos, sin = rope
    a, b = f32(x).chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c: SambaConfig, attend):
        super().__init__()
        self.c, self.attend, self.hd = c, attend, c.hidden_size // c.num_heads
        kv = self.hd * c.num_kv_heads
        self.q_proj = nn.Linear(c.hidden_size, c.hidden_size, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, kv, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, kv, bias=False)
        self.o_proj = nn.Linear(c.hidden_size, c.hidden_size, bias=False)

    def forward(self, x, rope):
        b, L, _ = x.shape
        q, k, v = (p(x).view(b, L, -1, self.hd).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        o = self.attend(rotate(q, rope), rotate(k, rope), v)
        return self.o_proj(o.transpose(1, 2).reshape(b, L, -1))


class GatedMLP(nn.Module):
    def __init__(self, c: SambaConfig):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.ffn, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.ffn, bias=False)
        self.down_proj = nn.Linear(c.ffn, c.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c, i, scan, attend):
        super().__init__()
        self.mixer_norm = RMSNorm(c.hidden_size, c.norm_eps)
        self.mixer = Attention(c, attend) if i % 2 else Mamba(c, scan)
        self.mlp_norm = RMSNorm(c.hidden_size, c.norm_eps)
        self.mlp = GatedMLP(c)

    def forward(self, x, rope):  # x: the residual stream, float32
        dt = torch.bfloat16 if torch.is_autocast_enabled("cuda") else x.dtype
        x = x + self.mixer(self.mixer_norm(x).to(dt), rope)
        return x + self.mlp(self.mlp_norm(x).to(dt))


class Samba(nn.Module):
    def __init__(self, c: SambaConfig, scan, attend):
        super().__init__()
        self.c = c
        self.backbone = nn.Module()
        self.backbone.embeddings = nn.Embedding(c.vocab_size, c.hidden_size)
        self.backbone.layers = nn.ModuleList(Block(c, i, scan, attend) for i in range(c.num_hidden_layers))
        self.backbone.norm_f = RMSNorm(c.hidden_size, c.norm_eps)
        for name, p in self.named_parameters():
            if p.ndim == 2 and "dt_proj" not in name and "A_log" not in name:
                nn.init.normal_(p, std=0.02)
            if name.endswith(("out_proj.weight", "o_proj.weight", "down_proj.weight")):
                with torch.no_grad():
                    p /= math.sqrt(2 * c.num_hidden_layers)

    def rope(self, L, device, dtype=torch.float32):
        hd = self.c.hidden_size // self.c.num_heads
        inv = self.c.rope_theta ** -(torch.arange(0, hd, 2, device=device, dtype=torch.float64) / hd)
        ang = torch.arange(L, device=device, dtype=torch.float64)[:, None] * inv
        return ang.cos().to(dtype), ang.sin().to(dtype)

    def forward(self, ids, rope):
        x = f32(self.backbone.embeddings(ids))
        for layer in self.backbone.layers:
            x = layer(x, rope)
        x = self.backbone.norm_f(x)
        dt = torch.bfloat16 if torch.is_autocast_enabled("cuda") else x.dtype
        return F.linear(x.to(dt), self.backbone.embeddings.weight.to(dt))


def window_attention_dense(window):
    """Reference attention: every score, then the causal band of `window` keys."""

    def attend(q, k, v):
        g = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(g, 1), v.repeat_interleave(g, 1)
        L = q.shape[2]
        i = torch.arange(L, device=q.device)
        dist = i[:, None] - i
        s = (q @ k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
        s = s.masked_fill((dist < 0) | (dist >= window), float("-inf"))
        return s.softmax(-1) @ v

    return attend


def window_attention_flex(window, L):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mask = create_block_mask(lambda b, h, q, k: (q >= k) & (q - k < window), None, None, L, L, device="cuda")
    return lambda q, k, v: flex_attention(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
