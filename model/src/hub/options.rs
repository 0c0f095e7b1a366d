//! What the hub's own Python client reads from the environment, as plain values.

use crate::formats::{FileKind, read_text};
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The hub when `HF_ENDPOINT` does not name another.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// How far the download of one file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// The repository id.
    pub repository: &'a str,
    /// The file's path inside the repository.
    pub file: &'a str,
    /// Bytes that are there, those of an earlier interrupted download included.
    pub done: u64,
    /// Bytes of the whole file, when the server says.
    pub total: Option<u64>,
}

/// Called before the first byte of a file, after each piece and behind the last; `Break` stops the download, which a
/// later one takes up again.
pub type Progress = Arc<dyn Fn(&Transfer<'_>) -> ControlFlow<()> + Send + Sync>;

/// How to reach the hub, where to keep what it sends, and which files to prefer.
#[derive(Clone)]
pub struct HubOptions {
    /// Where requests go: `http://` or `https://`, a host, maybe a path (`HF_ENDPOINT`).
    pub endpoint: String,
    /// The cache's `hub` folder; none when not even the home folder is known.
    pub cache: Option<PathBuf>,
    /// Sent to the endpoint, and to no other host.
    pub token: Option<String>,
    /// Use the cache alone.
    pub offline: bool,
    /// Branch, tag or commit; the branch `main` when not given.
    pub revision: Option<String>,
    /// Prefer `*.fp16.safetensors` weights. Without it they are taken where there are no others.
    pub half: bool,
    /// A PEM file of certificate authorities to trust in place of Mozilla's.
    pub certificates: Option<PathBuf>,
    /// How long to wait for a connection, and for each next piece of an answer.
    pub timeout: Duration,
    /// How often a broken transfer is taken up again without any byte gained in between; with 0 never at all.
    pub retries: u32,
    /// The wait before the first of these, doubled for each further one, 10 seconds at most.
    pub retry_wait: Duration,
    /// Told about every download.
    pub progress: Option<Progress>,
}

impl HubOptions {
    /// The options that the environment asks for: `HF_ENDPOINT`; `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME` or
    /// `XDG_CACHE_HOME` for the cache; `HF_HUB_OFFLINE`; `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` or the file that
    /// `huggingface-cli login` writes (`HF_TOKEN_PATH`); `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`HubOptions::from_env`], with `variable` instead of the environment.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let user = get("HOME").map(PathBuf::from).or_else(std::env::home_dir);
        let path = |name: &str| get(name).map(|value| expand(&value, user.as_ref()));
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| user.as_ref().map(|user| user.join(".cache/huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let token_file = path("HF_TOKEN_PATH").or_else(|| home.as_ref().map(|home| home.join("token")));
        let token = get("HF_TOKEN").or_else(|| get("HUGGING_FACE_HUB_TOKEN"));
        let yes = |name: &str| get(name).is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&v.to_uppercase().as_str()));
        Self {
            endpoint: get("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
            cache: cache.or_else(|| home.as_ref().map(|home| home.join("hub"))),
            token: token.or_else(|| token_file.and_then(read_token)),
            offline: yes("HF_HUB_OFFLINE") || yes("TRANSFORMERS_OFFLINE"),
            certificates: path("SSL_CERT_FILE").or_else(|| path("REQUESTS_CA_BUNDLE")).or_else(|| path("CURL_CA_BUNDLE")),
            ..Self::plain()
        }
    }

    /// The public hub, no cache, no token, nothing preferred.
    fn plain() -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            cache: None,
            token: None,
            offline: false,
            revision: None,
            half: false,
            certificates: None,
            timeout: Duration::from_secs(30),
            retries: 5,
            retry_wait: Duration::from_millis(500),
            progress: None,
        }
    }

    /// The revision asked for, or `main`.
    pub(super) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

/// The token is not shown.
impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .field("offline", &self.offline)
            .field("revision", &self.revision)
            .field("half", &self.half)
            .finish_non_exhaustive()
    }
}

/// A leading `~/` is the home folder.
fn expand(path: &str, home: Option<&PathBuf>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

fn read_token(path: PathBuf) -> Option<String> {
    let token = read_text(path, FileKind::ShortText).ok()?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}
