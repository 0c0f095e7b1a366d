//! Which container a file is, by its content and never by its name, with words for the files that people have by mistake.

use super::positioned::PositionedFile;
use crate::error::{Error, Result, WeightFileCause};

/// What a file's first bytes say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// safetensors; the header's length in bytes.
    Safetensors { header_len: u64 },
    /// A zip archive, as torch 1.6 and later write.
    Zip,
    /// torch's stream of pickles, as before 1.6.
    LegacyTorch,
    /// A JSON object: perhaps the index of a sharded model.
    Json,
}

/// The pickled number with which torch's legacy stream begins: protocol 2, then 0x1950a86a20f9469cfc6c as LONG1.
pub(super) const LEGACY_MAGIC: [u8; 15] =
    [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e];

/// Longest safetensors header that is read, as in the safetensors library.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// Bytes looked at.
const LOOK: u64 = 1024;

/// Detects the container.
///
/// # Errors
/// [`Error::File`] for anything that holds no weights, named as what it is where that can be told.
pub(super) fn detect(file: &PositionedFile) -> Result<Container> {
    let start = file.read(0, file.len().min(LOOK))?;
    let refuse = |cause: WeightFileCause, advice: &str| Err(Error::file(file.path(), cause, advice));
    let again = "download or write it again";
    if start.starts_with(b"PK\x03\x04") {
        return Ok(Container::Zip);
    }
    if start.starts_with(&LEGACY_MAGIC) {
        return Ok(Container::LegacyTorch);
    }
    if start.get(257..262) == Some(b"ustar") {
        return refuse(WeightFileCause::Tar, "load and save it with a newer torch");
    }
    let header_len = start.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
    let brace = start.get(8) == Some(&b'{');
    if let (Some(header_len), true) = (header_len, brace) {
        let room = file.len() - 8;
        if header_len <= room && header_len <= MAX_HEADER {
            return Ok(Container::Safetensors { header_len });
        }
        if header_len <= MAX_HEADER {
            return refuse(WeightFileCause::HeaderLength { expected: header_len, found: room }, again);
        }
    }
    if let Some((cause, advice)) = describe_text(&start) {
        return refuse(cause, advice);
    }
    if first_visible(&start) == Some(b'{') && is_text(&start) {
        return Ok(Container::Json);
    }
    let (cause, advice) = describe_binary(&start);
    refuse(cause, advice)
}

/// What text is that was saved in a weight file's stead, with advice.
fn describe_text(start: &[u8]) -> Option<(WeightFileCause, &'static str)> {
    if start.starts_with(b"version https://git-lfs") {
        return Some((WeightFileCause::LfsPointer, "fetch the weights with `git lfs pull`, or download the file itself"));
    }
    if first_visible(start) == Some(b'<') && is_text(start) {
        return Some((
            WeightFileCause::WebPage,
            "download the file again; the site may have asked for a login or a confirmation",
        ));
    }
    if is_text(start) && first_visible(start) != Some(b'{') {
        let first_line: String = String::from_utf8_lossy(start).trim().chars().take_while(|c| *c != '\n').take(60).collect();
        return Some((WeightFileCause::Text { first_line }, "check what was downloaded or named"));
    }
    None
}

/// What a binary file of another kind is, with advice.
fn describe_binary(start: &[u8]) -> (WeightFileCause, &'static str) {
    let known = "give a .safetensors file, or a .ckpt, .pt or .bin file that torch.save wrote";
    match start {
        [b'G', b'G', b'U', b'F', ..] => (WeightFileCause::Unsupported { format: "GGUF" }, known),
        [0x89, b'H', b'D', b'F', ..] => (WeightFileCause::Unsupported { format: "HDF5" }, known),
        [0x1f, 0x8b, ..] | [b'7', b'z', 0xbc, 0xaf, ..] | [b'R', b'a', b'r', b'!', ..] => {
            (WeightFileCause::Compressed, "unpack it and name the file inside")
        }
        [b'P', b'K', 0x05, 0x06, ..] => (WeightFileCause::EmptyArchive, "download or write it again"),
        [0x80, 0x02..=0x05, ..] => (WeightFileCause::BarePickle, known),
        _ => (WeightFileCause::UnknownContainer, known),
    }
}

fn first_visible(bytes: &[u8]) -> Option<u8> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.iter().copied().find(|b| !b.is_ascii_whitespace())
}

/// Whether the bytes can be the beginning of UTF-8 text without control characters.
fn is_text(bytes: &[u8]) -> bool {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // A character that is cut in two at the end is no fault.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !valid.is_empty() && valid.chars().all(|c| !c.is_control() || c.is_whitespace())
}
