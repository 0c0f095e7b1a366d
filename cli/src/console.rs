//! Messages: text on a terminal or in a log, JSON lines on request.
//!
//! Messages go to standard error, what the program was asked to print to standard output ([`Console::result`], [`crate::output`]).
//! Nothing here fails: a message that cannot be written is lost, and work goes on.

use crate::escape;
use crate::options::Logging;
use crate::output;
use indicatif::style::TemplateError;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};
use std::io::IsTerminal;
use std::sync::LazyLock;

/// The bars on the terminal; there is one terminal, so there is one set of them. Empty where standard error is none.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));

/// What kind of message a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Error,
    Interrupted,
    Warning,
    Info,
    Detail,
}

impl Level {
    /// As `--log-json` names it.
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Interrupted => "interrupted",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Detail => "detail",
        }
    }

    /// What stands before a line of this kind, and the color that a terminal shows it in (ANSI: red, yellow).
    fn prefix(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Error => Some(("error:", "\u{1b}[1;31m")),
            Self::Interrupted => Some(("interrupted:", "\u{1b}[1;33m")),
            Self::Warning => Some(("warning:", "\u{1b}[1;33m")),
            Self::Info | Self::Detail => None,
        }
    }
}

/// Tells the user what happens, as much as was asked for. Clones tell the same user.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    logging: Logging,
}

impl Console {
    /// A console of the given talkativeness.
    pub fn new(logging: Logging) -> Self {
        Self { logging }
    }

    /// What came of the work, on standard output: a line for whoever ran the command, not with `--quiet`.
    pub fn result(&self, message: impl AsRef<str>) {
        match (self.logging.quiet, self.logging.log_json) {
            (true, _) => {}
            (false, true) => say(self.logging, Level::Info, message.as_ref(), Map::new()),
            (false, false) => BARS.suspend(|| output::print(&format!("{}\n", message.as_ref()))),
        }
    }

    /// A note that interests everybody; not with `--quiet`.
    pub fn info(&self, message: impl AsRef<str>) {
        self.info_with(message, Value::Null);
    }

    /// The same, with what `--log-json` has besides the message: the fields of an object.
    pub fn info_with(&self, message: impl AsRef<str>, fields: Value) {
        if !self.logging.quiet {
            let fields = if let Value::Object(fields) = fields { fields } else { Map::new() };
            say(self.logging, Level::Info, message.as_ref(), fields);
        }
    }

    /// A note for `--verbose`.
    pub fn detail(&self, message: impl FnOnce() -> String) {
        if self.logging.verbose {
            say(self.logging, Level::Detail, &message(), Map::new());
        }
    }

    /// Something that is probably not what was meant; told even when quiet.
    pub fn warn(&self, message: impl AsRef<str>) {
        say(self.logging, Level::Warning, message.as_ref(), Map::new());
    }

    /// Something that failed; told even when quiet.
    pub fn error(&self, message: impl AsRef<str>) {
        say(self.logging, Level::Error, message.as_ref(), Map::new());
    }

    /// That the user has stopped the work, and how to go on; told even when quiet.
    pub fn interrupted(&self, message: impl AsRef<str>) {
        say(self.logging, Level::Interrupted, message.as_ref(), Map::new());
    }

    /// How much is reported, and in which form.
    pub fn logging(&self) -> Logging {
        self.logging
    }

    /// A line that is ready to be shown.
    pub(crate) fn line(&self, line: &str) {
        BARS.suspend(|| output::tell(line));
    }

    /// A bar, where bars are shown: on a terminal, unless something else was asked for.
    pub(crate) fn bar(&self, total: Option<u64>, style: Result<ProgressStyle, TemplateError>) -> Option<ProgressBar> {
        if self.logging.quiet || self.logging.log_json || !std::io::stderr().is_terminal() {
            return None;
        }
        let bar = BARS.add(total.map_or_else(ProgressBar::no_length, ProgressBar::new));
        // A template that does not parse is a mistake of this crate; indicatif's own style does then.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Some(bar)
    }
}

/// Writes a message. Lines behind the first are indented, so that no text from a file can look like a message of its own.
fn say(logging: Logging, level: Level, message: &str, fields: Map<String, Value>) {
    let line = if logging.log_json {
        let mut object = Map::from_iter([("level".into(), level.name().into()), ("message".into(), message.into())]);
        object.extend(fields);
        escape::json(&Value::Object(object).to_string()).into_owned()
    } else {
        let message = indented(&escape::lines(message));
        match level.prefix() {
            Some((prefix, color)) if is_colorful() => format!("{color}{prefix}\u{1b}[0m {message}"),
            Some((prefix, _)) => format!("{prefix} {message}"),
            None => message,
        }
    };
    BARS.suspend(|| output::tell(&line));
}

/// Whether standard error shows colors: a terminal, and nobody has asked for none (<https://no-color.org>).
fn is_colorful() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn indented(message: &str) -> String {
    let mut lines = message.trim_end().split('\n');
    let mut text = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        text.push('\n');
        if !line.is_empty() && !line.starts_with(' ') {
            text.push_str("  ");
        }
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_behind_the_first_looks_like_a_message() {
        assert_eq!(indented("a\nerror: b\n  c\n\nd\n"), "a\n  error: b\n  c\n\n  d");
    }
}
