//! The one error type of this crate. Every variant says what was wrong, in which file or under which key, what was expected,
//! and what to do; the binaries print it as it is.
//!
//! The outer variant says where (file, key, argument), its cause what is wrong there: one enum per kind of thing that can be wrong,
//! with what was expected and what was found as fields. A cause's text is the middle of the sentence.

use std::path::{Path, PathBuf};

mod adapter;
mod adapter_misfit;
mod archive;
mod argument;
mod config;
mod elements;
mod file;
mod hub;
mod image;
mod input;
mod misfit;
mod model_file;
mod network_config;
mod peft_config;
mod pickle;
mod random_state;
mod schedule;
mod tensor;
mod tokenizer;
mod weight_file;

pub use adapter::AdapterCause;
pub use adapter_misfit::AdapterMisfit;
pub use archive::{ArchiveCause, MemberFault};
pub use argument::ArgumentCause;
pub use config::ConfigCause;
pub use elements::ElementError;
pub use file::FileCause;
pub use hub::{ConnectionCause, HubCause};
pub use image::{ImageCause, ImageFault};
pub use input::InputError;
pub use misfit::Misfit;
pub use model_file::ModelFileCause;
pub use network_config::NetworkConfigCause;
pub use peft_config::PeftConfigCause;
pub use pickle::PickleCause;
pub use random_state::RandomStateCause;
pub use schedule::ScheduleError;
pub use tensor::TensorCause;
pub use tokenizer::TokenizerCause;
pub use weight_file::WeightFileCause;

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
    #[error("{}: {cause}; {advice}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what was expected.
        cause: Box<FileCause>,
        /// What the user can do.
        advice: String,
    },

    /// A tensor in a weight file is missing, has the wrong shape or type, or is not understood.
    #[error("{}: tensor `{key}`: {cause}", path.display())]
    Tensor {
        /// The file, or the folder where the file should be.
        path: PathBuf,
        /// The tensor's full name.
        key: String,
        /// What is wrong with it and what was expected.
        cause: Box<TensorCause>,
    },

    /// A configuration file lacks an entry or holds a value that is not supported.
    #[error("{}: `{key}`: {cause}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// The entry.
        key: String,
        /// What is wrong with it and what was expected.
        cause: Box<ConfigCause>,
    },

    /// A value given by the caller is out of range or does not fit the model.
    #[error("{name}: {cause}")]
    Argument {
        /// The option or argument.
        name: String,
        /// What is wrong with it and what was expected.
        cause: Box<ArgumentCause>,
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
    #[error("{repository}: {cause}; {advice}")]
    Hub {
        /// The repository id, for instance `stable-diffusion-v1-5/stable-diffusion-v1-5`.
        repository: String,
        /// What is wrong.
        cause: Box<HubCause>,
        /// What the user can do.
        advice: String,
    },

    /// The caller asked for an end while work went on.
    #[error("interrupted")]
    Interrupted,

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
    pub fn file(path: impl AsRef<Path>, cause: impl Into<FileCause>, advice: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_owned(), cause: Box::new(cause.into()), advice: advice.into() }
    }

    /// An [`Error::Tensor`].
    pub fn tensor(path: impl AsRef<Path>, key: impl Into<String>, cause: impl Into<TensorCause>) -> Self {
        Self::Tensor { path: path.as_ref().to_owned(), key: key.into(), cause: Box::new(cause.into()) }
    }

    /// An [`Error::Config`].
    pub fn config(path: impl AsRef<Path>, key: impl Into<String>, cause: impl Into<ConfigCause>) -> Self {
        Self::Config { path: path.as_ref().to_owned(), key: key.into(), cause: Box::new(cause.into()) }
    }

    /// An [`Error::Argument`].
    pub fn argument(name: impl Into<String>, cause: impl Into<ArgumentCause>) -> Self {
        Self::Argument { name: name.into(), cause: Box::new(cause.into()) }
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
