"""Files written by torch.save, in every form that model/src/formats/pickle reads, with the numbers that they hold.

Run: /path/to/venv/bin/python tests/reference/checkpoint_torch.py
Writes tests/fixtures/checkpoint/torch/*.ckpt and expected.json, which states the versions.
"""

import collections
import json
import pickle
import struct
import sys
from pathlib import Path

import numpy
import torch

OUT = Path(__file__).parent.parent / "fixtures" / "checkpoint" / "torch"
EXPECTED = {}


def numbers(tensor):
    tensor = tensor.detach()
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8)
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "values": tensor.to(torch.float64).flatten().tolist(),
    }


def save(name, thing, tensors, **options):
    torch.save(thing, OUT / name, **options)
    EXPECTED[name] = {key: numbers(tensor) for key, tensor in tensors.items()}


def plain():
    torch.manual_seed(0)
    return {
        "float": torch.randn(3, 4),
        "half": torch.randn(2, 3).half(),
        "bfloat": torch.randn(5).bfloat16(),
        "double": torch.randn(2, 2, dtype=torch.float64).float().double(),
        "long": torch.tensor([1, -2, 1 << 40]),
        "int": torch.tensor([[7, -8]], dtype=torch.int32),
        "short": torch.tensor([300, -5], dtype=torch.int16),
        "byte": torch.tensor([0, 255], dtype=torch.uint8),
        "scalar": torch.tensor(16.0),
        "empty": torch.zeros(0, 3),
    }


def views():
    base = torch.arange(60, dtype=torch.float32)
    grid = base.reshape(6, 10)
    return {
        "whole": base,
        "rows": grid[2:4],
        "columns": grid[:, 3:5],
        "transposed": grid.t(),
        "gapped": grid[::2, ::3],
        "permuted": base.reshape(3, 4, 5).permute(2, 0, 1),
        "expanded": base[7:8].expand(4, 3),
        "broadcast": grid[1].unsqueeze(1).expand(10, 2),
        "one": grid[5, 9],
        "single": grid[3:4, 4:5],
        "far": torch.arange(2_000, dtype=torch.float32)[::999],
    }


class Callback:
    pass


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    tensors = plain()
    save("zip.ckpt", tensors, tensors)
    save("legacy.ckpt", tensors, tensors, _use_new_zipfile_serialization=False)
    save("protocol4.ckpt", tensors, tensors, pickle_protocol=4)
    strided = views()
    save("views_zip.ckpt", strided, strided)
    save("views_legacy.ckpt", strided, strided, _use_new_zipfile_serialization=False)

    module = torch.nn.Linear(3, 2)
    module_state = module.state_dict()
    save("module.ckpt", {"state_dict": module_state}, module_state)
    parameters = {"weight": module.weight, "frozen": torch.nn.Parameter(torch.ones(2, 2), requires_grad=False)}
    save("parameters.ckpt", parameters, parameters)
    # A tensor with an attribute goes through _rebuild_from_type_v2.
    tagged = torch.arange(4.0)
    tagged.note = "kept beside the numbers"
    save("from_type.ckpt", {"tagged": tagged}, {"tagged": tagged})
    nested = {"state_dict": {"state_dict": collections.OrderedDict(a=torch.ones(2), b={"c": torch.zeros(1), "d": 3})}, "epoch": 4}
    save("nested.ckpt", nested, {"a": torch.ones(2), "b.c": torch.zeros(1)})
    save("list.ckpt", [torch.ones(2, 1), torch.zeros(1, 2)], {"0": torch.ones(2, 1), "1": torch.zeros(1, 2)})

    # What Lightning keeps beside the weights: class objects as keys, numpy numbers, sets, optimizer states.
    module_name = "pytorch_lightning.callbacks.model_checkpoint"
    Callback.__module__, Callback.__qualname__, Callback.__name__ = module_name, "ModelCheckpoint", "ModelCheckpoint"
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", module_name):
        sys.modules[part] = type(sys)(part)
    sys.modules[module_name].ModelCheckpoint = Callback
    weights = collections.OrderedDict(weight=torch.randn(2, 3), counter=torch.tensor(5))
    weights._metadata = {"": {"version": 1}}
    lightning = {
        "epoch": 12,
        "global_step": 34567,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": weights,
        "callbacks": {Callback: {"best": numpy.float64(0.25), "seen": {1, 2}, "none": None, "path": "a\u00e9b"}},
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.zeros(2, 3)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}],
        "lr_schedulers": [],
        "hyper_parameters": {"big": 1 << 70, "size": torch.Size([2, 3]), "dtype": torch.float16, "device": torch.device("cpu")},
    }
    save("lightning.ckpt", lightning, weights)

    python2(OUT / "python2.ckpt")
    EXPECTED["python2.ckpt"] = {"a": numbers(torch.tensor([1.0, 2.0])), "b": numbers(torch.tensor([[2.0]]))}

    versions = {"torch": torch.__version__, "numpy": numpy.__version__, "seed": 0}
    (OUT / "expected.json").write_text(json.dumps({"versions": versions, "files": EXPECTED}, indent=0, sort_keys=True) + "\n")


def python2(path):
    """A legacy file as Python 2 wrote it: byte strings for keys, and an OrderedDict made of a list of pairs."""

    def text(value):
        return b"U" + bytes([len(value)]) + value.encode()

    def storage(key, count):
        return b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + b"K" + bytes([count]) + b"NtQ"

    def tensor(key, count, offset, size, stride):
        ints = lambda values: b"(" + b"".join(b"K" + bytes([v]) for v in values) + b"t"
        return b"ctorch._utils\n_rebuild_tensor\n(" + storage(key, count) + b"K" + bytes([offset]) + ints(size) + ints(stride) + b"tR"

    body = b"\x80\x02ccollections\nOrderedDict\n](](" + text("a") + tensor("94", 2, 0, [2], [1]) + b"e](" + text("b") + tensor("94", 2, 1, [1, 1], [1, 1]) + b"ee\x85R."
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    facts = b"\x80\x02}" + text("little_endian") + b"\x88s."
    keys = b"\x80\x02](" + text("94") + b"e."
    data = struct.pack("<q2f", 2, 1.0, 2.0)
    path.write_bytes(magic + pickle.dumps(1001, 2) + facts + body + keys + data)


main()
