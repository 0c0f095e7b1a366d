//! One case: a folder with something hostile in it, a command over it, and how that went.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The most processor time for a command.
const SECONDS: f64 = 2.0;
/// The most time until it has to have ended, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most resident memory.
const MEGABYTES: i64 = 300;

/// What a case has to end with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// A refusal: status 1 or 2.
    Refused,
    /// Anything but harm: what was changed at random may still be fine.
    Handled,
    /// Success.
    Fine,
}

/// Fills a folder and says the arguments of the command over it.
pub type Make = Box<dyn Fn(&Path) -> Vec<String> + Send + Sync>;

/// One hostile thing.
pub struct Case {
    pub group: &'static str,
    pub name: String,
    pub expected: Expected,
    /// What an error has to name: the file that is hostile.
    pub named: Option<&'static str>,
    pub make: Make,
}

/// How a case went.
pub enum Verdict {
    Well,
    /// Well but for the time it took.
    Slow(String),
    Badly(String),
}

impl Verdict {
    pub fn is_slow(&self) -> bool {
        matches!(self, Self::Slow(_))
    }
}

impl Case {
    pub fn new(
        group: &'static str,
        name: impl Into<String>,
        expected: Expected,
        make: impl Fn(&Path) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self { group, name: name.into(), expected, named: None, make: Box::new(make) }
    }

    /// The same, in which an error has to name this.
    pub fn naming(self, named: &'static str) -> Self {
        Self { named: Some(named), ..self }
    }

    /// Runs the command in a folder of its own.
    pub fn try_it(&self) -> Verdict {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("work");
        std::fs::create_dir(&folder).unwrap();
        let arguments = (self.make)(&folder);
        let (out, err) = (outer.path().join("stdout"), outer.path().join("stderr"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftless"));
        command.args(&arguments).current_dir(&folder).stdin(Stdio::null());
        command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", folder.join("no-hub")).env("RAYON_NUM_THREADS", "1");
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let (status, seconds, megabytes) = wait(command.spawn().unwrap().id() as libc::pid_t);
        let text = |path: &PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let (out, err) = (text(&out), text(&err));
        let mut faults = faults(self.expected, status, &out, &err);
        let is_error = status.is_some_and(|status| !status.success());
        faults.extend(self.named.filter(|named| is_error && !err.contains(named)).map(|named| format!("does not name {named}")));
        if megabytes > MEGABYTES {
            faults.push(format!("{megabytes} MB"));
        }
        let beside = std::fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name());
        faults.extend(
            beside
                .filter(|name| !["work", "stdout", "stderr"].iter().any(|own| name == own))
                .map(|name| format!("wrote {name:?} outside")),
        );
        if !faults.is_empty() {
            let end: String = err.chars().take(600).collect();
            return Verdict::Badly(format!("{}; {}: {end:?}", faults.join(", "), arguments.join(" ")));
        }
        match seconds > SECONDS {
            true => Verdict::Slow(format!("{seconds:.1} s; {}", arguments.join(" "))),
            false => Verdict::Well,
        }
    }
}

fn faults(expected: Expected, status: Option<ExitStatus>, out: &str, err: &str) -> Vec<String> {
    let Some(status) = status else { return vec!["does not end".into()] };
    let mut faults = Vec::new();
    let good: &[i32] = match expected {
        Expected::Refused => &[1, 2],
        Expected::Handled => &[0, 1, 2],
        Expected::Fine => &[0],
    };
    match status.code() {
        Some(code) if good.contains(&code) => {}
        code => faults.push(format!("status {code:?} (signal {:?}), expected {good:?}", status.signal())),
    }
    if err.contains("panicked") || err.contains("RUST_BACKTRACE") {
        faults.push("panics".into());
    }
    if matches!(status.code(), Some(1 | 2)) && !err.contains("error: ") {
        faults.push("says no error".into());
    }
    let raw = out.chars().chain(err.chars()).find(|c| {
        (c.is_control() && !matches!(c, '\n' | '\t' | '\r')) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    });
    faults.extend(raw.map(|c| format!("writes {}", c.escape_unicode())));
    faults
}

/// Waits for a process; its status, none when it had to be killed, the processor time it took, and the most memory it had in MB.
fn wait(pid: libc::pid_t) -> (Option<ExitStatus>, f64, i64) {
    let begin = Instant::now();
    let mut killed = false;
    loop {
        let mut status = 0;
        // SAFETY: all bytes zero is a valid `rusage`, which holds numbers alone.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live variables of the types that the call writes; `pid` is a child that nobody else waits for.
        let ended = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage) };
        if ended == pid {
            // Kilobytes, and bytes on macOS.
            let unit = if cfg!(target_os = "macos") { 1 << 20 } else { 1 << 10 };
            let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
            let taken = seconds(usage.ru_utime) + seconds(usage.ru_stime);
            return ((!killed).then(|| ExitStatus::from_raw(status)), taken, usage.ru_maxrss as i64 / unit);
        }
        if !killed && begin.elapsed() > PATIENCE {
            // SAFETY: the child has not been waited for, so the number is its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            killed = true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Numbers that look random (xorshift, Marsaglia 2003).
pub struct Noise(pub u64);

impl Noise {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// Changes a few bytes of a file, or cuts it.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                _ if bytes.is_empty() => return,
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.below(256) as u8,
                2 => bytes[at] = 0xff,
                3 => bytes.truncate(at),
                4 => drop(bytes.remove(at)),
                _ => bytes.insert(at, 0),
            }
        }
    }
}

/// Arguments out of words.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A layer that is computed last, so that a whole pass is seen.
pub const LAYER: &str = "up-level3-repeat2-res-out";

/// `extract` of the images in a folder by a model, with an output folder of its own.
pub fn extract(folder: &Path, model: &Path, images: &Path, more: &[&str]) -> Vec<String> {
    let layers = folder.join("layers.json");
    std::fs::write(&layers, format!("[\"{LAYER}\"]")).unwrap();
    let (model, images, layers) = (model.to_str().unwrap(), images.to_str().unwrap(), layers.to_str().unwrap());
    let mut arguments =
        words(&["extract", "--model", model, "--input_dir", images, "--img_size", "64", "--layer", layers, "--t", "50"]);
    arguments.extend(words(&["--output_dir", "out"]));
    if !more.contains(&"--prompt-file")
        && !more.contains(&"--prompt-csv")
        && !more.contains(&"--caption-dir")
        && !more.contains(&"--prompt")
    {
        arguments.extend(words(&["--prompt", "a cat"]));
    }
    arguments.extend(words(more));
    arguments
}

/// A folder with one good picture.
pub fn good_images(folder: &Path) -> PathBuf {
    let images = folder.join("images");
    std::fs::create_dir_all(&images).unwrap();
    std::fs::copy(fixture("rgb.png"), images.join("good.png")).unwrap();
    images
}

/// A picture of the decoders' fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/vision/files")).join(name)
}

/// Puts something that is no regular file at a place.
pub fn special(place: &Path, kind: &str) {
    let _ = std::fs::remove_file(place);
    match kind {
        "pipe" => assert!(Command::new("mkfifo").arg(place).status().unwrap().success()),
        "socket" => drop(socket(place)),
        "folder" => std::fs::create_dir(place).unwrap(),
        target => std::os::unix::fs::symlink(target, place).unwrap(),
    }
}

/// Sockets have short paths only, so it is made elsewhere and moved.
fn socket(place: &Path) -> std::os::unix::net::UnixListener {
    let short = tempfile::tempdir().unwrap();
    let made = short.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&made).unwrap();
    std::fs::rename(&made, place).unwrap();
    listener
}

/// Kinds of what [`special`] makes, links that lead nowhere included.
pub const SPECIAL: [&str; 6] = ["pipe", "socket", "/dev/zero", "/dev/null", "folder", "not-there"];
