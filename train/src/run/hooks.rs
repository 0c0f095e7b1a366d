//! What is written and shown beside the loop: adapters, states, metrics, samples, progress.

use super::comparison;
use super::fault::RunFault;
use super::keep::Kept;
use super::left_out::LeftOut;
use super::plan::Plan;
use crate::model::StableDiffusion;
use crate::monitor::Console;
use crate::monitor::metrics::{Measurement, Metrics};
use crate::monitor::tensorboard::TensorBoard;
use crate::network::TrainedNetwork;
use crate::options::SaveFormat;
use crate::output::When;
use crate::output::metadata::RunMetadata;
use crate::output::names::{epoch_to_remove, step_to_remove};
use crate::samples::draw::{self, At};
use crate::steps::StepReport;
use crate::training::validation::Validation;
use crate::training::{Hooks, Position, Trainer, Unreadable, state};
use anyhow::{Context, Result};
use candle_core::Var;
use driftless::adapter::files::CLEAN_TIMESTEP;
use driftless_cli::failure::sentence;
use driftless_cli::progress::duration;
use driftless_cli::{Unit, interrupt};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// What the files are of.
pub struct Parts<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The model with the adapter in it.
    pub model: &'a StableDiffusion,
    /// The adapter.
    pub network: &'a TrainedNetwork,
    /// What is written into the adapter's files.
    pub metadata: &'a RunMetadata,
    /// What is measured on images that do not train.
    pub validation: Option<Validation<'a>>,
    /// The timestep that the adapter learns to be told for clean latents.
    pub clean_timestep: Option<Var>,
}

impl Parts<'_> {
    /// The entries of an adapter's file that is written now. Without the timestep that it was trained at nobody could use one for clean
    /// latents, so that it stands there under `--no_metadata` too.
    fn metadata_at(&self, steps: usize, epoch: usize) -> Result<BTreeMap<String, String>> {
        let mut entries = self.metadata.at(steps, epoch);
        if let Some(timestep) = &self.clean_timestep {
            let timestep = timestep.as_tensor().flatten_all()?.get(0)?.to_scalar::<f32>()?;
            entries.insert(CLEAN_TIMESTEP.to_owned(), timestep.to_string());
        }
        Ok(entries)
    }
}

/// Optimizer steps, as progress counts them.
const STEPS: Unit = Unit::new("step", "steps");

/// The files of a run.
pub struct Files<'a> {
    pub(super) parts: Parts<'a>,
    metrics: Option<Metrics>,
    validations: Option<Metrics>,
    measured: Vec<Measurement>,
    tensorboard: Option<TensorBoard>,
    pub(super) console: &'a mut Console,
    started: Instant,
    /// Steps done before this process began.
    steps_before: usize,
    /// Steps done in all.
    steps_done: usize,
    /// What an interruption has left.
    kept: Option<Kept>,
    /// Images that cannot be read any more.
    left_out: LeftOut,
    /// The loss of the last step and the moving average then.
    last_losses: Option<(f64, f64)>,
    /// Whether it was said that metrics cannot be written.
    metrics_failed: bool,
}

impl<'a> Files<'a> {
    /// Opens the logs of a run that begins at `position`. One that cannot be written is done without: a log never ends a run.
    pub fn new(parts: Parts<'a>, position: Position, console: &'a mut Console) -> Self {
        let (options, steps_before) = (&parts.plan.options, position.step);
        let folder = &options.output.output_dir;
        let metrics = opened(Metrics::open(folder, steps_before), console);
        let trained = position.epoch + usize::from(position.batch == parts.plan.steps.batches_per_epoch);
        let validation = parts.validation.and_then(|_| opened(Metrics::open_validation(folder, steps_before, trained), console));
        let (validations, measured) = validation.map_or((None, vec![]), |(log, measured)| (Some(log), measured));
        let tensorboard = opened(TensorBoard::open(&options.run), console).flatten();
        console.begin(STEPS, parts.plan.steps.total, steps_before);
        Self {
            parts,
            metrics,
            validations,
            measured,
            tensorboard,
            console,
            started: Instant::now(),
            steps_before,
            steps_done: steps_before,
            kept: None,
            left_out: LeftOut::new(options.data.max_skipped_images),
            last_losses: None,
            metrics_failed: false,
        }
    }

    /// Samples before the first step, when they are asked for; and what an interruption left unmeasured. Answers whether to go on.
    ///
    /// # Errors
    /// When images cannot be read, or the state cannot be saved.
    pub fn at_first(&mut self, trainer: &Trainer<StableDiffusion>) -> Result<bool> {
        let step = trainer.position.step;
        if self.parts.plan.options.samples.sample_at_first && step == 0 {
            self.draw_samples(At::Step(0));
        }
        Ok(step == 0 || self.validate_by_steps(trainer)? || self.stop(trainer))
    }

    /// The last files, and which one is best.
    ///
    /// # Errors
    /// When the adapter cannot be written to its place; the error tells where it is instead.
    pub fn at_end(&mut self, trainer: &Trainer<StableDiffusion>) -> Result<()> {
        self.console.finish();
        self.left_out.list(self.console);
        if let Some((loss, average)) = self.last_losses {
            let steps = STEPS.of(trainer.position.step - self.steps_before);
            let time = duration(self.started.elapsed().as_secs_f64());
            self.console.info(format!("{steps} in {time}, last loss {loss:.4} (average {average:.4})"));
        }
        let (plan, output) = (self.parts.plan, &self.parts.plan.options.output);
        let state = match output.save_state || output.save_state_on_train_end {
            true => self.save_state(trainer, When::End),
            false => Ok(()),
        };
        // The adapter first of all: a state that cannot be written must not cost it.
        if let Err(error) = self.save_adapter(When::End, trainer.position.step, plan.steps.epochs) {
            return Err(self.save_elsewhere(error, trainer));
        }
        state?;
        let file = |one: &Measurement| {
            let end = (one.step == plan.steps.total).then(|| plan.names.adapter(When::End));
            let epoch = one.epoch.map(|epoch| plan.names.adapter(When::Epoch(epoch)));
            let step = plan.names.adapter(When::Step(one.step));
            end.into_iter().chain(epoch).chain([step]).find(|path| path.exists())
        };
        comparison::table(&self.measured, file).iter().for_each(|line| self.console.info(line));
        Ok(())
    }

    /// What an interruption has left, and how to go on from there.
    ///
    /// # Errors
    /// When it could not be saved.
    pub fn how_to_go_on(&mut self) -> Result<String, RunFault> {
        self.console.finish();
        let done = format!("{} of {} steps are done", self.steps_done, self.parts.plan.steps.total);
        match self.kept.take() {
            Some(kept) if !kept.is_whole() => Err(RunFault::NotKept { done, kept }),
            Some(kept) => Ok(format!("{done}; {kept}")),
            None => Ok(done),
        }
    }

    pub(super) fn save_adapter(&mut self, when: When, steps: usize, epoch: usize) -> Result<()> {
        let path = self.parts.plan.names.adapter(when);
        self.write_adapter(&path, steps, epoch)?;
        self.console.info(format!("saved {}", path.display()));
        Ok(())
    }

    pub(super) fn write_adapter(&self, path: &Path, steps: usize, epoch: usize) -> Result<()> {
        let output = &self.parts.plan.options.output;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let metadata = self.parts.metadata_at(steps, epoch)?;
        Ok(self.parts.network.write(path, output.save_model_as, output.save_precision, &metadata)?)
    }

    pub(super) fn save_state(&mut self, trainer: &Trainer<StableDiffusion>, when: When) -> Result<()> {
        let folder = self.parts.plan.names.state(when);
        let Parts { metadata, network, .. } = self.parts;
        let of_now = self.parts.metadata_at(trainer.position.step, trainer.position.epoch + 1)?;
        let adapter = |path: &Path| network.write(path, SaveFormat::Safetensors, None, &of_now);
        state::write(trainer, &metadata.configuration(), &folder, adapter)?;
        self.console.info(format!("saved {}", folder.display()));
        Ok(())
    }

    /// A file along the way that cannot be written is no reason to end a run: there may be room again later. Answers whether all
    /// were written.
    fn save_along_the_way(&mut self, trainer: &Trainer<StableDiffusion>, when: When, epoch: usize) -> bool {
        let mut saved = self.save_adapter(when, trainer.position.step, epoch);
        if saved.is_ok() && self.parts.plan.options.output.save_state {
            saved = self.save_state(trainer, when);
        }
        if let Err(error) = &saved {
            self.console.warn(format!("not saved, and training goes on: {}", sentence(error.as_ref())));
        }
        saved.is_ok()
    }

    /// Interrupted: saves what it takes to go on later. Answers that the run does not go on.
    fn stop(&mut self, trainer: &Trainer<StableDiffusion>) -> bool {
        self.kept = Some(self.keep(trainer));
        false
    }

    fn validate_by_steps(&mut self, trainer: &Trainer<StableDiffusion>) -> Result<bool> {
        let every = self.parts.plan.options.validation.validate_every_n_steps;
        match every.is_some_and(|every| (trainer.position.step as u64).is_multiple_of(every)) {
            true => self.validate(trainer, None),
            false => Ok(true),
        }
    }

    /// Measures the loss on images that do not train. Answers whether it came to an end before an interruption.
    fn validate(&mut self, trainer: &Trainer<StableDiffusion>, epoch: Option<usize>) -> Result<bool> {
        let Parts { model, network, validation: Some(validation), .. } = self.parts else { return Ok(true) };
        let step = trainer.position.step;
        // A run that goes on from a state of this very step has measured it already, with the same result.
        if self.measured.iter().any(|one| (one.step, one.epoch) == (step, epoch)) {
            return Ok(true);
        }
        let (unet, text_encoder) = (model.pipeline.unet.slots(), model.pipeline.text_encoder.slots());
        let measured =
            network.frozen(unet, text_encoder, || validation.loss(model, &trainer.learner.objective, interrupt::requested))?;
        let Some(measured) = measured else { return Ok(false) };
        self.left_out.note(measured.unreadable, step, self.console)?;
        let Some(validation_loss) = measured.loss else {
            self.console.warn(format!("nothing is measured after step {step}: no image that is held back can be read"));
            return Ok(true);
        };
        let asked = !self.parts.plan.options.validation.validation_timesteps.is_empty();
        let by_timestep = if asked { measured.by_timestep } else { BTreeMap::new() };
        let each: Vec<String> = by_timestep.iter().map(|(timestep, loss)| format!("t = {timestep}: {loss:.6}")).collect();
        let each = if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) };
        self.console.info(format!("validation loss after step {step}: {validation_loss:.6}{each}"));
        let measurement = Measurement { step, epoch, training_loss: trainer.average.average(), validation_loss, by_timestep };
        if let Some(tensorboard) = &mut self.tensorboard {
            tensorboard.validation(&measurement);
        }
        let written = self.validations.as_mut().map_or(Ok(()), |log| log.measurement(&measurement));
        self.measured.push(measurement);
        self.tell_of_metrics(written);
        Ok(true)
    }

    /// Numbers that cannot be written down are no reason to end a run either.
    fn tell_of_metrics(&mut self, written: Result<()>) {
        if let Err(error) = written
            && !self.metrics_failed
        {
            self.console.warn(format!("numbers are no longer written down, and training goes on: {}", sentence(error.as_ref())));
            self.metrics_failed = true;
        }
    }

    /// A sample that cannot be drawn is no reason to end a run.
    fn draw_samples(&mut self, at: At) {
        let Parts { plan, model, network, .. } = self.parts;
        match draw::draw(model, network, &plan.options, plan.seed, at, interrupt::requested) {
            Ok(samples) => {
                for sample in samples {
                    self.console.detail(format!("drew {}", sample.path.display()));
                    if let Some(tensorboard) = &mut self.tensorboard {
                        let size = (sample.image.width, sample.image.height);
                        tensorboard.image(&format!("sample_{}", sample.index), size, &sample.path, self.steps_done);
                    }
                }
            }
            Err(error) => self.console.warn(format!("no samples: {error:#}")),
        }
    }

    fn after_saving_step(&mut self, trainer: &Trainer<StableDiffusion>, step: usize) {
        let (names, output) = (&self.parts.plan.names, &self.parts.plan.options.output);
        let Some(every) = output.save_every_n_steps.filter(|every| *every > 0 && step.is_multiple_of(*every)) else {
            return;
        };
        // What is older goes only once what is newer is there.
        if !self.save_along_the_way(trainer, When::Step(step), trainer.position.epoch + 1) {
            return;
        }
        if let Some(old) = step_to_remove(step, every, output.save_last_n_steps) {
            remove(&names.adapter_to_remove(When::Step(old)));
        }
        let keep = output.save_last_n_steps_state.or(output.save_last_n_steps).filter(|_| output.save_state);
        if let Some(old) = step_to_remove(step, every, keep) {
            remove(&names.state(When::Step(old)));
        }
    }
}

impl Hooks<StableDiffusion> for Files<'_> {
    fn left_out(&mut self, trainer: &Trainer<StableDiffusion>, images: Vec<Unreadable>) -> Result<()> {
        Ok(self.left_out.note(images, trainer.position.step, self.console)?)
    }

    fn after_step(&mut self, trainer: &Trainer<StableDiffusion>, report: &StepReport) -> Result<bool> {
        self.steps_done = report.step;
        let plan = self.parts.plan;
        if let Some(most) = plan.options.network.scale_weight_norms {
            let norms = self.parts.network.limit_norms(most)?;
            if let Some(tensorboard) = &mut self.tensorboard {
                tensorboard.scalar("max_norm/keys_scaled", norms.scaled as f64, report.step);
                tensorboard.scalar("max_norm/max_key_norm", norms.largest, report.step);
                tensorboard.scalar("norm/avg_key_norm", norms.mean, report.step);
            }
        }
        let written = self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.step(report));
        self.last_losses = report.loss.map(|loss| (loss, report.loss_average)).or(self.last_losses);
        self.tell_of_metrics(written);
        if let Some(tensorboard) = &mut self.tensorboard {
            tensorboard.step(report);
        }
        if self.tensorboard.take_if(|tensorboard| tensorboard.is_lost()).is_some() {
            self.console.warn("the log for TensorBoard cannot be written any more, and training goes on");
        }
        let per_step = self.started.elapsed().as_secs_f64() / (report.step - self.steps_before) as f64;
        let left = per_step * (plan.steps.total - report.step) as f64;
        self.console.step(report, plan.steps.epochs, left);
        let samples = &plan.options.samples;
        let by_steps = samples.sample_every_n_steps.filter(|every| *every > 0 && samples.sample_every_n_epochs.is_none());
        if by_steps.is_some_and(|every| report.step.is_multiple_of(every)) {
            self.draw_samples(At::Step(report.step));
        }
        // When it is cut short, the run that goes on does it again.
        self.validate_by_steps(trainer)?;
        self.after_saving_step(trainer, report.step);
        Ok(!interrupt::requested() || self.stop(trainer))
    }

    fn measure_epoch(&mut self, trainer: &Trainer<StableDiffusion>, epoch: usize) -> Result<bool> {
        let every = self.parts.plan.options.validation.validate_every_n_epochs.unwrap_or(1);
        Ok(!(epoch as u64).is_multiple_of(every) || self.validate(trainer, Some(epoch))? || self.stop(trainer))
    }

    fn after_epoch(&mut self, trainer: &Trainer<StableDiffusion>, epoch: usize) -> Result<()> {
        if let Some(tensorboard) = &mut self.tensorboard {
            tensorboard.epoch(epoch, trainer.average.average());
        }
        let (plan, output) = (self.parts.plan, &self.parts.plan.options.output);
        let every = plan.steps.save_every_n_epochs(&plan.options);
        // The last epoch's file is the final one.
        if let Some(every) = every.filter(|every| epoch.is_multiple_of(*every) && epoch < plan.steps.epochs)
            && self.save_along_the_way(trainer, When::Epoch(epoch), epoch)
        {
            if let Some(old) = epoch_to_remove(epoch, every, output.save_last_n_epochs) {
                remove(&plan.names.adapter_to_remove(When::Epoch(old)));
            }
            let keep = output.save_last_n_epochs_state.or(output.save_last_n_epochs).filter(|_| output.save_state);
            if let Some(old) = epoch_to_remove(epoch, every, keep) {
                remove(&plan.names.state(When::Epoch(old)));
            }
        }
        if plan.options.samples.sample_every_n_epochs.is_some_and(|every| every > 0 && epoch.is_multiple_of(every)) {
            self.draw_samples(At::Epoch(epoch));
        }
        Ok(())
    }
}

/// A log, or `None` with a word to the user.
fn opened<T>(log: Result<T>, console: &Console) -> Option<T> {
    log.map_err(|error| console.warn(format!("a log is done without: {}", sentence(error.as_ref())))).ok()
}

/// What is gone already, or cannot be removed, does no harm.
fn remove(path: &Path) {
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}
