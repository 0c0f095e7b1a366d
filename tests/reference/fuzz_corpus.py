"""Writes the seeds of the fuzzers: fuzz/corpus/{pickle,container,keys,config,tokenizer}; those of images are in tests/fixtures/vision/files.

Run: OMP_NUM_THREADS=1 python tests/reference/fuzz_corpus.py     (torch 2.15, from the repository's root)
Seeds for pickles are torch's own, of tensors whose storages `0`, `1`, `2` have 16, 64 and 1024 bytes, as the fuzzer has them; those for
names are the keys of the adapters in tests/fixtures/adapters, a line each. Torch files as they are in tests/fixtures/checkpoint/torch are
seeds for whole files too, and not repeated.
"""

import collections
import io
import json
import struct
import zipfile
from pathlib import Path

import torch

CORPUS, FIXTURES = Path("fuzz/corpus"), Path("tests/fixtures")
TO_Q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def pickles():
    small, middle, large = torch.arange(4.0), torch.arange(32).half(), torch.arange(512).half()
    storages = collections.OrderedDict(a=small, b=middle, c=large)
    lora = {
        "first": small,
        f"{TO_Q}.alpha": small[1],
        "second": middle,
        f"{TO_Q}.lora_down.weight": large[:32].view(2, 16),
        f"{TO_Q}.lora_up.weight": large[32:64].view(2, 16).t(),
    }
    ldm = {f"model.diffusion_model.{name}": large[at : at + 16].view(4, 4) for at, name in enumerate(("time_embed.0.weight", "out.2.weight"))}
    cases = {
        "dictionary": {"state_dict": storages, "epoch": 3, "global_step": 10**12, "rate": 1e-4, "name": "x", "none": None, "flags": (True, False)},
        "views": [small[::2], middle.view(4, 8).t(), large[3:20], small[:1].expand(3, 5)],
        "parameter": {"weight": torch.nn.Parameter(small), "buffer": middle, "third": large},
        "lora": lora,
        "checkpoint": {"state_dict": {"first": small, "second": middle, **ldm}},
        "nested": {"a": {"b": {"c": small, "shared": [middle, middle]}, "d": (large,)}, "size": small.shape, "type": torch.float16},
    }
    for name, case in cases.items():
        stream = io.BytesIO()
        torch.save(case, stream)
        with zipfile.ZipFile(stream) as archive:
            pickle = next(member for member in archive.namelist() if member.endswith("data.pkl"))
            write("pickle", name, archive.read(pickle))


def safetensors(tensors, metadata=None):
    """A safetensors file of zeros."""
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


def containers():
    lora = {f"{TO_Q}.lora_down.weight": ("F16", [2, 4], 16), f"{TO_Q}.lora_up.weight": ("BF16", [4, 2], 16), f"{TO_Q}.alpha": ("F32", [], 4)}
    write("container", "safetensors", safetensors(lora, {"ss_network_dim": "2", "format": "pt"}))
    write("container", "index", b'{"metadata":{"total_size":8},"weight_map":{"a":"input","b":"b.safetensors"}}')
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (("archive/data.pkl", b"\x80\x02}."), ("archive/byteorder", b"little"), ("archive/version", b"3\n")):
            # Zip64 fields, as torch writes them whatever the size.
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                member.write(data)
        archive.comment = b"comment"
    write("container", "zip", stream.getvalue())


def header_of(path):
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    header.pop("__metadata__", None)
    return header


def keys():
    def lines(entries):
        return "".join(f"{name} {dtype} {'x'.join(map(str, shape)) or '-'}\n" for name, dtype, shape in entries).encode()

    # Every layer of LyCORIS' fixture is of another family.
    header = header_of(FIXTURES / "adapters/lycoris.safetensors")
    layers = sorted({name.split(".")[0] for name in header})
    for number in range(4):
        some = [(n, e["dtype"].lower(), e["shape"]) for n, e in sorted(header.items()) if layers.index(n.split(".")[0]) % 4 == number]
        write("keys", f"lycoris_{number}", lines(some))
    for name in ("kohya", "diffusers", "diffusers_own", "diffusers_older", "diffusers_oldest"):
        header = header_of(FIXTURES / f"checkpoint/adapters/{name}.safetensors")
        write("keys", name, lines((n, e["dtype"].lower(), e["shape"]) for n, e in sorted(header.items())[:24]))
    for prefix in ("unet", "text_encoder"):
        layer = {"unet": "mid_block.resnets.0.time_emb_proj", "text_encoder": "text_model.encoder.layers.0.mlp.fc1"}[prefix]
        write("keys", f"peft_{prefix}", lines((f"base_model.model.{layer}.lora_{part}.weight", "bf16", shape) for part, shape in (("A", (2, 8)), ("B", (8, 2)))))
    names = sorted(ldm for _, ldm in json.loads((FIXTURES / "checkpoint/ldm_names.json").read_text())["cases"][0]["unet"])
    prefix = "model.diffusion_model."
    unet = [name for name in names if any(name.startswith(prefix + block) for block in ("input_blocks.0.", "input_blocks.1.", "input_blocks.3.", "middle_block.", "output_blocks.2.", "out.", "time_embed."))]
    text = [f"cond_stage_model.transformer.text_model.{name}.weight" for name in ("embeddings.token_embedding", "final_layer_norm", "encoder.layers.0.mlp.fc1")]
    vae = [f"first_stage_model.{name}.weight" for name in ("encoder.mid.attn_1.q", "decoder.up.3.block.0.conv1", "decoder.up.0.block.2.conv2", "quant_conv", "encoder.down.0.downsample.conv")]
    write("keys", "ldm", lines((name, "f16", (2, 2)) for name in unet[::3] + text + vae + ["betas", "model_ema.decay", "epoch"]))


def settings():
    """Configurations at the size of the miniature, behind a byte that says of what; two tokenizers."""
    unet = {
        "in_channels": 4, "out_channels": 4, "block_out_channels": [16, 32, 64, 64], "layers_per_block": 2, "cross_attention_dim": 32,
        "norm_num_groups": 8, "norm_eps": 1e-5, "attention_head_dim": 4, "transformer_layers_per_block": 1, "act_fn": "silu",
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    }  # fmt: skip
    vae = {"block_out_channels": [8, 16, 16, 16], "layers_per_block": 2, "latent_channels": 4, "norm_num_groups": 4, "scaling_factor": 0.18215}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 914, "hidden_act": "quick_gelu"}
    control = unet | {"conditioning_channels": 3, "conditioning_embedding_out_channels": [8, 8, 16, 16]}
    schedule = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    schedules = [schedule | {"_class_name": f"{name}Scheduler"} for name in ("PNDM", "DDIM", "DDPM", "EulerDiscrete", "EulerAncestralDiscrete")]
    for number, config in enumerate([unet, vae, text, control, *schedules]):
        write("config", f"{number}", bytes([min(number, 4)]) + json.dumps(config).encode())
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = letters + [letter + "</w>" for letter in letters] + ["ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    words = json.dumps({word: number for number, word in enumerate(vocabulary)})
    added = {"200": {"content": "<dog>", "lstrip": True}, "201": {"content": "<do", "single_word": True}}
    for name, config in (("plain", {}), ("added", {"added_tokens_decoder": added, "model_max_length": 12})):
        parts = [words, "#version: 0.2\nc a\nca t</w>", json.dumps(config), "a cat, <dog> <do g <|endoftext|>"]
        write("tokenizer", name, "\n----\n".join(parts).encode())
    write("tokenizer", "empty", b"{}\n----\n\n----\n{}")


pickles(), containers(), keys(), settings()
