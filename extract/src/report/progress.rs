//! Messages and progress: a bar with rate and time left on a terminal, a line now and then otherwise, JSON lines on request. All of
//! it goes to standard error; standard output is for results alone.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::args::Logging;

/// The time between two plain progress lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Tells the user what happens.
pub struct Reporter {
    logging: Logging,
    progress: Option<Progress>,
}

/// How far a run is.
struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    last_line: Instant,
    done: usize,
    total: usize,
    failed: usize,
}

impl Reporter {
    /// A reporter of the given talkativeness.
    pub fn new(logging: Logging) -> Self {
        Self { logging, progress: None }
    }

    /// Tells about downloads from a hub.
    pub fn downloads(&self) -> driftless::hub::Progress {
        super::downloads::watcher(self.logging)
    }

    /// A note that interests everybody.
    pub fn info(&self, message: &str) {
        if !self.logging.quiet {
            self.tell("info", message);
        }
    }

    /// A note for `--verbose`.
    pub fn detail(&self, message: impl FnOnce() -> String) {
        if self.logging.verbose {
            self.tell("detail", &message());
        }
    }

    /// Something that is probably not what was meant.
    pub fn warn(&self, message: &str) {
        if !self.logging.quiet {
            self.tell("warning", message);
        }
    }

    /// Something that failed; told even when quiet.
    pub fn error(&self, message: &str) {
        self.tell("error", message);
    }

    fn tell(&self, level: &str, message: &str) {
        let line = match (self.logging.log_json, level) {
            (true, _) => json!({ "level": level, "message": message }).to_string(),
            (false, "warning" | "error") => format!("{level}: {message}"),
            (false, _) => message.to_owned(),
        };
        self.print(&line);
    }

    fn print(&self, line: &str) {
        match self.progress.as_ref().and_then(|progress| progress.bar.as_ref()) {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Begins to count images.
    pub fn begin(&mut self, total: usize) {
        let shows_bar = !self.logging.quiet && !self.logging.log_json && std::io::stderr().is_terminal();
        let bar = shows_bar.then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} images  {per_sec}  {elapsed} gone, {eta} left  {msg}");
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            // A template that does not parse would show indicatif's own style.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        let now = Instant::now();
        self.progress = Some(Progress { bar, began: now, last_line: now, done: 0, total, failed: 0 });
    }

    /// Some images are done, `failed` of them without features.
    pub fn advance(&mut self, images: usize, failed: usize) {
        let logging = self.logging;
        let Some(progress) = &mut self.progress else { return };
        progress.done += images;
        progress.failed += failed;
        if let Some(bar) = &progress.bar {
            bar.inc(images as u64);
            if progress.failed > 0 {
                bar.set_message(format!("{} failed", progress.failed));
            }
            return;
        }
        let is_due = progress.last_line.elapsed() >= LINE_EVERY || progress.done == progress.total || logging.verbose;
        if is_due && !logging.quiet {
            progress.last_line = Instant::now();
            eprintln!("{}", progress.line(logging.log_json));
        }
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if let Some(bar) = self.progress.take().and_then(|progress| progress.bar) {
            bar.finish_and_clear();
        }
    }
}

impl Progress {
    fn line(&self, as_json: bool) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = self.done as f64 / seconds.max(1e-9);
        let left = (self.total - self.done.min(self.total)) as f64 / rate.max(1e-9);
        if as_json {
            let value: Value = json!({
                "level": "progress", "done": self.done, "total": self.total, "failed": self.failed,
                "images_per_second": rate, "seconds": seconds, "seconds_left": left,
            });
            return value.to_string();
        }
        let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        format!("{}/{} images{failed}, {}, {} left", self.done, self.total, rate_text(rate), duration_text(left))
    }
}

/// `3.2 images/s`, or `12.5 s/image` when slower than one a second.
fn rate_text(rate: f64) -> String {
    if rate >= 1.0 { format!("{rate:.1} images/s") } else { format!("{:.1} s/image", 1.0 / rate.max(1e-9)) }
}

/// `1:02:03`, or `2:03` below an hour.
pub fn duration_text(seconds: f64) -> String {
    // A float's conversion saturates.
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_honest() {
        let now = Instant::now();
        let progress =
            Progress { bar: None, began: now - Duration::from_secs(10), last_line: now, done: 20, total: 50, failed: 1 };
        let line = progress.line(false);
        assert!(line.starts_with("20/50 images, 1 failed, 2.0 images/s, 0:15 left"), "{line}");
        let value: Value = serde_json::from_str(&progress.line(true)).unwrap();
        assert_eq!((&value["done"], &value["total"], &value["failed"]), (&20.into(), &50.into(), &1.into()));
    }

    #[test]
    fn durations_and_rates() {
        assert_eq!(duration_text(3723.4), "1:02:03");
        assert_eq!(duration_text(59.6), "1:00");
        assert_eq!(rate_text(0.5), "2.0 s/image");
    }
}
