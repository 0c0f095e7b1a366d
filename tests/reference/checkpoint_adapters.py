"""One miniature adapter in every spelling, written by the libraries themselves where they still write it.

Run: python tests/reference/checkpoint_adapters.py
Writes tests/fixtures/checkpoint/adapters/: the same change of the same layers as kohya, diffusers (today's, own, older, oldest), PEFT
and pickled files, and expected.safetensors with that change, computed in float64 (`unet.<path>`, `text_encoder.<path>`).
"""

import json
import warnings
from pathlib import Path

import diffusers
import peft
import safetensors.torch
import torch
import transformers
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

warnings.filterwarnings("ignore")
OUT = Path(__file__).parent.parent / "fixtures" / "checkpoint" / "adapters"
VERSIONS = {"diffusers": diffusers.__version__, "peft": peft.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
RANK, ALPHA = 2, 3.0
UNET_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "proj_in"]
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1"]


def networks():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=2, cross_attention_dim=12,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), sample_size=8,
    )
    text = CLIPTextModel(CLIPTextConfig(vocab_size=30, hidden_size=12, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2))
    return unet, text


def factors(model, targets, convolutions, seed):
    """A and B for every layer that a target names; convolutions with a rank of their own."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for path, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if any(path == t or path.endswith("." + t) for t in targets):
            out, inputs, *kernel = weight.shape
            found[path] = (torch.randn(RANK, inputs, *kernel, generator=generator), torch.randn(out, RANK, *[1] * len(kernel), generator=generator), ALPHA)
        elif path in convolutions:
            out, inputs, *kernel = weight.shape
            found[path] = (torch.randn(RANK + 1, inputs, *kernel, generator=generator), torch.randn(out, RANK + 1, 1, 1, generator=generator), 1.0)
    return found


def change(a, b, alpha):
    rank = a.shape[0]
    delta = (alpha / rank) * (b.double().reshape(-1, rank) @ a.double().reshape(rank, -1))
    return delta.reshape(b.shape[0], *a.shape[1:]).contiguous()


def kohya(layers, network, alpha_type=torch.float32):
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[network]
    tensors = {}
    for path, (a, b, alpha) in layers.items():
        name = prefix + path.replace(".", "_")
        tensors |= {name + ".lora_down.weight": a, name + ".lora_up.weight": b, name + ".alpha": torch.tensor(alpha, dtype=alpha_type)}
    return tensors


def with_scale(layers):
    return {path: (a, b * (alpha / a.shape[0])) for path, (a, b, alpha) in layers.items()}


def older_names(layers, network):
    """diffusers 0.15 to 0.20: attention processors; only projections of attention, and only scale 1."""
    tensors = {}
    for path, (a, b) in with_scale(layers).items():
        parent, _, last = path.removesuffix(".0").rpartition(".")
        if network == "unet":
            if last not in ("to_q", "to_k", "to_v", "to_out"):
                continue
            name = f"unet.{parent}.processor.{last}_lora"
        else:
            if last not in ("q_proj", "k_proj", "v_proj", "out_proj"):
                continue
            name = f"text_encoder.{parent}.to_{last.removesuffix('_proj')}_lora"
        tensors |= {f"{name}.down.weight": a, f"{name}.up.weight": b}
    return tensors


def own_names(layers, network):
    middle = {"unet": "lora", "text_encoder": "lora_linear_layer"}[network]
    tensors = {}
    for path, (a, b) in with_scale(layers).items():
        tensors |= {f"{network}.{path}.{middle}.down.weight": a, f"{network}.{path}.{middle}.up.weight": b}
    return tensors


def write_peft(model, targets, convolutions, layers, folder):
    """PEFT's own folder, with the factors put in."""
    rank_pattern = {path: RANK + 1 for path in convolutions}
    alpha_pattern = {f"^{path}$": 1 for path in convolutions}
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets + convolutions, rank_pattern=rank_pattern, alpha_pattern=alpha_pattern)
    wrapped = get_peft_model(model, config)
    for path, (a, b, _) in layers.items():
        module = wrapped.base_model.model.get_submodule(path)
        module.lora_A["default"].weight.data = a
        module.lora_B["default"].weight.data = b
    wrapped.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"].sort()
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    unet, text = networks()
    convolutions = ["mid_block.resnets.0.conv1", "down_blocks.0.downsamplers.0.conv"]
    unet_layers, text_layers = factors(unet, UNET_TARGETS, convolutions, 1), factors(text, TEXT_TARGETS, [], 2)
    expected = {f"unet.{path}": change(*layer) for path, layer in unet_layers.items()}
    expected |= {f"text_encoder.{path}": change(*layer) for path, layer in text_layers.items()}
    save_file(expected, OUT / "expected.safetensors", {"versions": json.dumps(VERSIONS), "seeds": "0, 1, 2"})

    both = kohya(unet_layers, "unet") | kohya(text_layers, "text_encoder")
    save_file(both, OUT / "kohya.safetensors", {"ss_network_dim": "2", "note": "kept"})
    torch.save({"state_dict": both}, OUT / "kohya.ckpt")
    torch.save(both, OUT / "kohya_legacy.pt", _use_new_zipfile_serialization=False)
    views = {}
    for key, tensor in both.items():
        # Transposed and gapped views, factors of linear layers as 1x1 convolutions and the other way round, alpha as an integer.
        if key.endswith("alpha"):
            views[key] = tensor.long()
        elif tensor.dim() == 2:
            views[key] = torch.nn.Parameter(tensor.t().contiguous().t().reshape(*tensor.shape, 1, 1))
        elif tensor.shape[-1] == 1 and "proj_in" in key:
            views[key] = torch.stack([tensor[..., 0, 0], tensor[..., 0, 0] * 9], dim=-1)[..., 0]
        else:
            views[key] = tensor
    torch.save(views, OUT / "kohya_views.ckpt")

    merged = {f"unet.{p}.{n}.weight": t for p, (a, b) in with_scale(unet_layers).items() for n, t in (("lora_A", a), ("lora_B", b))}
    merged |= {f"text_encoder.{p}.{n}.weight": t for p, (a, b) in with_scale(text_layers).items() for n, t in (("lora_A", a), ("lora_B", b))}
    save_file(merged, OUT / "diffusers.safetensors", {"format": "pt"})
    StableDiffusionPipeline.save_lora_weights(
        OUT, unet_lora_layers={k.removeprefix("unet."): v for k, v in merged.items() if k.startswith("unet.")},
        text_encoder_lora_layers={k.removeprefix("text_encoder."): v for k, v in merged.items() if k.startswith("text")},
        weight_name="diffusers_saved.safetensors",
    )
    # Alpha and patterns in the metadata, as diffusers 0.33 and later write them.
    raw = {f"unet.{p}.{n}.weight": t for p, (a, b, _) in unet_layers.items() for n, t in (("lora_A", a), ("lora_B", b))}
    entries = {"unet.r": RANK, "unet.lora_alpha": ALPHA, "unet.alpha_pattern": {c: 1 for c in convolutions}, "unet.rank_pattern": {c: 3 for c in convolutions}}
    save_file(raw, OUT / "diffusers_metadata.safetensors", {"format": "pt", "lora_adapter_metadata": json.dumps(entries)})
    save_file(own_names(unet_layers, "unet") | own_names(text_layers, "text_encoder"), OUT / "diffusers_own.safetensors")
    older = older_names(unet_layers, "unet") | older_names(text_layers, "text_encoder")
    save_file(older, OUT / "diffusers_older.safetensors")
    save_file({k.removeprefix("unet."): v for k, v in older.items() if k.startswith("unet.")}, OUT / "diffusers_oldest.safetensors")
    write_peft(unet, UNET_TARGETS, convolutions, unet_layers, OUT / "peft_unet")
    write_peft(text, TEXT_TARGETS, [], text_layers, OUT / "peft_text_encoder")
    for path in sorted(OUT.rglob("*")):
        print(path.relative_to(OUT), path.stat().st_size)
    assert safetensors.torch.load_file(OUT / "diffusers_saved.safetensors").keys() == merged.keys()


main()
