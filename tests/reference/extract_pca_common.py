"""Fixture of features/src/projection/common.rs: one basis for several features, by NumPy's SVD of all positions together in float64.

The entry of largest magnitude of each axis is positive. Made with numpy 2.x; no random number of a library is used.

    python tests/reference/extract_pca_common.py        # writes tests/fixtures/extract/pca_common.json
"""
import json
import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "extract"
rng = np.random.default_rng(1)
COUNT = 4

mixing = rng.normal(size=(9, 5)) * np.array([5, 3, 2, 1, 0.3])
offset = rng.normal(size=(9, 1, 1)) * 100  # large means beside the variance
features = []
for height, width in [(4, 5), (3, 3), (6, 2)]:
    feature = np.tensordot(mixing, rng.normal(size=(5, height, width)), 1) + offset
    features.append(feature.astype(np.float16).astype(np.float32))

rows = np.concatenate([feature.reshape(9, -1).T.astype(np.float64) for feature in features])
mean = rows.mean(axis=0)
_, s, vt = np.linalg.svd(rows - mean, full_matrices=False)
axes = vt[:COUNT]
axes = axes * np.sign(axes[np.arange(COUNT), np.abs(axes).argmax(axis=1)])[:, None]
variance = s**2 / (len(rows) - 1)
second = features[1].reshape(9, -1).T.astype(np.float64)
document = {
    "made_by": "tests/reference/extract_pca_common.py",
    "versions": {"numpy": np.__version__, "seed": 1},
    "features": [[list(feature.shape), [float(v) for v in feature.flatten()]] for feature in features],
    "mean": mean.tolist(),
    "axes": axes.tolist(),
    "variance": variance[:COUNT].tolist(),
    "total_variance": float(variance.sum()),
    "scores_of_the_second": ((second - mean) @ axes.T).T.tolist(),
}
(FOLDER / "pca_common.json").write_text(json.dumps(document) + "\n")
