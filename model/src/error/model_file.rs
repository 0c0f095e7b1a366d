//! What is wrong with a file or folder that should hold a model or an adapter.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use std::path::PathBuf;

use super::Error;

/// Why a model, a network or an adapter cannot be taken from a file or folder. Kinds of models are named with their article.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFileCause {
    #[error("is {kind}, which is not supported")]
    Unsupported { kind: &'static str },
    #[error("has two text encoders: this is an SDXL model")]
    TwoTextEncoders,
    #[error("is not a diffusers model folder: it has neither model_index.json nor unet/")]
    NotAModelFolder,
    #[error("has no weights: looked for {stem}.safetensors, its fp16 variant, a sharded index and {pickle_stem}.bin")]
    NoWeights { stem: &'static str, pickle_stem: &'static str },
    #[error("holds no {network}")]
    NoNetwork { network: &'static str },
    #[error("is {kind}, not a whole checkpoint in LDM naming")]
    NotAnLdmCheckpoint { kind: String },
    #[error("has no weights of the {network} in LDM naming")]
    NoLdmNetwork { network: &'static str },
    #[error("has no moving average ({prefix}*) of `{key}`")]
    NoMovingAverage { prefix: &'static str, key: String },
    #[error("is a UNet of other sizes than that of {}", model.display())]
    OtherUnet { model: PathBuf },
    #[error("is a UNet of {found}, {} is {expected}", model.display())]
    UnetOfFamily { found: &'static str, expected: &'static str, model: PathBuf },
    #[error("is a single checkpoint file, which holds no tokenizer and no configuration")]
    SingleFile,

    #[error("is {kind}, not an adapter")]
    NotAnAdapter { kind: String },
    #[error("is no adapter: no key is understood, the first is `{first}`")]
    NoAdapterKey { first: String },
    #[error("is a folder without an adapter: looked for {}, here and in unet and text_encoder", names.join(", "))]
    FolderWithoutAdapter { names: &'static [&'static str] },
    #[error("is a PEFT file without adapter_config.json beside it, which holds the scale")]
    NoPeftConfig,
    #[error("{entry} is {found}; expected a timestep between 0 and 999")]
    CleanTimestep { entry: &'static str, found: String },
    /// `source` says on which layer, and what does not fit.
    #[error("{source}")]
    AdapterDoesNotFit { source: Box<Error> },
}
