"""Features by the original extractor (generic-diffusion-feature, e4361a6) on a miniature model, in float32 on the CPU.

The original's code stays outside this repository: this script imports it from a checkout, with the overlay that
extractor_overlay.py made, and changes at run time only what ties it to a GPU and to the hub: model ids lead to the
folder, the ControlNet is loaded in float32, and the feature store neither rounds to float16 nor moves to CUDA.

    python extractor_oracle.py MODEL_FOLDER tests/fixtures/extractor --checkout CHECKOUT --overlay OVERLAY \
        --images tests/fixtures/extractor --lora tests/fixtures/training/lora.safetensors
    python extractor_oracle.py SD2_FOLDER tests/fixtures/extractor/sd2 --checkout CHECKOUT --overlay OVERLAY \
        --images tests/fixtures/extractor --version 2-1

For version 2-1 one thing more is changed: where the model predicts velocity, the inversion is handed the noise that the prediction
stands for. The original takes the velocity for noise, since its own model of that version predicts noise.

One file per case. `torch.manual_seed(seed)` precedes each extraction, so the posterior's noise is the first draw and the
diffusion noise the second. The metadata entry `case` has the settings, `layers` the stored ids in the original's order, each
with its full shape `[channels, height, width]`, norm, mean and stride: a tensor with stride above 1 holds every stride-th
element of the row-major feature.
"""

import argparse
import sys
import types
from pathlib import Path

import torch
from PIL import Image

import common
import extractor_cases


def import_original(options):
    """Imports the original's modules over its patched diffusers, and makes them load from the folder in float32."""
    sys.path[:0] = [str(options.overlay), str(options.checkout / "feature")]
    # the original imports it at the top and uses it for depth maps only
    sys.modules["controlnet_aux"] = types.SimpleNamespace(MidasDetector=None)
    import diffusers

    if options.overlay not in Path(diffusers.__file__).parents:
        raise RuntimeError(f"diffusers was imported from {diffusers.__file__}, not from the overlay")
    from components import controlnet, models

    # imported by the original and used nowhere; withdrawn at once, since other libraries ask whether pandas is there
    sys.modules["pandas"] = types.ModuleType("pandas")
    import diffusion_feature

    del sys.modules["pandas"]

    models.StableDiffusionImg2ImgPipeline = _redirected(diffusers.StableDiffusionImg2ImgPipeline, options.folder)
    controlnet.ControlNetModel = _redirected(diffusers.ControlNetModel, options.folder / "controlnet-canny")
    diffusers.EulerDiscreteScheduler.from_pretrained = _from_folder(diffusers.EulerDiscreteScheduler, options.folder)
    diffusion_feature.ddim_inversion = _inverting_noise(diffusion_feature.ddim_inversion)
    encode = controlnet.ControlNetBase.encode
    # the edge map was rounded to float16: exact, since its values are 0 and 1
    controlnet.ControlNetBase.encode = lambda self, condition, *rest: encode(self, condition.float(), *rest)
    return diffusion_feature.FeatureExtractor


def _redirected(cls, folder):
    """Stands in for a diffusers class: whatever id is asked for, loads `folder` in float32."""
    return types.SimpleNamespace(
        from_pretrained=lambda _id, **settings: cls.from_pretrained(folder, **(settings | {"torch_dtype": torch.float32}))
    )


def _from_folder(cls, folder):
    """Stands in for a scheduler's `from_pretrained`: whatever id is asked for, reads the one of `folder`."""
    load = cls.from_pretrained
    return lambda _id, **settings: load(folder, **settings)


def _inverting_noise(invert):
    """The original's inversion with the noise that the network's output stands for in place of that output."""

    def inverted(pipe, *arguments):
        if pipe.scheduler.config.prediction_type == "epsilon":
            return invert(pipe, *arguments)
        if pipe.scheduler.config.prediction_type != "v_prediction":
            raise ValueError(pipe.scheduler.config.prediction_type)

        def noise(latents, timestep, **text):
            alpha = pipe.scheduler.alphas_cumprod[timestep]
            velocity = pipe.unet(latents, timestep, **text).sample
            return types.SimpleNamespace(sample=alpha.sqrt() * velocity + (1 - alpha).sqrt() * latents)

        return invert(types.SimpleNamespace(vae=pipe.vae, scheduler=pipe.scheduler, unet=noise), *arguments)

    return inverted


def extract(extractor_class, case, options):
    """Runs one case and returns its features by id, `[channels, height, width]`, in the original's order."""
    lora = options.lora if case["lora"] else None
    extractor = extractor_class(
        layer={name: True for name in case["layers"]},
        version=case.get("version", "1-5"),
        device="cpu",
        dtype="float32",
        img_size=case["img_size"],
        offline_lora=str(lora.parent) if lora else None,
        offline_lora_filename=lora.name if lora else None,
        feature_resize=case["feature_resize"],
        control=case["control"],
        attention=case["attention"],
    )
    # the store of an extractor under training is the one that leaves type and device alone; nothing else reads this flag
    extractor.feature_store.train_unet = True
    # the image arrives in channels-last strides, for which PyTorch's group norm rounds to 1e-5 instead of 5e-8
    preprocess = extractor.preprocess_image
    extractor.preprocess_image = lambda image: preprocess(image).contiguous()
    prompt = extractor.encode_prompt(case["prompt"])
    torch.manual_seed(case["seed"])
    features = extractor.extract(
        prompt,
        1,
        [Image.open(options.images / case["image"])],
        t=case["t"],
        denoising_from=case["denoising_from"],
        use_control=case["control"] is not None,
        use_ddim_inversion=case["use_ddim_inversion"],
    )
    return {name: value[0] for name, value in features.items()}


def write(features, case, limit, metadata, output):
    """Writes the features of a case, large ones sampled down to `limit` elements."""
    tensors, layers = {}, []
    for name, value in features.items():
        if value.dtype != torch.float32:
            raise TypeError(f"{name} is {value.dtype}")
        tensors[name], stride = common.sample(value, limit)
        norm, mean = value.double().norm().item(), value.double().mean().item()
        layers.append({"id": name, "shape": list(value.shape), "stride": stride, "norm": norm, "mean": mean})
    common.save(output, tensors, case=case, layers=layers, **metadata)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the miniature model")
    parser.add_argument("output", type=Path, help="the folder for the fixtures")
    for name in ("checkout", "overlay", "images"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--lora", type=Path, help="the adapter of the cases that have one")
    parser.add_argument("--version", choices=("1-5", "2-1"), default="1-5", help="the original's name of the model")
    parser.add_argument("--only", nargs="+", help="write these cases alone")
    options = parser.parse_args()
    options.overlay = options.overlay.resolve()
    extractor_class = import_original(options)
    metadata = {
        "script": "tests/reference/extractor_oracle.py",
        "original": "Darkbblue/generic-diffusion-feature e4361a6",
        "versions": common.versions("einops"),
        "weights": common.weights_digest(options.folder),
    }
    for name, limit, case in extractor_cases.all_cases(options.version):
        if options.only is None or name in options.only:
            features = extract(extractor_class, case, options)
            write(features, case, limit, metadata, options.output / f"{name}.safetensors")


if __name__ == "__main__":
    main()
