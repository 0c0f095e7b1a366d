"""Makes tests/fixtures/ops/*.safetensors: forward results and gradients of torch's float32 operations, for model/tests/ops.rs.

Run: python tests/reference/ops.py. The seed and the versions stand in each file's metadata. Every gradient belongs to a random
output gradient `g`, so the loss is sum(g * y).
"""

import pathlib

import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

SEED = 20240607
OUT = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "ops"


def write(name, tensors):
    metadata = {"torch": torch.__version__, "safetensors": safetensors.__version__, "seed": str(SEED), "made_by": "tests/reference/ops.py"}
    path = OUT / f"{name}.safetensors"
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, path, metadata)
    print(f"{path.name}: {path.stat().st_size} bytes, {len(tensors)} tensors, {metadata}")


def record(tensors, case, function, **inputs):
    """Stores inputs, output, output gradient and input gradients of one case."""
    leaves = {key: value.clone().requires_grad_(True) for key, value in inputs.items()}
    y = function(**leaves)
    g = torch.randn(y.shape)
    y.backward(g)
    for key, leaf in leaves.items():
        tensors[f"{case}.{key}"] = leaf
        tensors[f"{case}.d{key}"] = leaf.grad
    tensors[f"{case}.y"] = y
    tensors[f"{case}.g"] = g


def linear():
    tensors = {}
    for case, rows, c_in, c_out in [("small", (2, 7), 13, 11), ("vector", (), 5, 3), ("wide", (1, 33), 40, 96)]:
        record(tensors, case, F.linear, input=torch.randn(*rows, c_in), weight=torch.randn(c_out, c_in), bias=torch.randn(c_out))
    write("linear", tensors)


# case: batch, c_in, height, width, c_out, kernel height and width, stride, padding top, bottom, left, right
CONVOLUTIONS = {
    "same": (2, 5, 9, 7, 6, 3, 3, 1, 1, 1, 1, 1),
    "stride2": (2, 5, 9, 7, 6, 3, 3, 2, 1, 1, 1, 1),
    "vae_down": (2, 4, 8, 11, 3, 3, 3, 2, 0, 1, 0, 1),
    "pointwise": (2, 7, 5, 6, 9, 1, 1, 1, 0, 0, 0, 0),
    "pointwise_stride2": (2, 3, 5, 7, 4, 1, 1, 2, 0, 0, 0, 0),
    "pointwise_padded": (1, 3, 4, 5, 2, 1, 1, 1, 1, 0, 2, 1),
    "valid": (2, 3, 6, 8, 4, 3, 3, 1, 0, 0, 0, 0),
    "uneven": (1, 3, 11, 9, 4, 5, 3, 3, 2, 1, 0, 3),
    "many_tiles": (1, 3, 37, 43, 3, 3, 3, 1, 1, 1, 1, 1),
    "many_tiles_stride2": (1, 2, 63, 61, 2, 3, 3, 2, 1, 1, 1, 1),
    "one_pixel": (2, 6, 1, 1, 5, 3, 3, 1, 1, 1, 1, 1),
}


def convolution():
    tensors = {}
    for case, (b, c_in, h, w, c_out, kh, kw, stride, top, bottom, left, right) in CONVOLUTIONS.items():
        function = lambda x, weight, bias: F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride)
        record(tensors, case, function, x=torch.randn(b, c_in, h, w), weight=torch.randn(c_out, c_in, kh, kw), bias=torch.randn(c_out))
        tensors[f"{case}.sizes"] = torch.tensor([stride, top, bottom, left, right], dtype=torch.int64)
    write("convolution", tensors)


def normalization():
    tensors = {}
    # batch, channels, height, width, groups, mean of the input
    for case, (b, c, h, w, groups, mean) in {
        "groups3": (2, 12, 5, 7, 3, 0.0),
        "far_mean": (2, 8, 9, 11, 4, 50.0),
        "groups32": (1, 64, 3, 5, 32, 1.0),
        "one_group": (1, 3, 41, 27, 1, -2.0),
    }.items():
        x, weight, bias = torch.randn(b, c, h, w) + mean, torch.randn(c), torch.randn(c)
        # The expected statistics of far_mean need more than float32.
        wide = lambda x, weight, bias: F.group_norm(x.double(), groups, weight.double(), bias.double(), 1e-5).float()
        record(tensors, f"group.{case}", wide, x=x, weight=weight, bias=bias)
        silu = lambda x, weight, bias: F.silu(F.group_norm(x.double(), groups, weight.double(), bias.double(), 1e-6)).float()
        record(tensors, f"group_silu.{case}", silu, x=x, weight=weight, bias=bias)
        tensors[f"group.{case}.groups"] = torch.tensor([groups], dtype=torch.int64)
    for case, shape in {"rows": (2, 7, 33), "one": (1, 5), "wide": (3, 320)}.items():
        c = shape[-1]
        function = lambda x, weight, bias: F.layer_norm(x, (c,), weight, bias, 1e-5)
        record(tensors, f"layer.{case}", function, x=3 * torch.randn(shape) + 2, weight=torch.randn(c), bias=torch.randn(c))
    write("normalization", tensors)


def activation():
    tensors = {}
    x = torch.cat([4 * torch.randn(2, 3, 101), torch.linspace(-30, 30, 606).reshape(2, 3, 101)], dim=1)
    record(tensors, "silu", F.silu, input=x)
    record(tensors, "gelu", F.gelu, input=x)
    record(tensors, "quick_gelu", lambda input: input * torch.sigmoid(1.702 * input), input=x)
    geglu = lambda input: (lambda value, gate: value * F.gelu(gate))(*input.chunk(2, dim=-1))
    record(tensors, "geglu", geglu, input=3 * torch.randn(2, 7, 66))
    write("activation", tensors)


# case: batch, queries, keys, heads, head size, causal
ATTENTIONS = {
    "odd": (2, 17, 23, 3, 5, False),
    "text_keys": (1, 100, 77, 2, 8, False),
    "head40": (1, 11, 21, 2, 40, False),
    "many_keys": (1, 20, 530, 1, 8, False),
    "causal": (2, 19, 19, 2, 8, True),
    "causal_many": (1, 520, 520, 1, 5, True),
    "one_key": (2, 3, 1, 2, 4, False),
}


def attention():
    tensors = {}
    for case, (b, n, m, heads, d, causal) in ATTENTIONS.items():
        split = lambda x: x.unflatten(2, (heads, d)).transpose(1, 2)
        function = lambda q, k, v: F.scaled_dot_product_attention(split(q), split(k), split(v), is_causal=causal).transpose(1, 2).flatten(2)
        c = heads * d
        # Doubled, so that softmax weights differ by orders of magnitude.
        record(tensors, case, function, q=2 * torch.randn(b, n, c), k=2 * torch.randn(b, m, c), v=torch.randn(b, m, c))
        tensors[f"{case}.sizes"] = torch.tensor([heads, int(causal)], dtype=torch.int64)
        if case in ("odd", "one_key"):
            q, k = tensors[f"{case}.q"].detach(), tensors[f"{case}.k"].detach()
            p = (split(q) @ split(k).transpose(2, 3) * d**-0.5).softmax(dim=-1)
            tensors[f"{case}.probabilities"], tensors[f"{case}.mean"] = p, p.mean(dim=1)
    write("attention", tensors)


def upsample():
    tensors = {}
    for case, (h, w, to_h, to_w) in {
        "double": (5, 7, 10, 14), "odd": (5, 7, 9, 13), "same": (5, 7, 5, 7), "uneven": (5, 7, 7, 22), "down": (5, 7, 3, 4),
    }.items():
        record(tensors, case, lambda x: F.interpolate(x, size=(to_h, to_w), mode="nearest"), x=torch.randn(2, 3, h, w))
    # Which input pixel each output pixel takes, for resizing rows of these lengths to every length up to 100.
    for length in (3, 7, 11, 33, 49):
        row = torch.arange(length, dtype=torch.float32)[None, None, None]
        table = torch.full((100, 100), 255, dtype=torch.uint8)
        for to in range(1, 101):
            table[to - 1, :to] = F.interpolate(row, size=(1, to), mode="nearest")[0, 0, 0].to(torch.uint8)
        tensors[f"source.{length}"] = table
    write("upsample", tensors)


torch.manual_seed(SEED)
torch.set_num_threads(1)
OUT.mkdir(parents=True, exist_ok=True)
linear()
convolution()
normalization()
activation()
attention()
upsample()
