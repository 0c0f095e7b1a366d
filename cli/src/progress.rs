//! How far a piece of work is: a bar on a terminal, a line now and then elsewhere, JSON lines on request; with rate and time left.

use crate::console::Console;
use crate::escape;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time between two lines of text.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The time between two lines of JSON, which are for programs.
const JSON_EVERY: Duration = Duration::from_secs(1);
/// How often a bar is drawn anew while nothing happens.
const TICK: Duration = Duration::from_millis(500);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// The name of one.
    pub one: &'static str,
    /// The name of several.
    pub many: &'static str,
}

impl Unit {
    /// A unit by its two names.
    pub const fn new(one: &'static str, many: &'static str) -> Self {
        Self { one, many }
    }

    /// So many: `1 image`, `2 images`.
    pub fn of(self, count: usize) -> String {
        format!("{count} {}", if count == 1 { self.one } else { self.many })
    }
}

/// The progress of one piece of work; gone when dropped. Threads may share it.
#[derive(Debug)]
pub struct Progress {
    console: Console,
    unit: Unit,
    total: usize,
    began: Instant,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Done before this began, which says nothing about its speed.
    before: usize,
    done: usize,
    failed: usize,
    last_line: Instant,
    note: Note,
    /// Whether anything with a note has been told.
    noted: bool,
}

/// What else there is to tell.
#[derive(Debug, Default)]
pub struct Note {
    /// In words.
    pub text: String,
    /// For `--log-json`.
    pub fields: Map<String, Value>,
    /// A better estimate of the seconds left than the rate so far gives.
    pub seconds_left: Option<f64>,
}

impl Progress {
    /// Begins to tell how far `total` pieces of work are.
    pub fn new(console: &Console, unit: Unit, total: usize) -> Self {
        let bar = console.bar(Some(total as u64), ProgressStyle::with_template("{bar:30} {msg}  [{elapsed}]"));
        if let Some(bar) = &bar {
            bar.set_message(format!("0/{total} {}", unit.many));
            bar.enable_steady_tick(TICK);
        }
        let now = Instant::now();
        let state = State { before: 0, done: 0, failed: 0, last_line: now, note: Note::default(), noted: false };
        Self { console: *console, unit, total, began: now, bar, state: Mutex::new(state) }
    }

    /// Says that this many were done by an earlier run.
    pub fn begin_at(&self, done: usize) {
        let mut state = self.state();
        (state.before, state.done) = (done, done);
        self.show(&mut state);
    }

    /// So many more are done.
    pub fn advance(&self, count: usize) {
        let mut state = self.state();
        state.done += count;
        self.show(&mut state);
    }

    /// So many more are done, `failed` of them without a result.
    pub fn advance_with_failures(&self, count: usize, failed: usize) {
        let mut state = self.state();
        state.done += count;
        state.failed += failed;
        self.show(&mut state);
    }

    /// So many are done in all, and there is something to tell about it.
    pub fn reach(&self, done: usize, note: Note) {
        let mut state = self.state();
        state.done = done;
        state.note = note;
        self.show(&mut state);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Numbers have no broken intermediate state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &mut State) {
        let seconds = self.began.elapsed().as_secs_f64();
        if let Some(bar) = &self.bar {
            bar.set_position(state.done as u64);
            bar.set_message(self.text(state, seconds));
            return;
        }
        let logging = self.console.logging();
        if logging.quiet || !self.is_due(state) {
            return;
        }
        state.last_line = Instant::now();
        state.noted |= !state.note.text.is_empty();
        match logging.log_json {
            true => self.console.line(&escape::json(&self.json(state, seconds).to_string())),
            false => self.console.line(&self.text(state, seconds)),
        }
    }

    /// A line is due from time to time, at the end of work that took its time, and for the first and the last thing worth a note.
    fn is_due(&self, state: &State) -> bool {
        let logging = self.console.logging();
        let every = if logging.log_json { JSON_EVERY } else { LINE_EVERY };
        let at_the_end = state.done >= self.total;
        let notable = !state.note.text.is_empty() && (!state.noted || at_the_end);
        let long = self.began.elapsed() >= every;
        logging.verbose || notable || state.last_line.elapsed() >= every || at_the_end && (long || logging.log_json)
    }

    /// Pieces done a second, and the seconds that the rest will take.
    fn pace(&self, state: &State, seconds: f64) -> (f64, f64) {
        let rate = (state.done - state.before.min(state.done)) as f64 / seconds.max(1e-9);
        let left = (self.total - state.done.min(self.total)) as f64 / rate.max(1e-9);
        (rate, state.note.seconds_left.unwrap_or(left))
    }

    fn text(&self, state: &State, seconds: f64) -> String {
        let (rate, left) = self.pace(state, seconds);
        let mut text = format!("{}/{} {}", state.done, self.total, self.unit.many);
        if state.failed > 0 {
            text += &format!(", {} failed", state.failed);
        }
        if rate > 0.0 {
            text += &format!(", {}, {} left", self.rate(rate), duration(left));
        }
        if !state.note.text.is_empty() {
            text += &format!(", {}", escape::one_line(&state.note.text));
        }
        text
    }

    fn json(&self, state: &State, seconds: f64) -> Value {
        let (rate, left) = self.pace(state, seconds);
        let mut value = json!({
            "level": "progress", "unit": self.unit.many, "done": state.done, "total": self.total, "failed": state.failed,
            "per_second": rate, "seconds": seconds, "seconds_left": if rate > 0.0 { json!(left) } else { Value::Null },
        });
        if let Value::Object(object) = &mut value {
            object.extend(state.note.fields.clone());
        }
        value
    }

    /// `3.2 images/s`, or `12.5 s/image` when slower than one a second.
    fn rate(&self, rate: f64) -> String {
        match rate >= 1.0 {
            true => format!("{rate:.1} {}/s", self.unit.many),
            false => format!("{:.1} s/{}", 1.0 / rate.max(1e-9), self.unit.one),
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

/// `1:02:03`, or `2:03` below an hour.
pub fn duration(seconds: f64) -> String {
    // A float's conversion saturates.
    let whole = seconds.clamp(0.0, 1e12).round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Logging;

    const IMAGES: Unit = Unit::new("image", "images");

    #[test]
    fn lines_tell_rate_time_left_failures_and_notes() {
        let progress = Progress::new(&Console::new(Logging::default()), IMAGES, 50);
        let mut state = progress.state();
        (state.done, state.failed) = (20, 1);
        assert_eq!(progress.text(&state, 10.0), "20/50 images, 1 failed, 2.0 images/s, 0:15 left");
        let value = progress.json(&state, 10.0);
        assert_eq!((&value["done"], &value["total"], &value["failed"]), (&20.into(), &50.into(), &1.into()));
        assert_eq!((&value["per_second"], &value["seconds_left"]), (&2.0.into(), &15.0.into()));
        (state.before, state.failed) = (15, 0);
        state.note = Note {
            text: "loss 0.1\u{1b}".into(),
            fields: Map::from_iter([("loss".into(), 0.1.into())]),
            seconds_left: Some(3723.4),
        };
        assert_eq!(progress.text(&state, 10.0), r"20/50 images, 2.0 s/image, 1:02:03 left, loss 0.1\u{1b}");
        assert_eq!(progress.json(&state, 10.0)["loss"], 0.1);
    }

    #[test]
    fn a_first_note_is_told_at_once_and_short_work_in_silence() {
        let progress = Progress::new(&Console::new(Logging::default()), IMAGES, 3);
        let mut state = progress.state();
        (state.done, state.noted) = (3, false);
        assert!(!progress.is_due(&state));
        state.note.text = "loss".into();
        assert!(progress.is_due(&state));
        (state.done, state.noted) = (2, true);
        assert!(!progress.is_due(&state));
    }

    #[test]
    fn one_is_not_several() {
        assert_eq!([0, 1, 2].map(|count| IMAGES.of(count)), ["0 images", "1 image", "2 images"]);
    }

    #[test]
    fn durations() {
        assert_eq!([0.4, 59.6, 3723.4].map(duration), ["0:00", "1:00", "1:02:03"]);
    }
}
