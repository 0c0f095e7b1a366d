//! Reading what a server sends, as long as it comes at a pace that anybody waits for.
//!
//! The HTTP library's limit is for each read, which one byte in half a minute satisfies.

use std::io::{Error, ErrorKind, Read, Result};
use std::time::{Duration, Instant};

/// Bytes a second below which a server counts as stalled. A slow telephone line brings three times as many.
const SLOWEST: f64 = 1024.0;

/// A reader that fails when over the length of `window` fewer bytes came than a stalled server sends.
pub struct Paced<R> {
    inner: R,
    window: Duration,
    begin: Instant,
    bytes: u64,
}

impl<R: Read> Paced<R> {
    /// Counts from now on.
    pub fn new(inner: R, window: Duration) -> Self {
        Self { inner, window, begin: Instant::now(), bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = self.inner.read(buffer)?;
        self.bytes += length as u64;
        let passed = self.begin.elapsed();
        if length > 0 && passed > self.window {
            let stalled = (self.bytes as f64) < SLOWEST * passed.as_secs_f64();
            (self.begin, self.bytes) = (Instant::now(), 0);
            if stalled {
                let text = format!("the server sent less than 1 kB a second for {:.0} s", passed.as_secs_f64());
                return Err(Error::new(ErrorKind::TimedOut, text));
            }
        }
        Ok(length)
    }
}
