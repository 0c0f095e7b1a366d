"""Kills `train` with SIGKILL at random moments, lets it go on each time, and compares the last file with that of a run that was not killed.

    python train_kills.py MODEL_FOLDER DATA --train target/release/train --kills 5 --seed 0

MODEL_FOLDER is the miniature, DATA its `train` folder. Exits with 1 where the files differ.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = 120
OPTIONS = (
    "--output_name a --resolution 128 --enable_bucket --min_bucket_reso 64 --network_dim 8 --network_alpha 4 --unet_lr 1e-3 "
    f"--text_encoder_lr 5e-4 --train_batch_size 3 --gradient_accumulation_steps 2 --max_train_steps {STEPS} --save_state --save_every_n_steps 5 "
    "--save_last_n_steps 20 --lr_scheduler cosine --lr_warmup_steps 10 --flip_aug --shuffle_caption --caption_dropout_rate 0.1 "
    "--noise_offset 0.05 --seed 3 --device cpu --threads 2 --quiet"
).split()


def steps(folder):
    """Steps that metrics.jsonl tells of."""
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    base = [options.train, "--model", options.model, "--train_data_dir", options.data, *OPTIONS]
    with tempfile.TemporaryDirectory() as work:
        whole, killed = Path(work) / "whole", Path(work) / "killed"
        subprocess.run([*base, "--output_dir", whole], check=True)
        kills, resumed = 0, []
        while True:
            states = sorted(path for path in killed.glob("a-step*-state") if (path / "state.json").exists())
            resume = ["--resume", states[-1]] if states else []
            resumed += [path.name for path in states[-1:]]
            run = subprocess.Popen([*base, "--output_dir", killed, *resume])
            if kills < options.kills:
                # So many steps further, and then anywhere within a step, or a file that is being written.
                until = steps(killed) + rng.randint(1, 2 * STEPS // (3 * options.kills))
                while run.poll() is None and steps(killed) < until:
                    time.sleep(0.002)
                time.sleep(rng.uniform(0, 0.3))
                if run.poll() is None:
                    run.kill()
                    kills += 1
            if run.wait() == 0:
                break
        lines = (killed / "metrics.jsonl").read_text().splitlines()
        print(f"{kills} kills, gone on from {resumed or 'nothing'}; {len(lines)} lines of metrics; left: {sorted(p.name for p in killed.iterdir())}")
        same = (whole / "a.safetensors").read_bytes() == (killed / "a.safetensors").read_bytes()
        print("the last files are equal" if same else "the last files DIFFER")
        sys.exit(not same)


if __name__ == "__main__":
    main()
