"""A seeded adapter file in kohya's layout (`lora_unet_*`, `lora_te_*`), small and with every matrix non-zero.

`--kind lora` has kohya's default targets: every Linear and 1x1 convolution inside a Transformer2DModel, and every Linear of
CLIPAttention and CLIPMLP. `--kind locon` has what LoCon adds in the UNet: 3x3 convolutions of resnets and samplers with rank
2, alpha 1, and `time_emb_proj`, `conv_shortcut` with the ordinary rank. Values are float16, as published files are.

    python kohya_lora.py MODEL_FOLDER tests/fixtures/training/lora.safetensors
    python kohya_lora.py MODEL_FOLDER tests/fixtures/training/locon.safetensors --kind locon
"""

import math

import torch

import common

RANK, ALPHA = 4, 2.0
CONV_RANK, CONV_ALPHA = 2, 1.0
SEEDS = {"lora": 41, "locon": 42}


def inside(model, *classes):
    """Linear and convolution layers below modules of the given class names, by path, in definition order."""
    found = {}
    for path, module in model.named_modules():
        if type(module).__name__ in classes:
            for inner, layer in module.named_modules(prefix=path):
                if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
                    found[inner] = layer
    return found


def kernel_area(layer):
    """1 for a linear layer, the number of taps for a convolution."""
    return math.prod(layer.kernel_size) if isinstance(layer, torch.nn.Conv2d) else 1


def targets(kind, unet, text_encoder):
    """Yields (kohya name, network, module path, layer, rank, alpha) of all targets of a kind."""
    if kind == "lora":
        unet_layers = inside(unet, "Transformer2DModel")
        text_layers = inside(text_encoder, "CLIPAttention", "CLIPSdpaAttention", "CLIPMLP")
    else:
        unet_layers = inside(unet, "ResnetBlock2D", "Downsample2D", "Upsample2D")
        text_layers = {}
    for prefix, network, layers in (("lora_unet_", "unet", unet_layers), ("lora_te_", "text_encoder", text_layers)):
        for path, layer in layers.items():
            rank, alpha = (CONV_RANK, CONV_ALPHA) if kernel_area(layer) > 1 else (RANK, ALPHA)
            yield prefix + path.replace(".", "_"), network, path, layer, rank, alpha


def matrices(layer, rank):
    """Random `down` `[rank, in, ...]` and `up` `[out, rank, ...]`; together about a tenth of a default-initialized weight."""
    out_channels, in_channels = layer.weight.shape[:2]
    kernel = tuple(layer.weight.shape[2:])
    down = torch.randn(rank, in_channels, *kernel) / math.sqrt(in_channels * kernel_area(layer))
    up = 0.1 * torch.randn(out_channels, rank, *(1 for _ in kernel))
    return down.half(), up.half()


def main():
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=sorted(SEEDS), default="lora")
    options = parser.parse_args()
    unet, text_encoder = common.load(options.folder, "unet", "text_encoder")
    torch.manual_seed(SEEDS[options.kind])
    tensors = {}
    for name, _, _, layer, rank, alpha in targets(options.kind, unet, text_encoder):
        down, up = matrices(layer, rank)
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(alpha).half()}
    common.save(
        options.output,
        tensors,
        script="tests/reference/kohya_lora.py",
        versions=common.versions(),
        seed=str(SEEDS[options.kind]),
        ss_network_module="networks.lora",
        ss_network_dim=str(RANK),
        ss_network_alpha=str(ALPHA),
    )


if __name__ == "__main__":
    main()
