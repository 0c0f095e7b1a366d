//! What can be wrong with a choice of layers.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

/// What is wrong with a layer file, or with the ids of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerFault {
    #[error(
        "no such layer file; layer files are JSON, {{\"id\": true, ...}} or [\"id\", ...]; driftless has the original's in configs/layers/"
    )]
    NoFile,
    #[error("`{id}` is {found}; expected true or false")]
    NotABool { id: String, found: serde_json::Value },
    #[error("the list holds {found}; expected layer ids as strings")]
    NotAnId { found: serde_json::Value },
    #[error("expected an object of ids and true or false, or a list of ids")]
    NotALayerFile,
    #[error("`attn` is the aggregate of attention maps; say which maps with --attention, for instance --attention up_cross")]
    NoAttention,
    #[error("no layer is wanted; map at least one id to true")]
    NoLayer,
    /// The first few of `count` ids that do not exist.
    #[error(
        "{}{}; `extract layers` lists all",
        shown.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        if *count > shown.len() { format!("; and {} more", count - shown.len()) } else { String::new() }
    )]
    Unknown { shown: Vec<driftless::Error>, count: usize },
}
