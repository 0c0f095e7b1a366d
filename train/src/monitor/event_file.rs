//! TensorBoard's event files: records of serialized `Event` messages.
//!
//! A record is the length of its data (8 bytes, little-endian), the masked CRC-32C of these bytes, the data, and its masked CRC-32C, as in
//! TensorFlow's `tsl/lib/io/record_writer.h`; masked is rotated right by 15 bits plus a constant (`tsl/lib/hash/crc32c.h`), so that the
//! checksum of data that holds checksums says something. Fields and their numbers are those of `tensorflow/core/util/event.proto` and
//! `tensorflow/core/framework/summary.proto`, as far as they are written here.

use crc::{CRC_32_ISCSI, Crc, Table};
use prost::Message;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// `tensorflow.Event`.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Named>,
}

/// `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(oneof = "Value", tags = "2, 4")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(float, tag = "2")]
    Simple(f32),
    #[prost(message, tag = "4")]
    Image(Image),
}

/// `tensorflow.Summary.Image`.
#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// Channels.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded: Vec<u8>,
}

/// The version that readers know; without it as the first record they take the file for another kind.
const VERSION: &str = "brain.Event:2";

/// An event file that grows.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Begins the file at `path`, at the Unix time `now`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path, now: f64) -> std::io::Result<Self> {
        let mut file = Self { file: File::options().write(true).create_new(true).open(path)? };
        file.event(Event { wall_time: now, step: 0, what: Some(What::FileVersion(VERSION.into())) })?;
        Ok(file)
    }

    /// Appends a number.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn scalar(&mut self, tag: &str, value: f32, step: usize, now: f64) -> std::io::Result<()> {
        self.value(tag, Value::Simple(value), step, now)
    }

    /// Appends an RGB image, encoded as PNG.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn image(&mut self, tag: &str, size: (usize, usize), png: Vec<u8>, step: usize, now: f64) -> std::io::Result<()> {
        // Sides of samples are far below what 31 bits hold.
        let image = Image { height: size.1 as i32, width: size.0 as i32, colorspace: 3, encoded: png };
        self.value(tag, Value::Image(image), step, now)
    }

    fn value(&mut self, tag: &str, value: Value, step: usize, now: f64) -> std::io::Result<()> {
        let named = Named { tag: tag.to_owned(), value: Some(value) };
        self.event(Event { wall_time: now, step: step as i64, what: Some(What::Summary(Summary { values: vec![named] })) })
    }

    fn event(&mut self, event: Event) -> std::io::Result<()> {
        // One write a record, so that it is there whole or not at all.
        self.file.write_all(&record(&event.encode_to_vec()))
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_checksum(&length), data, &masked_checksum(data)].concat()
}

fn masked_checksum(bytes: &[u8]) -> [u8; 4] {
    const CASTAGNOLI: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
    static CHECKSUM: Crc<u32, Table<16>> = CASTAGNOLI;
    CHECKSUM.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as tensorboard's own writer makes it: tests/reference/train_tensorboard.py.
    #[test]
    fn bytes_are_those_of_tensorboards_writer() {
        let expected = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/train/events.out.tfevents"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut file = EventFile::create(&path, 1_700_000_000.25).unwrap();
        file.scalar("loss/current", 0.125, 1, 1_700_000_001.5).unwrap();
        file.scalar("lr/unet", 1e-4, 300, 1_700_000_002.0).unwrap();
        file.image("sample_0", (3, 2), b"not really a PNG".to_vec(), 2, 1_700_000_003.0).unwrap();
        assert!(std::fs::read(&path).unwrap() == expected);
        assert!(EventFile::create(&path, 0.0).is_err(), "nothing is replaced");
    }
}
