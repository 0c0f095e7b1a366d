//! Messages and progress: a bar on a terminal, plain lines elsewhere, JSON lines with `--log_json`; all on standard error.

use super::time;
use crate::options::RunOptions;
use crate::training::StepReport;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Where messages go, and how many.
#[derive(Debug)]
pub struct Console {
    volume: Volume,
    json: bool,
    bar: Option<ProgressBar>,
    shown: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Volume {
    Quiet,
    Usual,
    Verbose,
}

/// An error with its causes, in one line; a cause that the sentence before it has told already is not told again.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// How often plain lines tell of progress.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

impl Console {
    /// As the options say.
    pub fn new(options: &RunOptions) -> Self {
        let volume = match (options.quiet, options.verbose) {
            (true, _) => Volume::Quiet,
            (_, true) => Volume::Verbose,
            _ => Volume::Usual,
        };
        Self { volume, json: options.log_json, bar: None, shown: None }
    }

    /// Something that may be wrong.
    pub fn warn(&self, message: impl AsRef<str>) {
        self.say("warning", message.as_ref());
    }

    /// Something worth knowing.
    pub fn info(&self, message: impl AsRef<str>) {
        if self.volume >= Volume::Usual {
            self.say("info", message.as_ref());
        }
    }

    /// Something for the curious.
    pub fn detail(&self, message: impl AsRef<str>) {
        if self.volume >= Volume::Verbose {
            self.say("detail", message.as_ref());
        }
    }

    fn say(&self, level: &str, message: &str) {
        let line = match (self.json, level) {
            (true, _) => json!({ "level": level, "message": message }).to_string(),
            (false, "warning") => format!("warning: {message}"),
            (false, _) => message.to_owned(),
        };
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Begins a bar of `total` steps, `done` of them done.
    pub fn begin(&mut self, what: &str, total: usize, done: usize) {
        self.finish();
        if self.volume == Volume::Quiet || self.json || !std::io::stderr().is_terminal() {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
        // A wrong template is a mistake in this file; the default style does then.
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {elapsed}<{eta} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(what.to_owned());
        bar.set_position(done as u64);
        bar.reset_eta();
        self.bar = Some(bar);
    }

    /// Images encoded so far.
    pub fn encoded(&mut self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        } else if self.is_due(done == total) {
            self.progress_line(&format!("latents: {done}/{total}"));
        }
    }

    /// A step.
    pub fn step(&mut self, report: &StepReport, total: usize, epochs: usize, left_seconds: f64) {
        if self.json && self.volume >= Volume::Usual {
            let line = json!({
                "level": "progress", "step": report.step, "steps": total, "epoch": report.epoch, "loss": report.loss,
                "loss_average": report.loss_average, "seconds_left": left_seconds.round(),
            });
            eprintln!("{line}");
            return;
        }
        let rates: Vec<String> = report.rates.iter().map(|(_, rate)| format!("{rate:.1e}")).collect();
        let numbers = format!("loss {:.4} (average {:.4}), lr {}", report.loss, report.loss_average, rates.join(" "));
        if let Some(bar) = &self.bar {
            bar.set_message(numbers);
            bar.set_position(report.step as u64);
            return;
        }
        if self.is_due(report.step == total || report.step == 1) {
            let (step, epoch) = (report.step, report.epoch);
            let left = time::span(left_seconds);
            self.progress_line(&format!(
                "step {step}/{total}, epoch {epoch}/{epochs}: {numbers}, {:.2} s/step, {left} left",
                report.seconds
            ));
        }
    }

    fn progress_line(&self, line: &str) {
        if self.volume >= Volume::Usual {
            self.say("info", line);
        }
    }

    fn is_due(&mut self, anyway: bool) -> bool {
        let due = anyway || self.shown.is_none_or(|shown| shown.elapsed() >= PLAIN_INTERVAL);
        if due {
            self.shown = Some(Instant::now());
        }
        due
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.shown = None;
    }
}
