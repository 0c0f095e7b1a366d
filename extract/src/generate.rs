//! `extract generate`: features met while an image is generated from a prompt (the original's background extraction).
//!
//! Files are named as the original's example names them, `LAYER-CALL-ROW.npy`. Differences: calls are counted anew for each image,
//! the folder need not exist, and the image is written beside them.

use anyhow::{Context, Result};
use driftless::model_family::{DEFAULT_MODEL, LATENT_DOWNSCALE};
use driftless::pipeline::{ModelOptions, Pipeline, Sampling, Start, Watched, WatchedCall};
use driftless::rng::Generator;
use driftless::scheduler;
use driftless::taps::{LayerId, TapPlan};
use driftless::unet::TextContext;
use driftless::vision::Rgb;
use driftless_cli::device::{self, set_threads};
use driftless_cli::{Console, Ended, Progress, Unit, interrupt};
use features::fault::{Fault, FaultCause};
use features::options::Settings;
use features::set::LayerChoice;
use features::set::ModelChoice;
use features::stores::{split_batch, write_npy};

use crate::args::{GenerateArgs, Hardware};
use crate::model;

/// The noisiest level that the model was trained at.
const LAST_TIMESTEP: f64 = 999.0;

/// Calls of the UNet, as progress counts them.
const CALLS: Unit = Unit::new("call", "calls");

/// Generates the image and writes it with its features.
///
/// # Errors
/// When the request is wrong, the model cannot be loaded, or a file cannot be written.
pub fn generate(args: &GenerateArgs, console: &Console) -> Result<Ended> {
    check(args)?;
    let hardware = Hardware::of(&args.model.settings)?;
    set_threads(args.model.settings.threads)?;
    let device = device::open(hardware.device)?;
    let dtype = hardware.dtype.unwrap_or_else(|| device::default_dtype(&device));
    let options = ModelOptions { dtype, device, base: None, unet: None };
    let model = model::find(&model_choice(args), options.dtype, console)?;
    let config = model.unet_config(options.dtype)?;
    let layers = match &args.layer {
        Some(path) => LayerChoice::from_file(path)?,
        None => LayerChoice::Everything,
    };
    let layers = layers.resolve(&config.layout(), !args.attention.is_empty())?;
    if layers.contains(&LayerId::VaeOut) {
        return Err(Fault::failure(FaultCause::above(Refused::VaeOut)).into());
    }
    let plan =
        TapPlan::new(&config.layout(), layers, &args.attention, (args.height / LATENT_DOWNSCALE, args.width / LATENT_DOWNSCALE))?;
    let pipeline = model.load(&options)?;
    pipeline.vae.load_decoder()?;
    for lora in &args.lora {
        pipeline.attach_adapter(&lora.file, lora.scale.get()).context("--lora")?;
    }
    interrupt::finish_first("the current step", console);
    let mut watched = Watched { plan: &plan, calls: &args.at_steps, kept: Vec::new() };
    let Some(image) = draw(args, &pipeline, &mut watched, console)? else {
        return Ok(Ended::Interrupted("stopped; nothing was written".into()));
    };
    write(args, &image, watched.kept, console)?;
    Ok(Ended::Done)
}

/// What cannot be generated.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("`vae-out` is no layer of a generation; picture.png is what comes out of it")]
    VaeOut,
    #[error("{option} {found}: expected a multiple of 8 from 8 to 8192")]
    Side { option: &'static str, found: usize },
    #[error("--at-steps 0: calls are counted from 1")]
    CallZero,
    #[error("--feature-resize has to be 1 or more, --guidance-scale a finite number")]
    Numbers,
    #[error(
        "--steps {steps}: this model's scheduler would begin at timestep {first}, beyond the last, {LAST_TIMESTEP}; give fewer"
    )]
    Steps { steps: usize, first: f64 },
    #[error("--at-steps {found}: {steps} steps make {calls} calls of the UNet")]
    CallBeyond { found: usize, steps: usize, calls: usize },
}

fn check(args: &GenerateArgs) -> Result<(), Fault> {
    for (name, side) in [("--height", args.height), ("--width", args.width)] {
        if !side.is_multiple_of(8) || !(8..=8192).contains(&side) {
            return Err(Fault::usage(FaultCause::above(Refused::Side { option: name, found: side })));
        }
    }
    if args.at_steps.contains(&0) {
        return Err(Fault::usage(FaultCause::above(Refused::CallZero)));
    }
    if args.feature_resize == 0 || !args.guidance_scale.is_finite() {
        return Err(Fault::usage(FaultCause::above(Refused::Numbers)));
    }
    Ok(())
}

fn model_choice(args: &GenerateArgs) -> ModelChoice {
    let named = |name: &Option<String>| name.clone().unwrap_or_else(|| DEFAULT_MODEL.to_owned());
    let Settings { model, base, revision, .. } = &args.model.settings;
    ModelChoice { model: named(model), base: named(base), revision: revision.clone(), unet: None }
}

/// The image; `None` when the user stopped it.
fn draw(args: &GenerateArgs, pipeline: &Pipeline, watched: &mut Watched, console: &Console) -> Result<Option<Rgb>> {
    let mut scheduler = scheduler::from_config(&pipeline.scheduler_config)?;
    let steps = args.steps as usize;
    scheduler.set_timesteps(steps)?;
    if let Some(first) = scheduler.timesteps().first().filter(|first| **first > LAST_TIMESTEP) {
        return Err(Fault::failure(FaultCause::above(Refused::Steps { steps, first: *first })).into());
    }
    let calls = scheduler.timesteps().len();
    if let Some(beyond) = args.at_steps.iter().find(|call| **call > calls) {
        return Err(Fault::failure(FaultCause::above(Refused::CallBeyond { found: *beyond, steps, calls })).into());
    }
    let context = |text: &str| pipeline.encode_prompt(text).map(TextContext::new);
    let sampling = Sampling {
        prompt: &context(&args.prompt)?,
        negative_prompt: &context(&args.negative_prompt)?,
        guidance_scale: args.guidance_scale,
        steps,
        start: Start::Noise { height: args.height, width: args.width },
        conditions: &[],
    };
    let progress = Progress::new(console, CALLS, calls);
    let mut generator = Generator::manual_seed(args.seed);
    let mut stopped = false;
    // Sampling ends early by an error only, so being stopped is told apart here.
    let drawn = pipeline.sample_tapped(&sampling, scheduler.as_mut(), &mut generator, watched, &mut |_| {
        progress.advance(1);
        stopped = interrupt::requested();
        if stopped { Err(driftless::Error::Interrupted) } else { Ok(()) }
    });
    drop(progress);
    if stopped { Ok(None) } else { Ok(Some(Rgb::from_tensor(&drawn?)?)) }
}

fn write(args: &GenerateArgs, image: &Rgb, kept: Vec<WatchedCall>, console: &Console) -> Result<()> {
    let folder = &args.output_dir;
    std::fs::create_dir_all(folder).with_context(|| format!("--output-dir {}", folder.display()))?;
    let guided = kept.iter().any(|call| call.negative);
    let mut files = 0;
    for WatchedCall { call, negative, mut features, attention } in kept {
        features.extend(attention.map(|maps| (LayerId::Attn, maps)));
        let row = usize::from(guided && !negative);
        for (id, feature) in split_batch(features, args.feature_resize)?.into_iter().flatten() {
            write_npy(&folder.join(format!("{id}-{call}-{row}.npy")), &feature, args.output_dtype.dtype())?;
            files += 1;
        }
    }
    image.save_png(folder.join("picture.png"))?;
    console.info(format!("picture.png and {files} features written to {}", folder.display()));
    Ok(())
}
