"""Trajectories of torch.optim.AdamW for train/src/optimize/adamw.rs.

    python tests/reference/train_adamw.py > tests/fixtures/train/adamw.json

Two parameter groups of one tensor each, random gradients, rates that change from step to step. float32, CPU.
"""

import json
import math
import sys

import torch

SEED = 7
STEPS = 30


def case(beta1, beta2, eps, weight_decay):
    generator = torch.Generator().manual_seed(SEED)
    start = [torch.randn(6, generator=generator), torch.randn(4, generator=generator)]
    parameters = [torch.nn.Parameter(tensor.clone()) for tensor in start]
    optimizer = torch.optim.AdamW(
        [dict(params=[parameter], lr=0.0) for parameter in parameters], betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, foreach=False
    )
    gradients, rates, weights = [], [], []
    for step in range(STEPS):
        gradient = [torch.randn(parameter.shape, generator=generator) * 10 ** (step % 5 - 3) for parameter in parameters]
        rate = [1e-2 * (1 + math.cos(step / 5)), 1e-3]
        for parameter, value, group, lr in zip(parameters, gradient, optimizer.param_groups, rate):
            parameter.grad, group["lr"] = value, lr
        optimizer.step()
        gradients.append([value.tolist() for value in gradient])
        rates.append(rate)
        weights.append([parameter.tolist() for parameter in parameters])
    return dict(
        beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay, start=[t.tolist() for t in start], gradients=gradients, rates=rates, weights=weights
    )


result = dict(
    source=f"torch {torch.__version__} torch.optim.AdamW",
    script="tests/reference/train_adamw.py",
    seed=SEED,
    cases=[case(0.9, 0.999, 1e-8, 0.01), case(0.8, 0.95, 1e-4, 0.3)],
)
json.dump(result, sys.stdout, separators=(",", ":"))
