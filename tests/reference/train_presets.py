"""Real configurations of kohya's users, run by `train`: presets of the kohya_ss interface, and data sets from the documentation.

    python train_presets.py MODEL_FOLDER DATA KOHYA_SS SD_SCRIPTS --train target/release/train

MODEL_FOLDER is the miniature, DATA its `train` folder; KOHYA_SS and SD_SCRIPTS are checkouts of bmaltais/kohya_ss and
kohya-ss/sd-scripts. A preset is a JSON file with the interface's own names; before it trains, the interface writes it as a TOML file for
sd-scripts (`config_toml_data` in kohya_gui/lora_gui.py). That step is repeated here: same keys but for NAMES, empty and false values
left out, the LyCORIS fields as network_args. The TOML then goes to `train` as it is; only what the machine asks for stands on the command
line: model, images, output folder, 64x64 pixels, one step, a seed of its own. TOML examples of the documentation go through
`train check` with their folders replaced by one that exists. Prints for each what was warned of, or why it was refused.
"""

import argparse
import itertools
import json
import re
import subprocess
import tempfile
from pathlib import Path

# the interface's name, and sd-scripts'
NAMES = {
    "epoch": "max_train_epochs", "optimizer": "optimizer_type", "max_resolution": "resolution", "lora_network_weights": "network_weights",
    "lr_warmup": "lr_warmup_steps",
}
# fields that reach sd-scripts otherwise or not at all
INSIDE = {
    "LoRA_type", "conv_dim", "conv_alpha", "additional_parameters", "num_cpu_threads_per_process", "factor", "use_cp", "unit", "train_on_input",
    "decompose_both", "module_dropout", "rank_dropout", "no_token_padding", "LyCORIS_preset", "use_tucker", "use_scalar", "train_norm",
    "bypass_mode", "dora_wd", "rank_dropout_scale", "constrain", "rescaled", "sdxl", "sdxl_cache_text_encoder_outputs", "sdxl_no_half_vae",
    "num_machines", "num_processes", "multi_gpu", "gpu_ids", "main_process_port", "extra_accelerate_launch_args", "dynamo_mode",
    "dynamo_use_dynamic", "dynamo_use_fullgraph", "model_list", "save_as_bool", "stop_text_encoder_training_pct", "max_train_steps",
    "train_data_dir", "reg_data_dir", "output_dir", "logging_dir", "pretrained_model_name_or_path", "output_name", "use_wandb", "wandb_api_key",
    "weights", "enable_all_linear", "lr_warmup_steps", "caption_metadata_filename", "latent_metadata_filename", "sample_prompts", "enable_all",
    "block_dims", "block_alphas", "conv_dims", "conv_alphas", "down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold",
    "conv_block_dims", "conv_block_alphas", "loss_type_", "skip_until_initial_step",
}
NUMBERS = {"learning_rate", "unet_lr", "text_encoder_lr", "noise_offset", "max_token_length", "clip_skip", "keep_tokens", "seed"}


def as_toml(preset):
    """What the interface would write for a preset."""
    entries = {}
    for key, value in preset.items():
        if key in INSIDE or value in ("", False, None, 0, "0", 0.0):
            continue
        if key in NUMBERS and isinstance(value, str):
            value = float(value) if re.search(r"[.e]", value) else int(value)
        if key in ("gradient_accumulation_steps", "bucket_reso_steps", "caption_dropout_every_n_epochs", "max_train_epochs", "epoch"):
            value = int(value)
        if key == "optimizer_args":
            value = value.replace('"', "").split()
        if key == "xformers":
            key, value = "xformers" if value is True else value, True
        entries[NAMES.get(key, key)] = value
    kind = preset["LoRA_type"]
    arguments = {}
    if kind == "Kohya LoCon":
        arguments = {"conv_dim": preset.get("conv_dim", 1), "conv_alpha": preset.get("conv_alpha", 1)}
    elif kind.startswith("LyCORIS/"):
        entries["network_module"] = "lycoris.kohya"
        arguments = {"preset": preset.get("LyCORIS_preset", "full"), "conv_dim": preset.get("conv_dim", 1), "conv_alpha": preset.get("conv_alpha", 1)}
        arguments |= {key: preset.get(key, 0) for key in ("rank_dropout", "module_dropout")}
        arguments |= {"bypass_mode": False, "dora_wd": False, "use_tucker": False, "use_scalar": False, "train_norm": False}
        if kind == "LyCORIS/LoKr":
            arguments |= {"factor": preset.get("factor", -1), "decompose_both": preset.get("decompose_both", False)}
        arguments["algo"] = kind.split("/")[1].lower()
    if arguments:
        entries["network_args"] = [f"{key}={value}" for key, value in arguments.items()]
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in sorted(entries.items()))


def run(command):
    """Exit status, warnings, and the error if there is one."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    said = done.stderr.splitlines()
    warned = [line.removeprefix("warning: ") for line in said if line.startswith("warning: ")]
    notes = [line for line in said if "has no effect here" in line]
    return done.returncode, warned, notes, [line for line in said if line.startswith("error: ")]


def report(name, result):
    status, warned, notes, errors = result
    print(f"{name}: exit {status}")
    for kind, lines in (("warning", warned), ("notice", notes), ("error", errors)):
        for line in lines:
            print(f"    {kind}: {line.replace('error: ', '')}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "kohya_ss", "sd_scripts"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--train", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        for path in sorted((options.kohya_ss / "presets/lora").glob("*.json")):
            preset = json.loads(path.read_text())
            if path.name.lower().startswith(("sdxl", "flux")) or "sdxl" in path.name.lower():
                continue
            config = work / "preset.toml"
            config.write_text(as_toml(preset))
            machine = ["--model", options.model, "--train_data_dir", options.data, "--output_dir", work / "out"]
            machine += "--resolution 64 --min_bucket_reso 64 --max_train_epochs 1 --save_every_n_epochs 1 --seed 1 --device cpu --overwrite".split()
            # The whole preset is checked; a run of one step follows where there is something to run.
            result = run([options.train, "check", "--config_file", config, *machine])
            report(f"preset {path.stem} (check)", result)
            if result[0] == 0:
                steps = [word for word in machine if word not in ("--max_train_epochs",)]
                steps.remove("1")
                text = "".join(line + "\n" for line in config.read_text().splitlines() if not line.startswith("max_train_epochs"))
                config.write_text(text)
                result = run([options.train, "--config_file", config, *steps, "--max_train_steps", 1])
                print(f"    run of one step: exit {result[0]} {result[3]}")
        groups = sorted(path for path in options.data.iterdir() if path.is_dir())
        documents = [options.sd_scripts / "docs" / name for name in ("config_README-en.md", "train_network.md", "validation.md")]
        examples = [(path.name, text) for path in documents for text in re.findall(r"```toml\n(.*?)```", path.read_text(), re.S)]
        examples += [(str(path.name), path.read_text()) for path in sorted((options.kohya_ss / "test/config").glob("dataset*.toml"))]
        for number, (name, text) in enumerate(examples):
            folders = itertools.cycle(groups)
            text = re.sub(
                r"^(\s*(?:image_dir|conditioning_data_dir)\s*=\s*).*$", lambda found: f'{found[1]}"{next(folders)}"', text, flags=re.M
            )
            if "[[datasets" not in text:
                config = work / "run.toml"
                config.write_text(re.sub(r"^\s*(sample_prompts|dataset_config|pretrained_model_name_or_path|output_dir)\s*=.*$", "", text, flags=re.M))
                result = run([options.train, "check", "--config_file", config, "--model", options.model, "--train_data_dir", options.data])
            else:
                config = work / "set.toml"
                config.write_text(text)
                result = run([options.train, "check", "--dataset_config", config, "--model", options.model, "--seed", 1])
            report(f"example {number} of {name}", result)


if __name__ == "__main__":
    main()
