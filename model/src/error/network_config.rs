//! What is wrong with an entry of a network's config.json.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

/// Why a network cannot be built by its configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkConfigCause {
    #[error("is set: this is an SDXL model; driftless supports Stable Diffusion 1 and 2 only")]
    Sdxl,
    #[error("is 9: this is an inpainting model; driftless supports plain Stable Diffusion 1 and 2 only")]
    Inpainting,
    #[error("names the block type `{found}`, which neither Stable Diffusion 1 nor 2 has; expected {expected}")]
    BlockType { found: String, expected: &'static str },
    #[error("needs one width per entry of down_block_types and up_block_types")]
    Widths,
    #[error("has a value that neither Stable Diffusion 1 nor 2 uses; expected {expected}")]
    FixedValue { expected: &'static str },
    #[error("must be between {least} and {most}")]
    OutOfRange { least: usize, most: usize },
    #[error("gives {heads} heads at level {level}, which do not divide the width {width}")]
    Heads { heads: usize, level: usize, width: usize },
    #[error("has no positive entry for level {level}")]
    NoEntry { level: usize },
    #[error("does not have {expected} entries as block_out_channels has")]
    EntryCount { expected: usize },
    #[error("needs 1 to 16 levels of 1 to 64 residual blocks")]
    Levels,
    #[error("and the image's channels must be at least 1")]
    NoChannels,
    #[error("needs 2 to 16 positive widths, and conditioning_channels at least 1")]
    ConditioningWidths,
}
