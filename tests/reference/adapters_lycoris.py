"""One layer per family of adapters and kind of layer, computed by LyCORIS itself.

Run: python tests/reference/adapters_lycoris.py        (lycoris-lora 4.1.3, torch 2.15, CPU, seed 0)
Writes tests/fixtures/adapters/lycoris.safetensors, the adapter as LyCORIS' own modules save it under kohya's names, and
lycoris_expected.safetensors, for each layer `PATH.base` (and `.base_bias`), input `.x`, output gradient `.g`, the output of the adapted
layer `.y`, the change of the weight `.delta` that the forward pass made, and `.grad.PART` of sum(y * g). All computed in float64 and
stored in float32; metadata: `layers`, JSON with stride and family of each path.
"""

import json
import os
from pathlib import Path

os.environ["LYCORIS_LOG_LEVEL"] = "ERROR"

import importlib.metadata

import torch
from lycoris.modules.full import FullModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from safetensors.torch import save_file

OUT = Path(__file__).parent.parent / "fixtures" / "adapters"
KINDS = {
    "linear": ("down_blocks.{}.attentions.0.transformer_blocks.0.attn1.to_q", lambda: torch.nn.Linear(12, 18)),
    "conv": ("down_blocks.{}.resnets.0.conv1", lambda: torch.nn.Conv2d(8, 12, 3, 1, 1)),
    "strided": ("down_blocks.{}.downsamplers.0.conv", lambda: torch.nn.Conv2d(6, 8, 3, 2, 1)),
    "pointwise": ("down_blocks.{}.attentions.0.proj_in", lambda: torch.nn.Conv2d(8, 12, 1)),
}
CASES = [
    ("linear", LoConModule, {}),
    ("linear", LoConModule, {"weight_decompose": True}),
    ("linear", LoConModule, {"weight_decompose": True, "wd_on_out": False}),
    ("linear", LohaModule, {}),
    ("linear", LohaModule, {"weight_decompose": True}),
    ("linear", LokrModule, {"lora_dim": 1}),
    ("linear", LokrModule, {"lora_dim": 1, "decompose_both": True, "factor": 3}),
    ("linear", LokrModule, {"full_matrix": True}),
    ("linear", LokrModule, {"lora_dim": 1, "weight_decompose": True, "factor": 2}),
    ("linear", FullModule, {}),
    ("linear", IA3Module, {}),
    ("linear", IA3Module, {"train_on_input": True}),
    ("conv", LoConModule, {}),
    ("conv", LoConModule, {"use_tucker": True}),
    ("conv", LoConModule, {"weight_decompose": True}),
    ("conv", LoConModule, {"weight_decompose": True, "wd_on_out": False}),
    ("conv", LohaModule, {}),
    ("conv", LohaModule, {"use_tucker": True}),
    ("conv", LohaModule, {"use_tucker": True, "weight_decompose": True}),
    ("conv", LokrModule, {"lora_dim": 1, "factor": 2}),
    ("conv", LokrModule, {"lora_dim": 1, "factor": 2, "use_tucker": True}),
    ("conv", LokrModule, {"full_matrix": True}),
    ("conv", FullModule, {}),
    ("conv", IA3Module, {}),
    ("strided", LoConModule, {"use_tucker": True}),
    ("strided", LohaModule, {}),
    ("strided", LokrModule, {"lora_dim": 1, "factor": 2}),
    ("pointwise", LoConModule, {}),
    ("pointwise", LohaModule, {"weight_decompose": True}),
    ("pointwise", LokrModule, {"lora_dim": 1, "factor": 2}),
    ("pointwise", LokrModule, {"full_matrix": True}),
]


def main():
    torch.manual_seed(0)
    adapter, expected, layers = {}, {}, {}
    for number, (kind, family, options) in enumerate(CASES):
        path, make = KINDS[kind]
        path = path.format(number)
        layer = make().double()
        module = family("layer", layer, 1.0, **{"lora_dim": 2, "alpha": 3.0, **options}).double()
        with torch.no_grad():
            for parameter in module.parameters():
                # On top of the first values, so that magnitudes stay near the norms that they are.
                parameter.add_(torch.randn_like(parameter) * (0.5 if parameter.abs().max() == 0 else 0.1))
                parameter.copy_(parameter.float())
            for parameter in layer.parameters():
                parameter.requires_grad_(False).copy_(parameter.float())
        shape = (2, 5, layer.in_features) if kind == "linear" else (2, layer.in_channels, 4, 4)
        x = torch.randn(shape).double().requires_grad_()
        if family is FullModule:
            # Its own forward wants the weight folded in; the change is its parameters.
            call = torch.nn.functional.linear if kind == "linear" else torch.nn.functional.conv2d
            extra = {} if kind == "linear" else {"padding": 1}
            y = call(x, layer.weight + module.weight, layer.bias + module.bias, **extra)
            state = {"diff": module.weight, "diff_b": module.bias}
        elif family is IA3Module:
            y = module.org_forward(x) + apply(layer, x, module.make_weight(diff=True))
            state = {"weight": module.weight, "on_input": module.on_input}
        else:
            y = module.forward(x)
            state = module.custom_state_dict()
        g = torch.randn(y.shape).double()
        (y * g).sum().backward()
        names = {id(tensor): name for name, tensor in state.items()}
        owned = {"lora_up.weight": "lora_up.weight", "hada_w1_a": "hada_w1_a", "lokr_w1": "lokr_w1", "lokr_w1_a": "lokr_w1_a"}
        for name, parameter in module.named_parameters():
            part = names.get(id(parameter)) or owned.get(name) or {"weight": "diff", "bias": "diff_b"}[name]
            expected[f"{path}.grad.{part}"] = parameter.grad
        for part, tensor in state.items():
            adapter[f"lora_unet_{path.replace('.', '_')}.{part}"] = tensor.detach()
        with torch.no_grad():
            expected[f"{path}.delta"] = delta_of(module, family, layer)
        expected |= {f"{path}.base": layer.weight, f"{path}.base_bias": layer.bias, f"{path}.x": x, f"{path}.x_grad": x.grad, f"{path}.g": g, f"{path}.y": y}
        layers[path] = {"stride": 2 if kind == "strided" else 1, "family": family.name, **options}
    single = lambda tensors: {k: (t.detach().float() if t.is_floating_point() else t).contiguous() for k, t in tensors.items()}
    OUT.mkdir(parents=True, exist_ok=True)
    versions = {name: importlib.metadata.version(name) for name in ("lycoris-lora", "torch", "safetensors")}
    save_file(single(adapter), OUT / "lycoris.safetensors", {"versions": json.dumps(versions)})
    save_file(single(expected), OUT / "lycoris_expected.safetensors", {"versions": json.dumps(versions), "layers": json.dumps(layers)})


def apply(layer, x, weight):
    if isinstance(layer, torch.nn.Linear):
        return torch.nn.functional.linear(x, weight)
    return torch.nn.functional.conv2d(x, weight, None, layer.stride, layer.padding)


def delta_of(module, family, layer):
    """The change that the forward pass applies: its own lines, since `get_diff_weight` scales LoHa and LoKr twice."""
    if family is FullModule:
        return module.weight
    if family is IA3Module:
        return module.make_weight(diff=True)
    change = module.make_weight() * module.scale if family is LoConModule else module.get_weight(module.shape) * module.scalar
    return module.apply_weight_decompose(layer.weight + change) - layer.weight if module.wd else change


if __name__ == "__main__":
    main()
