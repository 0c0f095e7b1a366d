//! One batch of images through all feature sets.

use std::collections::HashMap;

use anyhow::Result;
use candle_core::{DType, Tensor};
use driftless::controlnet::Hint;
use driftless::pipeline::{self, Condition, Extracted, Extraction};
use driftless::taps::LayerId;
use driftless::vae::Posterior;
use driftless::vision::Rgb;

use crate::inputs::{Prompt, Sample};
use crate::interrupt;
use crate::outputs::{ImageFeatures, fuse, split_batch};
use crate::plan::{FeatureSet, Steering};
use crate::report::{Reporter, Stage};

use super::contexts::Group;
use super::pictures::{self, Noise};
use super::{Batch, Run};

/// The images of a batch that could be read, and what is made of them once for all sets.
struct Prepared<'a> {
    /// Where in the batch each stands.
    positions: Vec<usize>,
    samples: Vec<&'a Sample>,
    /// Prompts by set, then by image.
    prompts: Vec<Vec<Prompt>>,
    /// Condition pictures by kind, `[b, 3, h, w]`.
    conditions: HashMap<String, Tensor>,
    posterior: Posterior,
    /// Scaled latents and diffusion noise by seed.
    latents: HashMap<u64, (Tensor, Tensor)>,
    hints: HashMap<String, Hint>,
}

impl Run<'_> {
    /// Computes and writes what is missing of a batch.
    pub(super) fn batch(&mut self, batch: &Batch, reporter: &Reporter) -> Result<()> {
        let Some(mut prepared) = self.prepare(batch, reporter)? else { return Ok(()) };
        let here = |pending: &[bool]| prepared.positions.iter().map(|position| pending[*position]).collect::<Vec<bool>>();
        let sets: Vec<Vec<bool>> = batch.pending.iter().map(|pending| here(pending)).collect();
        let fusions: Vec<Vec<bool>> = batch.pending_fusions.iter().map(|pending| here(pending)).collect();
        let plan = self.plan;
        let mut sources: HashMap<usize, Vec<ImageFeatures>> = HashMap::new();
        for (number, pending) in sets.iter().enumerate() {
            let mut users = plan.fusions.iter().zip(&fusions).filter(|(fusion, _)| fusion.of.contains(&number));
            let is_source = users.any(|(_, pending)| pending.contains(&true));
            if !pending.contains(&true) && !is_source {
                continue;
            }
            if interrupt::requested() {
                return Ok(());
            }
            let images = self.extract_set(number, &mut prepared)?;
            self.write_images(plan.sets[number].name.as_deref(), &prepared.samples, pending, &images, reporter)?;
            if is_source {
                sources.insert(number, images);
            }
        }
        for (fusion, pending) in plan.fusions.iter().zip(&fusions).filter(|(_, pending)| pending.contains(&true)) {
            let parts: Vec<&Vec<ImageFeatures>> = fusion.of.iter().filter_map(|set| sources.get(set)).collect();
            let fused = |image: usize| fuse(fusion.mode, &parts.iter().map(|part| &part[image]).collect::<Vec<_>>());
            let images = (0..prepared.samples.len()).map(fused).collect::<driftless::Result<Vec<_>>>()?;
            self.write_images(Some(&fusion.name), &prepared.samples, pending, &images, reporter)?;
        }
        Ok(())
    }

    /// Reads the images; those that cannot be read are reported and left out. `None` when none is left.
    fn prepare<'a>(&mut self, batch: &Batch<'a>, reporter: &Reporter) -> Result<Option<Prepared<'a>>> {
        let mut read = Vec::new();
        for (position, sample) in batch.samples.iter().enumerate() {
            match self.read(sample) {
                Ok(image) => read.push((position, *sample, image)),
                Err(problem) if batch.is_pending(position) => {
                    reporter.error(&problem);
                    self.failures.add(sample, &problem)?;
                }
                // Done by an earlier run, when it could still be read.
                Err(_) => {}
            }
        }
        if !read.iter().any(|(position, ..)| batch.is_pending(*position)) {
            return Ok(None);
        }
        let mut conditions = HashMap::new();
        for kind in self.engine.controls.keys() {
            let pictures: Vec<&Tensor> = read.iter().filter_map(|(.., image)| image.conditions.get(kind)).collect();
            conditions.insert(kind.clone(), Tensor::cat(&pictures, 0)?);
        }
        let sets = 0..self.plan.sets.len();
        let prompts = sets.map(|set| read.iter().map(|(.., image)| image.prompts[set].clone()).collect()).collect();
        let positions = read.iter().map(|(position, ..)| *position).collect();
        let samples = read.iter().map(|(_, sample, _)| *sample).collect();
        let pictures: Vec<Rgb> = read.into_iter().map(|(.., image)| image.picture).collect();
        let pipeline = &self.engine.pipeline;
        let posterior = self.timings.measure(Stage::EncodeImage, || {
            let pictures = pictures::for_vae(&pictures)?.to_device(pipeline.device())?.to_dtype(pipeline.compute_dtype())?;
            pipeline.vae.encode(&pictures)
        })?;
        let (latents, hints) = (HashMap::new(), HashMap::new());
        Ok(Some(Prepared { positions, samples, prompts, conditions, posterior, latents, hints }))
    }

    /// Reads everything that belongs to one image alone.
    fn read(&mut self, sample: &Sample) -> Result<ReadImage, String> {
        let img_size = self.plan.img_size;
        let picture =
            self.timings.measure(Stage::ReadImage, || pictures::read(sample, img_size)).map_err(|error| error.to_string())?;
        let prompts = self.plan.sets.iter().map(|set| set.prompt.prompt(sample)).collect::<Result<_, _>>()?;
        let conditions = self.engine.controls.iter().map(|(kind, (_, source))| {
            let condition = pictures::condition(source, sample, &picture).map_err(|error| error.to_string())?;
            Ok((kind.clone(), condition))
        });
        let conditions = conditions.collect::<Result<_, String>>()?;
        Ok(ReadImage { picture, prompts, conditions })
    }

    /// The features of all images of a batch in one set.
    fn extract_set(&mut self, number: usize, prepared: &mut Prepared) -> Result<Vec<ImageFeatures>> {
        let set = &self.plan.sets[number];
        let (latents, noise) = self.latents(set.seed, prepared)?;
        let adapters = self.engine.adapters.activate(&self.engine.pipeline, &set.lora)?;
        let prompts = &prepared.prompts[number];
        let groups = self.engine.contexts.groups(&self.engine.pipeline, adapters, prompts, self.timings)?;
        self.make_hints(set, prepared)?;
        let mut images = Vec::with_capacity(prepared.samples.len());
        for group in &groups {
            let part = |tensor: &Tensor| tensor.narrow(0, group.start, group.len);
            let extracted = self.extract_group(number, &part(&latents)?, &part(&noise)?, group, prepared)?;
            images.extend(split_batch(self.in_store_order(number, extracted)?, set.feature_resize)?);
        }
        Ok(images)
    }

    /// Scaled latents and diffusion noise for a seed, made once per batch.
    fn latents(&mut self, seed: u64, prepared: &mut Prepared) -> Result<(Tensor, Tensor)> {
        if let Some((latents, noise)) = prepared.latents.get(&seed) {
            return Ok((latents.clone(), noise.clone()));
        }
        let (_, channels, side, _) = prepared.posterior.mean.dims4()?;
        let noise = Noise::draw(seed, &prepared.samples, channels, side)?;
        let scale = self.engine.pipeline.vae.config().scaling_factor;
        let latents = (prepared.posterior.sample(&noise.posterior)? * scale)?;
        let diffusion = noise.diffusion.to_device(latents.device())?;
        prepared.latents.insert(seed, (latents.clone(), diffusion.clone()));
        Ok((latents, diffusion))
    }

    /// The embeddings of condition pictures, made once per batch.
    fn make_hints(&mut self, set: &FeatureSet, prepared: &mut Prepared) -> Result<()> {
        for Steering { kind, .. } in &set.control {
            let (false, Some((network, _)), Some(pictures)) =
                (prepared.hints.contains_key(kind), self.engine.controls.get(kind), prepared.conditions.get(kind))
            else {
                continue;
            };
            let hint = self.timings.measure(Stage::ControlHint, || self.engine.pipeline.hint(network, pictures))?;
            prepared.hints.insert(kind.clone(), hint);
        }
        Ok(())
    }

    /// One extraction; the images of `group` alone.
    fn extract_group(
        &mut self,
        number: usize,
        latents: &Tensor,
        noise: &Tensor,
        group: &Group,
        prepared: &Prepared,
    ) -> Result<Extracted> {
        let (set, selection) = (&self.plan.sets[number], &self.selections[number]);
        let mut hints = Vec::with_capacity(set.control.len());
        for steering in &set.control {
            let (network, hint) = (self.engine.controls.get(&steering.kind), prepared.hints.get(&steering.kind));
            let (Some((network, _)), Some(hint)) = (network, hint) else { continue };
            hints.push((network, hint.narrow(group.start, group.len)?, steering));
        }
        let conditions: Vec<Condition> = hints
            .iter()
            .map(|(controlnet, hint, Steering { scale, steps, .. })| Condition {
                controlnet,
                hint,
                scale: *scale,
                steps: steps.clone(),
            })
            .collect();
        let request = Extraction {
            t: set.t,
            denoising_from: set.denoising_from,
            use_ddim_inversion: set.use_ddim_inversion,
            context: &group.context,
            conditions: &conditions,
            plan: &selection.taps,
            vae_out: selection.vae_out(),
        };
        let timings = &mut *self.timings;
        let mut watch = |stage, seconds| match stage {
            pipeline::Stage::ControlNet => timings.note(Stage::Controlnet, seconds),
            pipeline::Stage::Unet => timings.note(Stage::Unet, seconds),
        };
        Ok(self.engine.pipeline.extract(latents, noise, &request, &mut watch)?)
    }

    /// Features in the order of the store; every wanted layer has to be there.
    fn in_store_order(&self, number: usize, extracted: Extracted) -> Result<Vec<(LayerId, Tensor)>> {
        let mut features = extracted.features;
        features.extend(extracted.vae_out.map(|picture| (LayerId::VaeOut, picture)));
        features.extend(extracted.attention.map(|maps| (LayerId::Attn, maps)));
        let found: Vec<LayerId> = features.iter().map(|(id, _)| *id).collect();
        if found != self.selections[number].layers {
            let missing = self.selections[number].layers.iter().find(|id| !found.contains(id));
            let missing = missing.map_or_else(|| "an order".to_owned(), |id| format!("`{id}`"));
            anyhow::bail!("the network did not give {missing} as it was asked for; this is a bug");
        }
        Ok(features)
    }

    /// Writes what is missing of a set.
    fn write_images(
        &mut self,
        set: Option<&str>,
        samples: &[&Sample],
        pending: &[bool],
        images: &[ImageFeatures],
        reporter: &Reporter,
    ) -> Result<()> {
        let plan = self.plan;
        for ((sample, features), _) in samples.iter().zip(images).zip(pending).filter(|(_, pending)| **pending) {
            warn_of_overflow(sample, features, plan.output.dtype, reporter);
            self.timings.measure(Stage::Write, || plan.output.write(set, &sample.name, features))?;
            reporter.detail(|| format!("{}: {} layers", sample.path.display(), features.len()));
        }
        Ok(())
    }
}

/// What was read of an image.
struct ReadImage {
    picture: Rgb,
    /// By set.
    prompts: Vec<Prompt>,
    /// By kind.
    conditions: HashMap<String, Tensor>,
}

fn warn_of_overflow(sample: &Sample, features: &ImageFeatures, dtype: DType, reporter: &Reporter) {
    if let Some((layer, _)) = features.iter().find(|(_, feature)| feature.overflows(dtype)) {
        let advice = if dtype == DType::F16 { "; try --output-dtype float32" } else { "" };
        reporter
            .warn(&format!("{}: `{layer}` holds numbers that are not finite in its file's type{advice}", sample.path.display()));
    }
}
