//! What can be wrong with a file of bases, and with features that are to be projected on them.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

/// What is wrong with the bases that features are to be projected on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BasisFault {
    #[error(
        "holds no bases: `format` of its metadata is {}, expected `{expected}`; `extract pca FEATURES --fit FILE` makes such a file",
        found.as_ref().map_or_else(|| "missing".to_owned(), |found| format!("`{found}`"))
    )]
    Format { found: Option<String>, expected: &'static str },
    #[error("the entry `{entry}` is none of LAYER.mean, LAYER.components and LAYER.variance")]
    Entry { entry: String },
    #[error("holds the basis of no layer")]
    NoLayer,
    #[error("`{entry}` is missing")]
    Missing { entry: String },
    #[error("`{entry}` is {found:?}; expected {expected}")]
    Shape { entry: String, found: Vec<usize>, expected: String },
    #[error("`{entry}` holds numbers that are not finite")]
    NotFinite { entry: String },
    #[error("has no basis of `{layer}`, only of {there}; fit one to features of all layers that are extracted")]
    OtherLayer { layer: String, there: String },
    #[error("its basis of `{layer}` is for {expected} channels, and the layer has {found}; fit one to features of this model")]
    Channels { layer: String, expected: usize, found: usize },
    #[error("its basis of `{layer}` has {there} components, and --pca-dims asks for {wanted}")]
    Components { layer: String, there: usize, wanted: usize },
    #[error("`{layer}` is no map of features and is not projected; leave it out, or extract it in a run without --pca")]
    NotFeatures { layer: String },
    /// Memory is short.
    #[error(transparent)]
    Tensors(#[from] candle_core::Error),
}
