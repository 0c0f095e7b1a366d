"""Trains the learnt miniature: Stable Diffusion 1.5's block types at a small width, on the scenes of `testkit` in the style `photo`.

    cargo run --release --package driftless-testkit --example scenes -- images SCENES --count 8000 --side 128
    cargo run --release --package driftless --example miniature -- SEED_MODEL          # for its tokenizer
    python3 tests/reference/learn_miniature.py SCENES SEED_MODEL/tokenizer WORK [--hours 3] [--processes 2]

Stages, each resumed where it was left: the VAE (reconstruction, a small KL term, an edge term in the place of LPIPS), then UNet and text
encoder together (epsilon-prediction on SD1.5's schedule, 10 % empty captions), then the canny ControlNet (the UNet frozen). WORK/model is the
pipeline folder in float16, loadable by diffusers; WORK/sheet_*.png show round trips and samples, by which it is judged.

Made with torch 2.15, diffusers 0.32.2, transformers 4.49, opencv 5; seeds below. On two cores (Zen 3) a step of the
VAE took 0.38 s, one of the UNet 0.6 s, and encoding all images 2 minutes.
"""

import argparse
import json
import math
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F
from diffusers import AutoencoderKL, ControlNetModel, DDPMScheduler, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

# Set by a first Ctrl-C or SIGTERM: the step under way is finished and kept, and another run goes on from it.
interrupted = []
SIDE = 128
# The side of the parts of images that the VAE learns from.
CROP = 64
VAE = dict(
    block_out_channels=(16, 32, 48, 48), layers_per_block=2, latent_channels=4, norm_num_groups=8, sample_size=SIDE,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
)
# The last level sees 2 x 2 positions; its width is what the limit of 10 MB for the whole folder leaves.
UNET = dict(
    sample_size=SIDE // 8, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(24, 48, 80, 40), attention_head_dim=2,
    cross_attention_dim=64, norm_num_groups=8,
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
)
SCHEDULE = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, clip_sample=False, steps_offset=1,
)


def load_images(folder):
    """All images as uint8 [N, 3, SIDE, SIDE], and their captions."""
    cache = folder / "images.npy"
    names = sorted(folder.glob("*.png"))
    if not cache.exists():
        np.save(cache, np.stack([np.asarray(Image.open(name).convert("RGB")).transpose(2, 0, 1) for name in names]))
    return torch.from_numpy(np.load(cache)), [name.with_suffix(".txt").read_text() for name in names]


def to_floats(images):
    return images.float() / 127.5 - 1


def edges(images):
    """Canny edges as the ControlNet takes them: [N, 3, SIDE, SIDE], 0 or 1, thresholds 100 and 200."""
    maps = [cv2.Canny(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), 100, 200) for image in images]
    return torch.from_numpy(np.stack(maps))[:, None].expand(-1, 3, -1, -1).float() / 255


def share_of(batch):
    """What each process takes of a batch."""
    return batch // distributed.get_world_size()


class Stage:
    """A model's training: steps, learning rate, and a file to go on from."""

    def __init__(self, name, work, modules, steps, rate, seed, average):
        self.name, self.file, self.modules, self.steps, self.rate = name, work / f"{name}.pt", modules, steps, rate
        parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        # All parameters are parts of one tensor, and so are their gradients: the optimizer's work is a few operations, not thousands.
        self.flat = torch.nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
        self.flat.grad = torch.zeros_like(self.flat)
        sizes = [p.numel() for p in parameters]
        for p, values, gradient in zip(parameters, self.flat.data.split(sizes), self.flat.grad.split(sizes)):
            p.data, p.grad = values.view_as(p), gradient.view_as(p)
        self.optimizer = torch.optim.AdamW([self.flat], lr=rate, betas=(0.9, 0.99), weight_decay=1e-2)
        self.rank = distributed.get_rank()
        self.generator = torch.Generator().manual_seed(seed + 1000 * self.rank)
        self.decay = average
        self.average = self.flat.detach().clone()
        self.step = 0
        if self.file.exists():
            state = torch.load(self.file)
            for module, values in zip(modules, state["modules"]):
                module.load_state_dict(values)
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.average = state["step"], state["average"]
            if self.rank == 0:
                self.generator.set_state(state["generator"])
            else:
                self.generator.manual_seed(seed + 1000 * self.rank + self.step)

    def save(self):
        if self.rank > 0:
            return
        state = dict(
            modules=[module.state_dict() for module in self.modules], optimizer=self.optimizer.state_dict(), step=self.step,
            generator=self.generator.get_state(), average=self.average,
        )
        torch.save(state, self.file.with_suffix(".part"))
        self.file.with_suffix(".part").rename(self.file)

    def share_gradients(self, stop):
        """Gradients become their mean over the processes; true where one of them has to stop."""
        distributed.all_reduce(self.flat.grad)
        self.flat.grad /= distributed.get_world_size()
        stop = torch.tensor(float(stop))
        distributed.all_reduce(stop)
        return stop.item() > 0

    def run(self, loss_of, until):
        """Trains until the steps are done or the time is up; true when done."""
        started, mean, last_save = time.time(), None, time.time()
        while self.step < self.steps:
            warm, done = min(1, (self.step + 1) / 200), self.step / self.steps
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            loss = loss_of(self.generator, self.step)
            self.flat.grad.zero_()
            loss.backward()
            stop = self.share_gradients(time.time() > until or bool(interrupted))
            torch.nn.utils.clip_grad_norm_([self.flat], 1.0)
            self.optimizer.step()
            self.average.lerp_(self.flat.detach(), 1 - min(self.decay, (1 + self.step) / (10 + self.step)))
            self.step += 1
            mean = loss.item() if mean is None else mean * 0.98 + loss.item() * 0.02
            if self.step % 100 == 0 and self.rank == 0:
                print(f"{self.name} {self.step}/{self.steps} loss {mean:.4f} {time.time() - started:.0f} s", flush=True)
            if time.time() - last_save > 300:
                self.save()
                last_save = time.time()
            if stop:
                self.save()
                return False
        self.save()
        return True

    def take_average(self):
        self.flat.data.copy_(self.average)


def train_vae(images, work, until, steps):
    torch.manual_seed(1)
    vae = AutoencoderKL(**VAE)
    stage = Stage("vae", work, [vae], steps, 2e-3, 11, average=0.999)

    def loss_of(generator, _):
        pick = torch.randint(len(images), (share_of(8),), generator=generator)
        # Parts of the images serve as well: the network is convolutional, and a step costs a quarter.
        top, left = torch.randint(SIDE - CROP + 1, (2,), generator=generator).tolist()
        x = to_floats(images[pick, :, top : top + CROP, left : left + CROP])
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)).sample
        gradient = sum((a.diff(dim=d) - b.diff(dim=d)).abs().mean() for d in (2, 3) for a, b in [(x, y)])
        return (x - y).abs().mean() + gradient + 1e-4 * posterior.kl().mean() / (4 * (CROP // 8) ** 2)

    done = stage.run(loss_of, until)
    stage.take_average()
    return vae, done


@torch.no_grad()
def encode(vae, images, work):
    """Latents' means and deviations, and the factor that brings them to a deviation of 1."""
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    files = [work / f"latents_{part}_of_{processes}.pt" for part in range(processes)]
    if not files[rank].exists():
        part = images[rank * len(images) // processes : (rank + 1) * len(images) // processes]
        moments = [vae.encode(to_floats(batch)).latent_dist.parameters for batch in part.split(4)]
        torch.save(torch.cat(moments), files[rank])
    distributed.barrier()
    mean, log_variance = torch.cat([torch.load(file) for file in files]).chunk(2, dim=1)
    return mean, (0.5 * log_variance.clamp(-30, 20)).exp(), 1 / mean.flatten().std().item()


def padded(tokenizer, captions):
    """As every user of the model gives them: 77 tokens."""
    return tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


def train_unet(moments, ids, empty, text_config, work, until, steps):
    torch.manual_seed(2)
    unet, text, schedule = UNet2DConditionModel(**UNET), CLIPTextModel(text_config), DDPMScheduler(**SCHEDULE)
    stage = Stage("unet", work, [unet, text], steps, 1.5e-3, 22, average=0.9995)
    mean, deviation, factor = moments

    def loss_of(generator, _):
        pick = torch.randint(len(mean), (share_of(16),), generator=generator)
        x = factor * (mean[pick] + deviation[pick] * torch.randn(mean[pick].shape, generator=generator))
        noise = torch.randn(x.shape, generator=generator)
        # More of the high noise levels than of the low ones: what is drawn, and in which colors, is decided there.
        t = (1000 * torch.rand(len(pick), generator=generator) ** 0.7).long()
        tokens = torch.where(torch.rand(len(pick), 1, generator=generator) < 0.1, empty, ids[pick])
        return F.mse_loss(unet(schedule.add_noise(x, noise, t), t, text(tokens)[0]).sample, noise)

    done = stage.run(loss_of, until)
    stage.take_average()
    return unet, text, done


def train_controlnet(moments, ids, empty, hints, unet, text, work, until, steps):
    torch.manual_seed(3)
    unet.requires_grad_(False), text.requires_grad_(False)
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 24, 32))
    schedule = DDPMScheduler(**SCHEDULE)
    stage = Stage("controlnet", work, [controlnet], steps, 1e-3, 33, average=0.999)
    mean, deviation, factor = moments

    def loss_of(generator, _):
        pick = torch.randint(len(mean), (share_of(16),), generator=generator)
        x = factor * (mean[pick] + deviation[pick] * torch.randn(mean[pick].shape, generator=generator))
        noise, t = torch.randn(x.shape, generator=generator), torch.randint(1000, (len(pick),), generator=generator)
        # Half of the captions are empty, as in ControlNet's own training (Zhang et al., arXiv 2302.05543, section 3.3).
        tokens = torch.where(torch.rand(len(pick), 1, generator=generator) < 0.5, empty, ids[pick])
        states, noised = text(tokens)[0], schedule.add_noise(x, noise, t)
        down, mid = controlnet(noised, t, states, hints[pick][:, None].expand(-1, 3, -1, -1).float(), return_dict=False)
        predicted = unet(noised, t, states, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
        return F.mse_loss(predicted, noise)

    done = stage.run(loss_of, until)
    stage.take_average()
    return controlnet, done


def save_sheet(rows, path):
    """Rows of images in -1..=1."""
    if distributed.get_rank() > 0:
        return
    sheet = torch.cat([torch.cat(list(row.clamp(-1, 1)), dim=2) for row in rows], dim=1)
    Image.fromarray(((sheet + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).save(path)


@torch.no_grad()
def sample(unet, text, vae, factor, tokens, empty, seed, guidance=7.0, controlnet=None, hints=None):
    schedule = DDIMScheduler(**SCHEDULE, set_alpha_to_one=False)
    schedule.set_timesteps(30)
    x = torch.randn((len(tokens), 4, SIDE // 8, SIDE // 8), generator=torch.Generator().manual_seed(seed))
    states = torch.cat([text(empty.expand(len(tokens), -1))[0], text(tokens)[0]])
    for t in schedule.timesteps:
        extra = {}
        if controlnet is not None:
            down, mid = controlnet(torch.cat([x, x]), t, states, torch.cat([hints, hints]), return_dict=False)
            extra = dict(down_block_additional_residuals=down, mid_block_additional_residual=mid)
        plain, told = unet(torch.cat([x, x]), t, states, **extra).sample.chunk(2)
        x = schedule.step(plain + guidance * (told - plain), t, x).prev_sample
    return vae.decode(x / factor).sample


def save_model(folder, vae, unet, text, controlnet, factor, tokenizer_folder):
    if distributed.get_rank() > 0:
        return
    vae.register_to_config(scaling_factor=factor)
    for name, network in [("vae", vae), ("unet", unet), ("text_encoder", text), ("controlnet-canny", controlnet)]:
        if network is not None:
            network.half().save_pretrained(folder / name)
            network.float()
    CLIPTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder / "tokenizer")
    # Stable Diffusion 1.5's own scheduler, with which an extraction at t runs at timestep t + 1.
    steps = {name: value for name, value in SCHEDULE.items() if name != "clip_sample"}
    PNDMScheduler(**steps, skip_prk_steps=True, set_alpha_to_one=False).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.32.2", "requires_safety_checker": False, "safety_checker": [None, None],
        "feature_extractor": [None, None], "scheduler": ["diffusers", "PNDMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def learn(rank, arguments):
    """All stages, in one of the processes."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: interrupted.append(number))
    meeting = f"file://{(arguments.work / 'meeting').resolve()}-{os.getppid()}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=arguments.processes)
    work, until = arguments.work, time.time() + arguments.hours * 3600
    images, captions = load_images(arguments.scenes)

    vae, done = train_vae(images, work, until, arguments.steps[0])
    vae.eval().requires_grad_(False)
    shown = to_floats(images[:8])
    with torch.no_grad():
        save_sheet([shown, vae.decode(vae.encode(shown).latent_dist.mean).sample], work / "sheet_vae.png")
    if not done:
        return

    tokenizer = CLIPTokenizer.from_pretrained(arguments.tokenizer)
    size = len(tokenizer)
    text_config = CLIPTextConfig(
        vocab_size=size, hidden_size=64, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=77,
        projection_dim=64, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )
    moments = encode(vae, images, work)
    ids, empty = padded(tokenizer, captions), padded(tokenizer, [""])
    print(f"vocabulary {size}, longest caption {max(len(tokenizer(c).input_ids) for c in captions)} tokens, factor {moments[2]:.4f}")
    unet, text, done = train_unet(moments, ids, empty, text_config, work, until, arguments.steps[1])
    wanted = [
        "a photo of a red fish in front of a blue background", "a photo of a yellow bird in front of a green background",
        "a photo of a brown horse in front of a white background", "a photo of a blue car in front of an orange background",
        "a photo of a white boat in front of a purple background", "a photo of a green house in front of a yellow background",
        "a photo of a purple teapot in front of a brown background", "a photo of an orange chair in front of a blue background",
    ]
    tokens = padded(tokenizer, wanted)
    unet.eval(), text.eval()
    save_sheet([sample(unet, text, vae, moments[2], tokens, empty, seed) for seed in (1, 2, 3)], work / "sheet_unet.png")
    save_model(work / "model", vae, unet, text, None, moments[2], arguments.tokenizer)
    if not done:
        return

    hints = torch.cat([edges(batch)[:, 0].bool() for batch in images.split(256)])
    controlnet, done = train_controlnet(moments, ids, empty, hints, unet, text, work, until, arguments.steps[2])
    controlnet.eval()
    hint = edges(images[:8])
    drawn = sample(unet, text, vae, moments[2], ids[:8], empty, 5, controlnet=controlnet, hints=hint)
    save_sheet([shown, hint * 2 - 1, drawn], work / "sheet_controlnet.png")
    save_model(work / "model", vae, unet, text, controlnet, moments[2], arguments.tokenizer)
    for path in sorted((work / "model").rglob("*.safetensors")):
        print(path.relative_to(work), path.stat().st_size)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--hours", type=float, default=100.0, help="stop after this time; another run goes on")
    parser.add_argument("--processes", type=int, choices=(1, 2, 4, 8), default=2, help="each takes its share of every batch, on one core")
    parser.add_argument("--steps", type=int, nargs=3, default=[3500, 10000, 1200], help="of VAE, UNet and ControlNet")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    load_images(arguments.scenes)
    multiprocessing.spawn(learn, (arguments,), nprocs=arguments.processes)


if __name__ == "__main__":
    main()
