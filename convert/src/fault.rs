//! What `convert` refuses of its files and options.

use driftless::error::{ArgumentCause, FileCause, TensorCause};
use driftless::model_family::{ModelFamily, Network};

/// Why an input, an output or an option cannot be used. The file, the tensor or the option is named by the error that holds this.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("is no folder")]
    NotAFolder,
    #[error("ends neither in .safetensors nor in .ckpt")]
    NoLdmName,
    #[error("does not end in .safetensors")]
    NoSafetensorsName,
    #[error("is the input itself")]
    IsTheInput,
    #[error("names a file; a whole checkpoint becomes a folder")]
    NamesAFile,
    #[error("is to be a folder, but the base has no configurations or lacks a network")]
    NoBaseForFolder,
    #[error("is a diffusers pipeline already")]
    IsPipeline,
    #[error("is the {network} of a diffusers pipeline already")]
    IsDiffusers { network: Network },
    #[error("holds no network of a {} model", ModelFamily::all_names())]
    NoNetwork,
    #[error("has no {network}, which the tuned model has")]
    BaseLacks { network: Network },
    #[error("differs from the base by rounding alone in every layer that a LoRA can change")]
    NoDifference,
    #[error("is a whole checkpoint, which holds no tokenizer and no configurations")]
    CheckpointWithoutBase,
    #[error("is a file, which holds no tokenizer and no configurations")]
    BaseIsAFile,
    #[error("is a {found} checkpoint, and the base is a {expected} model")]
    OtherFamily { expected: &'static ModelFamily, found: &'static ModelFamily },

    #[error("is for checkpoint files; a folder has one set of weights")]
    ForCheckpoints,
    #[error("is for whole checkpoints, and the input is none")]
    ForWholeCheckpoints,
    #[error("is for adapters, and the input is a whole checkpoint")]
    ForAdapters,

    #[error("is missing; the base model has it")]
    MissingOfBase,
    #[error("has shape {found:?}, the base model's has {expected:?}")]
    ShapeOfBase { expected: Vec<usize>, found: Vec<usize> },
    #[error("has shape {found:?}, the base model's `{name}` has {expected:?}")]
    ShapeOfNamed { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("has a type that is not supported")]
    ElementType,
    #[error("stands without the other two of query, key and value")]
    NotPacked,
    #[error("changes a bias, and the base model has none there")]
    NoBias,
    #[error(
        "changes a bias, as {count} layers do, which LoRA cannot hold; `convert merge` can, and --drop-biases leaves biases as they are in \
         the base"
    )]
    Bias { count: usize },
    #[error("is a trained norm, as {count} layers are, which LoRA cannot hold; `convert merge` and `convert kohya` without --rank can, {}",
        if *alone { "and nothing else is changed" } else { "and --drop-norms leaves norms as they are in the base" })]
    Norm { count: usize, alone: bool },
    #[error("is {family}, whose change depends on the base model; name that with --base")]
    NeedsBase { family: String },
    #[error("does not tell the shape of its layer; name a --base")]
    NoShape,
    #[error("{source}")]
    NotPlain { source: Box<driftless::Error> },
}

impl From<Fault> for FileCause {
    fn from(fault: Fault) -> Self {
        Self::above(fault)
    }
}

impl From<Fault> for TensorCause {
    fn from(fault: Fault) -> Self {
        Self::above(fault)
    }
}

impl From<Fault> for ArgumentCause {
    fn from(fault: Fault) -> Self {
        Self::above(fault)
    }
}
