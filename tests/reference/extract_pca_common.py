"""Fixture of features/src/projection: one basis for several features, by NumPy's SVD of all positions together in float64, and by scikit-learn's
PCA, whose fit and transform are what `extract pca --fit` and `extract --pca` are.

The entry of largest magnitude of each axis is positive, as scikit-learn has had it since 1.5. Made with numpy 2.x and scikit-learn 1.9.

    python tests/reference/extract_pca_common.py        # writes tests/fixtures/extract/pca_common.json
"""
import json
import pathlib

import numpy as np
import sklearn
from sklearn.decomposition import PCA

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
pca = PCA(n_components=COUNT, svd_solver="full").fit(rows)
assert np.allclose(pca.components_, axes, atol=1e-9), np.abs(pca.components_ - axes).max()
document = {
    "made_by": "tests/reference/extract_pca_common.py",
    "versions": {"numpy": np.__version__, "scikit-learn": sklearn.__version__, "seed": 1},
    "features": [[list(feature.shape), [float(v) for v in feature.flatten()]] for feature in features],
    "mean": mean.tolist(),
    "axes": axes.tolist(),
    "variance": variance[:COUNT].tolist(),
    "total_variance": float(variance.sum()),
    "scores_of_the_second": ((second - mean) @ axes.T).T.tolist(),
    "scikit_learn": {
        "mean": pca.mean_.tolist(),
        "components": pca.components_.tolist(),
        "explained_variance": pca.explained_variance_.tolist(),
        "transformed_second": pca.transform(second).T.tolist(),
    },
}
(FOLDER / "pca_common.json").write_text(json.dumps(document) + "\n")
