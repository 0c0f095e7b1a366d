//! What a run tells while it works, on the console that all commands share.

use crate::steps::StepReport;
use driftless_cli::progress::Note;
use driftless_cli::{Logging, Progress, Unit};
use serde_json::{Map, json};

/// The console of a run: messages, and the progress of what is in hand.
#[derive(Debug)]
pub struct Console {
    shared: driftless_cli::Console,
    progress: Option<Progress>,
}

impl Console {
    /// As the options say.
    pub fn new(logging: Logging) -> Self {
        Self { shared: driftless_cli::Console::new(logging), progress: None }
    }

    /// What all commands have.
    pub fn shared(&self) -> &driftless_cli::Console {
        &self.shared
    }

    /// Something that may be wrong.
    pub fn warn(&self, message: impl AsRef<str>) {
        self.shared.warn(message);
    }

    /// Something worth knowing.
    pub fn info(&self, message: impl AsRef<str>) {
        self.shared.info(message);
    }

    /// Something for the curious.
    pub fn detail(&self, message: impl AsRef<str>) {
        self.shared.detail(|| message.as_ref().to_owned());
    }

    /// Begins to tell how far `total` pieces of work are, `done` of them done.
    pub fn begin(&mut self, unit: Unit, total: usize, done: usize) {
        self.finish();
        let progress = Progress::new(&self.shared, unit, total);
        progress.begin_at(done);
        self.progress = Some(progress);
    }

    /// Images encoded so far.
    pub fn encoded(&self, done: usize) {
        self.progress.iter().for_each(|progress| progress.reach(done, Note::default()));
    }

    /// A step.
    pub fn step(&self, report: &StepReport, epochs: usize, left_seconds: f64) {
        let rates: Vec<String> = report.rates.iter().map(|(name, rate)| format!("{name} {rate:.1e}")).collect();
        let (epoch, average) = (report.epoch, report.loss_average);
        let loss = report.loss.map_or_else(|| "of no image".to_owned(), |loss| format!("{loss:.4}"));
        let note = Note {
            text: format!("epoch {epoch}/{epochs}, loss {loss} (average {average:.4}), lr {}", rates.join(", ")),
            fields: Map::from_iter([
                ("step".into(), json!(report.step)),
                ("epoch".into(), json!(epoch)),
                ("loss".into(), json!(report.loss)),
                ("loss_average".into(), json!(average)),
            ]),
            seconds_left: Some(left_seconds),
        };
        if let Some(progress) = &self.progress {
            progress.reach(report.step, note);
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        self.progress = None;
    }
}
