//! What is said on the way: results on stdout, warnings on stderr.

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

    /// Each key that was not understood.
    pub fn unknown_keys(&self, keys: &[String]) {
        for key in keys {
            self.warn(format!("key `{}` is not understood and left out", key.escape_debug()));
        }
    }
}
