"""Fixtures of extract/src/outputs: adaptive pooling, aggregation and nearest indices of PyTorch, files of NumPy.

    python tests/reference/extract_outputs.py        # writes tests/fixtures/extract/outputs.json and *.npy
"""
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "extract"
torch.manual_seed(0)


def dump(tensor):
    return {"shape": list(tensor.shape), "values": [float(v) for v in tensor.flatten().tolist()]}


pooling = []
for ratio, shape in [(2, (2, 8, 8)), (3, (2, 8, 7)), (2, (1, 5, 9)), (5, (3, 16, 11)), (4, (1, 4, 77))]:
    x = torch.randn(shape)
    y = F.adaptive_avg_pool2d(x[None], (shape[1] // ratio, shape[2] // ratio))[0]
    pooling.append({"ratio": ratio, "input": dump(x), "output": dump(y)})

aggregation = []
for shapes in [[(2, 4, 4), (1, 8, 8)], [(1, 3, 3), (2, 5, 7), (1, 12, 12)], [(2, 16, 5), (1, 6, 6)]]:
    features = [torch.randn(shape) for shape in shapes]
    side = max(feature.shape[-1] for feature in features)
    joined = torch.cat([F.interpolate(feature[None], side) for feature in features], dim=1)[0]
    aggregation.append({"inputs": [dump(f) for f in features], "output": dump(joined)})

nearest = []
for source, target in [(8, 64), (16, 32), (7, 9), (12, 13), (77, 96), (5, 77), (64, 77), (13, 128), (29, 57), (41, 123)]:
    indices = F.interpolate(torch.arange(source, dtype=torch.float32)[None, None, None, :], (1, target))[0, 0, 0]
    nearest.append({"input": source, "output": target, "indices": [int(i) for i in indices]})

versions = {"torch": torch.__version__, "numpy": np.__version__, "seed": 0}
document = {"made_by": "tests/reference/extract_outputs.py", "versions": versions}
document |= {"pooling": pooling, "aggregation": aggregation, "nearest": nearest}
(FOLDER / "outputs.json").write_text(json.dumps(document) + "\n")
for name in ["float16", "float32", "float64"]:
    np.save(FOLDER / f"{name}.npy", (np.arange(24) / 8 - 1).reshape(2, 3, 4).astype(name))
