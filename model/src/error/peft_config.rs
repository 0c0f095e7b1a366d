//! What is wrong with the adapter_config.json of a PEFT file, or with the same entries in a file's metadata.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

/// Why the configuration of an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeftConfigCause {
    #[error("is not a JSON object{}", source.as_ref().map(|source| format!(": {source}")).unwrap_or_default())]
    NotAnObject { source: Option<serde_json::Error> },
    #[error("is {found}; only \"LORA\" is supported")]
    Type { found: String },
    #[error("transposed weights are not supported")]
    TransposedWeights,
    #[error("biases of factors are not supported")]
    FactorBias,
    #[error("is missing or not a number")]
    NotANumber,
    #[error("`{pattern}` has no number")]
    PatternWithoutNumber { pattern: String },
    #[error("`{pattern}` is no regular expression: {source}")]
    Pattern { pattern: String, source: regex::Error },
}
