//! Training: the model is loaded, the adapter put in, the loop run, the result written.

use super::fault::RunFault;
use super::hooks::{Files, Parts};
use super::output_folder::{self, OutputFolder};
use super::plan::Plan;
use crate::data::DataSet;
use crate::model::{StableDiffusion, location, prediction, vae};
use crate::monitor::Console;
use crate::network::TrainedNetwork;
use crate::options::identity;
use crate::output::metadata::{Facts, RunMetadata};
use crate::training::average::LossAverage;
use crate::training::latent_file::LatentFiles;
use crate::training::latents::Latents;
use crate::training::loader::Source;
use crate::training::validation::Validation;
use crate::training::{Learner, NotANumber, Outcome, Position, Trainer, state};
use anyhow::{Context, Result};
use driftless::hub::HubOptions;
use driftless::pipeline::{ModelOptions, Pipeline};
use driftless_cli::{Ended, Unit, interrupt};
use std::path::Path;
use std::sync::Arc;

/// Images, as the progress of encoding them counts.
const LATENTS: Unit = Unit::new("latent", "latents");

/// Trains as planned.
///
/// # Errors
/// Whatever keeps a run from ending well.
pub fn train(plan: &Plan, console: &mut Console) -> Result<Ended> {
    let options = &plan.options;
    let hub = &driftless_cli::hub::options(None, false, console.shared());
    let path = location::find(&options.model, hub)?;
    let pipeline = load(plan, &path, hub, console)?;
    // Not before the model is known to fit the options: a run that does not begin leaves no folder.
    let _claim = OutputFolder::claim(&options.output.output_dir)?;
    if options.output.resume.is_none() && !options.output.overwrite {
        let kept = output_folder::set_logs_aside(&options.output.output_dir)?;
        kept.iter().for_each(|log| console.info(format!("the log of an earlier run stays as {}", log.display())));
    }
    let network = adapt(plan, &pipeline)?;
    let model = StableDiffusion::new(pipeline, options, &network);
    announce(plan, &network, console);
    interrupt::finish_first("the step in hand", console.shared());
    let learner = Learner::new(&model, network.groups(), options, plan.steps.total, plan.seed)?;
    let metadata = RunMetadata::new(&Facts {
        options,
        data: &plan.data,
        steps: &plan.steps,
        seed: plan.seed,
        optimizer: learner.optimizer.description(),
        names: &plan.names,
    });
    if let (Some(record), Some(folder)) = (&plan.resume, &options.output.resume) {
        // Before hours of encoding images, which a state of another run would not need.
        let compared = identity::compare(&record.configuration, &metadata.configuration());
        compared.with_context(|| format!("--resume {}", folder.display()))?;
    }
    let Some(latents) = cache_latents(&model, &path, plan, console)? else {
        return Ok(Ended::Interrupted("nothing was trained yet".into()));
    };
    let mut trainer = Trainer {
        learner,
        source: source(plan, &latents),
        steps: plan.steps,
        position: Position::default(),
        average: LossAverage::default(),
    };
    if let (Some(record), Some(folder)) = (&plan.resume, &options.output.resume) {
        let adapter = |path: &Path| network.restore(path);
        let changed = state::restore(&mut trainer, record.clone(), &metadata.configuration(), folder, adapter)?;
        changed.iter().for_each(|change| console.warn(format!("resumed with another setting: {change}")));
        console.info(format!("resumed after step {} of {}", trainer.position.step, plan.steps.total));
    }
    let validation = validation(plan, &latents, trainer.source);
    let clean_timestep = trainer.learner.alignment.as_ref().map(|alignment| alignment.timestep().clone());
    let parts = Parts { plan, model: &model, network: &network, metadata: &metadata, validation, clean_timestep };
    let mut files = Files::new(parts, trainer.position, console);
    if !files.at_first(&trainer)? {
        return Ok(Ended::Interrupted(files.how_to_go_on()?));
    }
    match trainer.run(&mut files) {
        Ok(Outcome::Finished) => files.at_end(&trainer).map(|()| Ended::Done),
        Ok(Outcome::Stopped) => Ok(Ended::Interrupted(files.how_to_go_on()?)),
        // Whatever ended it, what was trained is kept.
        Err(error) => {
            let spoilt = error.is::<NotANumber>().then(|| model.first_spoilt_weight().ok().flatten()).flatten();
            let kept = files.keep(&trainer);
            Err(RunFault::Ended { error, spoilt, kept }.into())
        }
    }
}

/// The base model at `path`, with the autoencoder that the run asks for.
fn load(plan: &Plan, path: &Path, hub: &HubOptions, console: &Console) -> Result<Pipeline> {
    let options = &plan.options;
    let device = driftless_cli::device::open(options.model.device)?;
    let base = location::base(&options.model, path, hub)?;
    let loading = ModelOptions { dtype: location::dtype(&options.model, &device)?, device, base, unet: None };
    if location::local(&options.model)?.is_none_or(|here| here.model != path) {
        // It had not been downloaded when the run was planned.
        prediction::check(path, options, console)?;
    }
    let mut pipeline = Pipeline::load(path, &loading)?;
    if let Some(vae) = vae::load(&options.model, path, &loading, hub)? {
        pipeline.vae = Arc::new(vae);
    }
    Ok(pipeline)
}

/// Puts the adapter into the slots, with its first values or those it starts from.
fn adapt(plan: &Plan, pipeline: &Pipeline) -> Result<TrainedNetwork> {
    let (unet, text_encoder) = (pipeline.unet.slots(), pipeline.text_encoder.slots());
    let network = TrainedNetwork::attach(&plan.options, plan.seed, unet, text_encoder, pipeline.device())?;
    if let Some(path) = &plan.options.network.network_weights {
        network.start_from(path)?;
    }
    Ok(network)
}

/// What the run learns from.
fn source<'a>(plan: &'a Plan, latents: &'a Cached) -> Source<'a> {
    Source {
        set: &plan.data,
        latents: latents.training.as_ref(),
        seed: plan.seed,
        prior_loss_weight: plan.options.objective.prior_loss_weight,
        total_steps: plan.steps.total,
        accumulation: plan.steps.accumulation,
    }
}

/// What is measured on images that do not train, when some are held back.
fn validation<'a>(plan: &'a Plan, latents: &'a Cached, training: Source<'a>) -> Option<Validation<'a>> {
    let set = plan.data.validation.as_deref()?;
    let given = set.datasets.iter().flat_map(|dataset| &dataset.plan.subsets).find_map(|subset| subset.validation_seed);
    let seed = given.unwrap_or(plan.seed);
    let source = Source { set, latents: latents.validation.as_ref(), seed, accumulation: 1, ..training };
    let most = plan.options.validation.max_validation_steps.map_or(usize::MAX, |most| most as usize);
    Some(Validation { source, batches: set.batches_per_epoch().min(most) })
}

/// The totals, as kohya shows them.
fn announce(plan: &Plan, network: &TrainedNetwork, console: &Console) {
    let (data, steps) = (&plan.data, &plan.steps);
    let sizes: Vec<String> = data.datasets.iter().map(|dataset| dataset.plan.batch_size.to_string()).collect();
    console.info(format!("images x repeats: {}", data.num_train_images()));
    if data.num_reg_images() > 0 {
        console.info(format!("regularization images: {}", data.num_reg_images()));
    }
    console.info(format!("batches per epoch: {}, of {} images", steps.batches_per_epoch, sizes.join(", ")));
    console.info(format!("epochs: {}, steps: {} (of {} batches each)", steps.epochs, steps.total, steps.accumulation));
    let linear = network.settings.linear;
    console.info(format!(
        "adapter: {} layers, {} numbers, rank {}, alpha {}",
        network.layers.len(),
        network.parameter_count(),
        linear.rank,
        linear.alpha
    ));
    console.detail(format!("seed: {}", plan.seed));
}

/// Latents of what trains and of what is held back, where they are cached.
#[derive(Debug, Default)]
struct Cached {
    training: Option<Latents>,
    validation: Option<Latents>,
}

/// `None` when the user wants to stop.
fn cache_latents(model: &StableDiffusion, path: &Path, plan: &Plan, console: &mut Console) -> Result<Option<Cached>> {
    let options = &plan.options;
    if !options.data.caches_latents() {
        return Ok(Some(Cached::default()));
    }
    let files = match options.data.cache_latents_to_disk {
        true => {
            let vae = vae::identity(&options.model, path)?;
            Some(LatentFiles { folder: options.data.latent_cache_dir.clone(), vae })
        }
        false => None,
    };
    let mut encode = |set: &DataSet| -> Result<Option<Latents>> {
        let mut begun = false;
        let latents = Latents::encode(model, set, plan.seed, files.as_ref(), |done, total| {
            if !begun {
                console.begin(LATENTS, total, 0);
                begun = true;
            }
            console.encoded(done);
            !interrupt::requested()
        })?;
        console.finish();
        if let Some(latents) = &latents {
            console.detail(format!("latents: {} different ones are kept, {} files were read", latents.count(), latents.read));
        }
        Ok(latents)
    };
    let Some(training) = encode(&plan.data)? else { return Ok(None) };
    let validation = match plan.data.validation.as_deref().map(&mut encode).transpose()? {
        Some(None) => return Ok(None),
        Some(latents) => latents,
        None => None,
    };
    Ok(Some(Cached { training: Some(training), validation }))
}
