//! Latents of all images, made once before training (`--cache_latents`), or read from the disk (`--cache_latents_to_disk`).
//!
//! One sample of each posterior is drawn and kept, as in sd-scripts; a mirrored image is encoded apart. Equal images that are resized
//! alike share one latent, so the paper's three caption groups are encoded once. What is drawn depends on the seed and the image's
//! bytes alone.

use super::latent_file::{Kept, LatentFiles};
use crate::data::buckets::Placement;
use crate::data::pixels::{self, Draw};
use crate::data::{DataSet, Sample};
use crate::model::Model;
use crate::options::Interpolation;
use crate::seeds::{Purpose, generator};
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use driftless::formats::open_regular;
use driftless::vae::Posterior;
use sha2::{Digest, Sha256};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// Why latents cannot be cached.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "a variant's fields are what its message shows")]
pub enum LatentFault {
    #[error("--cache_latents does not go with random_crop: a cached latent is always cut alike")]
    RandomCrop,
    #[error("--cache_latents does not go with color_aug: a cached latent always has the same colors")]
    ColorAugmentation,
    #[error("{}: its latents are not numbers; train with --mixed_precision no or bf16", image.display())]
    NotNumbers { image: PathBuf },
    #[error("{}: was not encoded", image.display())]
    NotEncoded { image: PathBuf },
}

/// Latents by image.
#[derive(Debug, Default)]
pub struct Latents {
    by_content: HashMap<Key, Tensor>,
    by_sample: HashMap<(usize, usize), [u8; 32]>,
    /// How many were read from the disk.
    pub read: usize,
}

/// A sample whose latents are wanted.
struct Wanted<'a> {
    sample: &'a Sample,
    interpolation: Option<Interpolation>,
    /// Whether the mirrored image is wanted too.
    flip: bool,
    /// Indices of data set and sample.
    position: (usize, usize),
}

/// What decides on a latent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    content: [u8; 32],
    placement: Placement,
    upright: bool,
    interpolation: Option<Interpolation>,
    flipped: bool,
}

fn key(content: [u8; 32], sample: &Sample, interpolation: Option<Interpolation>, flipped: bool) -> Key {
    Key { content, placement: sample.placement, upright: sample.upright, interpolation, flipped }
}

impl Latents {
    /// Encodes every image of `set`, or reads what `files` keep of it. `progress` gets the number of images done and the total, and returns
    /// whether to continue.
    ///
    /// # Errors
    /// When an image cannot be read, latents are not finite, or they cannot be kept; `None` when `progress` said to stop.
    pub fn encode(
        model: &impl Model,
        set: &DataSet,
        seed: u64,
        files: Option<&LatentFiles>,
        mut progress: impl FnMut(usize, usize) -> bool,
    ) -> Result<Option<Self>> {
        let mut latents = Self::default();
        let wanted = wanted(set)?;
        // Samples with equal content that were encoded in this run: their files are written from the first one's.
        let mut first_with: HashMap<Key, &Wanted> = HashMap::new();
        for (done, one) in wanted.iter().enumerate() {
            if !progress(done, wanted.len()) {
                return Ok(None);
            }
            let kept = files.and_then(|files| files.read(one.sample, one.interpolation)).filter(|kept| one.is_in(kept));
            latents.read += usize::from(kept.is_some());
            let content = match &kept {
                Some(kept) => kept.content,
                None => content(one.sample)?,
            };
            latents.by_sample.insert(one.position, content);
            let lacking = one.keys(content).into_iter().any(|key| !latents.by_content.contains_key(&key));
            let first = key(content, one.sample, one.interpolation, one.flip);
            let posteriors = match (kept, first_with.get(&first).zip(files)) {
                (Some(kept), _) => kept.posteriors,
                (None, Some((earlier, files))) => {
                    let kept = files.read(earlier.sample, earlier.interpolation).filter(|kept| one.is_in(kept));
                    let posteriors = kept.map_or_else(|| one.encode(model), |kept| Ok(kept.posteriors))?;
                    files.write(one.sample, one.interpolation, &Kept { content, posteriors: posteriors.clone() })?;
                    posteriors
                }
                (None, None) if lacking || files.is_some() => {
                    let posteriors = one.encode(model)?;
                    if let Some(files) = files {
                        files.write(one.sample, one.interpolation, &Kept { content, posteriors: posteriors.clone() })?;
                        first_with.insert(first, one);
                    }
                    posteriors
                }
                (None, None) => continue,
            };
            for key in one.keys(content) {
                if let Entry::Vacant(entry) = latents.by_content.entry(key) {
                    entry.insert(one.draw(model, &posteriors, key, seed)?);
                }
            }
        }
        progress(wanted.len(), wanted.len());
        Ok(Some(latents))
    }

    /// Whether latents of `set` can be kept at all.
    ///
    /// # Errors
    /// When its images are not the same at every draw.
    pub fn check(set: &DataSet) -> Result<(), LatentFault> {
        wanted(set).map(drop)
    }

    /// The latent of a sample, `[c, h, w]` on the CPU.
    pub fn get(&self, set: &DataSet, dataset: usize, sample: usize, flipped: bool) -> Option<&Tensor> {
        let content = self.by_sample.get(&(dataset, sample))?;
        let dataset = set.datasets.get(dataset)?;
        let sample = dataset.samples.get(sample)?;
        let interpolation = dataset.subsets.get(sample.subset)?.plan.interpolation;
        self.by_content.get(&key(*content, sample, interpolation, flipped))
    }

    /// How many different latents there are.
    pub fn count(&self) -> usize {
        self.by_content.len()
    }
}

fn wanted(set: &DataSet) -> Result<Vec<Wanted<'_>>, LatentFault> {
    let mut wanted = Vec::new();
    for (dataset_index, dataset) in set.datasets.iter().enumerate() {
        for (index, sample) in dataset.samples.iter().enumerate() {
            let plan = &dataset.subsets[sample.subset].plan;
            if plan.random_crop {
                return Err(LatentFault::RandomCrop);
            }
            if plan.color {
                return Err(LatentFault::ColorAugmentation);
            }
            let position = (dataset_index, index);
            wanted.push(Wanted { sample, interpolation: plan.interpolation, flip: plan.flip, position });
        }
    }
    Ok(wanted)
}

impl Wanted<'_> {
    fn flips(&self) -> &'static [bool] {
        if self.flip { &[false, true] } else { &[false] }
    }

    fn keys(&self, content: [u8; 32]) -> Vec<Key> {
        self.flips().iter().map(|flipped| key(content, self.sample, self.interpolation, *flipped)).collect()
    }

    fn is_in(&self, kept: &Kept) -> bool {
        self.flips().iter().all(|flipped| kept.posteriors.contains_key(flipped))
    }

    fn encode(&self, model: &impl Model) -> Result<BTreeMap<bool, Posterior>> {
        let encode = |flipped: &bool| {
            let draw = Draw { flipped: *flipped, ..Draw::PLAIN };
            let pixels = pixels::load(self.sample, self.interpolation, draw)?.to_tensor(model.device())?;
            let Posterior { mean, log_variance } = model.posterior(&pixels)?;
            // Here already, so that a sample is drawn alike from a fresh posterior and from one that was read.
            let posterior =
                Posterior { mean: mean.to_device(&Device::Cpu)?, log_variance: log_variance.to_device(&Device::Cpu)? };
            let sum = posterior.mean.abs()?.sum_all()?.to_scalar::<f32>()?;
            if !sum.is_finite() {
                return Err(LatentFault::NotNumbers { image: self.sample.path.clone() }.into());
            }
            Ok((*flipped, posterior))
        };
        self.flips().iter().map(encode).collect()
    }

    /// The sample of the posterior that the run keeps, `[c, h, w]`.
    fn draw(&self, model: &impl Model, posteriors: &BTreeMap<bool, Posterior>, key: Key, seed: u64) -> Result<Tensor> {
        let flipped = key.flipped;
        let posterior = posteriors.get(&flipped).ok_or_else(|| LatentFault::NotEncoded { image: self.sample.path.clone() })?;
        let mut number = [0; 8];
        number.copy_from_slice(&key.content[..8]);
        let mut generator = generator(seed, Purpose::Latent, u64::from_le_bytes(number) ^ u64::from(flipped));
        let noise = generator.randn_tensor(posterior.mean.dims(), &Device::Cpu)?;
        Ok(model.sample(posterior, &noise)?.squeeze(0)?)
    }
}

fn content(sample: &Sample) -> Result<[u8; 32]> {
    let mut file = open_regular(&sample.path)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).with_context(|| sample.path.display().to_string())?;
    Ok(hash.finalize().into())
}
