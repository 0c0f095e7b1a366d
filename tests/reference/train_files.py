"""Whether the files that `train` writes load elsewhere, without a word about keys, and mean the same there.

    python train_files.py MODEL_FOLDER DATA SD_SCRIPTS --train target/release/train --output target/release/examples/adapted_output

MODEL_FOLDER is the miniature, DATA its `train` folder (128x128 images), SD_SCRIPTS a checkout of kohya-ss/sd-scripts. Trains a LoRA
and a LoCon for some steps at a high rate and writes them in both layouts; loads each file in diffusers (`load_lora_weights`), in plain
peft (diffusers' layout), and by kohya's `create_network_from_weights` (kohya's layout); and compares text states and the UNet's answer
with those of the Rust example. Exits with 1 at a warning, a key that was not placed, or a relative difference above 1e-4.

diffusers 0.32 takes a wrong scale where a file in kohya's layout has several alphas, as a LoCon has (its alpha_pattern matches no layer);
0.35.2 with peft 0.17.1 takes the right one, and diffusers' layout is read alike by both. That one case does not count below 0.35.
"""

import argparse
import logging
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import common
import train_kohya

CASES = {"lora": [], "locon": ["--network_args", "conv_dim=4", "conv_alpha=2"]}
LIMIT, TIMESTEP = 1e-4, 261
PROMPTS = ["a photo of a red circle", ""]


class Heard(logging.Handler):
    """Everything that a library warns of while a file is loaded."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.words = []

    def emit(self, record):
        self.words.append(f"{record.name}: {record.getMessage()}")


def listen(load):
    """Runs `load`; returns its result and what was warned of."""
    from diffusers.utils import logging as diffusers_logging

    heard, loggers = Heard(), [logging.getLogger(name) for name in (None, "diffusers", "transformers", "peft", "library", "networks")]
    diffusers_logging.enable_propagation()
    for logger in loggers:
        logger.addHandler(heard)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = load()
    for logger in loggers:
        logger.removeHandler(heard)
    return result, heard.words + [str(warning.message) for warning in caught]


def pipeline(folder):
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)


@torch.no_grad()
def answers(unet, text_encoder, inputs):
    """Text states and the UNet's prediction."""
    states = text_encoder(inputs["ids"].long()).last_hidden_state
    return {"states": states, "prediction": unet(inputs["sample"], TIMESTEP, states).sample}


def by_diffusers(folder, file, inputs):
    pipe = pipeline(folder)
    _, words = listen(lambda: pipe.load_lora_weights(file.parent, weight_name=file.name))
    return answers(pipe.unet, pipe.text_encoder, inputs), words


def by_peft(folder, file, inputs):
    """diffusers' layout by peft alone: ranks and alphas as peft's own file would have them in its configuration."""
    import json

    import peft
    from safetensors import safe_open

    unet, text_encoder = common.load(folder, "unet", "text_encoder")
    weights, words = load_file(file), []
    with safe_open(file, "pt") as opened:
        metadata = json.loads((opened.metadata() or {}).get("lora_adapter_metadata", "{}"))
    for prefix, model in (("unet.", unet), ("text_encoder.", text_encoder)):
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        if not own:
            continue
        settings = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
        ranks = {key.removesuffix(".lora_A.weight"): value.shape[0] for key, value in own.items() if key.endswith(".lora_A.weight")}
        rank = settings.get("r", next(iter(ranks.values())))
        config = peft.LoraConfig(
            r=rank, lora_alpha=settings.get("lora_alpha", rank), target_modules=list(ranks), rank_pattern=ranks,
            alpha_pattern=settings.get("alpha_pattern") or ({} if "lora_alpha" in settings else ranks),
        )
        peft.inject_adapter_in_model(config, model)
        result, more = listen(lambda: peft.set_peft_model_state_dict(model, own))
        words += more + [f"unexpected {key}" for key in result.unexpected_keys]
        words += [f"missing {key}" for key in result.missing_keys if "lora_" in key]
    return answers(unet, text_encoder, inputs), words


def by_kohya(folder, file, inputs, checkout):
    lora = train_kohya.module(checkout, "networks/lora.py")
    unet, vae, text_encoder = common.load(folder, "unet", "vae", "text_encoder")

    def load():
        network, weights = lora.create_network_from_weights(1.0, str(file), vae, text_encoder, unet)
        network.apply_to(text_encoder, unet)
        return network.load_state_dict(weights, False)

    result, words = listen(load)
    words += [f"unexpected {key}" for key in result.unexpected_keys] + [f"missing {key}" for key in result.missing_keys]
    return answers(unet, text_encoder, inputs), words


def old_diffusers():
    import diffusers

    return tuple(map(int, diffusers.__version__.split(".")[:2])) < (0, 35)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="the built Rust example adapted_output")
    options = parser.parse_args()
    tokenizer = common.load(options.folder, "tokenizer")
    inputs = {"sample": common.draw(1, 2, 4, 16, 24), "ids": common.tokens(tokenizer, PROMPTS).float()}
    base = answers(*common.load(options.folder, "unet", "text_encoder"), inputs)
    print(common.versions())
    print("| file | loader | change of the prediction | states | prediction | warnings |\n| --- | --- | --- | --- | --- | --- |")
    wrong = False
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        save_file({key: value.contiguous() for key, value in inputs.items()}, work / "inputs.safetensors")
        for case, arguments in CASES.items():
            for layout in ("safetensors", "diffusers"):
                place = work / f"{case}-{layout}"
                settings = "--max_train_steps 6 --learning_rate 3e-2 --network_dim 8 --network_alpha 4 --resolution 128 --seed 1 --quiet"
                command = [options.train, "--model", options.folder, "--train_data_dir", options.data, "--output_dir", place]
                command += ["--output_name", "a", "--save_model_as", layout, *settings.split(), *arguments]
                subprocess.run([str(word) for word in command], check=True)
                file = place / ("a.safetensors" if layout == "safetensors" else "pytorch_lora_weights.safetensors")
                ours_file = work / "ours.safetensors"
                subprocess.run([options.output, options.folder, file, work / "inputs.safetensors", ours_file], check=True)
                ours = load_file(ours_file)
                loaders = {"diffusers": lambda: by_diffusers(options.folder, file, inputs)}
                if layout == "diffusers":
                    loaders["peft"] = lambda: by_peft(options.folder, file, inputs)
                else:
                    loaders["kohya"] = lambda: by_kohya(options.folder, file, inputs, options.checkout)
                for name, load in loaders.items():
                    theirs, words = load()
                    differences = [
                        ((ours[key] - theirs[key]).norm() / theirs[key].norm()).item() for key in ("states", "prediction")
                    ]
                    change = ((theirs["prediction"] - base["prediction"]).norm() / base["prediction"].norm()).item()
                    print(f"| {case}, {layout} | {name} | {change:.3f} | {differences[0]:.1e} | {differences[1]:.1e} | {words} |", flush=True)
                    if (case, layout, name) == ("locon", "safetensors", "diffusers") and old_diffusers():
                        continue
                    wrong |= bool(words) or max(differences) > LIMIT or change < 0.01
    sys.exit(wrong)


if __name__ == "__main__":
    main()
