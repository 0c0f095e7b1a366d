"""Every family of adapters, trained by LyCORIS' own modules, through `convert`, and loaded by the libraries that the results are for.

Run: python tests/reference/convert_families.py target/release/convert MODEL_FOLDER     (lycoris-lora 4.1.3, diffusers 0.32.2, peft 0.14.0)
MODEL_FOLDER is the miniature of the Rust example `miniature`. Nothing is committed. For each family it prints relative errors of the
text encoder's and the UNet's outputs, in float32, against LyCORIS' own forward pass: diffusers with `convert diffusers`, PEFT with
`convert peft`, plain diffusers with `convert merge` (folder, and LDM file through `from_single_file`), and what the adapter changes at all.
"""

import logging
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["LYCORIS_LOG_LEVEL"] = "ERROR"
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import torch
from diffusers import StableDiffusionPipeline
from lycoris.config import PRESET
from lycoris.kohya import create_network
from peft import PeftModel

# A class of diffusers' that kohya's UNet does not have, and that LyCORIS adapts twice here: by class and by name.
for preset in PRESET.values():
    preset["unet_target_module"] = [name for name in preset["unet_target_module"] if name != "TimestepEmbedding"]

FAMILIES = {
    "lora": dict(algo="lora", preset="attn-mlp"),
    "locon": dict(algo="locon", conv_dim=2, conv_alpha=1),
    "locon with core": dict(algo="locon", use_tucker=True),
    "loha": dict(algo="loha"),
    "loha with core": dict(algo="loha", use_tucker=True),
    "lokr": dict(algo="lokr", factor=4),
    "lokr with core": dict(algo="lokr", factor=4, use_tucker=True),
    "lokr whole": dict(algo="lokr", full_matrix=True),
    "dora": dict(algo="locon", dora_wd=True),
    "dora per input": dict(algo="locon", dora_wd=True, wd_on_output=False),
    "loha with dora": dict(algo="loha", dora_wd=True),
    "full": dict(algo="full", preset="attn-mlp"),
}


def load(path):
    return StableDiffusionPipeline.from_pretrained(path, safety_checker=None, local_files_only=True)


def outputs(unet, text):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 40, (2, 77), generator=generator)
    sample = torch.randn(2, 4, 16, 16, generator=generator)
    with torch.no_grad():
        states = text(ids)[0]
        return states, unet(sample, torch.tensor([50, 700]), states).sample


def error(found, expected):
    return " ".join(f"{((a - b).norm() / b.norm()).item():.1e}" for a, b in zip(found, expected))


def main():
    convert, base = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    run = lambda *arguments: subprocess.run([convert, *map(str, arguments), "--quiet"], check=True)
    for name, options in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            pipe = load(base)
            plain = outputs(pipe.unet, pipe.text_encoder)
            torch.manual_seed(0)
            network = create_network(1.0, 2, 2.0, pipe.vae, pipe.text_encoder, pipe.unet, warn_on_unmatched=False, **options)
            network.apply_to(pipe.text_encoder, pipe.unet, True, True)
            with torch.no_grad():
                for key, parameter in network.named_parameters():
                    # The magnitudes start as norms and stay near them.
                    scale = 0.05 if "dora_scale" in key or options["algo"] == "full" else 0.3
                    parameter.add_(torch.randn_like(parameter) * scale * (parameter.abs().mean() if "dora_scale" in key else 1.0))
            pipe.unet.eval(), pipe.text_encoder.eval(), network.eval()
            expected = outputs(pipe.unet, pipe.text_encoder)
            file = folder / "adapter.safetensors"
            network.save_weights(str(file), torch.float32, {})
            line = [f"{name}: changes {error(expected, plain)}"]

            run("merge", "--base", base, file, "--output", folder / "merged")
            merged = load(folder / "merged")
            line.append(f"merged {error(outputs(merged.unet, merged.text_encoder), expected)}")
            run("merge", "--base", base, file, "--output", folder / "merged.safetensors")
            single = StableDiffusionPipeline.from_single_file(folder / "merged.safetensors", config=str(base), local_files_only=True, safety_checker=None)
            line.append(f"single file {error(outputs(single.unet, single.text_encoder), expected)}")

            # LoRA has no biases, so full differences are looked at with the merged model alone.
            if options["algo"] != "full":
                run("diffusers", file, "--base", base, "--output", folder / "diffusers")
                loaded = load(base)
                loaded.load_lora_weights(str(folder / "diffusers"), weight_name="pytorch_lora_weights.safetensors")
                line.append(f"diffusers {error(outputs(loaded.unet, loaded.text_encoder), expected)}")
                run("peft", file, "--base", base, "--output", folder / "peft.safetensors")
                loaded = load(base)
                loaded.load_lora_weights(str(folder), weight_name="peft.safetensors")
                line.append(f"one PEFT file {error(outputs(loaded.unet, loaded.text_encoder), expected)}")
                run("peft", file, "--base", base, "--output", folder / "peft")
                loaded = load(base)
                unet, text = loaded.unet, loaded.text_encoder
                if (folder / "peft" / "unet").is_dir():
                    unet = PeftModel.from_pretrained(unet, folder / "peft" / "unet")
                if (folder / "peft" / "text_encoder").is_dir():
                    text = PeftModel.from_pretrained(text, folder / "peft" / "text_encoder")
                line.append(f"PEFT {error(outputs(unet, text), expected)}")
            print(" | ".join(line), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run("ckpt", base, "--output", folder / "source.safetensors")
        run("diffusers", folder / "source.safetensors", "--base", base, "--output", folder / "pipeline")
        run("ckpt", folder / "pipeline", "--output", folder / "again.safetensors")
        print("LDM, diffusers, LDM: the same bytes:", (folder / "source.safetensors").read_bytes() == (folder / "again.safetensors").read_bytes())
        source = StableDiffusionPipeline.from_single_file(folder / "source.safetensors", config=str(base), local_files_only=True, safety_checker=None)
        images = []
        for pipe in (source, load(folder / "pipeline")):
            pipe.set_progress_bar_config(disable=True)
            generator = torch.Generator().manual_seed(0)
            images.append(pipe("a horse", num_inference_steps=4, height=64, width=64, generator=generator, output_type="pt").images)
        print("samples of from_single_file(source) and from_pretrained(converted) are equal:", torch.equal(*images), tuple(images[0].shape))


if __name__ == "__main__":
    main()
