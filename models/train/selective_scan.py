"""Selective scan (Mamba-1, S6) as a differentiable torch operator backed by two CUDA kernels.

    h_t = exp(delta_t * A) * h_{t-1} + delta_t * u_t * B_t          h: (d_inner, d_state)
    y_t = <h_t, C_t> + D * u_t
    out = y_t * silu(z_t)                      with  delta_t = softplus(dt_t + dt_bias)

Shapes: u, dt, z, out (batch, seqlen, d_inner) bfloat16; B, C (batch, seqlen, 16) bfloat16;
A (d_inner, 16) float32, negative; D, dt_bias (d_inner,) float32.
The state starts at zero and is kept in float32. seqlen must be a multiple of 32,
d_inner of 32, d_state is 16. Source: Gu & Dao, "Mamba", arXiv 2312.00752, section 3.

The kernels are in selective_scan.cu. CuPy, which compiles them, is imported at the first call: the reference at the
end of this file needs PyTorch alone. Run this file to check the gradients against float64.
"""

import os
import pathlib

import torch

CHUNK = 16  # the state at the start of every chunk is saved for the backward pass


_module = {}  # compiled, a device


def _kernel(name):
    import cupy

    dev = torch.cuda.current_device()
    if dev not in _module:
        source = pathlib.Path(__file__).with_suffix(".cu").read_text(encoding="utf-8")
        include = os.environ.get("CUDA_HOME", "/usr/local/cuda") + "/include"
        with cupy.cuda.Device(dev):
            _module[dev] = cupy.RawModule(code=source, options=("-std=c++17", f"-I{include}"), backend="nvrtc")
    return _module[dev].get_function(name)


def _launch(name, grid, args):
    import cupy

    i32 = cupy.int32
    dev = torch.cuda.current_device()
    with cupy.cuda.Device(dev), cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream, dev):
        _kernel(name)(grid, (128,), tuple(a.data_ptr() if isinstance(a, torch.Tensor) else i32(a) for a in args))


@torch.library.custom_op("samba::selective_scan", mutates_args=())
def selective_scan_op(
    u: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    bias: torch.Tensor,
    z: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, L, d = u.shape
    assert L % 32 == 0 and d % 32 == 0 and A.shape == (d, 16)
    u, dt, B, C, z = (t.contiguous() for t in (u, dt, B, C, z))
    assert all(t.dtype == torch.bfloat16 for t in (u, dt, B, C, z)) and A.dtype == D.dtype == torch.float32
    out = torch.empty_like(u)
    hs = torch.empty(batch, L // CHUNK, d, 16, device=u.device, dtype=torch.float32)
    _launch(
        "scan_fwd", (d // 32, batch), (u, dt, A.contiguous(), B, C, D.contiguous(), bias.contiguous(), z, out, hs, L, d)
    )
    return out, hs


@selective_scan_op.register_fake
def _(u, dt, A, B, C, D, bias, z):
    batch, L, d = u.shape
    return torch.empty_like(u, memory_format=torch.contiguous_format), u.new_empty(
        batch, L // CHUNK, d, 16, dtype=torch.float32
    )


@torch.library.custom_op("samba::selective_scan_bwd", mutates_args=())
def selective_scan_bwd_op(
    u: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    bias: torch.Tensor,
    z: torch.Tensor,
    hs: torch.Tensor,
    dout: torch.Tensor,
) -> tuple[
    torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor
]:
    batch, L, d = u.shape
    u, dt, B, C, z, dout = (t.contiguous() for t in (u, dt, B, C, z, dout))
    du, ddt, dz = (torch.empty_like(u) for _ in range(3))
    f = dict(device=u.device, dtype=torch.float32)
    dA, dD, dbias = torch.empty(batch, d, 16, **f), torch.empty(batch, d, **f), torch.empty(batch, d, **f)
    dBC = torch.empty(d // 32, batch, L, 32, **f)
    _launch(
        "scan_bwd",
        (d // 32, batch),
        (
            u,
            dt,
            A.contiguous(),
            B,
            C,
            D.contiguous(),
            bias.contiguous(),
            z,
            hs,
            dout,
            du,
            ddt,
            dz,
            dA,
            dD,
            dbias,
            dBC,
            L,
            d,
            batch,
        ),
    )
    dBC = dBC.sum(0).to(torch.bfloat16)
    return du, ddt, dA.sum(0), dBC[..., :16].contiguous(), dBC[..., 16:].contiguous(), dD.sum(0), dbias.sum(0), dz


@selective_scan_bwd_op.register_fake
def _(u, dt, A, B, C, D, bias, z, hs, dout):
    e = lambda t: torch.empty_like(t, memory_format=torch.contiguous_format)
    return e(u), e(u), e(A), e(B), e(C), e(D), e(bias), e(u)


def _setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx, dout, dhs):
    return selective_scan_bwd_op(*ctx.saved_tensors, dout)


selective_scan_op.register_autograd(_backward, setup_context=_setup)


def selective_scan(u, dt, A, B, C, D, bias, z):
    return selective_scan_op(u, dt, A, B, C, D, bias, z)[0]


def selective_scan_reference(u, dt, A, B, C, D, bias, z):
    """The recurrence step by step in the dtype of its inputs; for tests."""
    h = u.new_zeros(u.shape[0], u.shape[2], A.shape[1])
    delta = torch.nn.functional.softplus(dt + bias)
    ys = []
    for t in range(u.shape[1]):
        h = torch.exp(delta[:, t, :, None] * A) * h + (delta[:, t] * u[:, t])[..., None] * B[:, t, None, :]
        ys.append((h * C[:, t, None, :]).sum(-1) + D * u[:, t])
    return torch.stack(ys, 1) * torch.nn.functional.silu(z)


if __name__ == "__main__":  # gradient check against float64
    torch.manual_seed(0)
    b, L, d = 2, 96, 64
    mk = lambda *s: torch.randn(*s, device="cuda", dtype=torch.bfloat16)
    args = [
        mk(b, L, d),
        mk(b, L, d) - 2,
        -torch.rand(d, 16, device="cuda") * 8 - 0.1,
        mk(b, L, 16),
        mk(b, L, 16),
        torch.randn(d, device="cuda"),
        torch.randn(d, device="cuda"),
        mk(b, L, d),
    ]
    fast = [a.clone().requires_grad_() for a in args]
    slow = [a.double().clone().requires_grad_() for a in args]
    g = mk(b, L, d)
    o1, o2 = selective_scan(*fast), selective_scan_reference(*slow)
    o1.backward(g), o2.backward(g.double())
    rel = lambda x, y: ((x.double() - y).norm() / y.norm()).item()
    print(
        "out",
        rel(o1, o2),
        *(f"d{n} {rel(x.grad, y.grad):.2e}" for n, x, y in zip("u dt A B C D bias z".split(), fast, slow)),
    )
    assert all(rel(x.grad, y.grad) < 2e-2 for x, y in zip(fast, slow)) and rel(o1, o2) < 1e-2
    u, dt, z, B, C = mk(32, 4096, 1024), mk(32, 4096, 1024), mk(32, 4096, 1024), mk(32, 4096, 16), mk(32, 4096, 16)
    A, D = -torch.rand(1024, 16, device="cuda") - 0.1, torch.randn(1024, device="cuda")
    hs = selective_scan_op(u, dt, A, B, C, D, D, z)[1]
    for name, f in (
        ("fwd", lambda: selective_scan_op(u, dt, A, B, C, D, D, z)),
        ("bwd", lambda: selective_scan_bwd_op(u, dt, A, B, C, D, D, z, hs, u)),
    ):
        f()
        torch.cuda.synchronize()
        s, e = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        s.record()
        [f() for _ in range(5)]
        e.record()
        torch.cuda.synchronize()
        print(name, s.elapsed_time(e) / 5, "ms")
