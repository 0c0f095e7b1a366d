//! Draws of features for whoever compares them instead of writing them: the images, networks and passes of a run, with all its models
//! loaded at once, and one draw of the noise at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use candle_core::{DType, Tensor};
use driftless::vision::Rgb;

use super::forward::Forward;
use super::loader::ReadImage;
use super::networks::{self, Networks};
use super::passes::{self, Pass};
use super::{Run, Selection};
use crate::ids::IdMap;
use crate::inputs::Sample;
use crate::manifest::Manifest;
use crate::plan::RunPlan;
use crate::set::{FeatureSet, ModelChoice, ModelId, PassKey, SetId};
use crate::stores::{ImageFeatures, group_of, image_of_batch};
use crate::timings::{Stage, Timings};
use crate::{Error, Result};

pub use super::forward::{Draw, Encoded, Imagined};

/// Names one computation of a network, whose draws several sets may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassId {
    model: ModelId,
    index: usize,
}

impl PassId {
    /// The model that computes it.
    pub fn model(self) -> ModelId {
        self.model
    }
}

/// Images as every model of the run takes them.
pub struct Encodings<'s> {
    samples: Vec<&'s Sample>,
    encoded: IdMap<ModelChoice, Encoded<'s>>,
}

impl<'s> Encodings<'s> {
    /// The images.
    pub fn samples(&self) -> &[&'s Sample] {
        &self.samples
    }
}

/// The networks of a run, and the passes that its sets ask for.
pub struct Drawing<'a> {
    plan: &'a RunPlan,
    selections: &'a IdMap<FeatureSet, Selection>,
    kinds: Vec<&'a str>,
    models: IdMap<ModelChoice, Model<'a>>,
    timings: &'a Timings,
}

struct Model<'a> {
    forward: Forward<'a>,
    passes: Vec<Pass<'a>>,
}

impl<'a> Run<'a> {
    /// Loads the networks of all models. `controls` are the folders of [`Self::controls`].
    ///
    /// # Errors
    /// When a file is missing, damaged, or not of its model.
    pub fn drawing(&'a self, controls: &BTreeMap<String, PathBuf>, timings: &'a Timings) -> Result<Drawing<'a>> {
        let all: Vec<&PassKey> = self.plan.sets.values().map(|set| &set.pass).collect();
        let models = self.models.try_map(|model, files| -> Result<_> {
            let keys: Vec<&PassKey> = self.passes_of(model).collect();
            let passes = passes::passes(model, self.plan, &self.selections, &self.configs[model])?;
            let start = Instant::now();
            let decodes = passes.iter().any(Pass::vae_out);
            let networks = Networks::load(&keys, files, controls, self.options, decodes)?;
            timings.note(Stage::Load, start.elapsed().as_secs_f64());
            Ok(Model { forward: Forward { plan: self.plan, networks, timings }, passes })
        })?;
        Ok(Drawing { plan: self.plan, selections: &self.selections, kinds: networks::kinds(&all), models, timings })
    }

    /// What the run is: its settings, what its files hold, its images. `known` are hashes of an earlier one.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn manifest(&self, controls: &BTreeMap<String, PathBuf>, known: Option<Manifest>) -> Result<Manifest> {
        let known = known.map(Manifest::into_known).unwrap_or_default();
        Ok(Manifest::of(&self.described(controls)?, known)?)
    }

    /// The layers of a set, in the order of the store.
    pub fn layers_of(&self, set: SetId) -> &[driftless::taps::LayerId] {
        &self.selections[set].layers
    }
}

impl Drawing<'_> {
    /// Reads an image with everything that belongs to it alone.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(&self, sample: &Sample) -> Result<ReadImage> {
        self.timings.measure(Stage::ReadImage, || ReadImage::of(self.plan, &self.kinds, sample))
    }

    /// The same of the image as it is when it is `change`d, and its ready-made condition images with it.
    ///
    /// # Errors
    /// When a condition image cannot be read.
    pub fn changed(&self, image: &ReadImage, sample: &Sample, change: &dyn Fn(&Rgb) -> Rgb) -> Result<ReadImage> {
        self.timings.measure(Stage::ReadImage, || image.changed(self.plan, sample, change))
    }

    /// Makes of images what all sets and draws need.
    ///
    /// # Errors
    /// When a network fails.
    pub fn encode<'s>(&self, samples: &[&'s Sample], images: &[ReadImage]) -> Result<Encodings<'s>> {
        let encoded = self.models.try_map(|_, model| model.forward.encode(samples.to_vec(), images))?;
        Ok(Encodings { samples: samples.to_vec(), encoded })
    }

    /// All passes, in the order of the sets that first ask for them.
    pub fn passes(&self) -> Vec<PassId> {
        let of = |(model, loaded): (ModelId, &Model)| (0..loaded.passes.len()).map(move |index| PassId { model, index });
        self.models.iter().flat_map(of).collect()
    }

    /// The sets that a pass is for.
    pub fn sets(&self, pass: PassId) -> &[SetId] {
        &self.models[pass.model].passes[pass.index].sets
    }

    /// Draw number `draw` of a pass, of all images together. With `imagines` it also says which clean latents the network imagines, which takes
    /// the network to its end.
    ///
    /// # Errors
    /// When a network fails.
    pub fn draw(&mut self, pass: PassId, images: &mut Encodings, draw: usize, imagines: bool) -> Result<Draw> {
        let Model { forward, passes } = &mut self.models[pass.model];
        forward.draw(&passes[pass.index], &mut images.encoded[pass.model], draw, imagines)
    }

    /// A set's features of the image at a position of the batch, pooled as the set asks.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn features(&self, draw: &Draw, set: SetId, images: &Encodings, image: usize) -> Result<ImageFeatures> {
        let layers = &self.selections[set].layers;
        let Some((group, position)) = group_of(&draw.features, image)? else { return Ok(Vec::new()) };
        let mine: Vec<_> = group.iter().filter(|(id, _)| layers.contains(id)).cloned().collect();
        let features = image_of_batch(&mine, position, self.plan.sets[set].keep.feature_resize)?;
        match features.iter().find(|(_, feature)| feature.overflows(DType::F32)) {
            Some((layer, _)) => Err(Error::NotFinite { image: images.samples[image].path.clone(), layer: *layer }),
            None => Ok(features),
        }
    }

    /// Images of scaled latents `[b, 4, h, w]`, by a model's autoencoder.
    ///
    /// # Errors
    /// When the decoder cannot be loaded, or the result is not finite.
    pub fn decode(&self, model: ModelId, latents: &Tensor) -> Result<Vec<Rgb>> {
        let pipeline = &self.models[model].forward.networks.pipeline;
        pipeline.vae.load_decoder()?;
        let images = pipeline.decode_latents(&latents.to_device(pipeline.device())?)?;
        let count = images.dim(0)?;
        (0..count).map(|image| Ok(Rgb::from_tensor(&images.narrow(0, image, 1)?)?)).collect()
    }
}
