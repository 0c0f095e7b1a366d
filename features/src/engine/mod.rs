//! Extraction itself: one pass over the images for all feature sets.
//!
//! Order of events: everything that can be wrong is checked first, cheapest first; then the model is loaded; then the images go
//! through in batches, one thread reading the next batch (`loader`), one computing (`batch`), one writing the features before
//! (`writer`). They wait for each other, so that no more than a batch is read ahead and a set's features are waiting to be written.
//! What sets share is made once per batch (images, the autoencoder's posterior, condition images, passes of the network that
//! differ in nothing but what is kept) or once per run (prompts, adapters, ControlNets). Sets with models of their own come one model
//! after the other.
//!
//! A batch always holds the same images, whatever was there already and however the work is sharded, so that features come out equal
//! to the byte: shards take whole batches, and an image that is done is computed again beside one that is not, but not written.
//!
//! Who compares features instead of writing them takes the same networks and passes from [`Drawing`], one draw of the noise at a time.

mod adapters;
mod batch;
mod contexts;
mod door;
mod drawing;
mod failures;
mod forward;
mod fuse;
mod images;
mod loader;
mod networks;
mod passes;
mod selection;
mod work;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use driftless::formats::remove_stale;
use driftless::pipeline::ModelOptions;
use driftless::unet::UnetConfig;

use crate::ids::IdMap;

use crate::plan::{ControlChoice, RunPlan};
use crate::set::ModelChoice;
use crate::set::ModelId;
use crate::set::{FeatureSet, PassKey};
use crate::timings::{Stage, Timings};
use crate::{Event, Observer, Result};

use batch::Computing;
use door::Door;
use forward::Forward;
use loader::{Loader, READ_AHEAD, ReadBatch};
use networks::Networks;
use selection::Selection;
use work::Batch;
use writer::{Job, Writer};

pub use drawing::{Draw, Drawing, Encodings, Imagined, PassId};
pub use failures::Failures;
pub use loader::ReadImage;
pub use networks::LocalModel;
pub use selection::{pass_sizes, shape_text};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Images that something was missing of.
    pub images: usize,
    /// Those of them that failed and are listed.
    pub failed: usize,
}

/// A run whose every layer is known, and what is missing of it on the disk.
pub struct Run<'a> {
    plan: &'a RunPlan,
    models: &'a IdMap<ModelChoice, LocalModel>,
    configs: IdMap<ModelChoice, UnetConfig>,
    options: &'a ModelOptions,
    selections: IdMap<FeatureSet, Selection>,
    batches: Vec<Batch<'a>>,
}

impl<'a> Run<'a> {
    /// Checks what depends on the models' sizes, and looks for what is there already. `models` are the plan's.
    ///
    /// # Errors
    /// When a configuration cannot be read; every fault of every set otherwise.
    pub fn new(plan: &'a RunPlan, models: &'a IdMap<ModelChoice, LocalModel>, options: &'a ModelOptions) -> Result<Self> {
        let configs = models.try_map(|_, model| model.unet_config(options.dtype))?;
        let selections = selection::select(plan, &configs)?;
        let batches = work::batches(plan, &selections);
        Ok(Self { plan, models, configs, options, selections, batches })
    }

    /// Images that something is missing of.
    pub fn images(&self) -> usize {
        self.batches.iter().map(Batch::pending_images).sum()
    }

    /// What the files of one image hold, all sets together.
    pub fn bytes_per_image(&self) -> u64 {
        selection::bytes_per_image(self.plan, &self.selections)
    }

    /// The ControlNets that the sets use, by kind. What they hold is part of what makes features, also where none is missing.
    pub fn controls(&self) -> BTreeMap<&'a str, &'a ControlChoice> {
        let passes: Vec<&PassKey> = self.plan.sets.values().map(|set| &set.pass).collect();
        networks::kinds(&passes).into_iter().map(|kind| (kind, &self.plan.controls[kind])).collect()
    }

    fn passes_of(&self, model: ModelId) -> impl Iterator<Item = &'a PassKey> {
        self.plan.sets.values().map(|set| &set.pass).filter(move |pass| pass.model == model)
    }

    fn batches_of(&self, model: ModelId) -> Vec<Batch<'a>> {
        self.batches.iter().filter_map(|batch| batch.of_model(model, self.plan)).collect()
    }

    /// Computes and writes what is missing. `controls` are the folders of [`Self::controls`].
    ///
    /// # Errors
    /// When a model cannot be loaded or a file cannot be written. An image that cannot be read is no error but listed in the failures.
    pub fn execute(&self, controls: &BTreeMap<String, PathBuf>, timings: &Timings, observer: &dyn Observer) -> Result<Outcome> {
        let mut door = self.door(controls, observer)?;
        let mut failures = Failures::begin(&self.plan.failures)?;
        remove_stale(work::folders(self.plan, &self.selections, &self.batches).iter().map(PathBuf::as_path));
        for model in self.models.ids() {
            let mine = self.batches_of(model);
            if !mine.is_empty() && !observer.wants_stop() {
                self.model(model, &mine, controls, (&mut failures, &mut door), timings, observer)?;
            }
        }
        Ok(Outcome { images: self.images(), failed: failures.count() })
    }

    /// All sets that one model computes.
    fn model(
        &self,
        model: ModelId,
        batches: &[Batch],
        controls: &BTreeMap<String, PathBuf>,
        (failures, door): (&mut Failures, &mut Door),
        timings: &Timings,
        observer: &dyn Observer,
    ) -> Result<()> {
        let keys: Vec<&PassKey> = self.passes_of(model).collect();
        let passes = passes::passes(model, self.plan, &self.selections, &self.configs[model])?;
        let start = Instant::now();
        let decodes = passes.iter().any(passes::Pass::vae_out);
        let networks = Networks::load(&keys, &self.models[model], controls, self.options, decodes)?;
        timings.note(Stage::Load, start.elapsed().as_secs_f64());
        self.enter(door)?;
        observer.event(Event::Began { images: batches.iter().map(Batch::pending_images).sum() });
        let loader = Loader { plan: self.plan, kinds: networks::kinds(&keys), timings, observer };
        let forward = Forward { plan: self.plan, networks, timings };
        let computing = Computing { selections: &self.selections, passes: &passes, forward, observer };
        let result = self.threads(&loader, computing, batches, failures, door);
        observer.event(Event::Ended);
        result
    }

    /// Reading, computing and writing, each on a thread of its own.
    fn threads(
        &self,
        loader: &Loader,
        computing: Computing,
        batches: &[Batch],
        failures: &mut Failures,
        door: &Door,
    ) -> Result<()> {
        let (timings, observer) = (computing.forward.timings, computing.observer);
        std::thread::scope(|scope| {
            let (read, to_compute) = sync_channel(READ_AHEAD);
            // Nothing waits in between: features can be large.
            let (computed, jobs) = sync_channel(0);
            scope.spawn(move || loader.run(batches, &read));
            let failed_before = failures.count();
            let writer = Writer {
                plan: self.plan,
                door,
                timings,
                failures,
                observer,
                sources: HashMap::new(),
                wrote: false,
                failed_before,
                jobs,
            };
            let writer = scope.spawn(move || writer.run());
            let computed = compute(computing, batches, to_compute, computed);
            let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // Where the writer gave up, that is why computing ended.
            written.and(computed)
        })
    }
}

/// Takes both ends, so that the other threads see when it is over.
fn compute<'a>(
    mut computing: Computing,
    batches: &[Batch<'a>],
    read: Receiver<ReadBatch>,
    out: SyncSender<Job<'a>>,
) -> Result<()> {
    for batch in batches {
        // Nothing more comes when the user stops the run.
        let Ok(images) = read.recv() else { break };
        if computing.observer.wants_stop() || !computing.batch(batch, images, &out)? {
            break;
        }
    }
    Ok(())
}
