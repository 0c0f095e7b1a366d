"""Draws of PyTorch's CPU generator, for model/tests/rng.rs.

Usage: python tests/reference/rng.py   (writes tests/fixtures/rng/draws.json)
"""

import json
import pathlib
import platform

import torch

OUT = pathlib.Path(__file__).parents[1] / "fixtures" / "rng" / "draws.json"
SEEDS = [0, 1, 42, 2**32 + 5, 2**63, 2**64 - 1]


def generator(seed):
    """manual_seed takes the bit pattern of negative numbers, which is how seeds above 2**63 - 1 arrive."""
    return torch.Generator().manual_seed(seed if seed < 2**63 else seed - 2**64)


def floats(tensor):
    """Nine significant digits name a float32 exactly."""
    return [float(f"{x:.9g}") for x in tensor.flatten().tolist()]


def summary(tensor):
    """Ends and float64 sums of a large tensor."""
    wide = tensor.double().flatten()
    position = torch.arange(1, wide.numel() + 1, dtype=torch.float64) / wide.numel()
    return {
        "first": floats(tensor.flatten()[:32]),
        "last": floats(tensor.flatten()[-32:]),
        "sum": wide.sum().item(),
        "sum_of_squares": (wide * wide).sum().item(),
        "sum_by_position": (wide * position).sum().item(),
    }


def per_seed(seed):
    def g():
        return generator(seed)

    return {
        "seed": str(seed),
        "rand": floats(torch.rand(5, 4, generator=g())),
        "uniform": floats(torch.empty(20).uniform_(-0.125, 0.3, generator=g())),
        "randn": {str(n): floats(torch.randn(n, generator=g())) for n in ([*range(41)] if seed == 0 else [1, 4, 15, 16, 17, 37])},
        "randn_large": {
            "4x64x64": summary(torch.randn(1, 4, 64, 64, generator=g())),
            "odd": summary(torch.randn(3, 7, 11, 5, generator=g())),
        },
        "randint": [
            {"low": low, "high": high, "values": [str(x) for x in torch.randint(low, high, (6,), generator=g()).tolist()]}
            for low, high in [
                (0, 1000),
                (-7, 13),
                (0, 2**28 - 1),
                (0, 2**28),
                (-5, 2**31),
                (0, 2**32),
                (-(2**62), 2**62 + 3),
            ]
        ],
        "randperm": {str(n): torch.randperm(n, generator=g()).tolist() for n in (0, 1, 2, 3, 30, 90)},
    }


def interleaved(seed):
    """One generator through mixed calls: what each call draws depends on what the ones before left behind."""
    g = generator(seed)
    steps = []
    for name, size in [
        ("randn", 3), ("rand", 2), ("randn", 32), ("randint", 4), ("randn", 5), ("randn", 1), ("randperm", 7), ("randn", 19),
        ("rand", 700), ("randn", 7), ("uniform", 3), ("randn", 2), ("randn", 640), ("randn", 1),
    ]:  # fmt: skip
        if name == "randn":
            values = floats(torch.randn(size, generator=g))
        elif name == "rand":
            values = floats(torch.rand(size, generator=g))
        elif name == "uniform":
            values = floats(torch.empty(size).uniform_(-1.0, 2.0, generator=g))
        elif name == "randint":
            values = torch.randint(0, 1000, (size,), generator=g).tolist()
        else:
            values = torch.randperm(size, generator=g).tolist()
        steps.append({"call": name, "size": size, "values": values})
    return {"seed": str(seed), "steps": steps}


def states():
    """get_state() after a few histories, as hexadecimal text."""
    histories = {"fresh": [], "spare": [("randn", 3)], "spare used": [("randn", 4)], "second round": [("randn", 3), ("rand", 700)]}
    result = []
    for name, calls in histories.items():
        g = generator(42)
        for call, size in calls:
            (torch.randn if call == "randn" else torch.rand)(size, generator=g)
        state = bytes(g.get_state().numpy())
        following = floats(torch.randn(5, generator=g)) + floats(torch.rand(3, generator=g))
        result.append({"history": name, "calls": calls, "state": state.hex(), "following": following})
    return result


def main():
    data = {
        "made_with": {"torch": torch.__version__, "python": platform.python_version(), "device": "cpu", "dtype": "float32",
                      "capability": torch.backends.cpu.get_cpu_capability(), "script": "tests/reference/rng.py"},
        "seeds": [per_seed(seed) for seed in SEEDS],
        "interleaved": [interleaved(seed) for seed in (0, 2**32 + 5)],
        "states": states(),
    }  # fmt: skip
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(data, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
