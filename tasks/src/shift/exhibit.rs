//! What the report shows of one image: the photo, what each set imagines, and each set's features, at one timestep. It is kept in a file
//! until the report is made, since features are drawn in a basis of all that are shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use driftless::formats::{WeightFile, write_safetensors};
use driftless::vision::Rgb;
use features::inputs::Sample;
use features::set::Timestep;
use features::stores::{Feature, ImageFeatures};

use super::levels::Level;
use super::lines::Records;
use super::settings::ShiftSettings;
use super::{Result, output_error};

/// The key of the photo.
const PHOTO: &str = "photo";

/// What is shown of an image.
#[derive(Clone)]
pub struct Exhibit {
    photo: Rgb,
    /// By set.
    pub imagined: Vec<(usize, Rgb)>,
    /// By set.
    pub features: Vec<(usize, ImageFeatures)>,
}

impl Exhibit {
    /// With the photo alone, as the networks see it.
    pub fn new(photo: Rgb) -> Self {
        Self { photo, imagined: Vec::new(), features: Vec::new() }
    }
}

/// The exhibits of an output folder.
pub struct Exhibits {
    folder: PathBuf,
    count: usize,
    timestep: usize,
}

impl Exhibits {
    /// Those beside an output's records.
    pub fn new(records: &Records, settings: &ShiftSettings) -> Self {
        Self { folder: records.folder.clone(), count: settings.shown_images, timestep: settings.shown_timestep() }
    }

    /// Whether an image is shown: the first are.
    pub fn wants(&self, sample: &Sample) -> bool {
        sample.index < self.count
    }

    /// Whether a set at a timestep is shown: at the one in the middle, and on clean latents.
    pub fn shows(&self, level: Level) -> bool {
        match level.t {
            Timestep::Noised(t) => t == self.timestep,
            Timestep::Clean(_) => true,
        }
    }

    fn path(&self, sample: &Sample) -> PathBuf {
        self.folder.join(format!("{}.safetensors", sample.name))
    }

    /// Whether an image's exhibit is there.
    pub fn has(&self, sample: &Sample) -> bool {
        self.path(sample).is_file()
    }

    /// Writes an exhibit; features in bfloat16, whose range is that of float32 and whose digits are more than those of colors.
    pub fn write(&self, sample: &Sample, exhibit: &Exhibit) -> Result<()> {
        let path = self.path(sample);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(driftless::Error::io(folder))?;
        }
        let mut tensors = vec![(PHOTO.to_owned(), pixels(&exhibit.photo)?)];
        for (set, image) in &exhibit.imagined {
            tensors.push((imagined_key(*set), pixels(image)?));
        }
        for (set, features) in &exhibit.features {
            for (layer, feature) in features {
                tensors.push((feature_key(*set, &layer.to_string()), feature.tensor(DType::BF16)?));
            }
        }
        Ok(write_safetensors(&path, tensors, &BTreeMap::new())?)
    }

    /// Opens an image's exhibit.
    pub fn open(&self, sample: &Sample) -> Result<Opened> {
        Ok(Opened { file: WeightFile::open(self.path(sample))? })
    }
}

fn imagined_key(set: usize) -> String {
    format!("imagined/{set}")
}

fn feature_key(set: usize, layer: &str) -> String {
    format!("features/{set}/{layer}")
}

/// `[height, width, 3]`.
fn pixels(image: &Rgb) -> candle_core::Result<Tensor> {
    Tensor::from_slice(&image.pixels, (image.height, image.width, 3), &Device::Cpu)
}

/// An exhibit's file.
pub struct Opened {
    file: WeightFile,
}

impl Opened {
    /// The photo.
    pub fn photo(&self) -> Result<Rgb> {
        self.image(PHOTO)
    }

    /// What a set imagines; of clean latents nothing.
    pub fn imagined(&self, set: usize) -> Result<Option<Rgb>> {
        let key = imagined_key(set);
        self.file.contains(&key).then(|| self.image(&key)).transpose()
    }

    /// A set's feature.
    pub fn feature(&self, set: usize, layer: &str) -> Result<Option<Feature>> {
        let key = feature_key(set, layer);
        if !self.file.contains(&key) {
            return Ok(None);
        }
        let tensor = self.file.tensor(&key, &Device::Cpu)?.to_dtype(DType::F32)?;
        let (channels, height, width) = tensor.dims3()?;
        Ok(Some(Feature { shape: [channels, height, width], values: tensor.flatten_all()?.to_vec1()? }))
    }

    fn image(&self, key: &str) -> Result<Rgb> {
        let tensor = self.file.tensor(key, &Device::Cpu)?;
        let (height, width, channels) = tensor.dims3()?;
        if channels != 3 {
            return Err(output_error(self.file.path())(format!("`{key}` is no image").into()));
        }
        Ok(Rgb { width, height, pixels: tensor.flatten_all()?.to_vec1()? })
    }
}
