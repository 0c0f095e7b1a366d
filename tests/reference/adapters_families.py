"""Families of adapters that are read and not trained, computed by the programs that write them.

Run: python tests/reference/adapters_families.py SD_SCRIPTS LORA_DIFFUSION LYCORIS
     (lycoris-lora 4.1.3, torch 2.x, diffusers 0.32.2, transformers 4.49, CPU, seed 0; checkouts of kohya-ss/sd-scripts, of which
     networks/oft.py is run, of cloneofsimo/lora d84074b, of which lora_diffusion/lora.py is run, and of KohakuBlueleaf/LyCORIS 5a108f3
     of December 2023, of which lycoris/modules/glora.py and diag_oft.py are run)
Writes to tests/fixtures/adapters, for each FAMILY of glora, norm, oft (LyCORIS' diag-oft, then kohya's), boft the adapter as FAMILY.safetensors
and FAMILY_expected.safetensors: for each layer `PATH.base` (and `.base_bias`), input `.x`, the output of the adapted layer `.y`, and the
change of the weight `.delta`; computed in float64 (OFT in float32, as both programs invert), stored in float32; metadata `layers`: JSON
with what each layer is. The same as glora_1 and oft_diag in the older forms of both families: GLoRA's factors under each other's names,
and rotations in the place of what they are made of.

For cloneofsimo's format, of miniature networks: list_unet.pt, list_text_encoder.pt and list.safetensors as the program writes them, and
list_expected.safetensors, the change of each layer by its module path; list_older.pt, the UNet's list with the order that layers have in
diffusers before 0.12 (a block's feed-forward layer before its second attention); list_extended.safetensors of a smaller UNet with its
residual blocks, and list_extended_expected.safetensors.
"""

import importlib.util
import json
import os
import sys
import types
from pathlib import Path

os.environ["LYCORIS_LOG_LEVEL"] = "ERROR"

import importlib.metadata

import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.norms import NormModule
from safetensors.torch import save_file

OUT = Path(__file__).parent.parent / "fixtures" / "adapters"
LINEAR = ("down_blocks.{}.attentions.0.transformer_blocks.0.attn1.to_q", lambda: torch.nn.Linear(12, 18))
CONV = ("down_blocks.{}.resnets.0.conv1", lambda: torch.nn.Conv2d(8, 12, 3, 1, 1))
STRIDED = ("down_blocks.{}.downsamplers.0.conv", lambda: torch.nn.Conv2d(6, 8, 3, 2, 1))
POINTWISE = ("down_blocks.{}.attentions.0.proj_in", lambda: torch.nn.Conv2d(8, 12, 1))
GROUP_NORM = ("down_blocks.{}.resnets.0.norm1", lambda: torch.nn.GroupNorm(4, 8))
LAYER_NORM = ("down_blocks.{}.attentions.0.transformer_blocks.0.norm2", lambda: torch.nn.LayerNorm(12))
KINDS = [LINEAR, CONV, STRIDED, POINTWISE]


def single(tensors):
    return {k: (t.detach().float() if t.is_floating_point() else t).contiguous() for k, t in tensors.items()}


def versions(*names):
    return json.dumps({name: importlib.metadata.version(name) for name in names})


def random_layer(make, dtype):
    layer = make().to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_((parameter + 0.1 * torch.randn_like(parameter)).float())
    return layer.requires_grad_(False)


def example(layer, dtype):
    if isinstance(layer, torch.nn.Linear):
        return torch.randn(2, 5, layer.in_features).to(dtype)
    if isinstance(layer, torch.nn.LayerNorm):
        return torch.randn(2, 5, *layer.normalized_shape).to(dtype)
    channels = layer.num_channels if isinstance(layer, torch.nn.GroupNorm) else layer.in_channels
    return torch.randn(2, channels, 4, 4).to(dtype)


def move(module, size):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_((parameter + size * torch.randn_like(parameter)).float())


def record(expected, path, layer, x, y, change):
    expected |= {f"{path}.base": layer.weight, f"{path}.base_bias": layer.bias, f"{path}.x": x, f"{path}.y": y}
    expected[f"{path}.delta"] = change


def lycoris(cases, size, dtype):
    """`cases`: kind, LyCORIS' module, options."""
    adapter, expected, layers = {}, {}, {}
    for number, ((path, make), family, options) in enumerate(cases):
        path, layer = path.format(number), random_layer(make, dtype)
        module = family("layer", layer, 1.0, **options).to(dtype)
        move(module, size)
        module.__dict__.setdefault("org_forward", layer.forward)
        x = example(layer, dtype)
        with torch.no_grad():
            y = module(x)
            state = module.custom_state_dict() if hasattr(module, "custom_state_dict") else None
            stored = getattr(family, "weight_list", module.state_dict())
            state = state or {k: v for k, v in module.state_dict().items() if k in stored}
            change = module.get_diff_weight()[0] if hasattr(module, "get_diff_weight") else older_change(module, layer.weight)
            record(expected, path, layer, x, y, change)
        for part, tensor in state.items():
            adapter[f"lora_unet_{path.replace('.', '_')}.{part}"] = tensor
        layers[path] = {"kind": type(layer).__name__, "stride": getattr(layer, "stride", (1,))[0], "groups": getattr(layer, "num_groups", 0), **options}
    return adapter, expected, layers


def older_change(module, weight):
    """GLoRA's `make_weight` of 2023 is the change, OFT's the changed weight."""
    made = module.make_weight().reshape(weight.shape)
    return made - weight if hasattr(module, "oft_blocks") else made


def older(root, name):
    """A module of LyCORIS of 2023 beside the one installed; its package imports what is not needed for it."""
    folder = Path(root) / "lycoris" / "modules"
    for package in ("lycoris_2023", "lycoris_2023.modules"):
        sys.modules.setdefault(package, types.ModuleType(package)).__path__ = [str(folder.parent if package == "lycoris_2023" else folder)]
    return importlib.import_module(f"lycoris_2023.modules.{name}")


def kohya_oft(root, start):
    """kohya's module stands without its package: its imports of data sets and models are not needed for it."""
    for name in ("library", "library.utils"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["library.utils"].setup_logging = lambda: None
    spec = importlib.util.spec_from_file_location("oft", Path(root) / "networks" / "oft.py")
    oft = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oft)
    adapter, expected, layers = {}, {}, {}
    # With alpha 1e-3 the norm of Q is above the constraint, with alpha 1 below.
    for number, ((path, make), alpha) in enumerate([(LINEAR, 1.0), (LINEAR, 1e-2), (CONV, 1.0), (CONV, 1e-2), (POINTWISE, 1.0)], start):
        path, layer = path.format(number), random_layer(make, torch.float32)
        module = oft.OFTModule("layer", layer, 1.0, dim=2, alpha=alpha)
        move(module, 0.1)
        x = example(layer, torch.float32)
        module.org_forward = layer.forward
        with torch.no_grad():
            y = module(x)
            r = module.get_weight()
            w = layer.weight.reshape(module.num_blocks, module.block_size, -1)
            change = torch.einsum("k n m, k n p -> k m p", r, w).reshape(layer.weight.shape) - layer.weight
        record(expected, path, layer, x, y, change)
        for part, tensor in module.state_dict().items():
            adapter[f"oft_unet_{path.replace('.', '_')}.{part}"] = tensor
        layers[path] = {"kind": type(layer).__name__, "stride": 1, "groups": 0, "kohya": True, "alpha": alpha}
    return adapter, expected, layers


def write(name, adapter, expected, layers, used=None):
    used = used or versions("lycoris-lora", "torch", "safetensors")
    save_file(single(adapter), OUT / f"{name}.safetensors", {"versions": used})
    save_file(single(expected), OUT / f"{name}_expected.safetensors", {"versions": used, "layers": json.dumps(layers)})


def draw(model, lora, network, expected):
    for path, module in model.named_modules():
        if isinstance(module, (lora.LoraInjectedLinear, lora.LoraInjectedConv2d)):
            with torch.no_grad():
                for factor in (module.lora_up.weight, module.lora_down.weight):
                    factor.copy_(torch.randn_like(factor).half())
                up, down = module.lora_up.weight.double(), module.lora_down.weight.double()
                expected[f"{network}.{path}"] = (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:]).float()


def tiny_unet(widths, groups):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8, block_out_channels=widths, layers_per_block=1, norm_num_groups=groups, attention_head_dim=2, cross_attention_dim=12,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def nameless(root):
    from transformers import CLIPTextConfig, CLIPTextModel

    spec = importlib.util.spec_from_file_location("lora_diffusion_lora", Path(root) / "lora_diffusion" / "lora.py")
    lora = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lora)
    used = {"versions": versions("torch", "diffusers", "transformers", "safetensors")}
    unet = tiny_unet((8, 16), 4)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=20, hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=8, attn_implementation="eager"))
    targets = {"unet": (unet, lora.DEFAULT_TARGET_REPLACE), "text_encoder": (text, lora.TEXT_ENCODER_DEFAULT_TARGET_REPLACE)}
    expected = {}
    for network, (model, target) in targets.items():
        lora.inject_trainable_lora(model, target, r=2)
        draw(model, lora, network, expected)
        lora.save_lora_weight(model, str(OUT / f"list_{network}.pt"), target)
    lora.save_safeloras(targets, str(OUT / "list.safetensors"))
    save_file(expected, OUT / "list_expected.safetensors", used)
    for module in unet.modules():
        if type(module).__name__ == "BasicTransformerBlock":
            module._modules["attn2"] = module._modules.pop("attn2")
    lora.save_lora_weight(unet, str(OUT / "list_older.pt"), lora.DEFAULT_TARGET_REPLACE)
    extended, expected = tiny_unet((4, 8), 2), {}
    lora.inject_trainable_lora_extended(extended, lora.UNET_EXTENDED_TARGET_REPLACE, r=2)
    draw(extended, lora, "unet", expected)
    lora.save_safeloras({"unet": (extended, lora.UNET_EXTENDED_TARGET_REPLACE)}, str(OUT / "list_extended.safetensors"))
    save_file(expected, OUT / "list_extended_expected.safetensors", used)


def main():
    torch.manual_seed(0)
    options = {"lora_dim": 2, "alpha": 3.0}
    write("glora", *lycoris([(kind, GLoRAModule, options) for kind in KINDS], 0.2, torch.float64))
    write("norm", *lycoris([(kind, NormModule, {}) for kind in (GROUP_NORM, LAYER_NORM)], 0.2, torch.float64))
    # LyCORIS takes the constraint times the number of outputs; 0.001 binds, 1 does not.
    diag = [
        (kind, DiagOFTModule, {"lora_dim": 3, "constraint": constraint, "rescaled": rescaled})
        for kind, constraint, rescaled in (
            (LINEAR, 0, False), (LINEAR, 1e-2, False), (LINEAR, 1.0, True), (CONV, 0, True), (CONV, 1e-2, False), (STRIDED, 0, False), (POINTWISE, 1e-2, True),
        )
    ]
    parts = lycoris(diag, 0.1, torch.float32)
    kohya = kohya_oft(sys.argv[1], len(diag))
    write("oft", *({**ours, **more} for ours, more in zip(parts, kohya)))
    nameless(sys.argv[2])
    # BOFT wants outputs that are a power of two times an even block.
    wide = (LINEAR[0], lambda: torch.nn.Linear(12, 16))
    butterfly = [(wide, 4, 0, False), (CONV, 6, 1e-2, True), (STRIDED, 4, 0, True), (POINTWISE, 6, 1e-2, False), (wide, 2, 0, False)]
    options = [(kind, ButterflyOFTModule, {"lora_dim": size, "constraint": constraint, "rescaled": rescaled}) for kind, size, constraint, rescaled in butterfly]
    write("boft", *lycoris(options, 0.1, torch.float32))
    # Its forward pass scales GLoRA's change twice, so the scale is 1 here.
    pointwise = {"lora_dim": 2, "alpha": 2.0}
    glora = older(sys.argv[3], "glora").GLoRAModule
    used = json.dumps({"LyCORIS": "5a108f3"} | json.loads(versions("torch", "safetensors")))
    write("glora_1", *lycoris([(kind, glora, pointwise) for kind in (LINEAR, POINTWISE)], 0.2, torch.float64), used)
    diag = older(sys.argv[3], "diag_oft").DiagOFTModule
    cases = [(LINEAR, 0, False), (LINEAR, 1e-2, True), (CONV, 0, False), (POINTWISE, 0, True)]
    options = [(kind, diag, {"lora_dim": 3, "constrain": constrain, "rescaled": rescaled}) for kind, constrain, rescaled in cases]
    write("oft_diag", *lycoris(options, 0.1, torch.float32), used)


if __name__ == "__main__":
    main()
