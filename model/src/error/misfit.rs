//! Why an operation refuses its inputs.

use candle_core::DType;

use super::Error;

/// What does not fit, with what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// An input has another number of axes.
    #[error("expected {expected}, got {found:?}")]
    Rank {
        /// The axes by their letters.
        expected: &'static str,
        /// The input's shape.
        found: Vec<usize>,
    },
    /// An input has no axis at all.
    #[error("expected {expected}, got a scalar")]
    Scalar {
        /// The axes by their letters.
        expected: &'static str,
    },
    /// One of two inputs has another number of axes.
    #[error("expected {expected}, got {:?} and {:?}", found[0], found[1])]
    Ranks {
        /// The axes by their letters.
        expected: &'static str,
        /// The inputs' shapes.
        found: [Vec<usize>; 2],
    },
    /// The input is wider or narrower than the weight takes.
    #[error("the input has {found} channels, the {weight} {expected}")]
    Channels {
        /// What the weight is called.
        weight: &'static str,
        /// The weight's channels.
        expected: usize,
        /// The input's.
        found: usize,
    },
    /// The weight is empty.
    #[error("the weight {found:?} has no elements")]
    EmptyWeight {
        /// Its shape.
        found: Vec<usize>,
    },
    /// The bias is longer or shorter than the output is wide.
    #[error("the bias has shape {found:?}, expected [{expected}]")]
    Bias {
        /// Channels of the output.
        expected: usize,
        /// The bias's shape.
        found: Vec<usize>,
    },
    /// A norm's scale or shift is longer or shorter than the input is wide.
    #[error("weight and bias have shapes {:?} and {:?}, expected [{expected}]", found[0], found[1])]
    Affine {
        /// Channels of the input.
        expected: usize,
        /// The shapes of scale and shift.
        found: [Vec<usize>; 2],
    },
    /// The channels cannot be divided into groups or heads.
    #[error("{count} {name} do not divide {channels} channels")]
    Division {
        /// What they are divided into.
        name: &'static str,
        /// How many of them.
        count: usize,
        /// The channels.
        channels: usize,
    },
    /// A convolution's kernel is larger than the image with its padding, or empty, or the stride is 0, or the padding beyond all memory.
    #[error("a kernel of {} x {} with stride {stride} does not fit a padded input of {} x {}", kernel.0, kernel.1, padded.0, padded.1)]
    Kernel {
        /// Height and width of the kernel.
        kernel: (usize, usize),
        /// The stride.
        stride: usize,
        /// Height and width of the padded image.
        padded: (usize, usize),
    },
    /// Queries and keys, or keys and values, are not made for each other.
    #[error("{} have shape {:?}, {} {:?}", names[0], found[0], names[1], found[1])]
    Attended {
        /// What the two are called.
        names: [&'static str; 2],
        /// Their shapes.
        found: [Vec<usize>; 2],
    },
    /// A causal mask over unequal sequences.
    #[error("a causal mask needs as many queries as keys, got {queries} and {keys}")]
    Causal {
        /// Queries.
        queries: usize,
        /// Keys.
        keys: usize,
    },
    /// There is nothing to attend to.
    #[error("there are no keys")]
    NoKeys,
    /// There is nothing to enlarge.
    #[error("the input has no pixels")]
    NoPixels,
    /// The tokens are not those of an image of this size.
    #[error("{found} tokens are not {height} x {width}")]
    Tokens {
        /// Tokens.
        found: usize,
        /// Height of the image.
        height: usize,
        /// Width of the image.
        width: usize,
    },
    /// The tensors of a linear layer with a low-rank term do not fit each other.
    #[error("do not fit each other or are not on a CPU: x {x:?}, weight {weight:?}, down {down:?}, up {up:?}")]
    LowRank {
        /// The input's shape.
        x: Vec<usize>,
        /// The weight's.
        weight: Vec<usize>,
        /// The first factor's.
        down: Vec<usize>,
        /// The second factor's.
        up: Vec<usize>,
    },
    /// A gradient or a moment is of another shape than its weight.
    #[error("a gradient of {found:?} for {expected:?}")]
    Gradient {
        /// The weight's shape.
        expected: Vec<usize>,
        /// The gradient's.
        found: Vec<usize>,
    },
    /// An activation on a CPU is not float32.
    #[error("activations on a CPU are float32, these are {}", found.as_str())]
    ActivationType {
        /// Its type.
        found: DType,
    },
    /// A tensor does not hold floating-point numbers that kernels read.
    #[error("of type {} where float32, float16 or bfloat16 was expected", found.as_str())]
    ElementType {
        /// Its type.
        found: DType,
    },
    /// A tensor is on another device than the operation's input.
    #[error("is on another device than its operation's input, a CPU")]
    Device,
    /// A tensor whose values do not follow each other.
    #[error("of shape {found:?} is not contiguous")]
    NotContiguous {
        /// Its shape.
        found: Vec<usize>,
    },
    /// The environment asks for vector instructions by something that is no text.
    #[error("is not text")]
    InstructionsNotText,
    /// The environment asks for vector instructions that are not there.
    #[error("is \"{found}\", but this processor and build have {}", available.join(", "))]
    Instructions {
        /// Their name.
        found: &'static str,
        /// The names of those that are there.
        available: &'static [&'static str],
    },
}

impl Misfit {
    /// The error of the operation called `name`.
    pub(crate) fn of(self, name: &'static str) -> Error {
        Error::Operation { name, misfit: Box::new(self) }
    }
}
