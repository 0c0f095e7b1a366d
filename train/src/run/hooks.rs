//! What is written and shown beside the loop: adapters, states, metrics, samples, progress.

use super::plan::Plan;
use crate::interrupt;
use crate::model::StableDiffusion;
use crate::monitor::Console;
use crate::monitor::metrics::Metrics;
use crate::monitor::tensorboard::TensorBoard;
use crate::network::TrainedNetwork;
use crate::output::When;
use crate::output::metadata::RunMetadata;
use crate::output::names::{epoch_to_remove, step_to_remove};
use crate::samples::draw::{self, At};
use crate::training::{Hooks, StepReport, Trainer, state};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Instant;

/// The files of a run.
pub struct Files<'a> {
    plan: &'a Plan,
    model: &'a StableDiffusion,
    network: &'a TrainedNetwork,
    metadata: &'a RunMetadata,
    metrics: Metrics,
    tensorboard: Option<TensorBoard>,
    console: &'a mut Console,
    started: Instant,
    /// Steps done before this process began.
    steps_before: usize,
    /// Steps done in all.
    steps_done: usize,
    /// The state that was written last.
    last_state: Option<std::path::PathBuf>,
}

impl<'a> Files<'a> {
    /// Opens the logs. `steps_before` are done already when the run goes on from a state.
    ///
    /// # Errors
    /// When a log cannot be written.
    pub fn new(
        plan: &'a Plan,
        model: &'a StableDiffusion,
        network: &'a TrainedNetwork,
        metadata: &'a RunMetadata,
        steps_before: usize,
        console: &'a mut Console,
    ) -> Result<Self> {
        let metrics = Metrics::open(&plan.options.output.output_dir, steps_before)?;
        let tensorboard = TensorBoard::open(&plan.options.run)?;
        console.begin("steps", plan.steps.total, steps_before);
        Ok(Self {
            plan,
            model,
            network,
            metadata,
            metrics,
            tensorboard,
            console,
            started: Instant::now(),
            steps_before,
            steps_done: steps_before,
            last_state: None,
        })
    }

    /// Samples before the first step, when they are asked for.
    pub fn at_first(&mut self, trainer: &Trainer<StableDiffusion>) {
        if self.plan.options.samples.sample_at_first && trainer.position.step == 0 {
            self.draw_samples(At::Step(0));
        }
    }

    /// The last files.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn at_end(&mut self, trainer: &Trainer<StableDiffusion>) -> Result<()> {
        self.console.finish();
        let output = &self.plan.options.output;
        if output.save_state || output.save_state_on_train_end {
            self.save_state(trainer, When::End)?;
        }
        self.save_adapter(When::End, trainer.position.step, self.plan.steps.epochs)
    }

    /// What to do after an interruption.
    pub fn how_to_go_on(&mut self) -> String {
        self.console.finish();
        let done = format!("{} of {} steps are done", self.steps_done, self.plan.steps.total);
        match &self.last_state {
            Some(folder) => format!("{done}; go on with the same options and --resume {}", folder.display()),
            None => format!("{done}; without --save_state there is no state to go on from"),
        }
    }

    fn save_adapter(&mut self, when: When, steps: usize, epoch: usize) -> Result<()> {
        let output = &self.plan.options.output;
        let path = self.plan.names.adapter(when);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let metadata = self.metadata.at(steps, epoch);
        self.network.write(&path, output.save_model_as, output.save_precision, &metadata)?;
        self.console.info(format!("saved {}", path.display()));
        Ok(())
    }

    fn save_state(&mut self, trainer: &Trainer<StableDiffusion>, when: When) -> Result<()> {
        let folder = self.plan.names.state(when);
        state::write(trainer, &self.metadata.configuration(), &folder)?;
        self.console.info(format!("saved {}", folder.display()));
        self.last_state = Some(folder);
        Ok(())
    }

    /// A sample that cannot be drawn is no reason to end a run.
    fn draw_samples(&mut self, at: At) {
        let plan = self.plan;
        match draw::draw(self.model, self.network, &plan.options, plan.seed, at, interrupt::requested) {
            Ok(samples) => {
                for sample in samples {
                    self.console.detail(format!("drew {}", sample.path.display()));
                    if let Some(tensorboard) = &mut self.tensorboard {
                        tensorboard.picture(&format!("sample_{}", sample.index), &sample.picture, self.steps_done);
                    }
                }
            }
            Err(error) => self.console.warn(format!("no samples: {error:#}")),
        }
    }

    fn after_saving_step(&mut self, trainer: &Trainer<StableDiffusion>, step: usize) -> Result<()> {
        let output = &self.plan.options.output;
        let Some(every) = output.save_every_n_steps.filter(|every| *every > 0 && step.is_multiple_of(*every)) else {
            return Ok(());
        };
        self.save_adapter(When::Step(step), step, trainer.position.epoch + 1)?;
        if let Some(old) = step_to_remove(step, every, output.save_last_n_steps) {
            remove(&self.plan.names.adapter_to_remove(When::Step(old)));
        }
        if output.save_state {
            self.save_state(trainer, When::Step(step))?;
            if let Some(old) = step_to_remove(step, every, output.save_last_n_steps_state.or(output.save_last_n_steps)) {
                remove(&self.plan.names.state(When::Step(old)));
            }
        }
        Ok(())
    }
}

impl Hooks<StableDiffusion> for Files<'_> {
    fn after_step(&mut self, trainer: &Trainer<StableDiffusion>, report: &StepReport) -> Result<bool> {
        self.steps_done = report.step;
        if let Some(most) = self.plan.options.network.scale_weight_norms {
            let norms = self.network.limit_norms(most)?;
            if let Some(tensorboard) = &mut self.tensorboard {
                tensorboard.scalar("max_norm/keys_scaled", norms.scaled as f64, report.step);
                tensorboard.scalar("max_norm/max_key_norm", norms.largest, report.step);
                tensorboard.scalar("norm/avg_key_norm", norms.mean, report.step);
            }
        }
        self.metrics.step(report)?;
        if let Some(tensorboard) = &mut self.tensorboard {
            tensorboard.step(report);
        }
        let per_step = self.started.elapsed().as_secs_f64() / (report.step - self.steps_before) as f64;
        let left = per_step * (self.plan.steps.total - report.step) as f64;
        self.console.step(report, self.plan.steps.total, self.plan.steps.epochs, left);
        let samples = &self.plan.options.samples;
        let by_steps = samples.sample_every_n_steps.filter(|every| *every > 0 && samples.sample_every_n_epochs.is_none());
        if by_steps.is_some_and(|every| report.step.is_multiple_of(every)) {
            self.draw_samples(At::Step(report.step));
        }
        self.after_saving_step(trainer, report.step)?;
        if !interrupt::requested() {
            return Ok(true);
        }
        if self.plan.options.output.save_state {
            self.save_state(trainer, When::Step(report.step))?;
        }
        Ok(false)
    }

    fn after_epoch(&mut self, trainer: &Trainer<StableDiffusion>, epoch: usize) -> Result<()> {
        if let Some(tensorboard) = &mut self.tensorboard {
            tensorboard.epoch(epoch, trainer.average.average());
        }
        let (plan, output) = (self.plan, &self.plan.options.output);
        let every = plan.steps.save_every_n_epochs(&plan.options);
        // The last epoch's file is the final one.
        if let Some(every) = every.filter(|every| epoch.is_multiple_of(*every) && epoch < plan.steps.epochs) {
            self.save_adapter(When::Epoch(epoch), trainer.position.step, epoch)?;
            if let Some(old) = epoch_to_remove(epoch, every, output.save_last_n_epochs) {
                remove(&plan.names.adapter_to_remove(When::Epoch(old)));
            }
            if output.save_state {
                self.save_state(trainer, When::Epoch(epoch))?;
                if let Some(old) = epoch_to_remove(epoch, every, output.save_last_n_epochs_state.or(output.save_last_n_epochs)) {
                    remove(&plan.names.state(When::Epoch(old)));
                }
            }
        }
        if plan.options.samples.sample_every_n_epochs.is_some_and(|every| every > 0 && epoch.is_multiple_of(every)) {
            self.draw_samples(At::Epoch(epoch));
        }
        Ok(())
    }
}

/// What is gone already, or cannot be removed, does no harm.
fn remove(path: &Path) {
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}
