//! The networks at work: what is made of some images once, and the features of one draw of their noise.
//!
//! Draws share everything but their noise: the autoencoder's posterior, prompts, condition images and their embeddings.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use driftless::controlnet::Hint;
use driftless::pipeline::{self, Condition, Extracted, Extraction};
use driftless::taps::LayerId;
use driftless::vae::Posterior;

use crate::ids::IdMap;
use crate::inputs::{Prompt, Sample};
use crate::plan::RunPlan;
use crate::set::{FeatureSet, LoraFile, PassKey, Steering};
use crate::timings::{Stage, Timings};
use crate::{Error, Result};

use super::contexts::Group;
use super::images::{self, Noise};
use super::loader::ReadImage;
use super::networks::Networks;
use super::passes::Pass;
use super::writer::SetFeatures;

/// Some images, and what is made of them once for all sets and draws.
pub struct Encoded<'a> {
    samples: Vec<&'a Sample>,
    /// Prompts by set, then by image.
    prompts: IdMap<FeatureSet, Vec<Prompt>>,
    /// Condition images by kind, `[b, 3, h, w]`.
    conditions: HashMap<String, Tensor>,
    posterior: Posterior,
    /// Scaled latents and diffusion noise by seed and draw.
    latents: HashMap<(u64, usize), Drawn>,
    hints: HashMap<String, Hint>,
}

/// One draw for some images, each `[b, c, h, w]`.
#[derive(Clone)]
struct Drawn {
    /// Scaled latents.
    latents: Tensor,
    /// Diffusion noise.
    noise: Tensor,
}

/// The clean latents that a pass began with, and those that its prediction means: both scaled, `[b, 4, h, w]`, on the CPU in float32.
pub struct Imagined {
    /// The image's.
    pub latents: Tensor,
    /// The prediction's.
    pub predicted: Tensor,
}

/// What one draw of a pass gives.
pub struct Draw {
    /// Features of all images.
    pub features: SetFeatures,
    /// What the network imagines in each pass that the features are the mean of; empty where it was not asked for.
    pub imagined: Vec<Imagined>,
}

/// The loaded networks of a run.
pub struct Forward<'a> {
    pub plan: &'a RunPlan,
    pub networks: Networks,
    pub timings: &'a Timings,
}

impl Forward<'_> {
    /// Makes of images what all sets need.
    ///
    /// # Errors
    /// When a network fails.
    pub fn encode<'s>(&self, samples: Vec<&'s Sample>, images: &[ReadImage]) -> Result<Encoded<'s>> {
        let mut conditions = HashMap::new();
        for kind in self.networks.controls.keys() {
            let images: Vec<&Tensor> = images.iter().filter_map(|image| image.conditions.get(kind)).collect();
            conditions.insert(kind.clone(), Tensor::cat(&images, 0)?);
        }
        let prompts = self.plan.sets.map(|set, _| images.iter().map(|image| image.prompts[set].clone()).collect());
        let pipeline = &self.networks.pipeline;
        let posterior = self.timings.measure(Stage::EncodeImage, || {
            let images = images::for_vae(images.iter().map(|image| &image.image))?
                .to_device(pipeline.device())?
                .to_dtype(pipeline.compute_dtype())?;
            pipeline.vae.encode(&images)
        })?;
        let (latents, hints) = (HashMap::new(), HashMap::new());
        Ok(Encoded { samples, prompts, conditions, posterior, latents, hints })
    }

    /// One draw of all images in one pass, on the CPU in float32. Of a set that asks for the mean of N draws, draw `r` is the mean of those
    /// from number `r N` on. With `imagines` the network runs to its end and says which clean latents it imagines; of clean latents none.
    ///
    /// # Errors
    /// When a network fails.
    pub fn draw(&mut self, pass: &Pass, encoded: &mut Encoded, draw: usize, imagines: bool) -> Result<Draw> {
        let count = pass.key.ensemble;
        let first = draw.saturating_mul(count);
        let mut whole = self.member(pass, encoded, first, imagines)?;
        for member in first + 1..first + count {
            let Draw { features, imagined } = self.member(pass, encoded, member, imagines)?;
            add(&mut whole.features, &features)?;
            whole.imagined.extend(imagined);
        }
        if count > 1 {
            for (_, sum) in whole.features.iter_mut().flatten() {
                *sum = (&*sum / count as f64)?;
            }
        }
        Ok(whole)
    }

    /// One pass of the network.
    fn member(&mut self, pass: &Pass, encoded: &mut Encoded, draw: usize, imagines: bool) -> Result<Draw> {
        let drawn = self.latents(pass.key.seed, draw, encoded)?;
        self.make_hints(pass.key, encoded)?;
        let mut features = SetFeatures::new();
        let mut predicted = Vec::new();
        for (span, files) in spans_of_adapters(pass.key, encoded)? {
            let adapters = self.networks.adapters.activate(&self.networks.pipeline, &files)?;
            let prompts = &encoded.prompts[pass.first][span.clone()];
            for group in self.networks.contexts.groups(&self.networks.pipeline, adapters, prompts, self.timings)? {
                let group = Group { start: span.start + group.start, ..group };
                let mut extracted = self.extract_group(pass, &drawn, &group, encoded, imagines)?;
                predicted.extend(extracted.original.take());
                let stored = in_store_order(pass, extracted)?.into_iter();
                features.push(stored.map(|(id, tensor)| Ok((id, on_cpu(&tensor)?))).collect::<Result<_>>()?);
            }
        }
        let imagined = match predicted.is_empty() {
            true => None,
            false => Some(Imagined { latents: on_cpu(&drawn.latents)?, predicted: on_cpu(&Tensor::cat(&predicted, 0)?)? }),
        };
        Ok(Draw { features, imagined: imagined.into_iter().collect() })
    }

    /// Scaled latents and diffusion noise for a seed and draw, made once.
    fn latents(&self, seed: u64, draw: usize, encoded: &mut Encoded) -> Result<Drawn> {
        if let Some(drawn) = encoded.latents.get(&(seed, draw)) {
            return Ok(drawn.clone());
        }
        let (_, channels, side, _) = encoded.posterior.mean.dims4()?;
        let noise = Noise::draw(seed_of_draw(seed, draw), &encoded.samples, channels, side)?;
        let scale = self.networks.pipeline.vae.config().scaling_factor;
        let latents = (encoded.posterior.sample(&noise.posterior)? * scale)?;
        let drawn = Drawn { noise: noise.diffusion.to_device(latents.device())?, latents };
        encoded.latents.insert((seed, draw), drawn.clone());
        Ok(drawn)
    }

    /// The embeddings of condition images, made once.
    fn make_hints(&self, key: &PassKey, encoded: &mut Encoded) -> Result<()> {
        for Steering { kind, .. } in &key.control {
            let (false, Some(network), Some(images)) =
                (encoded.hints.contains_key(kind), self.networks.controls.get(kind), encoded.conditions.get(kind))
            else {
                continue;
            };
            let hint = self.timings.measure(Stage::ControlHint, || self.networks.pipeline.hint(network, images))?;
            encoded.hints.insert(kind.clone(), hint);
        }
        Ok(())
    }

    /// One extraction; the images of `group` alone.
    fn extract_group(&self, pass: &Pass, drawn: &Drawn, group: &Group, encoded: &Encoded, imagines: bool) -> Result<Extracted> {
        let key = pass.key;
        let mut hints = Vec::with_capacity(key.control.len());
        for steering in &key.control {
            let (network, hint) = (self.networks.controls.get(&steering.kind), encoded.hints.get(&steering.kind));
            let (Some(network), Some(hint)) = (network, hint) else { continue };
            hints.push((network, hint.narrow(group.start, group.len)?, steering));
        }
        let conditions: Vec<Condition> = hints
            .iter()
            .map(|(controlnet, hint, Steering { scale, start, end, .. })| Condition {
                controlnet,
                hint,
                scale: scale.get(),
                steps: start.get()..=end.get(),
            })
            .collect();
        let request = Extraction {
            level: key.level(),
            context: &group.context,
            conditions: &conditions,
            plan: &pass.taps,
            vae_out: pass.vae_out(),
            original: imagines,
        };
        let mut watch = |stage, seconds| match stage {
            pipeline::Stage::ControlNet => self.timings.note(Stage::Controlnet, seconds),
            pipeline::Stage::Unet => self.timings.note(Stage::Unet, seconds),
        };
        let part = |tensor: &Tensor| tensor.narrow(0, group.start, group.len);
        let (latents, noise) = (part(&drawn.latents)?, part(&drawn.noise)?);
        Ok(self.networks.pipeline.extract(&latents, &noise, &request, &mut watch)?)
    }
}

/// Draw `r` of a seed: `seed + 1000000 r`, behind the numbers of all images, which are added to it.
fn seed_of_draw(seed: u64, draw: usize) -> u64 {
    seed.wrapping_add((draw as u64).wrapping_mul(1_000_000))
}

fn on_cpu(tensor: &Tensor) -> candle_core::Result<Tensor> {
    tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)
}

/// Adds the features of another draw, which has the same groups and layers.
fn add(sums: &mut SetFeatures, others: &SetFeatures) -> candle_core::Result<()> {
    for ((_, sum), (_, other)) in sums.iter_mut().flatten().zip(others.iter().flatten()) {
        *sum = (&*sum + other)?;
    }
    Ok(())
}

/// Images next to each other with the same adapters.
fn spans_of_adapters(key: &PassKey, encoded: &Encoded) -> Result<Vec<(Range<usize>, Vec<LoraFile>)>> {
    let mut spans: Vec<(Range<usize>, Vec<LoraFile>)> = Vec::new();
    for (number, sample) in encoded.samples.iter().enumerate() {
        let files = key.adapters(sample)?;
        match spans.last_mut() {
            Some((span, before)) if *before == files => span.end = number + 1,
            _ => spans.push((number..number + 1, files)),
        }
    }
    Ok(spans)
}

/// Features in the order of the store; every wanted layer has to be there.
fn in_store_order(pass: &Pass, extracted: Extracted) -> Result<Vec<(LayerId, Tensor)>> {
    let mut features = extracted.features;
    features.extend(extracted.vae_out.map(|image| (LayerId::VaeOut, image)));
    features.extend(extracted.attention.map(|maps| (LayerId::Attn, maps)));
    let found: Vec<LayerId> = features.iter().map(|(id, _)| *id).collect();
    if found != pass.layers {
        let missing = pass.layers.iter().find(|id| !found.contains(id));
        return Err(Error::Missing { missing: missing.map_or_else(|| "an order".to_owned(), |id| format!("`{id}`")) });
    }
    Ok(features)
}
