//! A model hub on 127.0.0.1 for tests: the routes that huggingface.co answers, its headers, and its ways to fail.
//!
//! Two hosts, as there: the hub itself, and a storage host (another port) that large files are redirected to. Every
//! connection carries one request. Bare sockets, because a response has to break off in the middle.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Files above this size live on the storage host and have their SHA-256 as ETag.
const LARGE: usize = 1000;

/// The commit that every revision of the repository stands for.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the hub behaves, beyond having the files.
#[derive(Default)]
pub struct Behavior {
    /// Requests without this token get HTTP 401.
    pub token: Option<String>,
    /// Everything gets this status and `x-error-code`.
    pub refusal: Option<(u16, &'static str)>,
    /// This many requests get HTTP 503 first.
    pub busy: usize,
    /// The next responses with large content break off behind so many bytes.
    pub cuts: Vec<usize>,
    /// Breaking off is falling silent, the connection stays open.
    pub silent: bool,
    /// `Range` is ignored.
    pub no_ranges: bool,
    /// Large content has its first byte changed this many times.
    pub damaged: usize,
    /// So has small content.
    pub damaged_small: usize,
    /// Small files come byte by byte with this pause.
    pub drip: Duration,
    /// What a busy answer asks to wait: seconds, or a date.
    pub retry_after: Option<String>,
    /// Small files are announced with this length.
    pub announced: Option<u64>,
    /// Small files come without a length and never end.
    pub endless: bool,
    /// The ETag of every file, in place of the true one.
    pub etag: Option<String>,
    /// The name that the repository had before: redirected to the present one.
    pub old_name: Option<String>,
    /// The listing, in place of the true one.
    pub listing: Option<String>,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// `HEAD` or `GET`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `range` header.
    pub range: Option<String>,
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// Whether it came to the storage host.
    pub storage: bool,
}

struct State {
    repository: String,
    files: BTreeMap<String, Vec<u8>>,
    behavior: Mutex<Behavior>,
    requests: Mutex<Vec<Request>>,
    storage: String,
}

/// A running hub; it stops answering when the test's process ends.
pub struct HubServer {
    /// What `HF_ENDPOINT` would be.
    pub endpoint: String,
    state: Arc<State>,
}

impl HubServer {
    /// A hub with one repository.
    pub fn start(repository: &str, files: BTreeMap<String, Vec<u8>>, behavior: Behavior) -> Self {
        let (hub, storage) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let endpoint = format!("http://{}", hub.local_addr().unwrap());
        let state = Arc::new(State {
            repository: repository.to_owned(),
            files,
            behavior: Mutex::new(behavior),
            requests: Mutex::default(),
            storage: format!("http://{}", storage.local_addr().unwrap()),
        });
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let state = state.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    std::thread::spawn(move || state.answer(stream, is_storage));
                }
            });
        }
        Self { endpoint, state }
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The GET requests for the content of large files.
    pub fn transfers(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.storage && request.method == "GET").collect()
    }

    /// Changes the behavior from now on.
    pub fn behave(&self, behavior: Behavior) {
        *self.state.behavior.lock().unwrap() = behavior;
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream, storage: bool) -> Option<()> {
        let request = read_request(&stream, storage)?;
        self.requests.lock().unwrap().push(request.clone());
        let _ = self.respond(&mut stream, &request);
        let _ = stream.flush();
        Some(())
    }

    fn respond(&self, stream: &mut TcpStream, request: &Request) -> std::io::Result<()> {
        if request.storage {
            return match self.files.get(request.path.trim_start_matches('/')) {
                Some(content) => self.send_content(stream, request, content),
                None => write!(stream, "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"),
            };
        }
        if let Some(refusal) = self.refusal(request) {
            return write!(stream, "{refusal}content-length: 0\r\nconnection: close\r\n\r\n");
        }
        let path = request.path.split('?').next().unwrap_or_default();
        if let Some(rest) = path.strip_prefix(&format!("/api/models/{}/revision/", self.repository)) {
            assert!(["main", "refs%2Fpr%2F1", COMMIT].contains(&rest), "revision {rest}");
            let names: Vec<String> = self.files.keys().map(|name| format!(r#"{{"rfilename": "{name}"}}"#)).collect();
            let listing = format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, names.join(","));
            let listing = self.behavior.lock().unwrap().listing.clone().unwrap_or(listing);
            return write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{listing}", listing.len());
        }
        let file = path.strip_prefix(&format!("/{}/resolve/{COMMIT}/", self.repository)).unwrap_or_default();
        match self.files.get(file) {
            Some(content) => self.send_file(stream, request, file, content),
            None => write!(stream, "HTTP/1.1 404 Not Found\r\nx-error-code: EntryNotFound\r\ncontent-length: 0\r\n\r\n"),
        }
    }

    /// Status line and headers of the refusal that the behavior asks for.
    fn refusal(&self, request: &Request) -> Option<String> {
        let mut behavior = self.behavior.lock().unwrap();
        if behavior.busy > 0 {
            behavior.busy -= 1;
            let after = behavior.retry_after.as_ref().map_or(String::new(), |wait| format!("retry-after: {wait}\r\n"));
            return Some(format!("HTTP/1.1 503 Service Unavailable\r\n{after}"));
        }
        if let Some((status, code)) = behavior.refusal {
            return Some(format!("HTTP/1.1 {status} Refused\r\nx-error-code: {code}\r\n"));
        }
        if behavior.token.as_ref().is_some_and(|token| request.authorization != Some(format!("Bearer {token}"))) {
            return Some("HTTP/1.1 401 Unauthorized\r\nx-error-code: RepoNotFound\r\n".to_owned());
        }
        let old = behavior.old_name.as_ref().filter(|old| request.path.contains(*old))?;
        Some(format!("HTTP/1.1 307 Moved\r\nlocation: {}\r\n", request.path.replace(old, &self.repository)))
    }

    /// The hub's own answer for a file: small ones at once, large ones by way of the storage host.
    fn send_file(&self, stream: &mut TcpStream, request: &Request, file: &str, content: &[u8]) -> std::io::Result<()> {
        let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        let given = self.behavior.lock().unwrap().etag.clone();
        if content.len() > LARGE {
            let (etag, length, storage) = (given.unwrap_or(hash), content.len(), &self.storage);
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nlocation: {storage}/{file}\r\nx-repo-commit: {COMMIT}\r\nx-linked-etag: \"{etag}\"\r\n\
                 x-linked-size: {length}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        }
        let etag = given.unwrap_or_else(|| git_hash(content));
        let (drip, announced, endless, damaged) = {
            let mut behavior = self.behavior.lock().unwrap();
            let damaged = request.method == "GET" && behavior.damaged_small > 0;
            behavior.damaged_small -= usize::from(damaged);
            (behavior.drip, behavior.announced, behavior.endless, damaged)
        };
        let length = match endless {
            true => String::new(),
            false => format!("content-length: {}\r\n", announced.unwrap_or(content.len() as u64)),
        };
        write!(stream, "HTTP/1.1 200 OK\r\nx-repo-commit: {COMMIT}\r\netag: W/\"{etag}\"\r\n{length}connection: close\r\n\r\n")?;
        if request.method != "GET" {
            return Ok(());
        }
        let mut content = content.to_vec();
        content[0] ^= u8::from(damaged);
        if endless {
            loop {
                stream.write_all(&[b' '; 1 << 16])?;
            }
        }
        if drip.is_zero() {
            return stream.write_all(&content);
        }
        content.iter().try_for_each(|byte| {
            std::thread::sleep(drip);
            stream.write_all(&[*byte]).and_then(|()| stream.flush())
        })
    }

    fn send_content(&self, stream: &mut TcpStream, request: &Request, content: &[u8]) -> std::io::Result<()> {
        let mut content = content.to_vec();
        let (cut, silent, no_ranges) = {
            let mut behavior = self.behavior.lock().unwrap();
            if behavior.damaged > 0 {
                behavior.damaged -= 1;
                content[0] ^= 1;
            }
            let cut = if behavior.cuts.is_empty() { usize::MAX } else { behavior.cuts.remove(0) };
            (cut, behavior.silent, behavior.no_ranges)
        };
        let range = request.range.as_ref().filter(|_| !no_ranges);
        let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let (total, body) = (content.len(), content.get(start.unwrap_or(0)..).unwrap_or_default());
        match start {
            Some(start) if start >= total => {
                return write!(stream, "HTTP/1.1 416 Range\r\ncontent-range: bytes */{total}\r\ncontent-length: 0\r\n\r\n");
            }
            Some(start) => {
                let last = total - 1;
                write!(stream, "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {start}-{last}/{total}\r\n")?;
            }
            None => write!(stream, "HTTP/1.1 200 OK\r\n")?,
        }
        write!(stream, "content-length: {}\r\nconnection: close\r\n\r\n", body.len())?;
        stream.write_all(&body[..cut.min(body.len())])?;
        stream.flush()?;
        if silent && cut < body.len() {
            // Until the other side gives up.
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            let _ = stream.read(&mut [0]);
        }
        Ok(())
    }
}

/// What `git hash-object` prints.
fn git_hash(content: &[u8]) -> String {
    let hash = Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_request(stream: &TcpStream, storage: bool) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ').map(str::to_owned);
    let mut request = Request { method: words.next()?, path: words.next()?, range: None, authorization: None, storage };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(request)
}
