#!/usr/bin/env python3
"""Scores of content shift, transcribed from their formulas in float64: tests/fixtures/tasks/scores.json.

numpy 2.4.6, torch 2.15.0 (bilinear enlargement). Inputs are float32 numbers; results are compared to 1e-6.
"""
import json
import pathlib

import numpy as np
import torch

rng = np.random.default_rng(0)


def features(count, c, h, w, spread):
    base = rng.normal(size=(c, h, w))
    return [(base + spread * rng.normal(size=(c, h, w))).astype(np.float32) for _ in range(count)]


def s1(draws):
    f = np.stack(draws).astype(np.float64)
    r = len(f)
    within = (((f - f.mean(0)) ** 2).sum(1)).sum(0).mean() / (r - 1)
    mu = f.mean((0, 2, 3))[None, :, None, None]
    return 1 - within / ((f - mu) ** 2).sum(1).mean()


def cka(a, b):
    x, y = [m.astype(np.float64).reshape(len(m), -1).T for m in (a, b)]
    x, y = x - x.mean(0), y - y.mean(0)
    n = np.linalg.norm
    return n(x.T @ y) ** 2 / (n(x.T @ x) * n(y.T @ y))


def contours(f):
    f = f.astype(np.float64)
    lap = f[:, :-2, 1:-1] + f[:, 2:, 1:-1] + f[:, 1:-1, :-2] + f[:, 1:-1, 2:] - 4 * f[:, 1:-1, 1:-1]
    return np.sqrt((lap ** 2).sum(0))


def paper(f, ref, anchor, scale_free):
    e = [contours(m) for m in (f, ref, anchor)]
    if scale_free:
        e = [m / m.mean() for m in e]
    diff = lambda m: np.abs(e[1] - m).sum()
    return (diff(e[2]) - diff(e[0])) / diff(e[2])


def match(source, target, points, size):
    up = lambda m: torch.nn.functional.interpolate(torch.tensor(m, dtype=torch.float64)[None], size=size, mode="bilinear", align_corners=False)[0].numpy()
    s, t = up(source), up(target)
    found = []
    for y, x in points:
        d = s[:, int(np.clip(np.round(y), 0, size[0] - 1)), int(np.clip(np.round(x), 0, size[1] - 1))]
        cos = np.einsum("c,chw->hw", d, t) / (np.linalg.norm(d) * np.linalg.norm(t, axis=0))
        at = np.unravel_index(cos.argmax(), cos.shape)
        found.append([int(at[0]), int(at[1]), float(cos[at])])
    return found


cases = []
for c, h, w in [(3, 5, 4), (24, 4, 3)]:
    a, b, d = features(3, c, h, w, 0.5)
    points = [[0.0, 0.0], [7.5, 8.5], [31.0, 11.2], [20.3, 23.9], [39.0, 40.0]]
    cases.append({
        "shape": [c, h, w],
        "draws": [m.ravel().tolist() for m in (a, b, d)],
        "draw_consistency": s1([a, b, d]),
        "cka": cka(a, b),
        "paper": paper(a, b, d, False),
        "paper_scale_free": paper(a, b, d, True),
        "latent": 1 - ((a.astype(np.float64) - b) ** 2).sum() / (a.astype(np.float64) ** 2).sum(),
        "points": points,
        "matches": match(a, b, points, (40, 32)),
    })
path = pathlib.Path(__file__).parents[1] / "fixtures/tasks/scores.json"
path.parent.mkdir(exist_ok=True)
path.write_text(json.dumps({"made_by": "tests/reference/scores.py, numpy " + np.__version__ + ", torch " + torch.__version__, "cases": cases}) + "\n")
