//! One file from the hub into the cache: resumed, checked, and only then given its name.
//!
//! The `hf-hub` crate (0.4 and 0.5 were read) has a download of its own. It is not used: it appends whatever the server answers to a
//! request for the rest of a file, the whole file too; a part file that is already complete makes it fail for ever (HTTP
//! 416); it checks neither length nor hash; file names come from headers unseen; and there is no time limit.

use super::cache::Store;
use super::client::{Client, Failure, Metadata};
use super::options::Transfer;
use super::paced::Paced;
use crate::error::{ConnectionCause, Error, HubCause, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::header;

/// Bytes between two reports of progress.
const PIECE: usize = 1 << 18;

/// The longest wait between two tries that a server did not ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The longest wait that a server is granted.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// With fewer bytes gained, a broken request counts as one that brought nothing.
const WORTH_A_TRY: u64 = 1 << 16;

/// The most bytes of a weight file, and of any other; full disks are not for servers to decide about. SD1.5's largest files have 8 GB and 1 MB.
const MOST_WEIGHTS: u64 = 64 << 30;
const MOST_OTHERS: u64 = 64 << 20;

/// Files up to this size are asked for again when they arrive damaged, without another reason.
const SMALL: u64 = 16 << 20;

/// Brings `file` of `commit` into the cache and returns its path in the snapshot.
///
/// # Errors
/// [`Error::Hub`] when the hub cannot be reached, refuses, or sends something else than it announced; [`Error::Io`] for the disk.
pub fn fetch(client: &Client<'_>, store: &Store, commit: &str, file: &str) -> Result<PathBuf> {
    let path = store.snapshot(commit).join(file);
    if path.is_file() {
        return Ok(path);
    }
    let metadata = with_retries(client, || client.metadata(commit, file))?;
    if let Some(found) = metadata.size.filter(|size| *size > most_bytes(file)) {
        let cause = HubCause::TooLarge { file: file.to_owned(), found, most: most_bytes(file) };
        return Err(client.error(cause, "check HF_ENDPOINT"));
    }
    let blob = store.blob(&metadata.etag);
    let folder = store.root().join("blobs");
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let part = folder.join(format!("{}.incomplete", metadata.etag));
    let mut download =
        Download { client, file, url: client.file_url(commit, file), metadata: &metadata, part: &part, done: 0, resumed: false };
    let lock = store.lock(&metadata.etag, || download.report(part.metadata().map_or(0, |part| part.len())))?;
    let Some(_lock) = lock else { return Err(download.interrupted()) };
    if !blob.is_file() {
        download.run()?;
        std::fs::rename(&part, &blob).map_err(Error::io(&blob))?;
    }
    store.link(commit, file, &metadata.etag)
}

/// The most bytes that a file of this name can have.
fn most_bytes(file: &str) -> u64 {
    match Path::new(file).extension().and_then(|extension| extension.to_str()) {
        Some("safetensors" | "bin" | "ckpt" | "pt" | "pth") => MOST_WEIGHTS,
        Some(_) | None => MOST_OTHERS,
    }
}

/// Repeats a request that fails in passing, with growing waits; a server that cannot be reached at all is not waited for.
///
/// # Errors
/// The last failure, in words.
pub fn with_retries<T>(client: &Client<'_>, mut request: impl FnMut() -> Result<T, Failure>) -> Result<T> {
    let mut tries = 0;
    loop {
        match request() {
            Ok(answer) => return Ok(answer),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing { cause, offline, after }) => {
                if offline || tries >= client.options.retries || after.is_some_and(|after| after > LONGEST_RETRY_AFTER) {
                    return Err(unreachable(client, None, with_wait(cause, after)));
                }
                wait(client, tries, after);
            }
        }
        tries += 1;
    }
}

/// What to say when the hub does not answer.
pub fn unreachable(client: &Client<'_>, file: Option<&str>, source: ConnectionCause) -> Error {
    client.error(
        HubCause::Unreachable { endpoint: client.options.endpoint.clone(), file: file.map(str::to_owned), source },
        "give the folder of a model that is on this machine, name a reachable mirror in HF_ENDPOINT, or set \
         HF_HUB_OFFLINE=1 to use only what the cache has",
    )
}

fn wait(client: &Client<'_>, tries: u32, after: Option<Duration>) {
    let wait = client.options.retry_wait.saturating_mul(1 << tries.min(16)).min(LONGEST_WAIT);
    std::thread::sleep(wait.max(after.unwrap_or_default().min(LONGEST_RETRY_AFTER)));
}

/// Names a wait that is too long to be granted.
fn with_wait(cause: ConnectionCause, after: Option<Duration>) -> ConnectionCause {
    match after {
        Some(after) if after > LONGEST_RETRY_AFTER => {
            ConnectionCause::RetryLater { seconds: after.as_secs(), cause: Box::new(cause) }
        }
        Some(_) | None => cause,
    }
}

/// How one request for content ended.
enum Outcome {
    /// All bytes are there.
    Complete,
    /// The connection broke, for this reason.
    Broken(ConnectionCause),
}

/// The content of one file on its way into `part`.
struct Download<'a> {
    client: &'a Client<'a>,
    file: &'a str,
    url: String,
    metadata: &'a Metadata,
    part: &'a Path,
    /// Bytes in `part`.
    done: u64,
    /// Whether `part` is put together from several answers.
    resumed: bool,
}

impl Download<'_> {
    /// Downloads until `part` is whole and has the hash announced.
    fn run(&mut self) -> Result<()> {
        let mut part = self.open()?;
        self.resumed = self.done > 0;
        let mut again = self.metadata.size.is_some_and(|size| size <= SMALL);
        loop {
            self.fill(&mut part)?;
            part.sync_all().map_err(Error::io(self.part))?;
            if self.is_intact(&mut part)? {
                return Ok(());
            }
            // What was put together from several answers may be of several contents, so one fresh start is owed.
            let owed = std::mem::take(&mut self.resumed) || std::mem::take(&mut again);
            self.restart(&mut part)?;
            if !owed {
                let _ = std::fs::remove_file(self.part);
                let cause = HubCause::Hash { file: self.file.to_owned() };
                return Err(self.client.error(cause, "try again; if it stays so, HF_ENDPOINT serves a damaged file"));
            }
        }
    }

    /// Opens the part file behind the bytes it has, without those that are too many.
    fn open(&mut self) -> Result<File> {
        let options = File::options().read(true).write(true).create(true).truncate(false).open(self.part);
        let mut part = options.map_err(Error::io(self.part))?;
        self.done = part.seek(SeekFrom::End(0)).map_err(Error::io(self.part))?;
        if self.metadata.size.is_none_or(|size| self.done > size) {
            self.restart(&mut part)?;
        }
        Ok(part)
    }

    fn restart(&mut self, part: &mut File) -> Result<()> {
        self.done = 0;
        part.set_len(0).and_then(|()| part.rewind()).map_err(Error::io(self.part))
    }

    /// Requests what is missing until nothing is.
    fn fill(&mut self, part: &mut File) -> Result<()> {
        let mut tries = 0;
        self.tell()?;
        while self.metadata.size != Some(self.done) || self.done == 0 {
            let before = self.done;
            let (cause, after) = match self.request(part) {
                Ok(Outcome::Complete) => return self.tell(),
                Ok(Outcome::Broken(cause)) => (cause, None),
                Err(Failure::Passing { cause, after, .. }) => (cause, after),
                Err(Failure::Final(error)) => return Err(error),
            };
            tries = if self.done >= before + WORTH_A_TRY { 0 } else { tries + 1 };
            let retries = self.client.options.retries;
            if tries > retries || retries == 0 || after.is_some_and(|after| after > LONGEST_RETRY_AFTER) {
                return Err(unreachable(self.client, Some(self.file), with_wait(cause, after)));
            }
            wait(self.client, tries, after);
            if self.metadata.size.is_none() {
                self.restart(part)?;
            }
        }
        self.tell()
    }

    /// One request for the bytes from `done` on.
    fn request(&mut self, part: &mut File) -> Result<Outcome, Failure> {
        let start = Some(self.done).filter(|start| *start > 0);
        let response = self.client.get(&self.url, start)?;
        if response.status().as_u16() == 416 {
            self.restart(part).map_err(Failure::Final)?;
            return Ok(Outcome::Broken(ConnectionCause::Range));
        }
        let mut response = self.client.expect_success(response, Some(self.file))?;
        self.resumed |= start.is_some();
        if start.is_some() && !self.continues(&response) {
            self.restart(part).map_err(Failure::Final)?;
            if response.status().as_u16() == 206 {
                return Ok(Outcome::Broken(ConnectionCause::OtherRange));
            }
        }
        self.copy(&mut Paced::new(response.body_mut().as_reader(), self.client.options.timeout), part)
    }

    /// Whether a response is the rest that was asked for and not, as from servers that know no ranges, the whole.
    fn continues(&self, response: &ureq::http::Response<ureq::Body>) -> bool {
        let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let begin = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
        response.status().as_u16() == 206 && begin == Some(self.done)
    }

    fn copy(&mut self, body: &mut impl Read, part: &mut File) -> Result<Outcome, Failure> {
        let mut piece = vec![0; PIECE];
        loop {
            let length = match body.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Outcome::Broken(error.into())),
            };
            self.done += length as u64;
            if self.done > self.metadata.size.unwrap_or(most_bytes(self.file)) {
                self.restart(part).map_err(Failure::Final)?;
                return Ok(Outcome::Broken(ConnectionCause::TooLong));
            }
            part.write_all(&piece[..length]).map_err(Error::io(self.part)).map_err(Failure::Final)?;
            self.tell().map_err(Failure::Final)?;
        }
        match self.metadata.size {
            Some(size) if size != self.done => Ok(Outcome::Broken(ConnectionCause::CutOff { expected: size, found: self.done })),
            _ => Ok(Outcome::Complete),
        }
    }

    /// Whether the content is what its ETag says: large files carry their SHA-256, others Git's hash of a blob. ETags of other forms, which
    /// the hub has none of, say nothing.
    fn is_intact(&self, part: &mut File) -> Result<bool> {
        let expected = &self.metadata.etag;
        if !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(true);
        }
        let found = match expected.len() {
            64 => self.digest(Sha256::new(), part)?,
            40 => self.digest(Sha1::new_with_prefix(format!("blob {}\0", self.done)), part)?,
            _ => return Ok(true),
        };
        Ok(found.eq_ignore_ascii_case(expected))
    }

    /// A hash of the content, in hexadecimal digits.
    fn digest(&self, mut hash: impl Digest + Write, part: &mut File) -> Result<String> {
        part.rewind().map_err(Error::io(self.part))?;
        std::io::copy(part, &mut hash).map_err(Error::io(self.part))?;
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn report(&self, done: u64) -> ControlFlow<()> {
        let transfer = Transfer { repository: self.client.repository, file: self.file, done, total: self.metadata.size };
        self.client.options.progress.as_ref().map_or(ControlFlow::Continue(()), |progress| progress(&transfer))
    }

    fn tell(&self) -> Result<()> {
        if self.report(self.done).is_break() { Err(self.interrupted()) } else { Ok(()) }
    }

    fn interrupted(&self) -> Error {
        let cause = HubCause::Interrupted { file: self.file.to_owned(), position: self.done };
        self.client.error(cause, "start again; it goes on from there")
    }
}
