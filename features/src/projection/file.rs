//! Bases of layers in a file: float32 tensors `LAYER.mean` (`[c]`), `LAYER.components` (`[k, c]`, unit vectors) and `LAYER.variance`
//! (`[k]`), as scikit-learn's `PCA` has them under `mean_`, `components_` and `explained_variance_`. A feature `[c, h, w]` is projected
//! to `[n, h, w]` as by its `transform`: the first n components of each position without the mean.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use driftless::formats::{WeightFile, write_safetensors};
use driftless::taps::{BlockTap, LayerId};
use sha2::{Digest, Sha256};

use super::Basis;
use crate::fault::{BasisFault, Fault};

/// The form of the file, under `format` in its metadata.
const FORMAT: &str = "driftless-pca-1";

/// Layers that a message names.
const SHOWN: usize = 4;

/// Writes a basis per layer, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_bases(path: &Path, bases: &BTreeMap<String, Basis>) -> driftless::Result<()> {
    let mut tensors = Vec::with_capacity(3 * bases.len());
    for (layer, basis) in bases {
        let (channels, components) = (basis.mean.len(), basis.axes.len());
        let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<_>>();
        let axes: Vec<f32> = basis.axes.iter().flat_map(|axis| single(axis)).collect();
        let device = &Device::Cpu;
        tensors.push((format!("{layer}.mean"), Tensor::from_vec(single(&basis.mean), channels, device)?));
        tensors.push((format!("{layer}.components"), Tensor::from_vec(axes, (components, channels), device)?));
        tensors.push((format!("{layer}.variance"), Tensor::from_vec(single(&basis.variance), components, device)?));
    }
    let program = format!("driftless {}", env!("CARGO_PKG_VERSION"));
    let metadata = [("format", FORMAT.to_owned()), ("program", program)].map(|(key, value)| (key.to_owned(), value));
    write_safetensors(path, tensors, &BTreeMap::from(metadata))
}

/// Whether a layer is a map of features, which has a basis: attention maps are probabilities, whose keys depend on the prompt, and `vae-out`
/// is an image.
pub fn has_basis(layer: LayerId) -> bool {
    match layer {
        LayerId::VaeOut | LayerId::Attn | LayerId::Block(_, _, BlockTap::SelfMap | BlockTap::CrossMap) => false,
        LayerId::Block(
            _,
            _,
            BlockTap::SelfQ | BlockTap::SelfK | BlockTap::SelfV | BlockTap::CrossQ | BlockTap::FfnInner | BlockTap::Out,
        )
        | LayerId::UnetIn
        | LayerId::UnetAfterConvIn
        | LayerId::ResIncrement(_)
        | LayerId::ResOut(_)
        | LayerId::VitOut(_)
        | LayerId::DownsamplerOut(_)
        | LayerId::UpsamplerOut(_)
        | LayerId::UnetOut => true,
    }
}

/// What features of each layer are projected on.
#[derive(Clone, Debug)]
pub struct Projection {
    path: PathBuf,
    dims: usize,
    layers: BTreeMap<String, Axes>,
    contents: String,
}

/// A layer's mean, and its axes.
#[derive(Clone, Debug)]
struct Axes {
    mean: Vec<f64>,
    components: usize,
    /// Row by row, as many as there are components.
    axes: Vec<f64>,
}

impl Projection {
    /// Reads the bases of a file, of which features shall be projected on the first `dims` axes.
    ///
    /// # Errors
    /// When it is no file of bases, or damaged.
    pub fn read(path: &Path, dims: usize) -> Result<Self, Fault> {
        let file = WeightFile::open(path).map_err(Fault::failure)?;
        let wrong = |fault: BasisFault| Fault::of_file(path, fault);
        let found = file.metadata().get("format");
        if found.is_none_or(|format| format != FORMAT) {
            return Err(wrong(BasisFault::Format { found: found.cloned(), expected: FORMAT }));
        }
        let mut names = BTreeSet::new();
        for entry in file.names() {
            let split = entry.rsplit_once('.').filter(|(_, part)| ["mean", "components", "variance"].contains(part));
            names.insert(split.ok_or_else(|| wrong(BasisFault::Entry { entry: entry.to_owned() }))?.0);
        }
        if names.is_empty() {
            return Err(wrong(BasisFault::NoLayer));
        }
        let mut contents = Sha256::new();
        let mut layers = BTreeMap::new();
        for layer in names {
            let axes = Axes::read(&file, layer, &wrong)?;
            contents.update(layer.as_bytes());
            for values in [&axes.axes, &axes.mean] {
                contents.update((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| contents.update(value.to_le_bytes()));
            }
            layers.insert(layer.to_owned(), axes);
        }
        let contents = contents.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: path.to_owned(), dims, layers, contents })
    }

    /// The file of the bases.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Channels of what is projected.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The SHA-256 of the means and axes, whatever else stands in the file.
    pub fn contents(&self) -> &str {
        &self.contents
    }

    /// Whether features of a layer with so many channels can be projected.
    ///
    /// # Errors
    /// When they cannot.
    pub fn check(&self, layer: LayerId, channels: usize) -> Result<(), BasisFault> {
        self.checked(layer, channels).map(|_| ())
    }

    fn checked(&self, layer: LayerId, channels: usize) -> Result<&Axes, BasisFault> {
        let name = layer.to_string();
        if !has_basis(layer) {
            return Err(BasisFault::NotFeatures { layer: name });
        }
        let Some(axes) = self.layers.get(&name) else {
            let mut there: Vec<String> = self.layers.keys().take(SHOWN).map(|layer| format!("`{layer}`")).collect();
            there.extend(self.layers.len().checked_sub(SHOWN).filter(|more| *more > 0).map(|more| format!("{more} more")));
            let there = there.join(", ");
            return Err(BasisFault::OtherLayer { layer: name, there });
        };
        if axes.mean.len() != channels {
            return Err(BasisFault::Channels { layer: name, expected: axes.mean.len(), found: channels });
        }
        match axes.components < self.dims {
            true => Err(BasisFault::Components { layer: name, there: axes.components, wanted: self.dims }),
            false => Ok(axes),
        }
    }

    /// A layer's feature, `channels` rows of numbers, along the axes: `dims` rows, which are not finite where a position is not.
    ///
    /// # Errors
    /// When [`Self::check`] refuses it, or memory is short.
    pub fn apply(&self, layer: LayerId, values: &[f32], channels: usize) -> Result<Vec<f32>, BasisFault> {
        let Axes { mean, axes, .. } = self.checked(layer, channels)?;
        let positions = values.len() / mean.len();
        if positions == 0 {
            return Ok(Vec::new());
        }
        let rows = values.chunks_exact(positions).zip(mean);
        let centered: Vec<f64> = rows.flat_map(|(row, mean)| row.iter().map(move |value| f64::from(*value) - mean)).collect();
        let centered = Tensor::from_vec(centered, (channels, positions), &Device::Cpu)?;
        let axes = Tensor::from_slice(&axes[..self.dims * channels], (self.dims, channels), &Device::Cpu)?;
        Ok(axes.matmul(&centered)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

impl Axes {
    fn read(file: &WeightFile, layer: &str, wrong: &impl Fn(BasisFault) -> Fault) -> Result<Self, Fault> {
        let shape = |part: &str, expected: &str, is_right: &dyn Fn(&[usize]) -> bool| {
            let entry = format!("{layer}.{part}");
            let Some(info) = file.info(&entry) else { return Err(wrong(BasisFault::Missing { entry })) };
            match is_right(&info.shape) {
                true => Ok((entry, info.shape.clone())),
                false => Err(wrong(BasisFault::Shape { entry, found: info.shape.clone(), expected: expected.to_owned() })),
            }
        };
        let (mean, sides) = shape("mean", "[channels]", &|shape| shape.len() == 1 && shape[0] > 0)?;
        let channels = sides[0];
        let expected = format!("[components, {channels}], at least one component");
        let (axes, sides) =
            shape("components", &expected, &|shape| matches!(shape, [rows, width] if *rows > 0 && *width == channels))?;
        let components = sides[0];
        let (variance, _) = shape("variance", &format!("[{components}]"), &|shape| shape == [components])?;
        let values = |entry: String| {
            let values = file
                .tensor(&entry, &Device::Cpu)
                .and_then(|tensor| Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?))
                .map_err(Fault::failure)?;
            match values.iter().all(|value| value.is_finite()) {
                true => Ok(values),
                false => Err(wrong(BasisFault::NotFinite { entry })),
            }
        };
        let (mean, axes) = (values(mean)?, values(axes)?);
        values(variance)?;
        Ok(Self { mean, components, axes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::Positions;

    fn numbers<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> T {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn distance(found: &[f64], expected: &[f64]) -> f64 {
        assert_eq!(found.len(), expected.len());
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
        let off = squares(&mut found.iter().zip(expected).map(|(a, b)| a - b));
        (off / squares(&mut expected.iter().copied())).sqrt()
    }

    fn fitted() -> (serde_json::Value, Basis) {
        let case = crate::stores::fixture("pca_common.json");
        let features: Vec<(Vec<usize>, Vec<f32>)> = numbers(&case["features"]);
        let mut all = Positions::new(features[0].0[0]);
        for (shape, values) in &features {
            all.add(values, shape[0], shape[1] * shape[2]).unwrap();
        }
        (case, all.directions(4).unwrap())
    }

    // Reference: scikit-learn's PCA, fit and transform in float64: tests/reference/extract_pca_common.py. 1e-6 relative: the file holds
    // float32, and means are a hundred times what varies.
    #[test]
    fn a_file_projects_as_scikit_learn_transforms() {
        let (case, basis) = fitted();
        let expected = &case["scikit_learn"];
        assert!(distance(&basis.mean, &numbers::<Vec<f64>>(&expected["mean"])) < 1e-12);
        assert!(distance(&basis.variance, &numbers::<Vec<f64>>(&expected["explained_variance"])) < 1e-9);
        for (axis, expected) in basis.axes.iter().zip(numbers::<Vec<Vec<f64>>>(&expected["components"])) {
            assert!(distance(axis, &expected) < 1e-8);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("basis.safetensors");
        write_bases(&path, &BTreeMap::from([("unet-in".to_owned(), basis)])).unwrap();
        let transformed: Vec<Vec<f64>> = numbers(&expected["transformed_second"]);
        let (shape, values): (Vec<usize>, Vec<f32>) = numbers(&case["features"][1]);
        for dims in [1, 4] {
            let projection = Projection::read(&path, dims).unwrap();
            projection.check(LayerId::UnetIn, shape[0]).unwrap();
            let found = projection.apply(LayerId::UnetIn, &values, shape[0]).unwrap();
            let found: Vec<f64> = found.into_iter().map(f64::from).collect();
            let off = distance(&found, &transformed[..dims].concat());
            assert!(off < 1e-6, "{off:e}");
        }
        // What is not finite stays so, and is found before it is written.
        let projection = Projection::read(&path, 4).unwrap();
        let mut values = values;
        values[0] = f32::NAN;
        let found = projection.apply(LayerId::UnetIn, &values, shape[0]).unwrap();
        assert_eq!(found.iter().filter(|value| value.is_nan()).count(), 4);
    }

    #[test]
    fn what_cannot_be_projected_is_refused() {
        let (_, basis) = fitted();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("basis.safetensors");
        write_bases(&path, &BTreeMap::from([("unet-in".to_owned(), basis)])).unwrap();
        let refused = |dims: usize, layer: LayerId, channels: usize| {
            Projection::read(&path, dims).unwrap().check(layer, channels).unwrap_err().to_string()
        };
        assert!(refused(4, LayerId::UnetOut, 9).contains("no basis of `unet-out`, only of `unet-in`"));
        assert!(refused(4, LayerId::UnetIn, 8).contains("for 9 channels, and the layer has 8"));
        assert!(refused(5, LayerId::UnetIn, 9).contains("has 4 components, and --pca-dims asks for 5"));
        assert!(refused(1, LayerId::VaeOut, 3).contains("no map of features"));
        // Another basis is told from this one, and its metadata do not count.
        let contents = |path: &Path| Projection::read(path, 1).unwrap().contents().to_owned();
        let same = contents(&path);
        let (_, mut other) = fitted();
        other.axes[0][0] += 1e-3;
        write_bases(&path, &BTreeMap::from([("unet-in".to_owned(), other)])).unwrap();
        assert_ne!(contents(&path), same);
    }

    #[test]
    fn files_of_other_things_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let read = |tensors: &[(&str, &[usize], f32)], format: &str| {
            let tensors = tensors
                .iter()
                .map(|(name, shape, value)| ((*name).to_owned(), Tensor::full(*value, *shape, &Device::Cpu).unwrap()));
            write_safetensors(&path, tensors.collect::<Vec<_>>(), &BTreeMap::from([("format".to_owned(), format.to_owned())]))
                .unwrap();
            Projection::read(&path, 1).unwrap_err().to_string()
        };
        assert!(read(&[("a.mean", &[3], 0.0)], "pt").contains("`format` of its metadata is `pt`"));
        assert!(read(&[], FORMAT).contains("of no layer"));
        assert!(read(&[("weight", &[3], 0.0)], FORMAT).contains("`weight` is none of LAYER.mean"));
        assert!(read(&[("a.mean", &[3], 0.0)], FORMAT).contains("`a.components` is missing"));
        let (mean, variance) = (("a.mean", &[3][..], 0.0), ("a.variance", &[2][..], 1.0));
        assert!(read(&[mean, ("a.components", &[2, 4], 0.0), variance], FORMAT).contains("expected [components, 3]"));
        assert!(read(&[mean, ("a.components", &[1, 3], 0.0), variance], FORMAT).contains("expected [1]"));
        assert!(read(&[mean, ("a.components", &[2, 3], f32::NAN), variance], FORMAT).contains("not finite"));
        assert!(Projection::read(&folder.path().join("none"), 1).unwrap_err().to_string().contains("none"));
    }
}
