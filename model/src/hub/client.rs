//! Requests to the hub: redirects, the token, what a refusal means in words, the list of a repository's files.
//!
//! Redirects are followed here and not by the HTTP library, because the token may go to the endpoint only: weights live on
//! another host, behind addresses that are signed for whoever holds them.

use super::files;
use super::options::HubOptions;
use super::paced::Paced;
use crate::error::{ArgumentCause, ConnectionCause, Error, FileCause, HubCause, Result};
use crate::formats::{FileKind, read_bounded};
use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use ureq::http::{Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// More redirects than any hub makes.
const MOST_REDIRECTS: usize = 10;

/// A listing larger than this is not read; SD1.5's has 30 KB.
const MOST_LISTING_BYTES: u64 = 16 << 20;

/// Why a request brought no answer that can be used.
#[derive(Debug)]
pub enum Failure {
    /// No connection, or it broke, or the server is busy: worth another try. `offline` when there was no connection at all.
    Passing {
        /// What happened.
        cause: ConnectionCause,
        /// Whether the server could not be reached.
        offline: bool,
        /// How long the server asks to be left alone (`Retry-After`).
        after: Option<Duration>,
    },
    /// Trying again would not help.
    Final(Error),
}

/// What the hub knows of a repository at a revision.
pub struct Listing {
    /// The commit's hash.
    pub commit: String,
    /// Paths of all files.
    pub names: BTreeSet<String>,
}

/// What the hub knows of one file.
pub struct Metadata {
    /// The content's name in the cache: SHA-256 for large files, Git's hash for others.
    pub etag: String,
    /// Bytes.
    pub size: Option<u64>,
}

/// A connection to one repository.
pub struct Client<'a> {
    agent: Agent,
    /// The repository's id.
    pub repository: &'a str,
    /// The options it was made with.
    pub options: &'a HubOptions,
    endpoint: &'a str,
}

impl<'a> Client<'a> {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Argument`] for an endpoint or token that cannot be used, [`Error::Io`] or [`Error::File`] for the certificates.
    pub fn new(repository: &'a str, options: &'a HubOptions) -> Result<Self> {
        let endpoint = options.endpoint.trim_end_matches('/');
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(Error::argument("HF_ENDPOINT", ArgumentCause::NotAnAddress { found: endpoint.to_owned() }));
        }
        if options.token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Error::argument("HF_TOKEN", ArgumentCause::NotAToken));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("driftless/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(options.timeout))
            .timeout_per_read(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout))
            .tls_config(tls(options)?);
        if is_loopback(endpoint) {
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().new_agent(), repository, options, endpoint })
    }

    /// The address of a file at a commit.
    pub fn file_url(&self, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{file}", self.endpoint, self.repository)
    }

    /// Asks for the commit and the files of the revision.
    pub fn list(&self) -> Result<Listing, Failure> {
        let revision = self.options.revision().replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}", self.endpoint, self.repository);
        let mut response = self.expect_success(self.get(&url, None)?, None)?;
        let mut body = Paced::new(response.body_mut().as_reader(), self.options.timeout).take(MOST_LISTING_BYTES);
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(|error| Failure::Passing { cause: error.into(), offline: false, after: None })?;
        let listing = parse_listing(&bytes).ok_or_else(|| {
            let cause = HubCause::NotAListing { endpoint: self.endpoint.to_owned() };
            Failure::Final(self.error(cause, "check HF_ENDPOINT"))
        })?;
        Ok(listing)
    }

    /// Asks for a file's hash and size.
    pub fn metadata(&self, commit: &str, file: &str) -> Result<Metadata, Failure> {
        let mut url = self.file_url(commit, file);
        for _ in 0..MOST_REDIRECTS {
            let mut request = self.agent.head(&url);
            if let Some(token) = self.token_for(&url) {
                request = request.header(header::AUTHORIZATION, token);
            }
            let response = request.call().map_err(passing)?;
            // The hub's own answer has the hash; the host it sends elsewhere to need not have it.
            match self.redirect(&url, &response)? {
                Some(next) if origin(&next) == origin(&url) => url = next,
                Some(_) => return self.read_metadata(file, &response),
                None => return self.read_metadata(file, &self.expect_success(response, Some(file))?),
            }
        }
        Err(Failure::Final(self.too_many_redirects()))
    }

    fn read_metadata(&self, file: &str, response: &Response<Body>) -> Result<Metadata, Failure> {
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let etag = text("x-linked-etag").or_else(|| text("etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        // It becomes a file name.
        if !files::is_plain_name(&etag) {
            let cause = HubCause::NoETag { endpoint: self.endpoint.to_owned(), file: file.to_owned() };
            return Err(Failure::Final(self.error(cause, "check HF_ENDPOINT: this is not a model hub")));
        }
        let length = if response.status().is_success() { text("content-length") } else { None };
        let size = text("x-linked-size").or(length).and_then(|size| size.parse().ok());
        Ok(Metadata { etag, size })
    }

    /// A GET that follows redirects, from byte `start` on when given. Any status but a redirect comes back.
    pub fn get(&self, url: &str, start: Option<u64>) -> Result<Response<Body>, Failure> {
        let mut url = url.to_owned();
        for _ in 0..MOST_REDIRECTS {
            let mut request = self.agent.get(&url);
            if let Some(token) = self.token_for(&url) {
                request = request.header(header::AUTHORIZATION, token);
            }
            if let Some(start) = start {
                request = request.header(header::RANGE, format!("bytes={start}-"));
            }
            let response = request.call().map_err(passing)?;
            match self.redirect(&url, &response)? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(Failure::Final(self.too_many_redirects()))
    }

    /// The header's value, for addresses on the endpoint's own host.
    fn token_for(&self, url: &str) -> Option<String> {
        let token = self.options.token.as_ref()?;
        (origin(url) == origin(self.endpoint)).then(|| format!("Bearer {token}"))
    }

    /// Where a redirect leads.
    fn redirect(&self, url: &str, response: &Response<Body>) -> Result<Option<String>, Failure> {
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let next = if location.starts_with("//") {
            format!("{}:{location}", url.split(':').next().unwrap_or_default())
        } else if location.starts_with('/') {
            format!("{}{location}", origin(url))
        } else {
            location.to_owned()
        };
        let secure = next.starts_with("https://") || (next.starts_with("http://") && !url.starts_with("https://"));
        if secure {
            return Ok(Some(next));
        }
        let cause = HubCause::Redirect { origin: origin(url).to_owned(), location: location.to_owned() };
        Err(Failure::Final(self.error(cause, "check HF_ENDPOINT")))
    }

    fn too_many_redirects(&self) -> Error {
        self.error(HubCause::RedirectsInCircles { endpoint: self.endpoint.to_owned() }, "check HF_ENDPOINT")
    }

    /// The response when its status is a success, else what the status means. `file` is named where it is the file that lacks.
    pub fn expect_success(&self, response: Response<Body>, file: Option<&str>) -> Result<Response<Body>, Failure> {
        let status = response.status().as_u16();
        if response.status().is_success() {
            return Ok(response);
        }
        if matches!(status, 408 | 429 | 500..=599) {
            let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            let after = text(header::RETRY_AFTER).and_then(|value| retry_after(value, text(header::DATE), SystemTime::now()));
            let cause = ConnectionCause::Busy { endpoint: self.endpoint.to_owned(), status };
            return Err(Failure::Passing { cause, offline: false, after });
        }
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default();
        Err(Failure::Final(self.refusal(status, code, file)))
    }

    fn refusal(&self, status: u16, code: &str, file: Option<&str>) -> Error {
        let (endpoint, id, revision) = (self.endpoint, self.repository, self.options.revision());
        let page = format!("{endpoint}/{id}");
        let token = if self.options.token.is_some() { "the token in use gives no access" } else { "set HF_TOKEN to a token" };
        match (status, code, file) {
            (401 | 403, "GatedRepo", _) => {
                self.error(HubCause::Gated { status }, format!("ask for it at {page}; {token}: {endpoint}/settings/tokens"))
            }
            (401 | 403, ..) => self.error(
                HubCause::NoAccess { endpoint: endpoint.to_owned(), status },
                format!("check the spelling; {token} that may read it ({endpoint}/settings/tokens)"),
            ),
            (404, "RevisionNotFound", _) => self.error(
                HubCause::NoRevision { revision: revision.to_owned() },
                format!("see {page}/tree/main for those there are"),
            ),
            (404, _, Some(file)) => self.error(
                HubCause::NoFile { file: file.to_owned(), revision: revision.to_owned() },
                format!("see {page}/tree/{revision} for those there are"),
            ),
            (404, ..) => self.error(HubCause::NoRepository { endpoint: endpoint.to_owned() }, "check the spelling"),
            _ => self.error(HubCause::Status { endpoint: endpoint.to_owned(), status }, "check HF_ENDPOINT, or try again later"),
        }
    }

    /// An [`Error::Hub`] about this repository.
    pub fn error(&self, cause: HubCause, advice: impl Into<String>) -> Error {
        Error::Hub { repository: self.repository.to_owned(), cause: Box::new(cause), advice: advice.into() }
    }
}

/// An error of the HTTP library, all of which may pass.
pub fn passing(error: ureq::Error) -> Failure {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let offline = match &error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Tls(_) | ureq::Error::Rustls(_) => true,
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => true,
        ureq::Error::Io(error) => matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable),
        _ => false,
    };
    Failure::Passing { cause: ConnectionCause::Http(Box::new(error)), offline, after: None }
}

fn tls(options: &HubOptions) -> Result<TlsConfig> {
    let Some(path) = &options.certificates else { return Ok(TlsConfig::default()) };
    let pem = read_bounded(path, FileKind::Configuration)?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::file(path, FileCause::NoCertificates, "set SSL_CERT_FILE to a file that has"));
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(certificates))).build())
}

/// Scheme, host and port of an address, as written.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |colon| colon + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |end| host + end);
    &url[..end]
}

/// The wait that a `Retry-After` asks for: seconds, or a date (RFC 9110, 10.2.3), which is compared with the server's own clock where it
/// tells it. A date that has passed asks for none; what is neither asks for nothing.
fn retry_after(value: &str, date: Option<&str>, here: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok()).unwrap_or(here);
    Some(until.duration_since(now).unwrap_or_default())
}

fn is_loopback(endpoint: &str) -> bool {
    let host = origin(endpoint).trim_start_matches("https://").trim_start_matches("http://");
    ["localhost", "127.0.0.1", "[::1]"].contains(&host.rsplit_once(':').map_or(host, |(host, _)| host)) || host == "[::1]"
}

fn parse_listing(body: &[u8]) -> Option<Listing> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let commit = json.get("sha")?.as_str()?;
    let files = json.get("siblings")?.as_array()?;
    let names = files.iter().filter_map(|file| file.get("rfilename")?.as_str());
    let names = names.filter(|name| files::is_plain_path(name)).map(str::to_owned).collect();
    files::is_plain_name(commit).then(|| Listing { commit: commit.to_owned(), names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_seconds_or_dates() {
        let here = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let wait = |value: &str, date: Option<&str>| retry_after(value, date, here).map(|wait| wait.as_secs());
        assert_eq!(wait(" 120 ", None), Some(120));
        // The three forms that a date may have.
        for date in ["Sun, 06 Nov 1994 08:50:37 GMT", "Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994"] {
            assert_eq!(wait(date, None), Some(60), "{date}");
        }
        // By the server's clock, which may be another; passed; neither.
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT", Some("Sun, 06 Nov 1994 08:50:30 GMT")), Some(7));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT", None), Some(0));
        assert_eq!((wait("soon", None), wait("-1", None), wait("Sun, 99 Nov 1994 08:50:37 GMT", None)), (None, None, None));
    }
}
