"""Whole images, from prompt to pixels, by diffusers' pipelines, and activations met on the way.

Reference classes: diffusers `StableDiffusionPipeline`, `StableDiffusionImg2ImgPipeline`, `StableDiffusionControlNetPipeline` with
`PNDMScheduler`, `DDIMScheduler`, `EulerDiscreteScheduler`; float32 on the CPU. Noise comes from a CPU generator with the seed of the
case. The UNet is called as `__call__` calls it (negative prompt and prompt in one batch); activations are kept by forward hooks at
the calls that `calls` lists, counted from 1.

    python sampling.py MODEL_FOLDER tests/fixtures/networks/sampling.safetensors
    python sampling.py SD2_FOLDER tests/fixtures/networks/sd2_sampling.safetensors
"""

import diffusers
import torch

import common

PROMPT, NEGATIVE = "a red circle, sharp", "blurry"
HEIGHT, WIDTH, STEPS, GUIDANCE, SEED = 48, 64, 5, 7.5, 31
CALLS = (2, 3, 6)
# id of the layer: module whose output it is
HOOKS = {"mid-repeat0-res-out": "mid_block.resnets.0", "up-level1-upsampler-out": "up_blocks.1.upsamplers.0"}
SCHEDULERS = {
    "pndm": diffusers.PNDMScheduler,
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
}


def watch(unet, kept):
    """Counts the UNet's calls and keeps the hooked modules' outputs of those in CALLS."""
    count = [0]

    def begin(*_):
        count[0] += 1

    def keep(name):
        def hook(_module, _inputs, output):
            if count[0] in CALLS:
                kept[f"{name}.{count[0]}"] = output.clone()

        return hook

    handles = [unet.register_forward_pre_hook(begin)]
    handles += [unet.get_submodule(path).register_forward_hook(keep(name)) for name, path in HOOKS.items()]
    return handles


@torch.no_grad()
def main():
    options = common.arguments(__doc__.splitlines()[0]).parse_args()
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(
        options.folder, safety_checker=None, feature_extractor=None, torch_dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    plain = dict(pipe.scheduler.config)
    tensors = {}
    call = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": STEPS, "output_type": "pt"}
    for name, scheduler in SCHEDULERS.items():
        pipe.scheduler = scheduler.from_config(plain)
        generator = torch.Generator().manual_seed(SEED)
        handles = watch(pipe.unet, tensors) if name == "pndm" else []
        images = pipe(height=HEIGHT, width=WIDTH, guidance_scale=GUIDANCE, generator=generator, **call).images
        for handle in handles:
            handle.remove()
        tensors[f"{name}.image"] = images
    # An image as the image to image pipeline takes it: 0..1, which it brings to -1..1 itself.
    start = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(SEED + 1))
    pipe.scheduler = diffusers.DDIMScheduler.from_config(plain)
    to_image = diffusers.StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    to_image.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(SEED)
    call = call | {"num_inference_steps": 10}
    tensors["changed.image"] = to_image(image=start, strength=0.6, guidance_scale=1.0, generator=generator, **call).images
    controlnet = diffusers.ControlNetModel.from_pretrained(options.folder / "controlnet-canny")
    pipe.scheduler = diffusers.DDIMScheduler.from_config(plain)
    steered = diffusers.StableDiffusionControlNetPipeline(
        **pipe.components, controlnet=controlnet, requires_safety_checker=False
    )
    steered.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(SEED)
    tensors["steered.image"] = steered(
        image=start,
        guidance_scale=3.0,
        generator=generator,
        controlnet_conditioning_scale=0.75,
        control_guidance_start=0.1,
        control_guidance_end=0.7,
        **call,
    ).images
    common.save(
        options.output,
        {name: value.contiguous() for name, value in tensors.items()},
        script="tests/reference/sampling.py",
        versions=common.versions(),
        weights=common.weights_digest(options.folder),
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        seed=SEED,
    )


if __name__ == "__main__":
    main()
