"""The settings that the original extractor is run with; the names are those of its own options."""

import json
from pathlib import Path

PROMPT = "a photo of a cat"
# 72 words: more than 70 take the path that cuts the token list into unpadded pieces of 77
LONG_PROMPT = " ".join(f"{PROMPT} and the dog" for _ in range(9))

# a layer of every kind, from every stage
SOME_LAYERS = [
    "unet-in",
    "down-level0-repeat1-vit-out",
    "down-level1-downsampler-out",
    "mid-vit-block0-self-map",
    "mid-repeat1-res-out",
    "up-level0-upsampler-out",
    "up-level1-repeat1-res-increment",
    "up-level1-repeat2-vit-block0-cross-map",
    "up-level2-repeat2-vit-block0-ffn-inner",
    "up-level3-repeat0-vit-block0-cross-q",
    "up-level3-repeat2-vit-out",
    "unet-out",
]

DEFAULTS = {
    "prompt": PROMPT,
    "t": 50,
    "seed": 0,
    "img_size": 128,
    "layers": SOME_LAYERS,
    "control": None,
    "attention": None,
    "denoising_from": None,
    "use_ddim_inversion": False,
    "feature_resize": 1,
    "lora": False,
    "image": "image.png",
}
# no layer list means every layer to the original
EVERYTHING = {"layers": []}
CANNY = {"control": ["canny"]}



def shipped(name):
    """The ids of a layer configuration that the original ships, which is here under a shorter name."""
    path = Path(__file__).resolve().parents[2] / "configs/layers" / f"{name}.json"
    return {"layers": json.loads(path.read_text())}


# name: elements kept per layer, settings that differ from the defaults
CASES = {
    "everything_t50": (256, EVERYTHING | {"attention": ["up_cross"], "seed": 1}),
    "everything_t261": (96, EVERYTHING | {"t": 261, "seed": 2}),
    "t0": (256, {"t": 0, "seed": 3}),
    "t999": (256, {"t": 999, "seed": 4}),
    "attention_all": (256, {"attention": ["up_self", "mid_cross", "down_cross", "down_self", "up_cross"], "seed": 5}),
    "canny": (256, CANNY | {"attention": ["up_cross"], "seed": 6}),
    "denoising_60_canny": (256, CANNY | {"denoising_from": 60, "attention": ["up_cross"], "seed": 7}),
    "denoising_160_canny": (256, CANNY | {"denoising_from": 160, "seed": 8}),
    "inversion": (256, {"use_ddim_inversion": True, "seed": 9}),
    "lora": (256, {"lora": True, "seed": 10}),
    "long_prompt": (256, {"prompt": LONG_PROMPT, "attention": ["up_cross"], "seed": 11}),
    "vae_out": (512, {"layers": SOME_LAYERS + ["vae-out"], "attention": ["up_cross"], "seed": 12}),
    "vae_out_denoising": (512, CANNY | {"layers": ["unet-out", "vae-out"], "denoising_from": 60, "seed": 13}),
    # latents 12x12, 6x6, 3x3, 2x2: the way up has to meet odd sizes
    "img_size_96": (256, {"img_size": 96, "seed": 14}),
    # not a multiple of 8: resized once more, to 96; attention is enlarged to 100 // 8
    "img_size_100": (256, {"img_size": 100, "attention": ["up_cross"], "seed": 15}),
    "t1": (256, {"t": 1, "seed": 17}),
    "practical": (256, shipped("practical") | {"seed": 18}),
    "legacy": (256, shipped("legacy") | {"attention": ["up_cross"], "t": 261, "seed": 19}),
    "full": (64, shipped("full") | {"seed": 20}),
    # a narrow JPEG with odd sides
    "odd_photo": (256, CANNY | {"image": "odd.jpg", "attention": ["up_cross"], "seed": 21}),
    "feature_resize_2": (256, {"feature_resize": 2, "seed": 16}),
}


# Stable Diffusion 2.1, with a model that predicts velocity
CASES_2_1 = {
    "everything_t50": (128, EVERYTHING | {"attention": ["up_cross"], "seed": 31}),
    "everything_t261": (96, EVERYTHING | {"t": 261, "seed": 32}),
    "t999": (64, {"t": 999, "seed": 33}),
    "canny": (64, CANNY | {"attention": ["up_cross", "down_self"], "seed": 34}),
    "denoising_60_canny": (64, CANNY | {"denoising_from": 60, "seed": 35}),
    # timesteps that fall between training timesteps
    "denoising_160_canny": (64, CANNY | {"denoising_from": 160, "seed": 36}),
    "inversion": (64, {"use_ddim_inversion": True, "seed": 37}),
    "long_prompt": (64, {"prompt": LONG_PROMPT, "attention": ["up_cross"], "seed": 38}),
    "vae_out": (512, {"layers": ["unet-out", "vae-out"], "seed": 39}),
}


def all_cases(version):
    """Yields (name, elements kept per layer, complete settings) of a version's cases."""
    defaults, cases = {"1-5": (DEFAULTS, CASES), "2-1": (DEFAULTS | {"version": "2-1"}, CASES_2_1)}[version]
    for name, (limit, settings) in cases.items():
        yield name, limit, defaults | settings
