//! Content shift of feature sets: the pass over the images that scores several draws of the noise, and what it writes.
//!
//! Per image, set, timestep and layer it takes the scores of [`score`](crate::score) and forgets the features, so that memory does not grow
//! with the number of images. What an image got is written whole when it is through (`images/NAME.csv`), so that a run that was stopped goes
//! on; `scores.csv`, `summary.json` and `report.html` are made of these records at the end, as far as the run came.
//!
//! | file | what it does |
//! | --- | --- |
//! | `settings` | what was asked for, and what is wrong with it |
//! | `kind` | the kinds of scores: names, and what their numbers mean |
//! | `levels` | sets times timesteps, as the sets of one run |
//! | `identity` | whether a run goes on with what an output folder holds |
//! | `measure` | the scores of some images |
//! | `compare` | the scores of one layer of one image |
//! | `lines` | lines of scores, and their file per image |
//! | `exhibit` | what the report shows of one image |
//! | `summary` | means over all images |
//! | `tables` | means as tables and curves |
//! | `page` | the report |
//! | `written` | draws that were written before |

mod compare;
mod exhibit;
mod identity;
mod kind;
mod levels;
mod lines;
mod measure;
mod page;
mod settings;
mod summary;
mod tables;
mod written;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use driftless::formats::{AtomicFile, remove_stale};
use features::engine::{Failures, Outcome, ReadImage, Run};
use features::fault::Fault;
use features::inputs::Sample;
use features::plan::RunPlan;
use features::timings::Timings;
use features::{Event, Observer};

use crate::score::ScoreFault;

use exhibit::Exhibits;
use kind::Kind;
use levels::Levels;
use lines::Records;
use measure::Measure;
use summary::Summary;
use tables::Tables;

pub use settings::{ShiftFault, ShiftSettings};
pub use written::score_written;

/// Why there are no scores.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The networks, the images, or the request.
    #[error(transparent)]
    Features(#[from] features::Error),
    /// Features that cannot be scored.
    #[error(transparent)]
    Score(Box<Unscored>),
    /// A file of this output that cannot be used.
    #[error("{}: {cause}; remove it, or the folder, and run the same command again", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A layer of an image that has no scores.
#[derive(Debug, thiserror::Error)]
#[error("{image}: set `{set}`, `{layer}`: {fault}")]
pub struct Unscored {
    /// The image's name.
    pub image: String,
    /// The set's.
    pub set: String,
    /// The layer's id.
    pub layer: String,
    /// Why not.
    #[source]
    pub fault: ScoreFault,
}

impl From<Unscored> for Error {
    fn from(unscored: Unscored) -> Self {
        Self::Score(Box::new(unscored))
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Features(fault.into())
    }
}

impl From<driftless::Error> for Error {
    fn from(error: driftless::Error) -> Self {
        Self::Features(error.into())
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Features(error.into())
    }
}

/// `Result` with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Sets times timesteps of a plan, in the place of its sets; the plan's sets are then those.
///
/// # Errors
/// Everything that is wrong with the settings, or does not go together with the plan.
pub fn expand(plan: &mut RunPlan, settings: &ShiftSettings) -> Result<Shift, Fault> {
    settings.check()?;
    Ok(Shift { settings: settings.clone(), levels: Levels::of(plan, settings)? })
}

/// What is scored, for a plan that was expanded.
pub struct Shift {
    settings: ShiftSettings,
    levels: Levels,
}

/// What a run needs besides.
pub struct Surroundings<'a> {
    /// The folders of the run's ControlNets.
    pub controls: &'a BTreeMap<String, PathBuf>,
    /// The commands that the report names.
    pub commands: &'a [String],
    /// Where times go.
    pub timings: &'a Timings,
    /// Who is told.
    pub observer: &'a dyn Observer,
}

impl Shift {
    /// Scores all images of the plan that have no scores yet, and writes the results. An image that cannot be read is listed as failed.
    ///
    /// # Errors
    /// When the output holds other scores, a network fails, sets cannot be compared, or a file cannot be written.
    pub fn run(&self, plan: &RunPlan, run: &Run, around: &Surroundings) -> Result<Scores> {
        self.levels.check_layers(run)?;
        let folder = &plan.output.dir;
        std::fs::create_dir_all(folder).map_err(|error| Fault::of_file(folder, error).of("--output "))?;
        let _lock = identity::lock(folder)?;
        let records = Records::new(folder);
        let exhibits = Exhibits::new(&records, &self.settings);
        let now = run.manifest(around.controls, identity::known(folder))?;
        if plan.overwrite {
            // Before the settings are written, so that a run that is killed in between leaves no records of others under them.
            records.clear()?;
        }
        identity::enter(folder, &self.settings, now, plan.overwrite)?;
        remove_stale([folder.as_path(), &records.folder]);
        let mut failures = Failures::begin(&plan.failures)?;
        let images = self.score(plan, run, (&records, &exhibits), &mut failures, around)?;
        let table = self.conclude(plan, &records, &exhibits, failures.count(), around)?;
        Ok(Scores { outcome: Outcome { images, failed: failures.count() }, table })
    }

    /// Scores what has no scores yet, batch by batch; how many images that are.
    fn score(
        &self,
        plan: &RunPlan,
        run: &Run,
        (records, exhibits): (&Records, &Exhibits),
        failures: &mut Failures,
        around: &Surroundings,
    ) -> Result<usize> {
        let is_done = |sample: &&Sample| records.has(sample) && (!exhibits.wants(sample) || exhibits.has(sample));
        let pending = |batch: &[Sample]| batch.iter().filter(|sample| !is_done(sample)).count();
        let groups = plan.samples.chunk_by(|a, b| a.index / plan.batch_size == b.index / plan.batch_size);
        let batches: Vec<(&[Sample], usize)> =
            groups.map(|batch| (batch, pending(batch))).filter(|(_, pending)| *pending > 0).collect();
        let images = batches.iter().map(|(_, pending)| pending).sum();
        if batches.is_empty() {
            return Ok(images);
        }
        let drawing = run.drawing(around.controls, around.timings)?;
        around.observer.event(Event::Began { images });
        let mut measure = Measure { plan, settings: &self.settings, levels: &self.levels, drawing, exhibits };
        for (batch, pending) in batches {
            if around.observer.wants_stop() {
                break;
            }
            let before = failures.count();
            let (samples, read) = self.read(&measure, batch, failures, around.observer)?;
            let scored = if samples.is_empty() { Vec::new() } else { measure.batch(&samples, read)? };
            for (sample, scored) in samples.iter().zip(scored) {
                if let Some(exhibit) = &scored.exhibit {
                    exhibits.write(sample, exhibit)?;
                }
                // Last, since it says that the image is through.
                records.write(sample, &scored.lines)?;
            }
            around.observer.event(Event::Advanced { images: pending, failed: failures.count() - before });
        }
        around.observer.event(Event::Ended);
        Ok(images)
    }

    /// The images of a batch that can be read, each followed by its warped ones.
    fn read<'s>(
        &self,
        measure: &Measure,
        batch: &'s [Sample],
        failures: &mut Failures,
        observer: &dyn Observer,
    ) -> Result<(Vec<&'s Sample>, Vec<Vec<ReadImage>>)> {
        let mut found = (Vec::new(), Vec::new());
        for sample in batch {
            match measure.read(sample) {
                Ok(images) => {
                    found.0.push(sample);
                    found.1.push(images);
                }
                Err(problem) => {
                    let problem = problem.to_string();
                    if failures.add(sample, &problem)? {
                        observer.event(Event::Failed(&problem));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Everything that is made of the records; the table of a terminal.
    fn conclude(
        &self,
        plan: &RunPlan,
        records: &Records,
        exhibits: &Exhibits,
        failed: usize,
        around: &Surroundings,
    ) -> Result<String> {
        let folder = &plan.output.dir;
        let mut scores = AtomicFile::create(folder.join(lines::SCORES))?;
        scores.write_bytes(lines::HEADER.as_bytes())?;
        let mut summary = Summary::default();
        for sample in plan.samples.iter().filter(|sample| records.has(sample)) {
            let text = records.read(sample)?;
            summary.add(&text, &records.path(sample))?;
            scores.write_bytes(text.as_bytes())?;
        }
        scores.commit()?;
        summary.write(&folder.join(summary::SUMMARY), Some(&self.settings), failed)?;
        page::write(
            &folder.join(page::REPORT),
            &page::Shown { plan, shift: self, summary: &summary, exhibits, commands: around.commands },
        )?;
        Ok(Tables::of(&summary, &self.levels, &self.settings).text(Kind::DrawConsistency))
    }
}

/// What came of scoring.
#[derive(Debug)]
pub struct Scores {
    /// Images scored now, and those that failed.
    pub outcome: Outcome,
    /// Means of `draw_consistency` for a terminal, by set, timestep and layer.
    pub table: String,
}

/// The folder's lock, which a run holds while it lives.
type Lock = File;

fn output_error(path: &Path) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Error {
    let path = path.to_owned();
    move |cause| Error::Output { path, cause }
}
