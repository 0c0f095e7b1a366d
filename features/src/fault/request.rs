//! What can be wrong with the options of a run, typed or in a configuration file.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

/// What is wrong with an option, or with what several of them ask for together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFault {
    /// A value on the command line; `found` are its words.
    #[error("--{flag} {found}: expected {expected}")]
    Typed { flag: String, found: String, expected: String },
    /// A value in a configuration file.
    #[error("{key} = {found}: expected {expected}")]
    Read { key: String, found: toml::Value, expected: String },
    #[error("set: expected tables, [[set]]")]
    SetsAreNoTables,
    #[error("has no [[set]]; each [[set]] is one feature set")]
    NoSets,
    #[error("{}", .0.to_string().trim_end())]
    Toml(#[from] toml::de::Error),
    #[error("{source}; there are {known}")]
    Attention { source: driftless::Error, known: String },
    #[error("--version {found}: driftless has Stable Diffusion {known}")]
    Version { found: String, known: String },
    #[error("--pca needs --pca-dims N beside it, the number of components that are written")]
    PcaWithoutDims,
    #[error("--pca-dims N needs --pca FILE beside it, the bases that `extract pca FEATURES --fit FILE` made")]
    DimsWithoutPca,
    #[error("{option} {found}: expected {least} to {most} {unit}")]
    OutOfRange { option: &'static str, found: usize, least: usize, most: usize, unit: &'static str },
    #[error("[input] names no images")]
    NoInput,
    #[error("--input-dir is needed: a pattern such as photos/*.jpg, a folder, a file, or several of these")]
    NoInputOption,
    #[error("--split {found}: is the first component of file names and cannot hold a path")]
    Split { found: String },
    #[error("`{kind}` has a strength or range, but --control does not name it")]
    StrengthWithoutControl { kind: String },
    #[error("`{kind}` has a ControlNet or condition images, but --control does not name it")]
    NetworkWithoutControl { kind: String },
    #[error("--control {kind}: no ControlNet of this kind is known; name one with --controlnet-model {kind}=DIR|ID")]
    UnknownControl { kind: String },
    #[error(
        "--control {kind}: driftless makes no {kind} images itself; give ready-made ones with --control-image-dir {kind}=DIR"
    )]
    NoConditionImages { kind: String },
    /// Follows from another fault.
    #[error("nothing to do")]
    NothingToDo,
}
