//! What the extractor makes of image files before any network sees them: a line per file with the SHA-256 of the image resized to a
//! square (bicubic, in the file's own mode, then RGB) and of its Canny edges at 100 and 200. tests/reference/photos.py compares.
//!
//!     cargo run --release -p driftless --example prepared -- SIDE FILE...

use driftless::vision::{Image, canny};
use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let side: usize = arguments.next().ok_or("expected SIDE FILE...")?.parse()?;
    for file in arguments {
        let resized = Image::open(&file)?.resized_rgb(side, side);
        let edges = canny(&resized, 100, 200).to_rgb();
        println!("{} {}", hex(&resized.pixels), hex(&edges.pixels));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
