"""Loads what `convert` wrote with the libraries that it is for, and compares with the input.

Run: python tests/reference/convert_check.py target/release/convert
Prints the largest relative error for each format; nothing is committed. diffusers loads with `load_lora_weights`, PEFT with
`PeftModel.from_pretrained`, whole checkpoints with `StableDiffusionPipeline.from_pretrained`.
"""

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import PeftModel
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

warnings.filterwarnings("ignore")
ADAPTERS = Path(__file__).parent.parent / "fixtures" / "checkpoint" / "adapters"


def networks():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=2, cross_attention_dim=12,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), sample_size=8,
    )
    text = CLIPTextModel(CLIPTextConfig(vocab_size=30, hidden_size=12, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2))
    return unet, text


def error(model, network, prefix=""):
    """Largest relative error of the loaded changes against the expected ones, and how many layers were loaded."""
    expected = {k: v for k, v in load_file(ADAPTERS / "expected.safetensors").items() if k.startswith(network + ".")}
    worst, count = 0.0, 0
    for path, module in model.named_modules():
        if not hasattr(module, "get_delta_weight"):
            continue
        name = next(iter(module.lora_A.keys()))
        wanted = expected.pop(f"{network}.{path.removeprefix(prefix)}")
        found = module.get_delta_weight(name).detach()
        worst = max(worst, ((found - wanted).norm() / wanted.norm()).item())
        count += 1
    assert not expected, sorted(expected)
    return f"{count} layers, {worst:.1e}"


def main():
    convert = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name in ("kohya.safetensors", "kohya.ckpt", "kohya_views.ckpt", "diffusers_own.safetensors"):
            subprocess.run([convert, "diffusers", ADAPTERS / name, "--output", folder / name, "--quiet"], check=True)
            unet, text = networks()
            pipe = type("Parts", (), {})()
            state, alphas = StableDiffusionPipeline.lora_state_dict(folder / name, weight_name="pytorch_lora_weights.safetensors")
            assert alphas in (None, {}), alphas
            StableDiffusionPipeline.load_lora_into_unet(state, alphas, unet, _pipeline=None)
            StableDiffusionPipeline.load_lora_into_text_encoder(state, alphas, text, prefix="text_encoder", _pipeline=None)
            print("diffusers", name, error(unet, "unet"), "|", error(text, "text_encoder"))
        subprocess.run([convert, "peft", ADAPTERS / "kohya.safetensors", "--output", folder / "peft", "--quiet"], check=True)
        unet, text = networks()
        print("peft unet", error(PeftModel.from_pretrained(unet, folder / "peft" / "unet"), "unet", "base_model.model."))
        print("peft text", error(PeftModel.from_pretrained(text, folder / "peft" / "text_encoder"), "text_encoder", "base_model.model."))
        subprocess.run([convert, "kohya", ADAPTERS / "diffusers.safetensors", "--output", folder / "k.safetensors", "--quiet"], check=True)
        tensors = load_file(folder / "k.safetensors")
        found = {k.removesuffix(".alpha") for k in tensors if k.endswith(".alpha")}
        print("kohya", len(found), "layers", sorted({float(tensors[k + ".alpha"]) / tensors[k + ".lora_down.weight"].shape[0] for k in found}))
        if len(sys.argv) > 2:
            base = Path(sys.argv[2])
            subprocess.run([convert, "ckpt", base, "--output", folder / "model.safetensors", "--quiet"], check=True)
            subprocess.run([convert, "diffusers", folder / "model.safetensors", "--base", base, "--output", folder / "again", "--quiet"], check=True)
            first, again = (StableDiffusionPipeline.from_pretrained(p, safety_checker=None, local_files_only=True) for p in (base, folder / "again"))
            for part in ("unet", "vae", "text_encoder"):
                a, b = getattr(first, part).state_dict(), getattr(again, part).state_dict()
                assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), part
            print("pipeline", json.dumps({p: len(getattr(again, p).state_dict()) for p in ("unet", "vae", "text_encoder")}))
            loaded = StableDiffusionPipeline.from_single_file(folder / "model.safetensors", config=str(base), local_files_only=True, safety_checker=None)
            a, b = first.unet.state_dict(), loaded.unet.state_dict()
            assert all(torch.equal(a[k], b[k]) for k in a)
            print("single file read by diffusers: unet equal")
            subprocess.run([convert, "ckpt", base, "--output", folder / "model.ckpt", "--quiet"], check=True)
            pickled, plain = torch.load(folder / "model.ckpt", weights_only=True)["state_dict"], load_file(folder / "model.safetensors")
            assert pickled.keys() == plain.keys() and all(torch.equal(pickled[k], plain[k]) for k in plain)
            mapped = torch.load(folder / "model.ckpt", weights_only=True, mmap=True)["state_dict"]
            assert all(torch.equal(mapped[k], plain[k]) for k in plain)
            loaded = StableDiffusionPipeline.from_single_file(folder / "model.ckpt", config=str(base), local_files_only=True, safety_checker=None)
            b = loaded.unet.state_dict()
            assert all(torch.equal(a[k], b[k]) for k in a)
            print("pickled single file read by torch.load(weights_only=True), mapped too, and by diffusers: equal")


main()
