//! What the fuzzers feed, and what must hold: for the fuzz targets beside this file, and for the bounded run among the tests.
//!
//! An entry makes a file of its input, reads it as `convert` and `extract` would, and panics where reading takes more memory than the
//! file's size allows, or where an adapter that was read is not the same after it was written. Every error is a good answer.
//! Weight files are here; images, configurations and tokenizers in `inputs`.

#[path = "inputs.rs"]
mod inputs;

use candle_core::{DType, Device, Tensor};
use driftless::adapter::AdapterFile;
use driftless::adapter::files::{self, Network, UnknownKeys};
use driftless::adapter::{Adapter, Factors};
use driftless::formats::WeightFile;
use driftless::model_family::layer_kind;
use driftless::model_family::naming::ldm;
use driftless::model_family::recognition::model_kind;
use driftless::weights::{LdmCheckpoint, UnetWeights};
use peak_alloc::PeakAlloc;
use std::path::Path;
use std::sync::Arc;
use testkit::torch_files;

/// Counts what is allocated.
#[global_allocator]
pub static HEAP: PeakAlloc = PeakAlloc;

/// Bytes that reading any file may take: buffers, tables of layers, and tensors that repeat an element.
const FIXED_BYTES: usize = 24 << 20;
/// Bytes that reading may take for each byte of the file: an instruction of one byte can make an object of 24.
const BYTES_PER_BYTE: usize = 128;

/// An entry: the input, and a folder for its files.
pub type Entry = fn(&[u8], &Path);

/// All entries by name.
#[allow(dead_code)] // a target is one of them
pub const ALL: [(&str, Entry); 11] = [
    ("pickle", pickle),
    ("container", container),
    ("keys", keys),
    ("jpeg", inputs::jpeg),
    ("png", inputs::png),
    ("webp", inputs::webp),
    ("bmp", inputs::bmp),
    ("gif", inputs::gif),
    ("tiff", inputs::tiff),
    ("config", inputs::config),
    ("tokenizer", inputs::tokenizer),
];

/// The entry of a name.
#[allow(dead_code)] // for the targets
pub fn named(name: &str) -> Entry {
    ALL.iter().find(|(known, _)| *known == name).expect("a name of the table").1
}

/// Runs an entry in a folder that stays the same for the process, in memory where the system has such a place.
#[allow(dead_code)] // for the targets
pub fn in_scratch_folder(entry: Entry, data: &[u8]) {
    static FOLDER: std::sync::LazyLock<tempfile::TempDir> = std::sync::LazyLock::new(|| {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        tempfile::Builder::new().prefix("driftless-fuzz-").tempdir_in(place).unwrap()
    });
    entry(data, FOLDER.path());
}

/// The input is one pickle; storages `0`, `1` and `2` of 16, 64 and 1024 bytes stand beside it.
pub fn pickle(data: &[u8], folder: &Path) {
    // Neither large nor small numbers, as float16 and as float32.
    let storage = |len: usize| (0..len).map(|i| if i % 2 == 1 { 0x3c } else { (i * 37) as u8 }).collect::<Vec<u8>>();
    let mut archive = torch_files::Archive::torch(data);
    for (key, len) in [("0", 16), ("1", 64), ("2", 1024)] {
        archive = archive.with(&format!("archive/data/{key}"), &storage(len));
    }
    read(&archive.bytes(), folder);
    read(&torch_files::legacy(data, &[]), folder);
}

/// The input is a whole file; in a second reading the checksums of its archive are right, which no mutation would find.
pub fn container(data: &[u8], folder: &Path) {
    read(data, folder);
    let mut repaired = data.to_vec();
    if repair_checksums(&mut repaired) {
        read(&repaired, folder);
    }
}

/// The input is text: a line for each tensor with its name, its type and its sizes, as in `conv_in.weight f32 8x4x3x3`.
pub fn keys(data: &[u8], folder: &Path) {
    let text = String::from_utf8_lossy(data);
    let tensors: Vec<(&str, &str, Vec<usize>)> = text.lines().take(256).filter_map(tensor_of_line).collect();
    read(&safetensors_file(&tensors), folder);
}

/// Writes the bytes to a file and reads it in every way there is.
fn read(bytes: &[u8], folder: &Path) {
    let path = folder.join("input");
    std::fs::write(&path, bytes).unwrap();
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let adapter = read_file(&path);
    let taken = HEAP.peak_usage().saturating_sub(before);
    let allowed = FIXED_BYTES + BYTES_PER_BYTE * bytes.len();
    assert!(taken <= allowed, "{taken} bytes were taken to read a file of {}; {allowed} are allowed", bytes.len());
    if let Some(adapter) = adapter {
        write_again(&adapter, folder);
    }
}

/// Reads every tensor of a file, and what the file means.
fn read_file(path: &Path) -> Option<AdapterFile> {
    let file = WeightFile::open(path).ok()?;
    for name in file.names() {
        let tensor = file.tensor(name, &Device::Cpu);
        let info = file.info(name).unwrap();
        assert!(tensor.is_err() || tensor.is_ok_and(|tensor| tensor.dims() == info.shape));
        let _ = file.scalar(name);
    }
    let _ = model_kind(&file).to_string();
    let adapter = AdapterFile::from_weights(&file, UnknownKeys::Collect).ok();
    let file = Arc::new(file);
    for weights in [UnetWeights::Trained, UnetWeights::MovingAverage] {
        let Ok(checkpoint) = LdmCheckpoint::from_weights(file.clone(), weights) else { continue };
        for network in Network::PIPELINE {
            let Some(component) = checkpoint.component(network) else { continue };
            let _ = ldm::table_to_ldm(component.names(), checkpoint.family, network);
            component.names().for_each(|name| drop(component.tensor(name, &Device::Cpu)));
        }
    }
    adapter
}

/// An adapter that could be read is the same after it was written, in each format that can hold it.
fn write_again(adapter: &AdapterFile, folder: &Path) {
    let (entries, metadata) = (&adapter.entries, &adapter.metadata);
    let kohya = folder.join("kohya.safetensors");
    if AdapterFile::write_kohya(&kohya, entries, metadata, None).is_ok() {
        let again = AdapterFile::open(&kohya).unwrap_or_else(|error| panic!("written, and refused: {error}"));
        assert_eq!(again.entries.len(), entries.len());
        for (layer, adapter) in entries {
            same(adapter, &again.entries[layer]);
        }
    }
    if entries.values().all(|layer| layer.as_plain_lora().is_some()) {
        let diffusers = folder.join("diffusers.safetensors");
        if AdapterFile::write_diffusers(&diffusers, entries, metadata, None).is_ok() {
            let again = AdapterFile::open(&diffusers).unwrap_or_else(|error| panic!("written, and refused: {error}"));
            assert!(again.entries.keys().eq(entries.keys()));
        }
    }
    if files::fits_peft(entries) {
        let peft = folder.join("peft");
        let _ = std::fs::remove_dir_all(&peft);
        if AdapterFile::write_peft(&peft, entries, metadata, None).is_ok() {
            let networks: std::collections::BTreeSet<Network> = entries.keys().map(|(network, _)| *network).collect();
            for network in networks {
                let file = peft.join(network.name()).join("adapter_model.safetensors");
                let again = AdapterFile::open(&file).unwrap_or_else(|error| panic!("written, and refused: {error}"));
                // A core becomes part of its neighbor there.
                let has_core = |adapter: &Adapter| matches!(&adapter.factors, Factors::Lora(lora) if lora.mid.is_some());
                let kept = again.entries.iter().filter(|(layer, _)| !has_core(&entries[*layer]));
                kept.for_each(|(layer, adapter)| same(&entries[layer], adapter));
            }
        }
    }
    for ((network, path), adapter) in entries {
        let wide = layer_kind(*network, path).is_some_and(|kind| kind.is_convolution());
        let Some(shape) = adapter.factors.weight_shape(wide.then_some(3)) else { continue };
        if shape.iter().product::<usize>() > 1 << 14 {
            continue;
        }
        let weight = Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
        for rank in [None, Some(1)] {
            if let Ok(plain) = adapter.to_plain(&weight, rank) {
                assert!(plain.adapter.factors.rank().is_some_and(|found| rank.is_none_or(|rank| found <= rank)));
            }
        }
    }
}

/// The same parts, to the bit.
fn same(left: &Adapter, right: &Adapter) {
    let numbers = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (left, right) = (left.components(), right.components());
    assert_eq!(left.len(), right.len());
    for ((left_part, left), (right_part, right)) in left.into_iter().zip(right) {
        assert_eq!((left_part, left.dims(), left.dtype()), (right_part, right.dims(), right.dtype()));
        assert_eq!(numbers(left), numbers(right));
    }
}

/// Sets the checksum of each member that the directory describes; whether there was one.
fn repair_checksums(bytes: &mut [u8]) -> bool {
    let mut repaired = false;
    let entries: Vec<usize> = (0..bytes.len().saturating_sub(46)).filter(|at| bytes[*at..].starts_with(b"PK\x01\x02")).collect();
    for at in entries {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let (len, header) = (u32_at(at + 24), u32_at(at + 42));
        let Some(lengths) = bytes.get(header.saturating_add(26)..header.saturating_add(30)) else { continue };
        let names = u16::from_le_bytes([lengths[0], lengths[1]]) as usize + u16::from_le_bytes([lengths[2], lengths[3]]) as usize;
        let start = header + 30 + names;
        let Some(data) = bytes.get(start..start.saturating_add(len)) else { continue };
        let crc = crc32fast::hash(data).to_le_bytes();
        repaired |= bytes[at + 16..at + 20] != crc;
        bytes[at + 16..at + 20].copy_from_slice(&crc);
    }
    repaired
}

/// A line's name, type and sizes; tensors stay small.
fn tensor_of_line(line: &str) -> Option<(&str, &str, Vec<usize>)> {
    let mut words = line.rsplitn(3, ' ');
    let (sizes, dtype, name) = (words.next()?, words.next()?, words.next()?);
    let sizes: Vec<usize> = match sizes {
        "-" => Vec::new(),
        _ => sizes.split('x').map(|size| size.parse().ok().filter(|size| *size <= 64)).collect::<Option<_>>()?,
    };
    let small = sizes.len() <= 5 && sizes.iter().try_fold(1usize, |count, size| count.checked_mul(*size))? <= 4096;
    (small && ["f16", "bf16", "f32", "i64"].contains(&dtype)).then_some((name, dtype, sizes))
}

/// A safetensors file of numbers that are neither large nor small nor alike.
fn safetensors_file(tensors: &[(&str, &str, Vec<usize>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, sizes) in tensors {
        if header.contains_key(*name) || *name == "__metadata__" {
            continue;
        }
        let start = data.len();
        for index in 0..sizes.iter().product::<usize>() {
            let noise = ((start + index) as u32).wrapping_mul(2_654_435_761) >> 3;
            match *dtype {
                "f16" => data.extend((0x3000 | (noise as u16 & 0x8fff)).to_le_bytes()),
                "bf16" => data.extend((0x3f00 | (noise as u16 & 0x80ff)).to_le_bytes()),
                "f32" => data.extend((0x3f00_0000 | (noise & 0x80ff_ffff)).to_le_bytes()),
                _ => data.extend(u64::from(noise % 16 + 1).to_le_bytes()),
            }
        }
        let entry = serde_json::json!({ "dtype": dtype.to_uppercase(), "shape": sizes, "data_offsets": [start, data.len()] });
        header.insert((*name).to_owned(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &data].concat()
}
