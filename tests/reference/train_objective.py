"""Noise, timesteps, targets and losses of kohya's trainer for train/src/objective.

    python tests/reference/train_objective.py SD_SCRIPTS_CHECKOUT > tests/fixtures/train/objective.json

SD_SCRIPTS_CHECKOUT is a checkout of kohya-ss/sd-scripts outside of this repository. Where it draws from Python's generator (the
shrinking factors of multi-resolution noise), the draw is replaced by one from torch's, so that one seed governs all.
"""

import importlib.abc
import importlib.machinery
import json
import logging
import random
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

UNNEEDED = {"toml", "imagesize", "voluptuous", "bitsandbytes", "ftfy", "einops", "sentencepiece", "library.lpw_stable_diffusion"}


class Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in UNNEEDED or name.split(".")[0] in UNNEEDED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    def exec_module(self, module):
        pass


checkout = sys.argv[1]
# sd-scripts prints when it is imported; the fixture is to be alone on standard output.
output, sys.stdout = sys.stdout, sys.stderr
sys.meta_path.insert(0, Empty())
sys.path.insert(0, checkout)
import torch  # noqa: E402
from diffusers import DDPMScheduler  # noqa: E402
from library import custom_train_functions as weights, train_util  # noqa: E402

logging.disable(logging.CRITICAL)
random.random = lambda: torch.rand(1).item()
SEED = 11
SHAPE = (3, 4, 6, 5)
SAMPLE_WEIGHTS = torch.tensor([1.0, 0.25, 1.0])
DEFAULTS = dict(
    noise_offset=None, noise_offset_random_strength=False, adaptive_noise_scale=None, multires_noise_iterations=None, multires_noise_discount=0.3,
    ip_noise_gamma=None, ip_noise_gamma_random_strength=False, min_timestep=None, max_timestep=None, zero_terminal_snr=False, min_snr_gamma=None,
    debiased_estimation_loss=False, scale_v_pred_loss_like_noise_pred=False, v_pred_like_loss=None, v_parameterization=False, loss_type="l2",
    huber_schedule="snr", huber_c=0.1, huber_scale=1.0,
)  # fmt: skip
inputs = torch.Generator().manual_seed(SEED + 1)
latents = torch.randn(SHAPE, generator=inputs)
prediction = torch.randn(SHAPE, generator=inputs)


def case(**settings):
    args = SimpleNamespace(**DEFAULTS | settings)
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, clip_sample=False)
    weights.prepare_scheduler_for_custom_training(scheduler, "cpu")
    if args.zero_terminal_snr:
        weights.fix_noise_scheduler_betas_for_zero_terminal_snr(scheduler)
        # Recomputed here: sd-scripts keeps the ratios from before the change, which cannot be meant.
        del scheduler.all_snr
        weights.prepare_scheduler_for_custom_training(scheduler, "cpu")
    torch.manual_seed(SEED)
    noise, noisy, timesteps = train_util.get_noise_noisy_latents_and_timesteps(args, scheduler, latents)
    target = scheduler.get_velocity(latents, noise, timesteps) if args.v_parameterization else noise
    threshold = train_util.get_huber_threshold_if_needed(args, timesteps, scheduler)
    loss = train_util.conditional_loss(prediction, target, args.loss_type, "none", threshold).mean(dim=[1, 2, 3]) * SAMPLE_WEIGHTS
    if args.min_snr_gamma:
        loss = weights.apply_snr_weight(loss, timesteps, scheduler, args.min_snr_gamma, args.v_parameterization)
    if args.scale_v_pred_loss_like_noise_pred:
        loss = weights.scale_v_prediction_loss_like_noise_prediction(loss, timesteps, scheduler)
    if args.v_pred_like_loss:
        loss = weights.add_v_prediction_like_loss(loss, timesteps, scheduler, args.v_pred_like_loss)
    if args.debiased_estimation_loss:
        loss = weights.apply_debiased_estimation(loss, timesteps, scheduler, args.v_parameterization)
    arguments = [f"--{key}" if value is True else f"--{key}={value}" for key, value in settings.items()]
    # The generator's next integer shows that as many numbers were drawn.
    following = torch.randint(0, 2**31, (1,)).item()
    return dict(
        arguments=arguments, timesteps=timesteps.tolist(), noisy=rounded(noisy), target=rounded(target), loss=loss.mean().item(), next=following
    )


def rounded(tensor):
    return [float(f"{value:.8g}") for value in tensor.flatten().tolist()]


cases = [
    case(),
    case(noise_offset=0.05),
    case(noise_offset=0.05, noise_offset_random_strength=True),
    case(noise_offset=0.05, adaptive_noise_scale=0.1),
    case(noise_offset=0.05, adaptive_noise_scale=-1.0),
    case(multires_noise_iterations=6),
    case(multires_noise_iterations=2, multires_noise_discount=0.8, noise_offset=0.1),
    case(ip_noise_gamma=0.1),
    case(ip_noise_gamma=0.1, ip_noise_gamma_random_strength=True),
    case(min_timestep=200, max_timestep=300),
    case(min_snr_gamma=5.0),
    case(min_snr_gamma=1.0, debiased_estimation_loss=True),
    case(debiased_estimation_loss=True),
    case(v_parameterization=True),
    case(v_parameterization=True, min_snr_gamma=5.0, scale_v_pred_loss_like_noise_pred=True),
    case(v_parameterization=True, debiased_estimation_loss=True),
    case(v_parameterization=True, zero_terminal_snr=True),
    case(v_pred_like_loss=0.5, min_snr_gamma=5.0),
    case(loss_type="l1"),
    case(loss_type="huber"),
    case(loss_type="huber", huber_schedule="constant", huber_scale=2.0),
    case(loss_type="smooth_l1", huber_schedule="exponential", huber_c=0.2),
]
commit = subprocess.check_output(["git", "-C", checkout, "rev-parse", "HEAD"], text=True).strip()
result = dict(
    source=f"kohya-ss/sd-scripts {commit}, torch {torch.__version__}",
    script="tests/reference/train_objective.py",
    seed=SEED,
    shape=SHAPE,
    latents=rounded(latents),
    prediction=rounded(prediction),
    cases=cases,
)
json.dump(result, output, separators=(",", ":"))
