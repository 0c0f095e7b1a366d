//! Why an adapter does not fit a layer.

/// What an adapter expects of a layer, and what the layer has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterMisfit {
    /// The weight that is changed has other sizes.
    #[error("changes a weight of shape {expected:?}, the layer's has {found:?}")]
    Weight {
        /// Of the adapter.
        expected: Vec<usize>,
        /// Of the layer.
        found: Vec<usize>,
    },
    /// A vector or a rotation of another number of inputs or outputs.
    #[error("{verb} {expected} {axis}, the weight has shape {found:?}")]
    Axis {
        /// What it does to them.
        verb: &'static str,
        /// Of the adapter.
        expected: usize,
        /// `inputs` or `outputs`.
        axis: &'static str,
        /// Of the layer.
        found: Vec<usize>,
    },
    /// A factor that cannot be brought into the layer's form.
    #[error("`{component}` has shape {found:?}, this layer needs {expected:?}")]
    Factor {
        /// The factor.
        component: &'static str,
        /// Of the layer.
        expected: Vec<usize>,
        /// Of the adapter.
        found: Vec<usize>,
    },
    /// A core on a layer without a kernel.
    #[error("has a core, which linear layers do not take")]
    Core,
    /// Magnitudes of another number of rows or columns.
    #[error("has magnitudes of shape {found:?}, the layer {expected} of them")]
    Magnitude {
        /// Of the layer.
        expected: usize,
        /// Of the adapter.
        found: Vec<usize>,
    },
    /// A bias of another size.
    #[error("changes a bias of shape {found:?}, the layer's has {expected} numbers")]
    Bias {
        /// Of the layer.
        expected: usize,
        /// Of the adapter.
        found: Vec<usize>,
    },
    /// A family that does not stand on layers of this kind.
    #[error("is {family}, which does not change a weight of shape {found:?}")]
    Kind {
        /// The family.
        family: &'static str,
        /// Of the layer.
        found: Vec<usize>,
    },
}
