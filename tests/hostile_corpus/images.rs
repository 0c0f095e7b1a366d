//! Images: damaged ones of every container, sizes that are not there, files that are no images or no files; each beside a good one.

use crate::case::{Case, Expected, Noise, SPECIAL, extract, fixture, good_images, special, words};
use std::path::Path;

const GROUP: &str = "images";

/// One of each decoder's ways.
const SEEDS: [&str; 16] = [
    "420.jpg",
    "420-progressive.jpg",
    "cmyk-420.jpg",
    "ycck-411-progressive.jpg",
    "l.jpg",
    "rgb.png",
    "rgb-interlaced.png",
    "p4.png",
    "lossy.webp",
    "lossless-alpha.webp",
    "rle8.bmp",
    "rgb565.bmp",
    "interlaced.gif",
    "animated.gif",
    "rgb-packbits.tif",
    "i16.tif",
];

/// A folder with the good picture and this one.
fn beside(name: String, expected: Expected, file: &'static str, content: Vec<u8>) -> Case {
    Case::new(GROUP, name, expected, move |folder| {
        let images = good_images(folder);
        std::fs::write(images.join(file), &content).unwrap();
        extract(folder, testkit::miniature(), &images, &[])
    })
    .naming(file)
}

fn extension(name: &str) -> &'static str {
    match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("jpg") => "bad.jpg",
        Some("webp") => "bad.webp",
        Some("bmp") => "bad.bmp",
        Some("gif") => "bad.gif",
        Some("tif") => "bad.tif",
        _ => "bad.png",
    }
}

fn mutations() -> Vec<Case> {
    let mut noise = Noise(0x1a6e5);
    let mut cases = Vec::new();
    for name in SEEDS {
        let whole = std::fs::read(fixture(name)).unwrap();
        for number in 0..4 {
            let mut bytes = whole.clone();
            noise.mutate(&mut bytes);
            cases.push(beside(format!("{name}, changed, {number}"), Expected::Handled, extension(name), bytes));
        }
        let cut = whole[..whole.len() * 2 / 5].to_vec();
        cases.push(beside(format!("{name}, cut"), Expected::Refused, extension(name), cut));
    }
    cases
}

/// Headers that promise more than any machine has, with little behind them.
fn sizes() -> Vec<Case> {
    let mut png = std::fs::read(fixture("rgb.png")).unwrap();
    png[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let mut gif = std::fs::read(fixture("p.gif")).unwrap();
    gif[6..10].fill(0xff);
    let mut bmp = std::fs::read(fixture("rgb.bmp")).unwrap();
    bmp[18..26].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f]);
    let mut jpeg = std::fs::read(fixture("420.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    let mut empty = std::fs::read(fixture("420.jpg")).unwrap();
    empty[frame + 5..frame + 9].fill(0);
    vec![
        beside("a PNG of 2^62 pixels".into(), Expected::Refused, "bad.png", png),
        beside("a GIF of 2^32 pixels".into(), Expected::Refused, "bad.gif", gif),
        beside("a BMP of 2^62 pixels".into(), Expected::Refused, "bad.bmp", bmp),
        beside("a JPEG of 2^32 pixels".into(), Expected::Refused, "bad.jpg", jpeg),
        beside("a JPEG of no pixels".into(), Expected::Refused, "bad.jpg", empty),
        beside("no bytes".into(), Expected::Refused, "bad.png", Vec::new()),
        beside("a text".into(), Expected::Refused, "bad.png", b"\x1b]0;title\x07\xc2\x9b31m".to_vec()),
        beside("the first bytes of a JPEG".into(), Expected::Refused, "bad.jpg", vec![0xff, 0xd8, 0xff]),
    ]
}

/// Valid files on which the decoder's library panics.
fn ink() -> Vec<Case> {
    let names = ["cmyk-420.jpg", "cmyk-440.jpg", "cmyk-mixed.jpg", "ycck-420.jpg", "ycck-411.jpg", "ycck-422-progressive.jpg"];
    names.map(|name| beside(name.to_owned(), Expected::Fine, "good.jpg", std::fs::read(fixture(name)).unwrap())).into()
}

fn special_files() -> Vec<Case> {
    let extracted = SPECIAL.map(|kind| {
        Case::new(GROUP, format!("{kind} as an image"), Expected::Handled, move |folder| {
            let images = good_images(folder);
            special(&images.join("bad.png"), kind);
            extract(folder, testkit::miniature(), &images, &[])
        })
        .naming("bad.png")
    });
    let trained = SPECIAL.map(|kind| {
        Case::new(GROUP, format!("{kind} as an image of a data set"), Expected::Handled, move |folder| {
            let images = folder.join("data/1_cat");
            std::fs::create_dir_all(&images).unwrap();
            std::fs::copy(fixture("rgb.png"), images.join("good.png")).unwrap();
            special(&images.join("bad.png"), kind);
            let model = testkit::miniature().to_str().unwrap();
            words(&[
                "train",
                "check",
                "--pretrained_model_name_or_path",
                model,
                "--train_data_dir",
                "data",
                "--output_dir",
                "out",
            ])
        })
        .naming("bad.png")
    });
    extracted.into_iter().chain(trained).collect()
}

/// All of them.
pub fn cases() -> Vec<Case> {
    [mutations(), sizes(), ink(), special_files()].into_iter().flatten().collect()
}
