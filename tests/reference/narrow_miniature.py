"""Narrows the deepest level of a UNet that `learn_miniature.py` is training, so that the folder stays under 10 MB.

    python3 tests/reference/narrow_miniature.py WIDE.pt WORK/unet.pt [--from-width 80] [--step 6500]

WIDE.pt is the state of a UNet whose last level is as wide as its third; of each group of a group norm the channels with the largest weights
stay, and the averaged weights are what is narrowed. The new state stands at `--step`: `learn_miniature.py` goes on from there with a fresh
optimizer. This is how the shipped miniature came about (assets/miniature/README.md has the numbers of steps).

Made with torch 2.15, diffusers 0.32.2.
"""

import argparse
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from learn_miniature import UNET

# Modules whose channels are those of the last level's hidden states: they lose the same channels everywhere.
RESNETS = ["down_blocks.3.resnets.0", "down_blocks.3.resnets.1", "mid_block.resnets.0", "mid_block.resnets.1"] + [
    f"up_blocks.0.resnets.{number}" for number in range(3)
]


def largest(weights, groups, kept):
    """Of each of `groups` equal runs of rows the `kept / groups` rows with the largest weights: their numbers, ascending."""
    sizes = weights.flatten(1).square().sum(1).view(groups, -1)
    best = sizes.topk(kept // groups, dim=1).indices.sort(dim=1).values
    return (best + torch.arange(groups)[:, None] * sizes.shape[1]).flatten()


class Narrowing:
    """Which channels of the wide network stay, module by module."""

    def __init__(self, wide, old, new, groups):
        self.wide, self.old, self.new, self.groups = wide, old, new, groups
        self.stream = self.of(*[f"{name}.conv2.weight" for name in RESNETS])
        self.inner = {name: self.of(f"{name}.conv1.weight") for name in RESNETS}
        self.states = self.of("mid_block.attentions.0.proj_in.weight")
        forward = "mid_block.attentions.0.transformer_blocks.0.ff.net.2.weight"
        self.hidden = largest(wide[forward].T, 1, 4 * new)

    def of(self, *names):
        return largest(torch.cat([self.wide[name].flatten(1) for name in names], dim=1), self.groups, self.new)

    def joined(self, wide_size, narrow_size):
        """The inputs of the up blocks: hidden states of the last level, joined with a skip of the last or of the third level."""
        skip = torch.arange(self.old) if narrow_size == self.new + self.old else self.stream
        assert wide_size == 2 * self.old and narrow_size == self.new + len(skip), (wide_size, narrow_size)
        return torch.cat([self.stream, self.old + skip])

    def rows(self, name, wide_size, narrow_size, dimension):
        """The rows of dimension 0 or 1 of the tensor `name` that stay."""
        block = next((resnet for resnet in RESNETS if name.startswith(resnet + ".")), "")
        leaf = name.removeprefix(block + ".")
        between = leaf.startswith(("time_emb_proj", "norm2")) or (leaf.startswith("conv1"), dimension) == (True, 0)
        if block and (between or (leaf, dimension) == ("conv2.weight", 1)):
            return self.inner[block]
        if wide_size == 2 * self.old:
            return self.joined(wide_size, narrow_size)
        if "transformer_blocks" in name and wide_size == 4 * self.old:
            return self.hidden
        if "transformer_blocks" in name and wide_size == 8 * self.old:
            return torch.cat([self.hidden, 4 * self.old + self.hidden])
        assert (wide_size, narrow_size) == (self.old, self.new), (name, wide_size, narrow_size)
        attends = any(f".{part}." in name for part in ("to_q", "to_k", "to_v")) and dimension == 0 or ".to_out." in name and dimension == 1
        if attends:
            # Heads are runs of channels; an equal share of each stays.
            return largest(self.wide[name.split(".to_")[0] + ".to_out.0.weight"].T, self.groups, self.new)
        inside = "transformer_blocks" in name or "proj_in" in name and dimension == 0 or "proj_out.weight" in name and dimension == 1
        return self.states if inside else self.stream

    def narrowed(self, name, like):
        if name not in self.wide:
            # A shortcut that a level of the third's width had no need of: it picks the channels that stay.
            assert name.startswith("down_blocks.3.resnets.0.conv_shortcut"), name
            picked = torch.zeros(self.new, self.old)
            picked[torch.arange(self.new), self.stream] = 1
            return picked[:, :, None, None] if name.endswith("weight") else torch.zeros(self.new)
        values = self.wide[name]
        for dimension in range(min(2, values.dim())):
            if values.shape[dimension] != like.shape[dimension]:
                values = values.index_select(dimension, self.rows(name, values.shape[dimension], like.shape[dimension], dimension))
        return values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wide", type=Path)
    parser.add_argument("narrow", type=Path)
    parser.add_argument("--from-width", type=int, default=80)
    parser.add_argument("--step", type=int, default=6500)
    arguments = parser.parse_args()

    state = torch.load(arguments.wide)
    wide = UNet2DConditionModel(**dict(UNET, block_out_channels=(*UNET["block_out_channels"][:3], arguments.from_width)))
    # The average is one tensor of all parameters, in the order of the modules.
    count = sum(p.numel() for p in wide.parameters())
    averaged = dict(zip((n for n, _ in wide.named_parameters()), state["average"][:count].split([p.numel() for p in wide.parameters()])))
    averaged = {name: averaged[name].view_as(p) for name, p in wide.named_parameters()}
    unet = UNet2DConditionModel(**UNET)
    narrowing = Narrowing(averaged, arguments.from_width, UNET["block_out_channels"][3], UNET["norm_num_groups"])
    unet.load_state_dict({name: narrowing.narrowed(name, like) for name, like in unet.state_dict().items()})

    words, text_average = state["modules"][1], state["average"][count:]
    parts = [p.detach().flatten() for p in unet.parameters()]
    flat = torch.nn.Parameter(torch.cat([*parts, text_average]))
    optimizer = torch.optim.AdamW([flat], lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-2)
    new = dict(
        modules=[unet.state_dict(), words], optimizer=optimizer.state_dict(), step=arguments.step,
        generator=torch.Generator().manual_seed(44).get_state(), average=flat.detach(),
    )
    torch.save(new, arguments.narrow)


if __name__ == "__main__":
    main()
