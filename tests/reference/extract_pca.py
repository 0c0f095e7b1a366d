"""Fixtures of extract/src/pca: components by NumPy's exact SVD with scikit-learn's signs, token images by torch and Pillow.

The recipe is that of generic-diffusion-feature's feature_visualization.py: rows are positions, centered; three components, the score of
largest magnitude positive (scikit-learn 1.0.2's u-based rule); stretched over all positions to 0..255, truncated.

    python tests/reference/extract_pca.py        # writes tests/fixtures/extract/pca.json
"""
import json
import pathlib

import numpy as np
import PIL
import sklearn
import torch
from PIL import Image
from sklearn.decomposition import PCA

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "extract"
rng = np.random.default_rng(0)


def dump(array):
    return {"shape": list(array.shape), "values": [float(v) for v in array.astype(np.float32).flatten()]}


def scores(feature):
    x = feature.reshape(feature.shape[0], -1).T.astype(np.float64)
    x = x - x.mean(axis=0)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    out = (u * s)[:, :3]
    out *= np.sign(out[np.abs(out).argmax(axis=0), range(3)])
    # scikit-learn agrees up to its signs, which differ between its versions.
    theirs = PCA(n_components=3, svd_solver="full").fit_transform(x)
    assert np.allclose(np.abs(out), np.abs(theirs), atol=1e-9), np.abs(np.abs(out) - np.abs(theirs)).max()
    return out


components = []
for channels, height, width in [(20, 8, 8), (100, 6, 6), (3, 9, 9), (7, 5, 11)]:
    mixing = rng.normal(size=(channels, 5)) * np.array([5, 3, 2, 0.5, 0.1])
    feature = np.tensordot(mixing, rng.normal(size=(5, height, width)), 1) + rng.normal(size=(channels, height, width)) * 0.05
    feature = (feature + rng.normal(size=(channels, 1, 1))).astype(np.float16)
    s = scores(feature)
    pixels = ((s - s.min(axis=0)) / (s.max(axis=0) - s.min(axis=0)) * 255).astype(np.uint8)
    components.append({"feature": dump(feature), "pixels": [int(v) for v in pixels.flatten()]})

tokens = []
for dtype in [np.float16, np.float32]:
    attention = rng.uniform(size=(1, 16, 16)).astype(dtype) ** 4
    image = torch.from_numpy(attention[0])
    image = 255 * image / image.max()
    gray = image.unsqueeze(-1).expand(16, 16, 3).numpy().astype(np.uint8)
    drawn = np.asarray(Image.fromarray(gray).resize((256, 256)))[..., 0].flatten()[::37]
    tokens.append({"feature": dump(attention), "is_half": dtype == np.float16, "every_37th_pixel": [int(v) for v in drawn]})

versions = {"numpy": np.__version__, "scikit-learn": sklearn.__version__, "torch": torch.__version__, "Pillow": PIL.__version__, "seed": 0}
document = {"made_by": "tests/reference/extract_pca.py", "versions": versions, "components": components, "tokens": tokens}
(FOLDER / "pca.json").write_text(json.dumps(document) + "\n")
