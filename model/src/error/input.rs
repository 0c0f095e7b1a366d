//! What a network refuses of its inputs.

/// An input that a network cannot take, with what was found and what the network takes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The network's attention scores need more than float16.
    #[error(
        "dtype: is float16, but config.json has upcast_attention: this model's attention scores exceed float16's range; take bfloat16 \
         or float32"
    )]
    UpcastAttention,
    /// The latents are another model's.
    #[error("latents: have {found} channels, this network takes {expected}")]
    LatentChannels {
        /// Channels that the network takes.
        expected: usize,
        /// Channels of the latents.
        found: usize,
    },
    /// There is neither one timestep nor one per image.
    #[error("timesteps: {found} given for a batch of {batch}; give one, or one per image")]
    Timesteps {
        /// Images.
        batch: usize,
        /// Timesteps.
        found: usize,
    },
    /// The text states are another text encoder's.
    #[error("text states: are {found} wide, this network takes {expected}; is the text encoder of another model?")]
    TextWidth {
        /// Width that the network attends to.
        expected: usize,
        /// Width of the states.
        found: usize,
    },
    /// A ControlNet's residuals are another UNet's.
    #[error("ControlNet: has {found} residuals, this UNet has {expected} skip connections")]
    Residuals {
        /// Skip connections.
        expected: usize,
        /// Residuals.
        found: usize,
    },
    /// A condition image has not the size of the image.
    #[error("ControlNet condition: image embeds to {found:?}, the latents need {expected:?}; it must have the size of the image")]
    Condition {
        /// The shape of the latents behind the first convolution.
        expected: (usize, usize, usize, usize),
        /// The shape of the embedding.
        found: (usize, usize, usize, usize),
    },
    /// The up path takes more skip connections than there are.
    #[error("unet: ran out of skip connections")]
    SkipConnections,
    /// A pass that keeps nothing, or whose prediction is needed, was stopped by its taps.
    #[error("taps: a pass that has to predict noise ended early")]
    EndedEarly,
    /// `vae-out` of latents without noise.
    #[error("vae-out: is the image after one step of denoising, and clean latents have no such step")]
    NoStep,
    /// NaN or infinities in what a network computed.
    #[error(
        "{what}: hold numbers that are not finite (NaN or infinity); the weights or an adapter lead out of the range of the compute \
         type: take --dtype float32, the adapter at a smaller strength, or another copy of the model"
    )]
    NotFinite {
        /// What was computed.
        what: &'static str,
    },
    /// An image cannot be brought to latents.
    #[error("image: is {width}x{height}; both sides have to be multiples of {multiple}")]
    ImageSize {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// Pixels per latent.
        multiple: usize,
    },
    /// No layer of the text encoder is left.
    #[error("clip_skip: is {found}, but this text encoder has {layers} layers")]
    ClipSkip {
        /// The layers.
        layers: usize,
        /// What was asked for.
        found: usize,
    },
    /// Token sequences of several lengths, or empty ones.
    #[error("tokens: sequences must have one common length of at least 1")]
    TokenLengths,
    /// A token sequence is longer than there are positions.
    #[error(
        "tokens: are {found} long, this text encoder takes {most}; a tokenizer's length is `model_max_length` in its tokenizer_config.json"
    )]
    TooManyTokens {
        /// Positions.
        most: usize,
        /// Tokens of a sequence.
        found: usize,
    },
    /// A token that the text encoder has no embedding for.
    #[error("tokens: hold id {found}, the vocabulary ends at {vocabulary}; is the tokenizer of another model?")]
    UnknownToken {
        /// Size of the vocabulary.
        vocabulary: usize,
        /// The token's id.
        found: u32,
    },
}
