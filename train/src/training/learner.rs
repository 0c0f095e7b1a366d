//! One optimizer step: losses of some batches, their gradients added up and clipped, the adapter's matrices moved.

use super::loader::Prepared;
use crate::alignment::Alignment;
use crate::model::Model;
use crate::objective::Objective;
use crate::optimizer::choice::Choice;
use crate::optimizer::schedule::Schedule;
use crate::optimizer::{Gradients, Group, Optimizer};
use crate::options::Options;
use crate::seeds::{Purpose, generator};
use anyhow::Result;
use candle_core::Tensor;
use driftless::rng::Generator;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Everything that a step changes, and what it needs to do so.
pub struct Learner<'a, M> {
    /// The model with the adapter in it.
    pub model: &'a M,
    /// Noise and loss.
    pub objective: Objective,
    /// What is learnt in its place, of features.
    pub alignment: Option<Alignment>,
    /// The course of the learning rate.
    pub schedule: Schedule,
    /// The adapter's matrices.
    pub groups: Vec<Group>,
    /// What moves them.
    pub optimizer: Box<dyn Optimizer>,
    /// Largest norm of all gradients; 0: no limit.
    pub max_grad_norm: f64,
    /// Batches whose gradients make one step.
    pub accumulation: usize,
    /// Noise, timesteps, and latents that are not cached.
    pub generator: Generator,
    /// States of captions, while they do not change.
    texts: HashMap<String, Tensor>,
}

/// What is known after a step.
#[derive(Debug, Clone)]
pub struct Step {
    /// The loss of each batch.
    pub losses: Vec<f32>,
    /// Rate of each group at this step.
    pub rates: Vec<(String, f64)>,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
}

/// The loss or its gradient is infinite or NaN: any further step would ruin the adapter.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the {quantity} of step {step} is {value}, so the run stops; lower the learning rate, or use --mixed_precision no")]
pub struct NotANumber {
    quantity: &'static str,
    value: f64,
    step: usize,
}

impl<'a, M: Model> Learner<'a, M> {
    /// A learner of `groups`, as `options` say, for a run of `total` steps whose random numbers come from `seed`.
    ///
    /// # Errors
    /// When options contradict each other, or there is no memory for the optimizer's state.
    pub fn new(model: &'a M, groups: Vec<Group>, options: &Options, total: usize, seed: u64) -> Result<Self> {
        let (mut groups, alignment) = (groups, Alignment::new(options, model, seed)?);
        groups.extend(alignment.iter().map(Alignment::group));
        Ok(Self {
            model,
            objective: Objective::new(options)?,
            alignment,
            schedule: Schedule::new(&options.optimization, total)?,
            optimizer: Choice::new(&options.optimization)?.build(&groups)?,
            groups,
            max_grad_norm: options.optimization.max_grad_norm,
            accumulation: options.optimization.gradient_accumulation_steps,
            generator: generator(seed, Purpose::Noise, 0),
            texts: HashMap::new(),
        })
    }

    /// The step that follows `done` others, over `batches`. When it fails, nothing has changed, so that the run can be saved.
    ///
    /// # Errors
    /// That of a batch, [`NotANumber`], or when a tensor operation fails.
    pub fn step(&mut self, done: usize, batches: impl IntoIterator<Item = Result<Prepared>>) -> Result<Step> {
        let before = self.generator.clone();
        let gradients = self.gradients(done + 1, batches);
        if gradients.is_err() {
            self.generator = before;
        }
        let (losses, gradients, gradient_norm) = gradients?;
        let rates = self.rates(done);
        self.optimizer.step(&gradients, &rates.iter().map(|(_, rate)| *rate).collect::<Vec<_>>())?;
        Ok(Step { losses, rates, gradient_norm })
    }

    /// The step that follows `done` others when there is nothing to learn from: it moves nothing.
    pub fn idle(&self, done: usize) -> Step {
        Step { losses: vec![], rates: self.rates(done), gradient_norm: 0.0 }
    }

    /// The rate of each group at the step that follows `done` others.
    fn rates(&self, done: usize) -> Vec<(String, f64)> {
        let factor = self.schedule.factor(done);
        self.groups.iter().map(|group| (group.name.clone(), group.rate * factor)).collect()
    }

    /// Losses, clipped gradients, and their norm before.
    fn gradients(
        &mut self,
        step: usize,
        batches: impl IntoIterator<Item = Result<Prepared>>,
    ) -> Result<(Vec<f32>, Gradients, f64)> {
        let (mut losses, mut gradients) = (Vec::new(), Gradients::new(&self.groups));
        for batch in batches {
            let batch = batch?;
            self.model.begin_batch(batch.number);
            let loss = self.loss(&batch)?;
            let value = loss.to_scalar::<f32>()?;
            if !value.is_finite() {
                return Err(NotANumber { quantity: "loss", value: value.into(), step }.into());
            }
            losses.push(value);
            // Divided by the full number even where an epoch's last step has fewer batches, as in accelerate.
            let mut store = self.model.backward(&(loss / self.accumulation as f64)?)?;
            gradients.add(&self.groups, &mut store)?;
        }
        let norm = gradients.clip(self.max_grad_norm)?;
        if !norm.is_finite() {
            return Err(NotANumber { quantity: "gradient", value: norm, step }.into());
        }
        Ok((losses, gradients, norm))
    }

    fn loss(&mut self, batch: &Prepared) -> Result<Tensor> {
        let latents = batch.latents(self.model, &mut self.generator)?;
        let text = self.text(batch)?;
        if let Some(alignment) = &self.alignment {
            return Ok(alignment.loss(self.model, &latents, &text, &batch.weights, &mut self.generator)?);
        }
        let noised = self.objective.noised(&latents, &mut self.generator)?;
        let prediction = self.model.predict(&noised.noisy, &noised.timesteps, &text)?;
        Ok(self.objective.loss(&prediction, &noised, &batch.weights)?)
    }

    /// States of the captions. They are kept where neither captions nor the text encoder change.
    fn text(&mut self, batch: &Prepared) -> Result<Tensor> {
        let captions: Vec<&str> = batch.captions.iter().map(String::as_str).collect();
        if self.model.trains_text_encoder() || !batch.captions_are_fixed {
            return Ok(self.model.encode_captions(&captions)?);
        }
        let mut states = Vec::with_capacity(captions.len());
        for caption in captions {
            states.push(match self.texts.entry(caption.to_owned()) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(new) => new.insert(self.model.encode_captions(&[caption])?).clone(),
            });
        }
        Ok(Tensor::cat(&states, 0)?)
    }
}
