//! Why a model hub does not give a file.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use std::path::PathBuf;

/// Why a hub gave no answer that can be used: the cause of [`Error::Hub`](super::Error::Hub). `endpoint` is the hub's address, `status`
/// that of HTTP.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubCause {
    #[error("{endpoint} answered something that is not a repository's listing")]
    NotAListing { endpoint: String },
    #[error("{endpoint} sent no usable ETag for `{file}`")]
    NoETag { endpoint: String, file: String },
    #[error("{origin} redirects to `{location}`, which is not followed")]
    Redirect { origin: String, location: String },
    #[error("{endpoint} redirects in circles")]
    RedirectsInCircles { endpoint: String },
    #[error("access is granted on request only (HTTP {status})")]
    Gated { status: u16 },
    #[error("{endpoint} gives no access (HTTP {status}): the repository is private, or does not exist")]
    NoAccess { endpoint: String, status: u16 },
    #[error("there is no revision `{revision}` (HTTP 404)")]
    NoRevision { revision: String },
    #[error("there is no file `{file}` at revision `{revision}` (HTTP 404)")]
    NoFile { file: String, revision: String },
    #[error("{endpoint} has no such repository (HTTP 404), and there is no local folder of that name")]
    NoRepository { endpoint: String },
    #[error("{endpoint} answered HTTP {status}")]
    Status { endpoint: String, status: u16 },
    /// `missing` are names of files, as they are shown.
    #[error("this is not {expected} that can be read: the repository has no {missing}")]
    NotOfThatKind { expected: &'static str, missing: String },
    #[error("HF_HUB_OFFLINE is set and {} has no {missing} of revision `{revision}`", cache.display())]
    Offline { cache: PathBuf, missing: String, revision: String },
    /// `file` is `None` while no file is asked for yet.
    #[error("cannot be fetched from {endpoint}: {}{source}", file.as_ref().map(|file| format!("`{file}`: ")).unwrap_or_default())]
    Unreachable { endpoint: String, file: Option<String>, source: ConnectionCause },
    #[error("`{file}` is announced with {found} bytes, more than such a file has ({most})")]
    TooLarge { file: String, found: u64, most: u64 },
    #[error("`{file}` arrived with another hash than announced")]
    Hash { file: String },
    #[error("the download of `{file}` was interrupted at byte {position}")]
    Interrupted { file: String, position: u64 },
}

/// What may pass when it is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionCause {
    #[error("{endpoint} answered HTTP {status}")]
    Busy { endpoint: String, status: u16 },
    /// A wait that is not granted.
    #[error("{cause}, and asks to come back in {seconds} s")]
    RetryLater { seconds: u64, cause: Box<ConnectionCause> },
    #[error(transparent)]
    Http(#[from] Box<ureq::Error>),
    #[error(transparent)]
    Body(#[from] std::io::Error),
    #[error("the server does not have the bytes asked for (HTTP 416)")]
    Range,
    #[error("the server sent other bytes than asked for")]
    OtherRange,
    #[error("the server sent more bytes than announced, or than such a file has")]
    TooLong,
    #[error("the connection ended at byte {found} of {expected}")]
    CutOff { expected: u64, found: u64 },
}
