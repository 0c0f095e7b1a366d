"""What every fixture script shares: seeded inputs, loading of a model folder, writing of a fixture.

A fixture is a safetensors file. Its header metadata says which library versions, seeds and model weights made it, so that
it can be regenerated and a mismatch can be explained. All metadata values are strings; structured ones are JSON.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save as serialize

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "safetensors", "numpy", "pillow", "opencv-python-headless")


def arguments(description):
    """Parses the two arguments of every fixture script: the model folder and the output path."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path, help="the miniature model (written by the Rust example `miniature`)")
    parser.add_argument("output", type=Path, help="the .safetensors file to write")
    return parser


def versions(*more):
    """Versions of the libraries that took part, as one dictionary."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES + more:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def weights_digest(folder):
    """SHA-256 of every weight file below a model folder: which weights a fixture belongs to."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
    }


def draw(seed, *shape):
    """Standard normal float32 numbers, the first draw after `torch.manual_seed(seed)` on the CPU."""
    torch.manual_seed(seed)
    return torch.randn(*shape)


def sample(tensor, limit):
    """At most `limit` elements of a tensor, and the stride they were taken with.

    Returns the tensor itself and stride 1 when it is small enough, else every stride-th element of its row-major order.
    The stride shares no factor with the tensor's sides, so that the sample walks through all channels, rows and columns.
    """
    if tensor.numel() <= limit:
        return tensor.contiguous(), 1
    stride = -(-tensor.numel() // limit)
    while any(side > 1 and _common_factor(side, stride) for side in tensor.shape):
        stride += 1
    return tensor.flatten()[::stride].contiguous(), stride


def _common_factor(a, b):
    while b:
        a, b = b, a % b
    return a > 1


def save(path, tensors, **metadata):
    """Writes a fixture beside its place and renames it. Refuses values that are not finite: they would hide any error."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    for name, value in tensors.items():
        if not torch.isfinite(value.float()).all():
            raise ValueError(f"{name} has values that are not finite")
    header = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(in_order(serialize(tensors, metadata=header)))
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
    print(f"{path}: {len(tensors)} tensors, {path.stat().st_size / 1024:.0f} KiB")


def in_order(content):
    """A safetensors file with its metadata sorted: the library writes it in an order that changes from run to run."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header = {"__metadata__": dict(sorted(header.pop("__metadata__").items()))} | header
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def load(folder, *names, subfolder=None):
    """Loads parts of a pipeline folder in float32, in evaluation mode, without gradients, in the order of `names`.

    Names: `unet`, `vae`, `text_encoder`, `tokenizer`, `controlnet-canny`; each in a subfolder of its name or in `subfolder`.
    """
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    classes = {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
        "tokenizer": CLIPTokenizer,
        "controlnet-canny": ControlNetModel,
    }
    parts = []
    for name in names:
        place = {"subfolder": subfolder or name}
        if name == "tokenizer":
            parts.append(CLIPTokenizer.from_pretrained(folder, **place))
        else:
            settings = {"torch_dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
            model, report = classes[name].from_pretrained(folder, **place, **settings)
            # a missing weight would be replaced by random numbers with no more than a warning
            wrong = {kind: keys for kind, keys in report.items() if keys}
            if wrong:
                raise ValueError(f"{folder}/{place['subfolder']} does not fit {classes[name].__name__}: {wrong}")
            parts.append(model.eval().requires_grad_(False))
    return parts if len(parts) > 1 else parts[0]


def tokens(tokenizer, prompts):
    """Token ids `[batch, 77]` as diffusers makes them: cut and padded to the tokenizer's length."""
    length = tokenizer.model_max_length
    return tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
