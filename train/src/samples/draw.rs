//! From prompts to images, with the adapter as it is now.
//!
//! Mirrors `sample_images_common` of sd-scripts 48d368f: names of files, defaults, samplers. The generator is one of the sample's own,
//! so samples disturb nothing. Deliberate differences: without a seed the image's seed follows from the run's seed and the step, and no
//! prompt weighting.

use super::prompts::{self, Prompt};
use crate::model::{Model, StableDiffusion};
use crate::monitor::time;
use crate::network::TrainedNetwork;
use crate::options::Options;
use crate::seeds::{Purpose, generator};
use anyhow::{Context, Result};
use driftless::pipeline::{Sampling, Start};
use driftless::rng::Generator;
use driftless::scheduler::{self, PredictionType};
use driftless::unet::TextContext;
use driftless::vision::Rgb;
use std::path::PathBuf;

/// When samples are drawn, as it stands in their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// After so many epochs.
    Epoch(usize),
    /// After so many steps.
    Step(usize),
}

/// An image that was drawn.
#[derive(Debug)]
pub struct Sample {
    /// Its number in the prompt file.
    pub index: usize,
    /// Where it was written.
    pub path: PathBuf,
    /// Its pixels.
    pub image: Rgb,
}

/// Draws every prompt of the file, which is read anew each time, and writes PNG files. `stop` is asked between denoising steps; when it
/// says so, what is drawn so far is returned.
///
/// # Errors
/// When the prompt file cannot be understood, a sampler does not exist, or a file cannot be written.
pub fn draw(
    model: &StableDiffusion,
    network: &TrainedNetwork,
    options: &Options,
    seed: u64,
    at: At,
    stop: impl Fn() -> bool,
) -> Result<Vec<Sample>> {
    let Some(file) = &options.samples.sample_prompts else { return Ok(vec![]) };
    let prompts = prompts::read(file)?;
    let folder = options.output.output_dir.join("sample");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let (unet, text_encoder) = (model.pipeline.unet.slots(), model.pipeline.text_encoder.slots());
    network.frozen(unet, text_encoder, || {
        let mut samples = Vec::new();
        for (index, prompt) in prompts.iter().enumerate() {
            let Some(image) = draw_one(model, options, prompt, own_generator(prompt, seed, at, index), &stop)? else { break };
            let path = folder.join(file_name(options, prompt, at, index));
            image.save_png(&path)?;
            samples.push(Sample { index, path, image });
        }
        Ok(samples)
    })
}

fn own_generator(prompt: &Prompt, seed: u64, at: At, index: usize) -> Generator {
    let moment = match at {
        At::Epoch(epoch) => (1 << 62) | (epoch as u64) << 16,
        At::Step(step) => (step as u64) << 16,
    };
    prompt.seed.map_or_else(|| generator(seed, Purpose::Sample, moment | index as u64), Generator::manual_seed)
}

/// `None` when `stop` said so.
fn draw_one(
    model: &StableDiffusion,
    options: &Options,
    prompt: &Prompt,
    mut generator: Generator,
    stop: &impl Fn() -> bool,
) -> Result<Option<Rgb>> {
    let context = |text: &str| -> Result<TextContext> { Ok(TextContext::new(model.encode_captions(&[text])?)) };
    let (positive, negative) = (context(&prompt.prompt)?, context(&prompt.negative_prompt)?);
    let v = options.objective.v_parameterization;
    let prediction = if v { PredictionType::Velocity } else { PredictionType::Epsilon };
    let sampler = prompt.sampler.as_deref().unwrap_or(&options.samples.sample_sampler);
    let sampler = super::substitute(sampler).unwrap_or(sampler);
    let mut scheduler = scheduler::from_name(sampler, prediction)?;
    let sampling = Sampling {
        prompt: &positive,
        negative_prompt: &negative,
        guidance_scale: prompt.scale,
        steps: prompt.steps,
        start: Start::Noise { height: prompt.height, width: prompt.width },
        conditions: &[],
    };
    // The pipeline ends early by an error only, so being stopped is told apart here.
    let mut stopped = false;
    let drawn = model.pipeline.sample_watched(&sampling, scheduler.as_mut(), &mut generator, &mut |_| {
        stopped = stop();
        if stopped { Err(driftless::Error::Interrupted) } else { Ok(()) }
    });
    if stopped {
        return Ok(None);
    }
    Ok(Some(Rgb::from_tensor(&drawn?)?))
}

/// `NAME_e000010_00_20260216080729_7.png`.
fn file_name(options: &Options, prompt: &Prompt, at: At, index: usize) -> String {
    let name = options.output.output_name.as_ref().map_or(String::new(), |name| format!("{name}_"));
    let moment = match at {
        At::Epoch(epoch) => format!("e{epoch:06}"),
        At::Step(step) => format!("{step:06}"),
    };
    let seed = prompt.seed.map_or(String::new(), |seed| format!("_{seed}"));
    format!("{name}{moment}_{index:02}_{}{seed}.png", time::compact(time::now()))
}
