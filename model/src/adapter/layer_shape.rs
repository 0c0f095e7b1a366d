//! The shapes of the layers that adapters sit on; which names are of which kind is said by [`crate::model_family::LayerKind`].

/// The shape of the layer that an adapter sits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerShape {
    /// A linear layer, weight `[c_out, c_in]`.
    Linear {
        /// Input features.
        c_in: usize,
        /// Output features.
        c_out: usize,
    },
    /// A convolution, weight `[c_out, c_in, kernel, kernel]`.
    Conv2d {
        /// Input channels.
        c_in: usize,
        /// Output channels.
        c_out: usize,
        /// Height and width of the kernel.
        kernel: usize,
    },
    /// A group or layer normalization, scale and shift `[channels]`.
    Norm {
        /// Channels or features.
        channels: usize,
    },
}

impl LayerShape {
    /// Input and output features or channels.
    pub fn features(self) -> (usize, usize) {
        match self {
            Self::Linear { c_in, c_out } | Self::Conv2d { c_in, c_out, .. } => (c_in, c_out),
            Self::Norm { channels } => (channels, channels),
        }
    }

    /// The shape of the layer's weight.
    pub fn weight_shape(self) -> Vec<usize> {
        match self {
            Self::Linear { c_in, c_out } => vec![c_out, c_in],
            Self::Conv2d { c_in, c_out, kernel } => vec![c_out, c_in, kernel, kernel],
            Self::Norm { channels } => vec![channels],
        }
    }

    /// Height and width of the kernel; 1 where there is none.
    pub fn kernel(self) -> usize {
        match self {
            Self::Linear { .. } | Self::Norm { .. } => 1,
            Self::Conv2d { kernel, .. } => kernel,
        }
    }
}
