//! safetensors files: our bytes against the library's, reading by position, and headers that lie.

use candle_core::{DType, Device, Tensor};
use driftless::error::ArgumentCause;
use driftless::formats::{WeightFile, remove_unfinished, write_atomically, write_safetensors};
use driftless::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// An empty folder that is removed at the end of the test.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn sample() -> Vec<(String, Tensor)> {
    let cpu = &Device::Cpu;
    let ramp = |count: usize| Tensor::arange(0f32, count as f32, cpu).unwrap();
    vec![
        ("b.weight".into(), ramp(12).reshape((3, 4)).unwrap()),
        ("a.weight".into(), ramp(6).reshape((2, 3)).unwrap().to_dtype(DType::F16).unwrap()),
        ("z".into(), ramp(5).to_dtype(DType::BF16).unwrap()),
        ("c".into(), Tensor::new(&[1i64, -2], cpu).unwrap()),
        ("bytes".into(), Tensor::new(&[7u8], cpu).unwrap()),
        ("double".into(), Tensor::new(&[0.1f64, 1e-3], cpu).unwrap()),
        ("scalar".into(), Tensor::new(16f32, cpu).unwrap()),
        ("empty".into(), Tensor::zeros((0, 4), DType::F32, cpu).unwrap()),
        // Not contiguous: rows must come out in logical order.
        ("transposed".into(), ramp(6).reshape((2, 3)).unwrap().t().unwrap()),
    ]
}

/// Views for the library's own serializer.
fn library_bytes(tensors: &[(String, Tensor)], metadata: HashMap<String, String>) -> Vec<u8> {
    let data: Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let flat = tensor.contiguous().unwrap().flatten_all().unwrap();
            let (dtype, bytes): (_, Vec<u8>) = match tensor.dtype() {
                DType::F32 => {
                    (safetensors::Dtype::F32, flat.to_vec1::<f32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect())
                }
                DType::F64 => {
                    (safetensors::Dtype::F64, flat.to_vec1::<f64>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect())
                }
                DType::I64 => {
                    (safetensors::Dtype::I64, flat.to_vec1::<i64>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect())
                }
                DType::U8 => (safetensors::Dtype::U8, flat.to_vec1::<u8>().unwrap()),
                DType::F16 => {
                    (safetensors::Dtype::F16, flat.to_vec1::<half::f16>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect())
                }
                DType::BF16 => (
                    safetensors::Dtype::BF16,
                    flat.to_vec1::<half::bf16>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect(),
                ),
                other => panic!("{other:?}"),
            };
            (name.clone(), dtype, tensor.dims().to_vec(), bytes)
        })
        .collect();
    let views = data.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, Some(metadata)).unwrap()
}

// Reference: the safetensors library's serializer; bytes must be equal (with one metadata entry, since its order of several varies).
#[test]
fn writes_the_librarys_bytes() {
    let folder = folder();
    let path = folder.path().join("out.safetensors");
    let metadata = BTreeMap::from([("format".to_owned(), "pt \"quoted\" \u{e9}".to_owned())]);
    write_safetensors(&path, sample(), &metadata).unwrap();
    let expected = library_bytes(&sample(), metadata.into_iter().collect());
    assert_eq!(std::fs::read(&path).unwrap(), expected);
}

#[test]
fn reads_what_it_wrote() {
    let folder = folder();
    let path = folder.path().join("out.safetensors");
    let metadata = BTreeMap::from([("one".to_owned(), "1".to_owned()), ("two".to_owned(), "2".to_owned())]);
    write_safetensors(&path, sample(), &metadata).unwrap();
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.metadata(), &metadata);
    let names: Vec<_> = file.names().collect();
    assert_eq!(names, ["a.weight", "b.weight", "bytes", "c", "double", "empty", "scalar", "transposed", "z"]);
    for (name, tensor) in sample() {
        let read = file.tensor(&name, &Device::Cpu).unwrap();
        let expected = if tensor.dtype() == DType::F64 { tensor.to_dtype(DType::F32).unwrap() } else { tensor };
        assert_eq!(read.dtype(), expected.dtype(), "{name}");
        assert_eq!(read.dims(), expected.dims(), "{name}");
        let numbers = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(numbers(&read), numbers(&expected), "{name}");
    }
    let missing = file.tensor("d", &Device::Cpu).unwrap_err().to_string();
    assert!(missing.contains("out.safetensors") && missing.contains("`d`"), "{missing}");
}

/// A file with this JSON header and this many bytes of data.
fn with_header(folder: &Path, header: &str, data: usize) -> PathBuf {
    let path = folder.join("case.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The words of the error with which opening fails.
fn refusal(path: &Path) -> String {
    WeightFile::open(path).map(|_| ()).expect_err("must be refused").to_string()
}

#[test]
fn headers_that_lie_are_refused_by_name() {
    let folder = folder();
    let cases: &[(&str, usize, &[&str])] = &[
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, &["`a`", "needs 8 bytes"]),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8, &["`a`"]),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4, &["`a`", "truncated"]),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 8, &["end at byte 4", "8 bytes"]),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, &["`a`", "gap"]),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
            &["`b`", "overlaps"],
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            8,
            &["`a` occurs twice"],
        ),
        (r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, 4, &["a", "F99"]),
        (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, &["a", "-1"]),
        (r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#, 4, &["`a`", "larger than any file"]),
        (r#"{"__metadata__":{"x":1}}"#, 0, &["string"]),
        (r#"{"__metadata__":{"x":"1","x":"2"}}"#, 0, &["`x` occurs twice"]),
        (r#"{"a":{"dtype":"F32","shape":[1]"#, 4, &["header is not valid"]),
        (r#"{"a":[[[[]]]]}"#, 4, &["`a`"]),
    ];
    for (header, data, words) in cases {
        let message = refusal(&with_header(folder.path(), header, *data));
        assert!(message.contains("case.safetensors"), "{header}: {message}");
        for word in *words {
            assert!(message.contains(word), "{header}: {message} lacks {word}");
        }
    }
}

#[test]
fn files_of_other_kinds_are_named() {
    let folder = folder();
    let path = folder.path().join("model.ckpt");
    let mut tar = vec![0u8; 600];
    tar[257..262].copy_from_slice(b"ustar");
    let cases: &[(&[u8], &str)] = &[
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html></html>", "web page"),
        (b"\n <html><head>", "web page"),
        (b"Not found", "text file"),
        (b"{\"error\": \"no access\"}", "weight_map"),
        (b"\x1f\x8b\x08\x00", "compressed archive"),
        (b"\x10\x27\x00\x00\x00\x00\x00\x00{\"a\":", "truncated"),
        (b"\x80\x02}q\x00.", "bare pickle"),
        (b"\x00\x01\x02\x03", "neither safetensors nor a torch file"),
        (&tar, "tar archive"),
    ];
    for (bytes, words) in cases {
        std::fs::write(&path, bytes).unwrap();
        let message = refusal(&path);
        assert!(message.contains("model.ckpt") && message.contains(words), "{words}: {message}");
    }
    assert!(refusal(folder.path()).contains("folder"));
    assert!(refusal(&folder.path().join("nothing")).contains("no such file"));
}

/// Every prefix of a good file is refused, without a panic.
#[test]
fn truncated_anywhere_is_refused() {
    let folder = folder();
    let path = folder.path().join("out.safetensors");
    write_safetensors(&path, sample(), &BTreeMap::new()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for len in 0..bytes.len() {
        std::fs::write(&path, &bytes[..len]).unwrap();
        assert!(refusal(&path).contains("out.safetensors"), "{len} bytes");
    }
}

#[test]
fn shards_are_read_through_their_index() {
    let folder = folder();
    let tensors = sample();
    let (first, second) = tensors.split_at(4);
    write_safetensors(folder.path().join("m-1.safetensors"), first.to_vec(), &BTreeMap::new()).unwrap();
    write_safetensors(folder.path().join("m-2.safetensors"), second.to_vec(), &BTreeMap::new()).unwrap();
    let shard_of = |index: usize| if index < 4 { "m-1.safetensors" } else { "m-2.safetensors" };
    let index = folder.path().join("m.safetensors.index.json");
    let map: BTreeMap<_, _> = tensors.iter().enumerate().map(|(i, (name, _))| (name.clone(), shard_of(i))).collect();
    let write_index = |map: &BTreeMap<String, &str>| {
        std::fs::write(&index, serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string()).unwrap();
    };
    write_index(&map);
    let file = WeightFile::open(&index).unwrap();
    assert_eq!(file.names().len(), tensors.len());
    let read = file.tensor("transposed", &Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(read, [[0., 3.], [1., 4.], [2., 5.]]);

    let mut wrong = map.clone();
    wrong.insert("absent".into(), "m-1.safetensors");
    write_index(&wrong);
    assert!(refusal(&index).contains("`absent`"));
    for outside in ["../m-1.safetensors", "/etc/passwd", "m-3.safetensors"] {
        let mut wrong = map.clone();
        wrong.insert("absent".into(), outside);
        write_index(&wrong);
        assert!(refusal(&index).contains(outside.trim_start_matches("../")), "{outside}");
    }
}

#[test]
fn names_that_occur_twice_are_not_written() {
    let folder = folder();
    let path = folder.path().join("out.safetensors");
    let twice = || sample().into_iter().chain(sample());
    let message = write_safetensors(&path, twice(), &BTreeMap::new()).unwrap_err().to_string();
    assert!(message.contains("occurs twice"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A failure inside leaves the old file alone and no temporary one; an interruption does as well.
#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = folder();
    let path = folder.path().join("out.bin");
    write_atomically(&path, |file| file.write_bytes(b"old")).unwrap();
    let failed: Result<()> = write_atomically(&path, |file| {
        file.write_bytes(b"new")?;
        Err(Error::argument("test", ArgumentCause::Missing))
    });
    assert!(failed.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // Last, because nothing can be written in this process afterwards: this test has a process of its own under the name below.
    if std::env::var_os("DRIFTLESS_TEST_INTERRUPT").is_some() {
        let interrupted: Result<()> = write_atomically(&path, |file| {
            file.write_bytes(b"new")?;
            remove_unfinished();
            Ok(())
        });
        assert!(interrupted.is_err());
        assert!(write_atomically(&path, |_| Ok(())).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        return;
    }
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_file_appears_whole_or_not_at_all"])
        .env("DRIFTLESS_TEST_INTERRUPT", "1")
        .status()
        .unwrap();
    assert!(status.success());
}
