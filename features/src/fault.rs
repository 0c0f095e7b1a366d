//! What is wrong with a request, before any work is done.

use std::fmt;

/// A request that cannot be carried out.
#[derive(Debug)]
pub enum Fault {
    /// The command line itself is wrong (exit status 2).
    Usage(String),
    /// Something that it names is wrong or missing (exit status 1).
    Failure(String),
}

impl Fault {
    /// The command line itself is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Something that the command line names is wrong or missing.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::Failure(message.into())
    }

    /// The same with the name of what is wrong in front.
    #[must_use]
    pub fn of(self, place: &str) -> Self {
        match self {
            Self::Usage(message) => Self::Usage(format!("{place}{message}")),
            Self::Failure(message) => Self::Failure(format!("{place}{message}")),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Failure(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Fault {}

/// Two results as one, with the faults of both.
///
/// # Errors
/// When either is one.
pub fn both<A, B>(first: Result<A, Fault>, second: Result<B, Fault>) -> Result<(A, B), Fault> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((first, second)),
        (Ok(_), Err(fault)) | (Err(fault), Ok(_)) => Err(fault),
        (Err(first), Err(second)) => Err(Faults(vec![first, second]).joined()),
    }
}

/// Collects faults, so that all of them are reported at once.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault if `holds` does not.
    pub fn require(&mut self, holds: bool, fault: impl FnOnce() -> Fault) {
        if !holds {
            self.0.push(fault());
        }
    }

    /// Notes a fault.
    pub fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// The value, or its default with the fault noted.
    pub fn take<T: Default>(&mut self, result: Result<T, Fault>) -> T {
        result.unwrap_or_else(|fault| {
            self.0.push(fault);
            T::default()
        })
    }

    /// The value, or `None` with the fault noted.
    pub fn keep<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.0.push(fault)).ok()
    }

    /// All faults as one, wrong usage if any of them is.
    ///
    /// # Errors
    /// When there is a fault.
    pub fn check(self) -> Result<(), Fault> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(self.joined()),
        }
    }

    fn joined(self) -> Fault {
        let message = self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ");
        match self.0.iter().any(|fault| matches!(fault, Fault::Usage(_))) {
            true => Fault::Usage(message),
            false => Fault::Failure(message),
        }
    }
}
