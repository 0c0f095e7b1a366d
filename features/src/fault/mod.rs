//! What is wrong with a request, before any work is done.

mod basis;
mod cause;
mod input;
mod layers;
mod manifest;
mod request;
mod set;

use std::fmt;
use std::path::Path;

pub use basis::BasisFault;
pub use cause::FaultCause;
pub use input::InputFault;
pub use layers::LayerFault;
pub use manifest::{MANIFEST, ManifestFault, Unusable};
pub use request::RequestFault;
pub use set::SetFault;

/// A request that cannot be carried out.
#[derive(Debug)]
pub enum Fault {
    /// The command line itself is wrong (exit status 2).
    Usage(Box<FaultCause>),
    /// Something that it names is wrong or missing (exit status 1).
    Failure(Box<FaultCause>),
}

impl Fault {
    /// The command line itself is wrong.
    pub fn usage(cause: impl Into<FaultCause>) -> Self {
        Self::Usage(Box::new(cause.into()))
    }

    /// Something that the command line names is wrong or missing.
    pub fn failure(cause: impl Into<FaultCause>) -> Self {
        Self::Failure(Box::new(cause.into()))
    }

    /// Something is wrong with a file or folder.
    pub fn of_file(path: impl AsRef<Path>, cause: impl Into<FaultCause>) -> Self {
        Self::failure(FaultCause::File { path: path.as_ref().to_owned(), cause: Box::new(cause.into()) })
    }

    /// What is wrong.
    pub fn cause(&self) -> &FaultCause {
        match self {
            Self::Usage(cause) | Self::Failure(cause) => cause,
        }
    }

    /// The same with the name of what is wrong in front: `context` ends as a prefix does.
    #[must_use]
    pub fn of(self, context: &str) -> Self {
        let within = |cause| Box::new(FaultCause::Within { context: context.to_owned(), cause });
        match self {
            Self::Usage(cause) => Self::Usage(within(cause)),
            Self::Failure(cause) => Self::Failure(within(cause)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause().fmt(f)
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
    /// Adds a fault unless `holds`.
    pub fn require(&mut self, holds: bool, fault: impl FnOnce() -> Fault) {
        if !holds {
            self.0.push(fault());
        }
    }

    /// Adds a fault.
    pub fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// The value, or its default after adding the fault.
    pub fn take<T: Default>(&mut self, result: Result<T, Fault>) -> T {
        result.unwrap_or_else(|fault| {
            self.0.push(fault);
            T::default()
        })
    }

    /// The value, or `None` after adding the fault.
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
        let is_usage = self.0.iter().any(|fault| matches!(fault, Fault::Usage(_)));
        let cause = FaultCause::Several(self.0);
        if is_usage { Fault::usage(cause) } else { Fault::failure(cause) }
    }
}
