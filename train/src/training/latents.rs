//! Latents of all pictures, made once before training (`--cache_latents`).
//!
//! One sample of each posterior is drawn and kept, as in sd-scripts; a mirrored picture is encoded apart. Equal pictures that are resized
//! alike share one latent, so the paper's three caption groups are encoded once. What is drawn depends on the seed and the picture's
//! bytes alone.

use crate::data::buckets::Placement;
use crate::data::pixels::{self, Draw};
use crate::data::{DataSet, Sample};
use crate::model::Model;
use crate::options::Interpolation;
use crate::seeds::{Purpose, generator};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Latents by picture.
#[derive(Debug, Default)]
pub struct Latents {
    by_content: HashMap<Key, Tensor>,
    by_sample: HashMap<(usize, usize), [u8; 32]>,
}

type Key = ([u8; 32], (usize, usize), (usize, usize), Option<u8>, bool);

fn key(content: [u8; 32], placement: Placement, interpolation: Option<Interpolation>, flipped: bool) -> Key {
    (content, placement.bucket, placement.resized, interpolation.map(|filter| filter as u8), flipped)
}

impl Latents {
    /// Encodes every picture of `set`. `progress` is told how many of how many are done, and answers whether to go on.
    ///
    /// # Errors
    /// When a picture cannot be read, or latents hold what is not a number; `None` when `progress` said to stop.
    pub fn encode(
        model: &impl Model,
        set: &DataSet,
        seed: u64,
        mut progress: impl FnMut(usize, usize) -> bool,
    ) -> Result<Option<Self>> {
        let mut latents = Self::default();
        let mut wanted = BTreeMap::new();
        for (dataset_index, dataset) in set.datasets.iter().enumerate() {
            for (index, sample) in dataset.samples.iter().enumerate() {
                let plan = &dataset.subsets[sample.subset].plan;
                if plan.random_crop {
                    bail!("--cache_latents does not go with random_crop: a cached latent is always cut alike");
                }
                let content = content(sample)?;
                latents.by_sample.insert((dataset_index, index), content);
                let flips: BTreeSet<bool> = [false, plan.flip].into();
                for flipped in flips {
                    let key = key(content, sample.placement, plan.interpolation, flipped);
                    wanted.entry(key).or_insert((sample, plan.interpolation));
                }
            }
        }
        let total = wanted.len();
        for (done, (key, (sample, interpolation))) in wanted.into_iter().enumerate() {
            if !progress(done, total) {
                return Ok(None);
            }
            latents.by_content.insert(key, encode_one(model, sample, interpolation, key, seed)?);
        }
        progress(total, total);
        Ok(Some(latents))
    }

    /// The latent of a sample, `[c, h, w]` on the CPU.
    pub fn get(&self, set: &DataSet, dataset: usize, sample: usize, flipped: bool) -> Option<&Tensor> {
        let content = self.by_sample.get(&(dataset, sample))?;
        let dataset = set.datasets.get(dataset)?;
        let sample = dataset.samples.get(sample)?;
        let interpolation = dataset.subsets.get(sample.subset)?.plan.interpolation;
        self.by_content.get(&key(*content, sample.placement, interpolation, flipped))
    }

    /// How many different latents there are.
    pub fn count(&self) -> usize {
        self.by_content.len()
    }
}

fn encode_one(model: &impl Model, sample: &Sample, interpolation: Option<Interpolation>, key: Key, seed: u64) -> Result<Tensor> {
    let flipped = key.4;
    let pixels = pixels::load(sample, interpolation, Draw { flipped, ..Draw::PLAIN })?.to_tensor(model.device())?;
    let [channels, height, width] = model.latent_shape(sample.placement.bucket);
    let mut number = [0; 8];
    number.copy_from_slice(&key.0[..8]);
    let mut generator = generator(seed, Purpose::Latent, u64::from_le_bytes(number) ^ u64::from(flipped));
    let noise = generator.randn_tensor(&[1, channels, height, width], model.device())?;
    let latent = model.encode_pictures(&pixels, &noise)?.squeeze(0)?.to_device(&Device::Cpu)?;
    let sum = latent.abs()?.sum_all()?.to_scalar::<f32>()?;
    ensure!(sum.is_finite(), "{}: its latents are not numbers; train with --mixed_precision no or bf16", sample.path.display());
    Ok(latent)
}

fn content(sample: &Sample) -> Result<[u8; 32]> {
    let mut file = std::fs::File::open(&sample.path).with_context(|| sample.path.display().to_string())?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).with_context(|| sample.path.display().to_string())?;
    Ok(hash.finalize().into())
}
