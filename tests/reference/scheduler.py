"""Trajectories, schedules and timestep lists of diffusers' schedulers, for model/tests/scheduler/.

Usage: python tests/reference/scheduler.py   (writes tests/fixtures/scheduler/)

Every trajectory is float32 on the CPU, latents 1 x 4 x 8 x 8 from torch.randn. The denoiser is a toy of multiplications and
additions only, so that both sides can compute the same.
"""

import json
import pathlib
import platform
import types

import diffusers
import numpy
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).parents[1] / "fixtures" / "scheduler"
SHAPE = (1, 4, 8, 8)
SD = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD15 = SD | {"skip_prk_steps": True, "set_alpha_to_one": False, "clip_sample": False, "steps_offset": 1, "trained_betas": None}
ZERO_SNR = SD | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False}
MADE_WITH = {
    "diffusers": diffusers.__version__,
    "torch": torch.__version__,
    "numpy": numpy.__version__,
    "python": platform.python_version(),
    "capability": torch.backends.cpu.get_cpu_capability(),
    "device": "cpu",
    "dtype": "float32",
    "script": "tests/reference/scheduler.py",
}


def toy_denoiser(x, t):
    """Near the identity at high noise, slightly bent, and different for every element."""
    pattern = (torch.arange(x.numel(), dtype=torch.float32) * 7 % 13 - 6).reshape(x.shape) * 0.01
    return x * (0.3 + 0.0006 * float(t)) - x * x * 0.01 + pattern


def make(config):
    config = dict(config)
    cls = getattr(diffusers, config.pop("_class_name"))
    return cls.from_config(config)


def case(name, cls, config, n, start=0, stop=None, seed=1, eta=None, kohya=None):
    return {
        "name": name, "config": {"_class_name": cls} | config, "steps": n, "start": start, "stop": stop, "seed": seed, "eta": eta,
        "kohya": kohya,
    }  # fmt: skip


PNDM, DDIM, INVERSE = "PNDMScheduler", "DDIMScheduler", "DDIMInverseScheduler"
DDPM, EULER, ANCESTRAL = "DDPMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"
DDIM15 = {k: v for k, v in SD15.items() if k != "skip_prk_steps"}

CASES = {
    "pndm": [
        case("sd15-10", PNDM, SD15, 10),
        case("sd15-20", PNDM, SD15, 20, seed=2),
        case("sd15-50", PNDM, SD15, 50, seed=3),
        case("sd15-50-from-15", PNDM, SD15, 50, start=15, seed=4),
        case("sd15-20-from-1", PNDM, SD15, 20, start=1, seed=5),
        case("sd15-1000-from-61", PNDM, SD15, 1000, start=940, stop=953, seed=6),
        case("sd15-100-from-991", PNDM, SD15, 100, stop=12, seed=7),
        case("sd15-1", PNDM, SD15, 1),
        case("sd15-2", PNDM, SD15, 2),
        case("v-10", PNDM, SD15 | {"prediction_type": "v_prediction"}, 10),
        case("trailing-10", PNDM, SD15 | {"timestep_spacing": "trailing"}, 10),
        case("linspace-10", PNDM, SD15 | {"timestep_spacing": "linspace", "set_alpha_to_one": True}, 10),
        case("cosine-10", PNDM, SD15 | {"beta_schedule": "squaredcos_cap_v2"}, 10),
        case("prk-4", PNDM, SD, 4),
        case("prk-10", PNDM, SD, 10),
        case("prk-20", PNDM, SD | {"steps_offset": 1, "prediction_type": "v_prediction"}, 20),
        case("kohya-10", PNDM, SD, 10, kohya="pndm"),
    ],
    "ddim": [
        case("sd15-10", DDIM, DDIM15, 10),
        case("sd15-20", DDIM, DDIM15, 20, seed=2),
        case("sd15-50", DDIM, DDIM15, 50, seed=3),
        case("sd15-50-from-20", DDIM, DDIM15, 50, start=20, seed=4),
        case("defaults-10", DDIM, {}, 10),
        case("clip-10", DDIM, SD | {"clip_sample_range": 1.5}, 10),
        case("v-10", DDIM, DDIM15 | {"prediction_type": "v_prediction"}, 10),
        case("sample-10", DDIM, DDIM15 | {"prediction_type": "sample"}, 10),
        case("linspace-10", DDIM, DDIM15 | {"timestep_spacing": "linspace"}, 10),
        case("zero-snr-10", DDIM, ZERO_SNR, 10),
        case("eta-0.5-10", DDIM, DDIM15, 10, eta=0.5),
        case("eta-1-20", DDIM, DDIM15, 20, eta=1.0, seed=2),
        case("kohya-10", DDIM, SD, 10, kohya="ddim"),
    ],
    "ddim_inverse": [
        case("sd15-10", INVERSE, DDIM15, 10),
        case("sd15-20", INVERSE, DDIM15, 20, seed=2),
        case("sd15-50", INVERSE, DDIM15, 50, seed=3),
        case("defaults-10", INVERSE, {}, 10),
        case("v-10", INVERSE, DDIM15 | {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}, 10),
    ],
    "ddpm": [
        case("sd-10", DDPM, SD | {"clip_sample": False}, 10),
        case("sd-20", DDPM, SD | {"clip_sample": False, "steps_offset": 1}, 20, seed=2),
        case("sd-50", DDPM, SD | {"clip_sample": False}, 50, seed=3),
        case("sd-50-from-20", DDPM, SD | {"clip_sample": False}, 50, start=20, seed=4),
        case("large-10", DDPM, SD | {"clip_sample": False, "variance_type": "fixed_large"}, 10),
        case("v-10", DDPM, SD | {"clip_sample": False, "prediction_type": "v_prediction"}, 10),
        case("sample-10", DDPM, SD | {"clip_sample": False, "prediction_type": "sample"}, 10),
        case("kohya-10", DDPM, SD, 10, kohya="ddpm"),
    ],
    "euler": [
        case("linspace-10", EULER, SD, 10),
        case("linspace-20", EULER, SD, 20, seed=2),
        case("linspace-50", EULER, SD, 50, seed=3),
        case("linspace-50-from-20", EULER, SD, 50, start=20, seed=4),
        case("leading-10", EULER, SD | {"timestep_spacing": "leading", "steps_offset": 1}, 10),
        case("leading-20-from-7", EULER, SD | {"timestep_spacing": "leading", "steps_offset": 1}, 20, start=7, seed=5),
        case("trailing-20", EULER, SD | {"timestep_spacing": "trailing"}, 20, seed=2),
        case("v-10", EULER, SD | {"prediction_type": "v_prediction"}, 10),
        case("sample-10", EULER, SD | {"prediction_type": "sample"}, 10),
        case("sigma-min-10", EULER, SD | {"final_sigmas_type": "sigma_min"}, 10),
        case("zero-snr-10", EULER, ZERO_SNR, 10),
        case("kohya-10", EULER, SD, 10, kohya="euler"),
    ],
    "euler_ancestral": [
        case("linspace-10", ANCESTRAL, SD, 10),
        case("leading-20", ANCESTRAL, SD | {"timestep_spacing": "leading", "steps_offset": 1}, 20, seed=2),
        case("linspace-50", ANCESTRAL, SD, 50, seed=3),
        case("trailing-10-from-3", ANCESTRAL, SD | {"timestep_spacing": "trailing"}, 10, start=3, seed=4),
        case("v-10", ANCESTRAL, SD | {"prediction_type": "v_prediction"}, 10),
        case("kohya-10", ANCESTRAL, SD, 10, kohya="k_euler_a"),
    ],
}  # fmt: skip


def trajectory(case):
    """Latents after some of the steps, as one tensor, with the indices of those steps."""
    scheduler = make(case["config"])
    scheduler.set_timesteps(case["steps"])
    generator = torch.Generator().manual_seed(case["seed"])
    clean = torch.randn(SHAPE, generator=generator)
    noise = torch.randn(SHAPE, generator=generator)
    timesteps = scheduler.timesteps[case["start"] : case["stop"]]
    if isinstance(scheduler, diffusers.DDIMInverseScheduler):
        sample = clean
    elif case["start"]:
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(case["start"])
        sample = scheduler.add_noise(clean, noise, timesteps[:1])
    else:
        sample = noise * scheduler.init_noise_sigma
    draws = case["eta"] is not None or isinstance(
        scheduler, (diffusers.DDPMScheduler, diffusers.EulerAncestralDiscreteScheduler)
    )
    options = {"generator": generator} if draws else {}
    if case["eta"] is not None:
        options["eta"] = case["eta"]
    every = max(1, len(timesteps) // 6)
    kept, indices = [sample], [-1]
    for i, t in enumerate(timesteps):
        output = toy_denoiser(scheduler.scale_model_input(sample, t), t)
        sample = scheduler.step(output, t, sample, **options).prev_sample
        if i % every == 0 or i == len(timesteps) - 1 or i < 5:
            kept.append(sample)
            indices.append(i)
    result = {key: value for key, value in case.items() if value is not None}
    result |= {"indices": indices, "timesteps": timesteps.double().tolist(), "sigma": float(scheduler.init_noise_sigma)}
    largest = 1e3 * max(1.0, float(scheduler.init_noise_sigma))
    assert all(torch.isfinite(x).all() and x.abs().max() < largest for x in kept), case["name"]
    return result, torch.cat(kept)


def schedules():
    """alphas_cumprod of every beta schedule, and noising of samples of three types."""
    configs = {
        "sd15": {"_class_name": PNDM} | SD15,
        "linear": {"_class_name": DDIM},
        "cosine": {"_class_name": DDIM, "beta_schedule": "squaredcos_cap_v2"},
        "short": {"_class_name": DDPM, "num_train_timesteps": 77, "beta_schedule": "scaled_linear"},
        "zero-snr": {"_class_name": DDIM} | ZERO_SNR,
        "euler-zero-snr": {"_class_name": EULER} | ZERO_SNR,
        "trained": {"_class_name": DDPM, "num_train_timesteps": 4, "trained_betas": [0.1, 0.2, 0.05, 0.7]},
    }
    tensors = {f"alphas_cumprod.{name}": make(config).alphas_cumprod for name, config in configs.items()}

    ddpm = make({"_class_name": DDPM} | SD)
    generator = torch.Generator().manual_seed(11)
    clean, noise = torch.randn(5, 4, 3, 2, generator=generator), torch.randn(5, 4, 3, 2, generator=generator)
    timesteps = torch.tensor([0, 51, 261, 700, 999])
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        x, e = clean.to(dtype), noise.to(dtype)
        tensors[f"add_noise.{name}"] = ddpm.add_noise(x, e, timesteps).float()
        tensors[f"velocity.{name}"] = ddpm.get_velocity(x, e, timesteps).float()
    # As kohya's prepare_scheduler_for_custom_training takes it.
    a = ddpm.alphas_cumprod
    tensors["snr"] = (torch.sqrt(a) / torch.sqrt(1.0 - a)) ** 2
    return configs, tensors


def timestep_lists():
    """Ends and weighted sums of the timesteps for many numbers of steps."""
    lists = []
    for cls in (PNDM, DDIM, EULER):
        for spacing in ("leading", "trailing", "linspace"):
            for n in (1, 2, 3, 7, 10, 13, 30, 33, 50, 61, 100, 103, 333, 999, 1000):
                config = {"_class_name": cls} | SD15 | {"timestep_spacing": spacing}
                scheduler = make(config)
                scheduler.set_timesteps(n)
                t = scheduler.timesteps.double()
                if spacing == "trailing" and t[-1] == -1:
                    # numpy's arange gave one entry too many (see timesteps.rs): leave it out, and compute what a shorter list means.
                    keep = t != -1
                    t = t[keep]
                    if cls == PNDM:
                        ascending = t.unique()
                        t = torch.cat([ascending[:-1], ascending[-2:-1], ascending[-1:]]).flip(0)
                weights = torch.arange(1, len(t) + 1, dtype=torch.float64)
                lists.append({
                    "config": config, "steps": n, "length": len(t), "first": t[:5].tolist(), "last": t[-5:].tolist(),
                    "weighted_sum": (t * weights).sum().item(),
                })  # fmt: skip
    return lists


def extraction():
    """The extractor's choice of timesteps, by diffusers' own get_timesteps."""

    def listed(config, n, strength):
        scheduler = make(config)
        scheduler.set_timesteps(n)
        pipe = types.SimpleNamespace(scheduler=scheduler)
        return StableDiffusionImg2ImgPipeline.get_timesteps(pipe, n, strength, "cpu")[0].tolist()

    configs = {
        "pndm": {"_class_name": PNDM} | SD15,
        "ddim": {"_class_name": DDIM} | DDIM15,
        "euler": {"_class_name": EULER} | SD | {"timestep_spacing": "leading", "steps_offset": 1},
    }
    plain = {}
    for name, config in configs.items():
        starts = [listed(config, 1000, t / 1000)[:1] for t in range(1002)]
        plain[name] = [s[0] if s and s[0] < 1000 else None for s in starts]
    denoising = []
    for name, config in configs.items():
        for start in (1, 5, 28, 29, 30, 49, 50, 51, 55, 56, 57, 58, 59, 60, 61, 99, 100, 101, 110, 111, 160, 500, 998, 999, 1000):
            for t in (0, 1, 5, 9, 10, 11, 49, 50, 51, 59, 60, 61, 110, 261, 990, 992, 998, 999):
                n = 1000 if start - t <= 50 else 100
                timesteps = listed(config, n, start / n)
                timesteps = timesteps[: len([x for x in timesteps if x >= t])]
                found = None
                if timesteps and timesteps[0] < 1000:
                    found = [n, timesteps[0], len(timesteps) - 1, timesteps[-1]]
                if name == "pndm" or start in (1, 29, 60, 160, 1000):
                    denoising.append([name, start, t, found])
    strengths = [[n, s, len(listed(configs["ddim"], n, s))] for n in (10, 33, 50, 1000) for s in (0.0, 0.29, 0.57, 0.8, 0.999, 1.0)]
    return {"configs": configs, "plain": plain, "denoising": denoising, "strengths": strengths}


def inversion():
    """The extractor's DDIM inversion, with the toy in the network's place."""
    pndm = make({"_class_name": PNDM} | SD15)
    ddim = diffusers.DDIMScheduler.from_config(pndm.config)
    ddim.set_timesteps(100)
    ladder = ddim.timesteps.flip(0)
    a = pndm.alphas_cumprod
    results, tensors = [], {}
    for stop in (1, 11, 51, 262, 985, 999):
        x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(stop))
        visited = []
        for t in ladder[1:]:
            e = toy_denoiser(x, t)
            r = max(0, int(t) - 10)
            x = (x - (1 - a[r]).sqrt() * e) * (a[t].sqrt() / a[r].sqrt()) + (1 - a[t]).sqrt() * e
            visited.append(int(t))
            if t >= stop:
                break
        results.append({"stop": stop, "visited": visited})
        tensors[f"inversion.{stop}"] = x
    return results, tensors


def write(name, data):
    (OUT / name).write_text(json.dumps(data, separators=(",", ":")) + "\n")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    metadata = {key: str(value) for key, value in MADE_WITH.items()}
    for family, cases in CASES.items():
        results, tensors = [], {}
        for one in cases:
            result, tensors[one["name"]] = trajectory(one)
            results.append(result)
        write(f"{family}.json", {"made_with": MADE_WITH, "cases": results})
        save_file(tensors, OUT / f"{family}.safetensors", metadata)
    configs, tensors = schedules()
    inversions, more = inversion()
    save_file({key: value.contiguous() for key, value in (tensors | more).items()}, OUT / "schedule.safetensors", metadata)
    write("schedule.json", {"made_with": MADE_WITH, "configs": configs, "lists": timestep_lists(), "inversions": inversions})
    write("extraction.json", {"made_with": MADE_WITH} | extraction())


if __name__ == "__main__":
    main()
