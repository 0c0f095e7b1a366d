//! `driftless::vision` against Pillow 12.3, OpenCV 5.0 and diffusers 0.32.2.
//!
//! Reference numbers: `tests/reference/vision.py` (rasters) and `tests/reference/vision_files.py` (files), which state versions and
//! seeds. Every comparison is exact: the arithmetic is integer, or float32 in a fixed order.

use candle_core::{Device, Tensor};
use driftless::vision::{Filter, Gray, Image, Mode, Rgb, canny, resize, resize_area};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/vision")).join(name)
}

fn load(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares with a stored result; small ones are stored whole, which shows where they differ.
fn assert_result(bytes: &[u8], case: &Value) {
    if let Some(whole) = case["hex"].as_str() {
        assert_eq!(hex(bytes), whole, "{case}");
    }
    assert_eq!(fnv(bytes), case["hash"].as_str().unwrap(), "{case}");
}

fn pair(value: &Value) -> (usize, usize) {
    (value[0].as_u64().unwrap() as usize, value[1].as_u64().unwrap() as usize)
}

fn mix(value: u32, seed: u32) -> u32 {
    let mut value = value.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40503));
    value ^= value >> 15;
    value = value.wrapping_mul(2_246_822_519);
    value ^ (value >> 13)
}

fn wave(phase: u32) -> u32 {
    let phase = phase & 255;
    if phase < 128 { phase } else { 255 - phase }
}

/// The formula of `image` in `tests/reference/vision.py`.
fn image(kind: &str, width: u32, height: u32, seed: u32) -> Rgb {
    let value = |x: u32, y: u32, c: u32| {
        let noise = mix((y * width + x) * 3 + c, seed) >> 24;
        match kind {
            "noise" => noise,
            "gradient" => (x * (c + 1) + y * 2 + (seed & 255)) & 255,
            "photo" => {
                let blob = mix((y / 23) * 977 + x / 31, seed) >> 26;
                wave(x * 2 + y + c * 40 + (seed & 255)) + wave(y * 3 + x * (c + 1)) / 2 + blob + noise / 16
            }
            "shapes" => {
                let (dx, dy) = (x.wrapping_sub(width / 2), y.wrapping_sub(height / 2));
                let disc = dx.wrapping_mul(dx).wrapping_add(dy.wrapping_mul(dy)) < width * height / 16;
                match mix((y / 7) * 613 + x / 5, seed) & 3 {
                    _ if disc => 200 - c * 60,
                    0 => c * 20,
                    _ => 255 - c * 15,
                }
            }
            "stripes" => match (x + y * (c + 1)) % 11 {
                ..4 => 40 + c * 70,
                _ => 230,
            },
            other => panic!("no kind {other}"),
        }
    };
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            pixels.extend((0..3).map(|c| value(x, y, c).min(255) as u8));
        }
    }
    Rgb { width: width as usize, height: height as usize, pixels }
}

fn input(case: &Value, size: &str) -> Rgb {
    let (width, height) = pair(&case[size]);
    image(case["kind"].as_str().unwrap(), width as u32, height as u32, case["seed"].as_u64().unwrap() as u32)
}

#[test]
fn input_formula_is_the_one_of_the_script() {
    for case in load("rasters.json")["images"].as_array().unwrap() {
        assert_result(&input(case, "size").pixels, case);
    }
}

#[test]
fn resize_equals_pillow() {
    let fixture = load("rasters.json");
    let cases = fixture["resize"].as_array().unwrap();
    assert_eq!(cases.len(), 150);
    for case in cases {
        let filter = match case["filter"].as_str().unwrap() {
            "nearest" => Filter::Nearest,
            "box" => Filter::Box,
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            "lanczos" => Filter::Lanczos,
            other => panic!("no filter {other}"),
        };
        let (width, height) = pair(&case["to"]);
        let resized = resize(&input(case, "from"), width, height, filter);
        assert_eq!((resized.width, resized.height), (width, height));
        assert_result(&resized.pixels, case);
    }
}

#[test]
fn area_equals_opencv() {
    let fixture = load("rasters.json");
    let cases = fixture["area"].as_array().unwrap();
    assert_eq!(cases.len(), 60);
    for case in cases {
        let (width, height) = pair(&case["to"]);
        let resized = resize_area(&input(case, "from"), width, height);
        assert_eq!((resized.width, resized.height), (width, height));
        assert_result(&resized.pixels, case);
    }
}

#[test]
fn canny_equals_opencv() {
    let fixture = load("rasters.json");
    let cases = fixture["canny"].as_array().unwrap();
    assert_eq!(cases.len(), 57);
    for case in cases {
        let image = input(case, "size");
        let (low, high) = (case["low"].as_u64().unwrap() as u32, case["high"].as_u64().unwrap() as u32);
        let edges = canny(&image, low, high);
        assert_eq!((edges.width, edges.height), (image.width, image.height));
        let count = edges.pixels.iter().filter(|&&value| value == 255).count();
        assert_eq!(count as u64, case["edge_pixels"].as_u64().unwrap(), "{case}");
        assert_result(&edges.pixels, case);
    }
}

#[test]
fn nothing_of_no_size_panics() {
    let image = image("noise", 4, 3, 0);
    let empty = Rgb { width: 0, height: 7, pixels: Vec::new() };
    for filter in [Filter::Nearest, Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
        assert!(resize(&image, 0, 5, filter).pixels.is_empty());
        assert_eq!(resize(&empty, 2, 2, filter).pixels, [0; 12]);
    }
    assert!(resize_area(&image, 5, 0).pixels.is_empty());
    assert_eq!(resize_area(&empty, 1, 1).pixels, [0; 3]);
    assert!(canny(&empty, 100, 200).pixels.is_empty());
}

#[test]
fn tensors_equal_diffusers() {
    let fixture = load("rasters.json");
    let case = &fixture["tensor"];
    let ramp = |x: usize, y: usize| (y * 16 + x) as u8;
    let pixels = (0..256).flat_map(|at| [ramp(at % 16, at / 16), ramp(at % 16, 15 - at / 16), ramp(at / 16, at % 16)]).collect();
    let image = Rgb { width: 16, height: 16, pixels };
    let bits = |tensor: Tensor| {
        assert_eq!(tensor.dims(), [1, 3, 16, 16]);
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        fnv(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
    };
    assert_eq!(bits(image.to_tensor(&Device::Cpu).unwrap()), case["preprocess"].as_str().unwrap());
    assert_eq!(bits(image.to_unit_tensor(&Device::Cpu).unwrap()), case["preprocess_unnormalized"].as_str().unwrap());

    let words = case["postprocess_input_bits"].as_array().unwrap();
    let values: Vec<f32> = words.iter().map(|word| f32::from_bits(word.as_u64().unwrap() as u32)).collect();
    let tensor = Tensor::from_vec(values, (1, 3, 16, 32), &Device::Cpu).unwrap();
    let back = Rgb::from_tensor(&tensor).unwrap();
    assert_eq!((back.width, back.height), (32, 16));
    assert_eq!(fnv(&back.pixels), case["postprocess"].as_str().unwrap());
    assert_eq!(Rgb::from_tensor(&tensor.squeeze(0).unwrap()).unwrap(), back);
}

#[test]
fn tensor_round_trip_keeps_every_byte() {
    let image = image("noise", 31, 17, 5);
    assert_eq!(Rgb::from_tensor(&image.to_tensor(&Device::Cpu).unwrap()).unwrap(), image);
}

#[test]
fn tensors_of_another_shape_are_refused() {
    for shape in [vec![2, 3, 4, 4], vec![1, 4, 4, 4], vec![4, 4], vec![1, 1, 3, 4, 4]] {
        let tensor = Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        let message = Rgb::from_tensor(&tensor).unwrap_err().to_string();
        assert!(message.contains("[1, 3, height, width]"), "{message}");
    }
}

#[test]
fn gray_becomes_three_equal_channels() {
    let edges = Gray { width: 2, height: 1, pixels: vec![0, 255] };
    assert_eq!(edges.to_rgb().pixels, [0, 0, 0, 255, 255, 255]);
    assert_eq!(edges.to_unit_tensor(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), [0.0, 1.0]);
}

#[test]
fn crop_and_flip() {
    let image = image("noise", 5, 4, 1);
    let window = image.cropped(2, 1, 3, 2).unwrap();
    assert_eq!(window.pixels[..9], image.pixels[(5 + 2) * 3..(5 + 5) * 3]);
    assert_eq!(window.pixels[9..], image.pixels[(10 + 2) * 3..(10 + 5) * 3]);
    assert!(image.cropped(3, 0, 3, 1).is_err());
    assert!(image.cropped(usize::MAX, 0, 1, 1).is_err());
    let flipped = image.flipped_horizontally();
    assert_eq!(flipped.pixels[..3], image.pixels[12..15]);
    assert_eq!(flipped.flipped_horizontally(), image);
}

#[test]
fn saved_png_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let image = image("photo", 40, 30, 2);
    let path = folder.path().join("image.png");
    std::fs::write(&path, "something older").unwrap();
    let permissions = std::fs::metadata(&path).unwrap().permissions();
    image.save_png(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions(), permissions, "those of an ordinary new file");
    let read = Image::open(&path).unwrap();
    assert_eq!((read.mode(), read.to_rgb()), (Mode::Rgb, image.clone()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");

    let gray = Gray { width: 3, height: 2, pixels: vec![0, 50, 100, 150, 200, 255] };
    gray.save_png(&path).unwrap();
    let read = Image::open(&path).unwrap();
    assert_eq!((read.mode(), read.to_rgb()), (Mode::Gray, gray.to_rgb()));

    assert!(image.save_png(folder.path().join("missing/image.png")).unwrap_err().to_string().contains("missing"));
    assert!(Rgb { width: 0, height: 0, pixels: Vec::new() }.save_png(&path).is_err());
    assert_eq!(Image::open(&path).unwrap().width(), 3, "the failed write left the older file alone");
}

/// What Pillow reads and this crate refuses, with what the message must name.
const REFUSED: [(&str, &str); 1] = [("p.tif", "convert it to PNG")];

#[test]
fn files_equal_pillow() {
    let fixture_file = load("files.json");
    let cases = fixture_file["files"].as_array().unwrap();
    assert_eq!(cases.len(), 93);
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["file"].as_str().unwrap();
        let path = fixture("files").join(name);
        if let Some((_, advice)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            let message = Image::open(&path).unwrap_err().to_string();
            assert!(message.contains(advice) && message.contains(name), "{message}");
            continue;
        }
        let mut check = |fault: String, same: bool| {
            if !same {
                wrong.push(format!("{name}: {fault}"));
            }
        };
        let hash_of = |image: &Rgb| Value::from(fnv(&image.pixels));
        let image = match Image::open(&path) {
            Ok(image) => image,
            Err(error) => {
                check(error.to_string(), false);
                continue;
            }
        };
        check(format!("mode {:?}", image.mode()), image.mode().name() == case["mode"]);
        check(format!("{}x{}", image.width(), image.height()), (image.width(), image.height()) == pair(&case["size"]));
        check("convert".into(), hash_of(&image.to_rgb()) == case["rgb"]);
        for target in case["resized"].as_array().unwrap() {
            let (width, height) = pair(&target["to"]);
            check(format!("resize to {width}x{height}"), hash_of(&image.resized_rgb(width, height)) == target["hash"]);
        }
        let upright = Image::open_oriented(&path).unwrap();
        let size = (upright.width(), upright.height());
        check(format!("upright size {size:?}"), size == pair(&case["upright"]["size"]));
        check("upright".into(), hash_of(&upright.to_rgb()) == case["upright"]["rgb"]);
        check("dimensions".into(), Image::dimensions(&path).unwrap() == pair(&case["stored_size"]));
        let header = Image::header(&path).unwrap();
        check("header".into(), header.size == (image.width(), image.height()));
        check("header, upright".into(), header.upright_size.unwrap_or(header.size) == size);
        let turned = upright.to_rgb() != image.to_rgb();
        check("header, turned".into(), header.upright_size.is_some() || !turned);
    }
    assert!(wrong.is_empty(), "{} differ from Pillow:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn hostile_files_are_refused_or_read_but_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("hostile");
    let mut state = 0;
    let mut random = |below: usize| {
        state += 1;
        mix(state, 77) as usize % below
    };
    let (mut read, mut refused) = (0, 0);
    let fixture_file = load("files.json");
    for case in fixture_file["files"].as_array().unwrap() {
        let whole = std::fs::read(fixture("files").join(case["file"].as_str().unwrap())).unwrap();
        for attempt in 0..40 {
            let mut bytes = whole.clone();
            match attempt % 4 {
                0 => bytes.truncate(random(whole.len())),
                1 => bytes[random(whole.len().min(120))] = [0, 1, 127, 128, 255][random(5)],
                2 => bytes[random(whole.len())] = random(256) as u8,
                _ => drop(bytes.drain(random(whole.len())..).take(random(9)).collect::<Vec<_>>()),
            }
            std::fs::write(&target, &bytes).unwrap();
            // A changed header may give a size that is allowed but too large for a test.
            if Image::dimensions(&target).is_ok_and(|(width, height)| width * height > 1 << 20) {
                continue;
            }
            match Image::open_oriented(&target) {
                Ok(image) => {
                    image.resized_rgb(9, 7);
                    read += 1;
                }
                Err(error) => {
                    let message = error.to_string();
                    assert!(message.contains("hostile") && message.contains(';'), "no file or no advice in: {message}");
                    refused += 1;
                }
            }
        }
    }
    assert!(read > 300 && refused > 1000, "read {read}, refused {refused}");
}

/// `bytes` with the one occurrence of `from` replaced.
fn patched(name: &str, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = std::fs::read(fixture("files").join(name)).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + from.len()].copy_from_slice(to);
    bytes
}

#[test]
fn giant_sizes_are_refused_before_they_are_allocated() {
    let big = u32::to_be_bytes;
    let header = |width: u32, height: u32| [big(width), big(height)].concat();
    let mut png = patched("rgb.png", &header(23, 17), &header(1 << 30, 1 << 30));
    // The header's checksum: CRC-32 of `IHDR` and its 13 bytes.
    let crc = !png[12..29].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let bombs = [
        ("bomb.png", png),
        ("bomb.jpg", patched("444.jpg", &[0, 70, 0, 93], &[255, 0, 255, 0])),
        ("bomb.gif", patched("p.gif", b"GIF87a\x17\0\x11\0", b"GIF87a\xff\xff\xff\xff")),
        ("bomb.bmp", patched("rgb.bmp", &[23, 0, 0, 0, 17, 0, 0, 0], &[0, 255, 0, 0, 0, 255, 0, 0])),
    ];
    for (name, bytes) in bombs {
        for message in [
            Image::from_bytes(&bytes, name).unwrap_err().to_string(),
            Image::from_bytes_oriented(&bytes, name).unwrap_err().to_string(),
        ] {
            assert!(message.contains(name) && message.contains("too large"), "{message}");
        }
    }
}

#[test]
fn what_is_no_image_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (content, words) in [("", "the file is empty"), ("a caption, not an image", "PNG, JPEG, WebP, BMP, TIFF, GIF")] {
        let path = folder.path().join("cat.png");
        std::fs::write(&path, content).unwrap();
        let message = Image::open(&path).unwrap_err().to_string();
        assert!(message.contains("cat.png") && message.contains(words), "{message}");
    }
    let missing = Image::open(folder.path().join("missing.png")).unwrap_err();
    assert!(matches!(missing, driftless::Error::Io { .. }) && missing.to_string().contains("missing.png"), "{missing}");
    assert!(Image::open(folder.path()).is_err(), "a folder is not an image");
}

#[test]
fn rasters_become_images() {
    let image = image("photo", 20, 15, 4);
    let whole = Image::from(image.clone());
    assert_eq!((whole.mode(), whole.to_rgb()), (Mode::Rgb, image.clone()));
    assert_eq!(whole.resized_rgb(9, 31), resize(&image, 9, 31, Filter::Bicubic));
    let gray = Gray { width: 2, height: 1, pixels: vec![7, 200] };
    assert_eq!(Image::from(gray.clone()).resized_rgb(2, 1), gray.to_rgb());
}

/// Small files that promise what they do not hold: refused before anything of that size is allocated.
#[test]
fn promises_that_a_file_cannot_keep_are_not_believed() {
    let mut webp = std::fs::read(fixture("files/rotated.webp")).unwrap();
    let exif = webp.windows(4).position(|four| four == b"EXIF").unwrap();
    webp[exif + 4..exif + 8].copy_from_slice(&0xe600_001a_u32.to_le_bytes());
    let mut gif = std::fs::read(fixture("files/p.gif")).unwrap();
    let frame = gif.windows(5).position(|five| five == b",\0\0\0\0").unwrap();
    gif[frame + 5..frame + 9].copy_from_slice(&[0x00, 0x18, 0xff, 0xff]);
    // One entry: an orientation that is a text of 1.3 GB.
    let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\0\0\0\x50\x08\0\0\0\0\0\0\0".to_vec();
    for (name, bytes) in [("a.webp", webp), ("a.gif", gif), ("a.tif", tiff)] {
        let error = Image::from_bytes(&bytes, name).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("cut off"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        assert!(Image::header(&path).unwrap_err().to_string().contains("cut off"));
    }
    // Found by a fuzzer: a frame of 13556 x 13556 pixels, 275 MB, in a file of 311 bytes.
    let whole = std::fs::read(fixture("files/lossy.webp")).unwrap();
    let mut webp = [&b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x5c\0\0\x45\0\0"[..], &whole[12..]].concat();
    let length = webp.len() as u32 - 8;
    webp[4..8].copy_from_slice(&length.to_le_bytes());
    assert_eq!(Image::from_bytes(&webp, "a.webp").unwrap(), Image::from_bytes(&whole, "a.webp").unwrap());
    let sizes = webp.windows(3).position(|code| code == [0x9d, 0x01, 0x2a]).unwrap() + 3;
    webp[sizes..sizes + 4].fill(0xf4);
    let error = Image::from_bytes(&webp, "a.webp").unwrap_err().to_string();
    assert!(error.contains("frame of 13556x13556 pixels is larger than the image"), "{error}");
}
