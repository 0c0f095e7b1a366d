//! What is said on the way: results on stdout, warnings and progress on stderr.

use driftless::hub::{Progress as Downloads, Transfer};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between lines of progress where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Prints as much as was asked for.
pub struct Report {
    quiet: bool,
    verbose: bool,
}

impl Report {
    pub fn new(quiet: bool, verbose: bool) -> Self {
        Self { quiet, verbose }
    }

    /// A result.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.quiet {
            println!("{}", text.as_ref());
        }
    }

    /// A detail that few want.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.verbose {
            println!("{}", text.as_ref());
        }
    }

    /// Something to know even where nothing else is printed.
    pub fn warn(&self, text: impl AsRef<str>) {
        eprintln!("convert: warning: {}", text.as_ref());
    }

    /// The progress of `total` pieces of work of this name.
    pub fn progress(&self, name: &'static str, total: usize) -> Progress {
        let bar = (!self.quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{msg}  {bar:30} {pos}/{len}  {per_sec}, {eta} left");
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr()).with_message(name);
            // A template that does not parse would show indicatif's own style.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let lines = (!self.quiet && bar.is_none()).then(|| Mutex::new((Instant::now(), 0)));
        Progress { name, total, bar, lines }
    }

    /// Tells about downloads.
    pub fn downloads(&self) -> Downloads {
        let quiet = self.quiet;
        let named: Mutex<Option<String>> = Mutex::new(None);
        Arc::new(move |transfer: &Transfer<'_>| {
            let mut named = named.lock().unwrap_or_else(PoisonError::into_inner);
            if !quiet && named.as_deref() != Some(transfer.file) {
                *named = Some(transfer.file.to_owned());
                eprintln!("downloading {}/{}", transfer.repository, transfer.file);
            }
            ControlFlow::Continue(())
        })
    }

    /// Each key that was not understood.
    pub fn unknown_keys(&self, keys: &[String]) {
        for key in keys {
            self.warn(format!("key `{}` is not understood and left out", key.escape_debug()));
        }
    }
}

/// A bar on a terminal, a line now and then elsewhere, nothing when quiet. Dropped when the work is done.
pub struct Progress {
    name: &'static str,
    total: usize,
    bar: Option<ProgressBar>,
    /// When the last line was, and how much is done.
    lines: Option<Mutex<(Instant, usize)>>,
}

impl Progress {
    /// One piece more is done.
    pub fn advance(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
        if let Some(lines) = &self.lines {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.1 += 1;
            if lines.0.elapsed() >= LINE_EVERY && lines.1 < self.total {
                lines.0 = Instant::now();
                eprintln!("{}: {} of {}", self.name, lines.1, self.total);
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
