//! Entries for what is no weight file: images, one entry for each decoder, configurations, tokenizers.
//!
//! A panic inside a decoder's library is that file's error (`driftless::vision`), so what is looked for in images are hangs, memory, and
//! images that are not as large as they say.

use driftless::controlnet::ControlNetConfig;
use driftless::scheduler::{self, SchedulerConfig};
use driftless::text_encoder::TextEncoderConfig;
use driftless::tokenizer::Tokenizer;
use driftless::unet::UnetConfig;
use driftless::vae::VaeConfig;
use driftless::vision::Image;
use std::path::Path;

/// Larger images are not decoded: each run has to be quick.
const MOST_PIXELS: usize = 1 << 20;

/// The input is a JPEG file.
pub fn jpeg(data: &[u8], folder: &Path) {
    image(data, b"\xff\xd8\xff", folder);
}

/// The input is a PNG file.
pub fn png(data: &[u8], folder: &Path) {
    image(data, b"\x89PNG\r\n\x1a\n", folder);
}

/// The input is a WebP file.
pub fn webp(data: &[u8], folder: &Path) {
    image(data, b"RIFF", folder);
}

/// The input is a BMP file.
pub fn bmp(data: &[u8], folder: &Path) {
    image(data, b"BM", folder);
}

/// The input is a GIF file.
pub fn gif(data: &[u8], folder: &Path) {
    image(data, b"GIF8", folder);
}

/// The input is a TIFF file.
pub fn tiff(data: &[u8], folder: &Path) {
    let magic: &[u8] = if data.first() == Some(&b'M') { b"MM\0*" } else { b"II*\0" };
    image(data, magic, folder);
}

/// An image whose first bytes say what it is; they are put right.
fn image(data: &[u8], magic: &[u8], folder: &Path) {
    let mut bytes = data.to_vec();
    if bytes.len() < magic.len() {
        return;
    }
    bytes[..magic.len()].copy_from_slice(magic);
    let path = folder.join("image");
    std::fs::write(&path, &bytes).unwrap();
    let Ok(header) = Image::header(&path) else { return };
    if header.size.0 * header.size.1 > MOST_PIXELS {
        return;
    }
    let Ok(image) = Image::open(&path) else { return };
    assert_eq!((image.width(), image.height()), header.size);
    assert_eq!(image.to_rgb().pixels.len(), image.width() * image.height() * 3);
    assert_eq!(image.resized_rgb(9, 5).pixels.len(), 9 * 5 * 3);
    let upright = Image::open_oriented(&path).unwrap();
    assert_eq!((upright.width(), upright.height()), header.upright_size.unwrap_or(header.size));
}

/// The first byte says which configuration the rest is.
pub fn config(data: &[u8], folder: &Path) {
    let Some((which, json)) = data.split_first() else { return };
    let path = folder.join("config.json");
    std::fs::write(&path, json).unwrap();
    super::HEAP.reset_peak_usage();
    let before = super::HEAP.current_usage();
    match which % 5 {
        0 => drop(UnetConfig::from_file(&path).map(|config| config.layout().ids().len())),
        1 => drop(VaeConfig::from_file(&path).map(|config| config.downscale())),
        2 => drop(TextEncoderConfig::from_file(&path)),
        3 => drop(ControlNetConfig::from_file(&path)),
        _ => drop(SchedulerConfig::from_file(&path).and_then(|config| scheduler::from_config(&config)?.set_timesteps(7))),
    }
    let taken = super::HEAP.peak_usage().saturating_sub(before);
    assert!(taken <= 64 << 20, "{taken} bytes for a configuration of {}", data.len());
}

/// The input is a vocabulary, merges, settings and a prompt, with a line of four dashes between them.
pub fn tokenizer(data: &[u8], folder: &Path) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split("\n----\n");
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        std::fs::write(folder.join(name), parts.next().unwrap_or("{}")).unwrap();
    }
    let Ok(tokenizer) = Tokenizer::from_folder(folder) else { return };
    let prompt = parts.next().unwrap_or("a photo of a cat");
    if let Ok(ids) = tokenizer.encode(prompt) {
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
    }
    if let Ok(ids) = tokenizer.encode_prompt(prompt) {
        assert_eq!(ids.len(), tokenizer.model_max_length());
    }
}
