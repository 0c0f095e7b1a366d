//! The one error type of this crate. Every variant says what was wrong, in which file or under which key, what was expected,
//! and what to do; the binaries print it as it is.

use std::path::{Path, PathBuf};

mod input;
mod misfit;
mod schedule;

pub use input::InputError;
pub use misfit::Misfit;
pub use schedule::ScheduleError;

/// What can go wrong while reading models, adapters and images, or while computing with them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },

    /// A file is not what it should be (truncated, another format, hostile, unreadable).
    #[error("{}: {problem}; {advice}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what was expected.
        problem: String,
        /// What the user can do.
        advice: String,
    },

    /// A tensor in a weight file is missing, has the wrong shape or type, or is not understood.
    #[error("{}: tensor `{key}`: {problem}", path.display())]
    Tensor {
        /// The file, or the folder where the file should be.
        path: PathBuf,
        /// The tensor's full name.
        key: String,
        /// What is wrong with it and what was expected.
        problem: String,
    },

    /// A configuration file lacks an entry or holds a value that is not supported.
    #[error("{}: `{key}`: {problem}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// The entry.
        key: String,
        /// What is wrong with it and what was expected.
        problem: String,
    },

    /// A value given by the caller is out of range or does not fit the model.
    #[error("{what}: {problem}")]
    Argument {
        /// The option or argument.
        what: String,
        /// What is wrong with it and what was expected.
        problem: String,
    },

    /// A tensor operation was given tensors that do not fit it or each other.
    #[error("{name}: {misfit}")]
    Operation {
        /// The operation, or the argument that does not fit.
        name: &'static str,
        /// What does not fit.
        misfit: Box<Misfit>,
    },

    /// A scheduler was asked for what it cannot do.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),

    /// A network was given an input that it cannot take.
    #[error(transparent)]
    Input(#[from] InputError),

    /// A name that does not exist, with the nearest one that does.
    #[error("unknown {kind} `{name}`{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// What the name should have been, for instance `layer id`.
        kind: &'static str,
        /// The name as given.
        name: String,
        /// The nearest existing name, when one is near enough to be meant.
        nearest: Option<String>,
    },

    /// A model hub could not be asked, or does not have the file.
    #[error("{repository}: {problem}; {advice}")]
    Hub {
        /// The repository id, for instance `stable-diffusion-v1-5/stable-diffusion-v1-5`.
        repository: String,
        /// What is wrong.
        problem: String,
        /// What the user can do.
        advice: String,
    },

    /// A tensor operation failed; with correct callers this is a full device memory or a missing device.
    #[error(transparent)]
    Tensors(#[from] candle_core::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] for `path`, in the form `map_err` takes.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.as_ref().to_owned(), source }
    }

    /// An [`Error::File`].
    pub fn file(path: impl AsRef<Path>, problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_owned(), problem: problem.into(), advice: advice.into() }
    }

    /// An [`Error::Tensor`].
    pub fn tensor(path: impl AsRef<Path>, key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Tensor { path: path.as_ref().to_owned(), key: key.into(), problem: problem.into() }
    }

    /// An [`Error::Config`].
    pub fn config(path: impl AsRef<Path>, key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config { path: path.as_ref().to_owned(), key: key.into(), problem: problem.into() }
    }

    /// An [`Error::Argument`].
    pub fn argument(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Argument { what: what.into(), problem: problem.into() }
    }

    /// An [`Error::Unknown`] naming the nearest of `existing`.
    pub fn unknown<'a>(kind: &'static str, name: &str, existing: impl IntoIterator<Item = &'a str>) -> Self {
        let nearest = existing
            .into_iter()
            .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
            .filter(|(similarity, _)| *similarity > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, candidate)| candidate.to_owned());
        Self::Unknown { kind, name: name.to_owned(), nearest }
    }
}
