//! What is wrong with a file of weights: other kinds of files, and safetensors files and indices that do not hold together.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

/// Why a file cannot be read as weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightFileCause {
    #[error("is a folder, not a weight file")]
    Folder,
    #[error("is JSON text, not weights")]
    JsonText,
    #[error("is a tar archive, torch's format before version 0.1.2")]
    Tar,
    #[error("is a Git LFS pointer, not the weights")]
    LfsPointer,
    #[error("is a web page, not weights")]
    WebPage,
    #[error("is a text file (`{}`), not weights", first_line.escape_debug())]
    Text { first_line: String },
    #[error("is a {format} file, which is not supported")]
    Unsupported { format: &'static str },
    #[error("is a compressed archive")]
    Compressed,
    #[error("is an empty zip archive")]
    EmptyArchive,
    #[error("is a bare pickle, not a file that torch.save wrote, or a truncated one")]
    BarePickle,
    #[error("is neither safetensors nor a torch file")]
    UnknownContainer,

    #[error("its safetensors header needs {expected} bytes, {found} are there: truncated")]
    HeaderLength { expected: u64, found: u64 },
    #[error("its safetensors header is not valid: {source}")]
    Header { source: serde_json::Error },
    #[error("its tensors end at byte {expected} of the data, {found} bytes are there")]
    DataLength { expected: u64, found: u64 },
    /// `source` is `None` for a file that is no JSON by its first bytes or its size.
    #[error("is not the index of a sharded model{}", source.as_ref().map(|source| format!(": {source}")).unwrap_or_default())]
    NotAnIndex { source: Option<serde_json::Error> },
    #[error("names the shard `{}`", name.escape_debug())]
    ShardName { name: String },
    /// `shown` are the first of the `count` keys, escaped.
    #[error(
        "has {} not understood: {}{}",
        if *count == 1 { "a key that is" } else { "keys that are" },
        shown.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "),
        if *count > shown.len() { format!(" and {} more", count - shown.len()) } else { String::new() }
    )]
    UnknownKeys { shown: Vec<String>, count: usize },

    #[error("is big-endian; only little-endian files are read")]
    BigEndian,
    #[error("has the byte order `{found}`; only `little` is read")]
    ByteOrder { found: String },
    #[error("is a zip archive without data.pkl, not a torch file")]
    NoPickle,
    #[error("is a TorchScript program (it has `{member}`)")]
    TorchScript { member: String },
}
