//! What can be wrong with the adapter that is to be trained.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use crate::options::values::ValueError;
use driftless::model_family::Network;
use std::path::PathBuf;

/// Why `--network_module`, `--network_args` and their like do not describe an adapter that can be trained.
#[derive(Debug, thiserror::Error)]
pub enum NetworkFault {
    #[error(transparent)]
    Unknown(#[from] driftless::Error),
    #[error("--network_args: {0}")]
    UnknownInArguments(driftless::Error),
    #[error("--network_args: {error} (there are {known})")]
    UnknownAlgorithm { error: driftless::Error, known: String },
    #[error("--network_args algo={found} is not supported: its files are read and converted, not trained; there are {known}")]
    NotTrained { found: String, known: String },
    #[error("--network_args {key} is not supported{advice}; there are {known}")]
    OfAnotherProgram { key: String, advice: &'static str, known: String },
    #[error("--network_args {key} is not supported")]
    NotSupported { key: String },
    #[error("--network_args {0}")]
    Value(ValueError),
    #[error("--network_args {0}")]
    ValueOfFamily(driftless::Error),
    #[error("--network_args {key} is for algo={algorithm}")]
    OfAnotherAlgorithm { key: &'static str, algorithm: &'static str },
    #[error("{option} is 0; a rank must be at least 1")]
    NoRank { option: &'static str },
    #[error("--network_args conv_alpha={found} must not be negative")]
    NegativeAlpha { found: f64 },
    #[error("--network_args {key}={found} must be at least 0 and below 1")]
    DropoutRate { key: &'static str, found: f64 },
    #[error("--network_args dropout={found} and --network_dropout are two names of one thing; give one")]
    TwoDropouts { found: f64 },
    #[error(
        "dropout (--network_dropout, --network_args dropout) has no effect in LyCORIS, which trains with the rebuilt weight; use \
         rank_dropout or module_dropout, or --network_module networks.lora"
    )]
    DropoutOfRebuiltWeight,
    #[error("--network_args dora_wd is not for algo={algorithm}")]
    NoMagnitudes { algorithm: &'static str },
    #[error("--network_args rank_dropout is not supported for algo={algorithm}")]
    NoRankDropout { algorithm: &'static str },
    #[error("--network_args: LoRA+ ratios must be above 0")]
    Ratio,
    #[error("--network_args: LoRA+ ratios are for algo=lora without dora_wd")]
    RatioWithoutLora,
    #[error(
        "--save_model_as diffusers holds LoRA alone; save this algo as safetensors, and `convert diffusers` makes LoRA of it"
    )]
    DiffusersHoldsLora,
    #[error("every learning rate is 0, so nothing would be trained")]
    NoRate,
    #[error("the model has no layer that the adapter could sit on")]
    NoLayer,
}

/// Why an adapter's file cannot be what training starts from, or goes on from.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    #[error("{}: has nothing for {layer}, which is to be trained", path.display())]
    Lacks { path: PathBuf, layer: String },
    #[error("{}: holds an adapter for {network}.{layer}, which is not trained with these options", path.display())]
    NotTrained { path: PathBuf, network: Network, layer: String },
    #[error("is {found}, not {expected}")]
    Family { expected: String, found: String },
    #[error("has rank {found}, not {expected}; give --dim_from_weights, or that rank as --network_dim")]
    Rank { expected: usize, found: usize },
    #[error("has no `{component}` of shape {expected:?}, or one of another shape")]
    Component { component: &'static str, expected: Vec<usize> },
    #[error("--dim_from_weights needs --network_weights")]
    NoWeights,
    #[error("{}: {layer} is {found}; --dim_from_weights is for LoRA", path.display())]
    NotLora { path: PathBuf, layer: String, found: String },
    #[error(
        "{}: {network}.{layer} has rank and alpha {found:?}, others {expected:?}; --dim_from_weights needs one of each",
        path.display()
    )]
    SeveralRanks { path: PathBuf, network: Network, layer: String, expected: (usize, f64), found: (usize, f64) },
}
