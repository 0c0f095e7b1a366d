//! What is wrong with a tensor of an adapter file.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use safetensors::Dtype;

use super::AdapterMisfit;

/// Why a tensor is no component of an adapter, or an adapter none of the model. Keys are escaped; families and kinds of layers are named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterCause {
    #[error("belongs to an adapter of type {found}; supported are {supported}")]
    Type { found: String, supported: String },
    /// Two spellings of one component.
    #[error("and `{other}` are both the same component of layer `{layer}` of the {network}")]
    TwoSpellings { other: String, layer: String, network: &'static str },
    #[error("its partner, {component}, is missing")]
    PartnerMissing { component: String },
    #[error("stands without the factors it belongs to")]
    NoFactors,
    #[error("is a component of {family}, but `{other}` of the same layer is one of {other_family}")]
    TwoFamilies { family: &'static str, other: String, other_family: &'static str },
    #[error("and `{other}` are two forms of the same {component}")]
    TwoForms { other: String, component: &'static str },
    #[error("is a magnitude of DoRA, which {family} does not have")]
    Magnitude { family: &'static str },
    #[error("is a part of {family}, and `{layer}` is {found}")]
    LayerKind { family: &'static str, layer: String, found: &'static str },
    #[error("changes the bias, which {family} of the same layer does too")]
    TwoBiases { family: &'static str },

    #[error("is empty or a single number (shape {found:?}); a matrix is expected")]
    NotAMatrix { found: Vec<usize> },
    #[error("has elements of type {found:?}; floating-point numbers are expected")]
    NotFloat { found: Dtype },
    #[error("has shape {found:?} on a {layer}, expected {expected}")]
    Shape { found: Vec<usize>, layer: &'static str, expected: String },
    #[error("has shape {found:?}; its first two sizes must be the rank, {rank}")]
    Core { found: Vec<usize>, rank: usize },
    #[error("has shape {found:?}, which does not fit `{other}` of shape {other_shape:?}")]
    Unequal { found: Vec<usize>, other: String, other_shape: Vec<usize> },
    #[error("has shape {found:?}, `{other}` has {other_shape:?}")]
    UnequalCores { found: Vec<usize>, other: String, other_shape: Vec<usize> },
    #[error("has rank {rank} ({found:?}), `{other}` has rank {other_rank} ({other_shape:?})")]
    Rank { rank: usize, found: Vec<usize>, other: String, other_rank: usize, other_shape: Vec<usize> },
    #[error("changes a weight of shape {found:?}, larger than any of the model's")]
    TooLarge { found: Vec<usize> },
    #[error("alpha is 0; programs read it as no change or as alpha = rank")]
    ZeroAlpha,
    #[error("alpha is {found}; it must be a finite number")]
    Alpha { found: f64 },

    #[error("has shape {found:?}, the blocks turn {expected} outputs")]
    Rescale { found: Vec<usize>, expected: usize },
    #[error("alpha is {found}; OFT's constraint must be a number of at least 0")]
    Constraint { found: f64 },
    #[error("alpha is 0; kohya's OFT then rotates nothing")]
    ZeroConstraint,
    #[error("holds blocks that are no rotations: their rows are not at right angles")]
    NotRotations,

    #[error("stands alone or out of turn in a file of cloneofsimo's format")]
    OutOfTurn,
    #[error("changes {found}, which is not {expected} (cloneofsimo's format, whose layers are known by their order)")]
    OutOfOrder { found: String, expected: String },

    #[error("is no longer finite with the adapters' changes; give them smaller scales")]
    Overflow,
    #[error("the base model has no such layer")]
    NoSuchLayer,
    #[error("{misfit} in the base model")]
    BaseModel { misfit: AdapterMisfit },
    #[error("is {found}, which this format does not hold; make it plain LoRA first")]
    NotInThisFormat { found: String },
    #[error("is {found}, which PEFT's format does not hold beside the others; make all plain LoRA first")]
    NotInPeft { found: String },
}
