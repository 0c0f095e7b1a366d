//! One batch of images through all feature sets of a model: everything that the networks do.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use candle_core::{DType, Device, Tensor};
use driftless::controlnet::Hint;
use driftless::pipeline::{self, Condition, Extracted, Extraction};
use driftless::taps::LayerId;
use driftless::vae::Posterior;
use driftless::vision::Rgb;

use crate::ids::IdMap;

use crate::inputs::Prompt;
use crate::plan::RunPlan;
use crate::set::SetId;
use crate::set::{FeatureSet, LoraFile, PassKey, Steering};
use crate::timings::{Stage, Timings};
use crate::{Error, Observer, Result};

use super::contexts::Group;
use super::images::{self, Noise};
use super::loader::{ReadBatch, ReadImage};
use super::networks::Networks;
use super::passes::Pass;
use super::writer::{Job, Readable, SetFeatures};
use super::{Batch, Selection};

/// The images of a batch that could be read, and what is made of them once for all sets.
struct Prepared<'a> {
    images: Arc<Readable<'a>>,
    /// Prompts by set, then by image.
    prompts: IdMap<FeatureSet, Vec<Prompt>>,
    /// Condition images by kind, `[b, 3, h, w]`.
    conditions: HashMap<String, Tensor>,
    posterior: Posterior,
    /// Scaled latents and diffusion noise by seed.
    latents: HashMap<u64, (Tensor, Tensor)>,
    hints: HashMap<String, Hint>,
}

/// The networks at work.
pub struct Computing<'a> {
    pub plan: &'a RunPlan,
    pub selections: &'a IdMap<FeatureSet, Selection>,
    pub passes: &'a [Pass<'a>],
    pub networks: Networks,
    pub timings: &'a Timings,
    pub observer: &'a dyn Observer,
}

impl Computing<'_> {
    /// Computes what is missing of a batch and hands it to the writer. Returns whether to go on: not when the user stops the run, nor
    /// when the writer has given up.
    ///
    /// # Errors
    /// When a network fails.
    pub fn batch<'a>(&mut self, batch: &Batch<'a>, read: ReadBatch, out: &SyncSender<Job<'a>>) -> Result<bool> {
        let mut images = Vec::with_capacity(read.len());
        for (position, image) in read.into_iter().enumerate() {
            match image {
                Ok(image) => images.push((position, image)),
                Err(problem) if batch.missing.has(position) => {
                    if out.send(Job::Failed(batch.samples[position], problem)).is_err() {
                        return Ok(false);
                    }
                }
                // Done by an earlier run, when it could still be read.
                Err(_) => {}
            }
        }
        if images.iter().any(|(position, _)| batch.missing.has(*position)) {
            let mut prepared = self.prepare(batch, images)?;
            if !self.sets(&mut prepared, out)? {
                return Ok(false);
            }
        }
        Ok(out.send(Job::Done(batch.pending_images())).is_ok())
    }

    /// Every pass that something is missing of.
    fn sets<'a>(&mut self, prepared: &mut Prepared<'a>, out: &SyncSender<Job<'a>>) -> Result<bool> {
        let passes = self.passes;
        for pass in passes {
            let images = prepared.images.clone();
            let wanted = |set: &&SetId| images.missing.sets[**set].contains(&true) || images.is_source(**set, self.plan);
            let wanted: Vec<SetId> = pass.sets.iter().filter(wanted).copied().collect();
            if wanted.is_empty() {
                continue;
            }
            if self.observer.wants_stop() {
                return Ok(false);
            }
            let groups = self.pass(pass, prepared)?;
            for set in wanted {
                let layers = &self.selections[set].layers;
                let of_set =
                    |group: &Vec<(LayerId, Tensor)>| group.iter().filter(|(id, _)| layers.contains(id)).cloned().collect();
                let features = groups.iter().map(of_set).collect();
                if out.send(Job::Features { set, batch: images.clone(), features }).is_err() {
                    return Ok(false);
                }
            }
        }
        Ok(out.send(Job::Fusions(prepared.images.clone())).is_ok())
    }

    /// Makes of the images what all sets need.
    fn prepare<'a>(&self, batch: &Batch<'a>, images: Vec<(usize, ReadImage)>) -> Result<Prepared<'a>> {
        let mut conditions = HashMap::new();
        for kind in self.networks.controls.keys() {
            let images: Vec<&Tensor> = images.iter().filter_map(|(_, image)| image.conditions.get(kind)).collect();
            conditions.insert(kind.clone(), Tensor::cat(&images, 0)?);
        }
        let prompts = self.plan.sets.map(|set, _| images.iter().map(|(_, image)| image.prompts[set].clone()).collect());
        let positions: Vec<usize> = images.iter().map(|(position, _)| *position).collect();
        let readable = Readable {
            samples: positions.iter().map(|position| batch.samples[*position]).collect(),
            missing: batch.missing.at(&positions),
        };
        let images: Vec<Rgb> = images.into_iter().map(|(_, image)| image.image).collect();
        let pipeline = &self.networks.pipeline;
        let posterior = self.timings.measure(Stage::EncodeImage, || {
            let images = images::for_vae(&images)?.to_device(pipeline.device())?.to_dtype(pipeline.compute_dtype())?;
            pipeline.vae.encode(&images)
        })?;
        let (latents, hints) = (HashMap::new(), HashMap::new());
        Ok(Prepared { images: Arc::new(readable), prompts, conditions, posterior, latents, hints })
    }

    /// The features of all images of a batch in one pass, on the CPU in float32.
    fn pass(&mut self, pass: &Pass, prepared: &mut Prepared) -> Result<SetFeatures> {
        let (latents, noise) = self.latents(pass.key.seed, prepared)?;
        self.make_hints(pass.key, prepared)?;
        let mut features = SetFeatures::new();
        for (span, files) in spans_of_adapters(pass.key, prepared)? {
            let adapters = self.networks.adapters.activate(&self.networks.pipeline, &files)?;
            let prompts = &prepared.prompts[pass.first][span.clone()];
            for group in self.networks.contexts.groups(&self.networks.pipeline, adapters, prompts, self.timings)? {
                let group = Group { start: span.start + group.start, ..group };
                let part = |tensor: &Tensor| tensor.narrow(0, group.start, group.len);
                let extracted = self.extract_group(pass, &part(&latents)?, &part(&noise)?, &group, prepared)?;
                let stored = in_store_order(pass, extracted)?.into_iter();
                let on_cpu = stored.map(|(id, tensor)| Ok((id, tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?)));
                features.push(on_cpu.collect::<candle_core::Result<_>>()?);
            }
        }
        Ok(features)
    }

    /// Scaled latents and diffusion noise for a seed, made once per batch.
    fn latents(&self, seed: u64, prepared: &mut Prepared) -> Result<(Tensor, Tensor)> {
        if let Some((latents, noise)) = prepared.latents.get(&seed) {
            return Ok((latents.clone(), noise.clone()));
        }
        let (_, channels, side, _) = prepared.posterior.mean.dims4()?;
        let noise = Noise::draw(seed, &prepared.images.samples, channels, side)?;
        let scale = self.networks.pipeline.vae.config().scaling_factor;
        let latents = (prepared.posterior.sample(&noise.posterior)? * scale)?;
        let diffusion = noise.diffusion.to_device(latents.device())?;
        prepared.latents.insert(seed, (latents.clone(), diffusion.clone()));
        Ok((latents, diffusion))
    }

    /// The embeddings of condition images, made once per batch.
    fn make_hints(&self, key: &PassKey, prepared: &mut Prepared) -> Result<()> {
        for Steering { kind, .. } in &key.control {
            let (false, Some(network), Some(images)) =
                (prepared.hints.contains_key(kind), self.networks.controls.get(kind), prepared.conditions.get(kind))
            else {
                continue;
            };
            let hint = self.timings.measure(Stage::ControlHint, || self.networks.pipeline.hint(network, images))?;
            prepared.hints.insert(kind.clone(), hint);
        }
        Ok(())
    }

    /// One extraction; the images of `group` alone.
    fn extract_group(
        &self,
        pass: &Pass,
        latents: &Tensor,
        noise: &Tensor,
        group: &Group,
        prepared: &Prepared,
    ) -> Result<Extracted> {
        let key = pass.key;
        let mut hints = Vec::with_capacity(key.control.len());
        for steering in &key.control {
            let (network, hint) = (self.networks.controls.get(&steering.kind), prepared.hints.get(&steering.kind));
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
        };
        let mut watch = |stage, seconds| match stage {
            pipeline::Stage::ControlNet => self.timings.note(Stage::Controlnet, seconds),
            pipeline::Stage::Unet => self.timings.note(Stage::Unet, seconds),
        };
        Ok(self.networks.pipeline.extract(latents, noise, &request, &mut watch)?)
    }
}

/// Images next to each other with the same adapters.
fn spans_of_adapters(key: &PassKey, prepared: &Prepared) -> Result<Vec<(Range<usize>, Vec<LoraFile>)>> {
    let mut spans: Vec<(Range<usize>, Vec<LoraFile>)> = Vec::new();
    for (number, sample) in prepared.images.samples.iter().enumerate() {
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
