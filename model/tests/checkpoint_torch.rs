//! Torch files: the good ones that torch wrote, read to the last number, and bad ones, refused in words.

use candle_core::{DType, Device, Tensor};
use driftless::formats::{Format, TensorSpec, WeightFile, write_torch_streaming};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use testkit::torch_files::{Archive, legacy, pickled};

fn fixtures() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/checkpoint/torch")).to_owned()
}

#[derive(serde::Deserialize)]
struct Expected {
    files: BTreeMap<String, BTreeMap<String, Numbers>>,
}

#[derive(serde::Deserialize)]
struct Numbers {
    dtype: String,
    shape: Vec<usize>,
    values: Vec<f64>,
}

// Reference: torch 2.15 torch.save in every form; tests/reference/checkpoint_torch.py. Numbers are equal, since nothing is computed.
#[test]
fn reads_what_torch_wrote() {
    let text = std::fs::read_to_string(fixtures().join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_str(&text).unwrap();
    assert!(expected.files.len() > 10);
    for (name, tensors) in &expected.files {
        let file = WeightFile::open(fixtures().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let names: Vec<_> = file.names().collect();
        assert_eq!(names, tensors.keys().collect::<Vec<_>>(), "{name}");
        for (key, numbers) in tensors {
            let info = file.info(key).unwrap();
            assert_eq!(info.shape, numbers.shape, "{name}: {key}");
            let tensor = file.tensor(key, &Device::Cpu).unwrap();
            let dtype = match numbers.dtype.as_str() {
                "float64" | "float32" => DType::F32,
                "float16" => DType::F16,
                "bfloat16" => DType::BF16,
                "int64" => DType::I64,
                "int32" => DType::I32,
                "int16" => DType::I16,
                "uint8" => DType::U8,
                other => panic!("{other}"),
            };
            assert_eq!(tensor.dtype(), dtype, "{name}: {key}");
            let values = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            // The JSON reader may miss a float64's last bit.
            let close = |a: &f64, b: &f64| a == b || (a - b).abs() <= 4.0 * f64::EPSILON * b.abs();
            assert_eq!(values.len(), numbers.values.len(), "{name}: {key}");
            assert!(values.iter().zip(&numbers.values).all(|(a, b)| close(a, b)), "{name}: {key}: {values:?}");
            if numbers.values.len() == 1 {
                assert!(close(&file.scalar(key).unwrap(), &numbers.values[0]), "{name}: {key}");
            }
        }
    }
    let nested = WeightFile::open(fixtures().join("nested.ckpt")).unwrap();
    assert_eq!(nested.not_tensors().collect::<Vec<_>>(), [("b.d", "a whole number")]);
    assert_eq!(nested.scalar("b.d").unwrap(), 3.0);
}

#[test]
fn what_is_written_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.ckpt");
    let tensor = |dtype| Tensor::arange(0f32, 24f32, &Device::Cpu).unwrap().reshape((2, 3, 4)).unwrap().to_dtype(dtype).unwrap();
    let mut tensors: BTreeMap<String, Tensor> =
        [DType::F32, DType::F64, DType::F16, DType::BF16, DType::U8, DType::I16, DType::I32, DType::I64]
            .map(|dtype| (format!("model.{}", dtype.as_str()), tensor(dtype)))
            .into();
    tensors.insert("scalar".into(), Tensor::new(3f32, &Device::Cpu).unwrap());
    tensors.insert("permuted".into(), tensor(DType::F32).permute((2, 0, 1)).unwrap());
    let spec = |(name, tensor): (&String, &Tensor)| TensorSpec {
        name: name.clone(),
        dtype: tensor.dtype(),
        shape: tensor.dims().to_vec(),
    };
    let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
    let write = |specs: &[TensorSpec]| write_torch_streaming(&path, specs, |spec| Ok(tensors[&spec.name].clone()));
    write(&specs).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.format(), Format::TorchZip);
    assert!(file.names().eq(tensors.keys().map(String::as_str)));
    let numbers = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    for (name, tensor) in &tensors {
        let found = file.tensor(name, &Device::Cpu).unwrap();
        assert_eq!((found.dims(), numbers(&found)), (tensor.dims(), numbers(tensor)), "{name}");
    }
    write(&specs).unwrap();
    assert!(bytes == std::fs::read(&path).unwrap(), "the same tensors give other bytes");
    // Nothing is written where something is wrong.
    std::fs::remove_file(&path).unwrap();
    let twice = [specs.clone(), vec![specs[0].clone()]].concat();
    assert!(write(&twice).unwrap_err().to_string().contains("occurs twice"));
    let other = TensorSpec { shape: vec![24], ..specs[0].clone() };
    assert!(write(&[other]).is_err());
    assert!(!path.exists() && folder.path().read_dir().unwrap().next().is_none());
}

#[test]
fn names_are_kept_in_proportion_to_the_file() {
    // Lists of lists, each ten times the one before for some twenty bytes, in a tuple; and a long key above many entries.
    let mut levels = b"\x80\x02}X\x01\x00\x00\x00a(]q\x00(K\x01K\x02e".to_vec();
    for level in 1..9u8 {
        let members = [b'h', level - 1].repeat(10);
        levels.extend([b"]q".as_slice(), &[level], b"(", &members, b"e"].concat());
    }
    levels.extend(b"ts.");
    let message = refusal(&pickled(&levels));
    assert!(message.contains("than its size explains"), "{message}");
    let key = 50_000u32;
    let long = [b"\x80\x02}X".as_slice(), &key.to_le_bytes(), &vec![b'k'; key as usize], b"](", &b"K\x01".repeat(500), b"es."];
    let message = refusal(&pickled(&long.concat()));
    assert!(message.contains("than its size explains"), "{message}");
}

/// The words of the error with which a file of these bytes is refused.
fn refusal(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.ckpt");
    std::fs::write(&path, bytes).unwrap();
    let file = match WeightFile::open(&path) {
        Err(error) => return checked(error),
        Ok(file) => file,
    };
    // Checksums are compared when a tensor is read.
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    let failed = names.iter().find_map(|name| file.tensor(name, &Device::Cpu).err());
    checked(failed.expect("must be refused"))
}

fn checked(error: driftless::Error) -> String {
    let message = error.to_string();
    assert!(message.contains("case.ckpt"), "{message}");
    assert!(message.len() < 2000 && !message.contains('\n'), "{message}");
    message
}

fn assert_refused(bytes: &[u8], words: &[&str]) {
    let message = refusal(bytes);
    for word in words {
        assert!(message.contains(word), "`{message}` lacks `{word}`");
    }
}

/// Every file cut at every length, and with every byte changed: an error or the same names, never a panic.
#[test]
fn damaged_anywhere_is_an_error_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.ckpt");
    let touch = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        if let Ok(file) = WeightFile::open(&path) {
            for name in file.names() {
                let _ = file.tensor(name, &Device::Cpu);
            }
        }
    };
    for name in ["list.ckpt", "legacy.ckpt", "python2.ckpt", "lightning.ckpt"] {
        let bytes = std::fs::read(fixtures().join(name)).unwrap();
        for len in 0..bytes.len() {
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(WeightFile::open(&path).is_err(), "{name} cut to {len} bytes");
        }
        for position in 0..bytes.len() {
            for flip in [0xff, 0x01, 0x80] {
                let mut changed = bytes.clone();
                changed[position] ^= flip;
                touch(&changed);
            }
        }
    }
}

#[test]
fn programs_are_refused_by_name_and_key() {
    let system = b"cposix\nsystem\n(X\x02\x00\x00\x00idtR";
    let call = |inside: &[u8]| {
        [b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x0a\x00\x00\x00state_dict}(X\x04\x00\x00\x00evil".as_slice(), inside, b"uu."]
            .concat()
    };
    for bytes in [Archive::torch(&call(system)).bytes(), legacy(&call(system), &[])] {
        assert_refused(&bytes, &["posix.system", "state_dict.evil"]);
    }
    // Beside the weights, and under a single entry's instruction.
    assert_refused(&Archive::torch(b"\x80\x02}X\x04\x00\x00\x00evilcbuiltins\neval\n(tRs.").bytes(), &["builtins.eval", "evil"]);
    for name in [
        "torch\nload",
        "torch.hub\nload",
        "torch._utils\n_import_dotted_name",
        "numpy\nload",
        "collections\ndefaultdict",
        "__builtin__\neval",
    ] {
        assert_refused(&Archive::torch(format!("c{name}\n.").as_bytes()).bytes(), &[&name.replace('\n', ".")]);
    }
    // By text, and by a class that is known but cannot be called.
    assert_refused(&pickled(b"\x8c\x05posix\x8c\x06system\x93)R."), &["posix.system"]);
    assert_refused(&pickled(b"ctorch\nFloatStorage\n)R."), &["torch does not write"]);
    assert_refused(&pickled(b"ctorch\nTensor\n)R."), &["torch does not write"]);
    assert_refused(&pickled(b"}K\x01\x85R."), &["calls a dictionary"]);
    assert_refused(
        &pickled(b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._tensor\n_rebuild_from_type_v2\nctorch\nTensor\n)NtR."),
        &["torch does not write"],
    );
}

#[test]
fn instructions_that_torch_does_not_write_are_refused() {
    for instruction in [
        &b"i"[..],
        b"o",
        b"d",
        b"l",
        b"0",
        b"1",
        b"2",
        b"g",
        b"p",
        b"P",
        b"I",
        b"S",
        b"V",
        b"T",
        b"B",
        b"C",
        b"F",
        b"L",
        b"\x8b",
        b"\x8d",
        b"\x8e",
        b"\x90",
        b"\x91",
        b"\x92",
        b"\x82",
        b"\x83",
        b"\x84",
        b"\x96",
    ] {
        assert_refused(
            &pickled(&[b"(".as_slice(), instruction, b"\x01\x00\x00\x00."].concat()),
            &[&format!("0x{:02x}", instruction[0]), "torch does not write"],
        );
    }
}

#[test]
fn claims_are_checked_before_anything_is_allocated() {
    // A text of 4 GiB, a whole number of 255 bytes, an object that was not made, too little on the stack.
    assert_refused(&pickled(b"X\xff\xff\xff\xffabc."), &["more bytes were expected"]);
    assert_refused(&pickled(&[b"\x8a\xff".as_slice(), &[1; 255], b"."].concat()), &["255 bytes"]);
    assert_refused(&pickled(b"h\x07."), &["object 7"]);
    for empty in [&b"."[..], b"\x85.", b"s.", b"t.", b"q\x00.", b"(.", b"N(\x85.", b"R.", b"b.", b"Q.", b"a.", b"N(u."] {
        assert_refused(&pickled(&[b"\x80\x02".as_slice(), empty].concat()), &["pickle"]);
    }
    assert_refused(&pickled(b"\x80\x09."), &["protocol 9"]);
    assert_refused(&pickled(b"NNs."), &["object where none is"]);
    assert_refused(&pickled(b"NK\x01a."), &["appends to nothing"]);
    assert_refused(&pickled(b"}(Nu."), &["key without a value"]);
    assert_refused(&pickled(b"K\x05Nb."), &["attributes to a whole number"]);
}

/// A pickle of one tensor with these texts for storage type, count of elements, offset, size and stride.
fn tensor(kind: &str, elements: &[u8], offset: &[u8], size: &[u8], stride: &[u8]) -> Vec<u8> {
    let storage = format!("(X\u{7}\0\0\0storagectorch\n{kind}\nX\u{1}\0\0\u{0}0X\u{3}\0\0\0cpu");
    let start = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(";
    [start.as_slice(), storage.as_bytes(), elements, b"tQ", offset, size, stride, b"\x89}tRs."].concat()
}

#[test]
fn views_stay_inside_their_storage() {
    let archive = |pickle: &[u8]| Archive::torch(pickle).with("archive/data/0", &[0; 16]).bytes();
    let good = tensor("FloatStorage", b"K\x04", b"K\x00", b"(K\x02K\x02t", b"(K\x02K\x01t");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good.ckpt");
    std::fs::write(&path, archive(&good)).unwrap();
    assert_eq!(WeightFile::open(&path).unwrap().tensor("w", &Device::Cpu).unwrap().dims(), [2, 2]);

    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    let two_huge = [b"(".as_slice(), huge, huge, b"t"].concat();
    let cases: &[(&[u8], &[u8], &[u8], &[u8], &str)] = &[
        (b"K\x04", b"K\x01", b"(K\x02K\x02t", b"(K\x02K\x01t", "outside"),
        (b"K\x04", b"K\x00", b"(K\x02K\x02t", b"(K\x03K\x01t", "outside"),
        (b"K\x04", b"K\x00", b"(K\x05t", b"(K\x01t", "outside"),
        (b"K\x04", b"K\x05", b"(K\x00t", b"(K\x01t", "outside"),
        (b"K\x04", huge, b"(K\x01t", b"(K\x01t", "outside"),
        (b"K\x04", b"K\x00", &two_huge, b"(K\x00K\x00t", "outside"),
        (b"K\x04", b"K\x00", b"(K\x02K\x02t", &two_huge, "outside"),
        (b"K\x04", b"K\x00", b"(K\x02K\x02t", b"(K\x01t", "2 sizes and 1 strides"),
        (b"K\x04", b"K\x00", b"(J\xff\xff\xff\xfft", b"(K\x01t", "negative size -1"),
        (b"K\x04", b"K\x00", b"(K\x01t", b"(J\xff\xff\xff\xfft", "negative size -1"),
        (b"K\x04", b"J\xff\xff\xff\xff", b"(K\x01t", b"(K\x01t", "negative size -1"),
        (b"J\xff\xff\xff\xff", b"K\x00", b"(K\x01t", b"(K\x01t", "negative size -1"),
        (b"K\x04", b"K\x00", b"(G\x3f\xf0\0\0\0\0\0\0t", b"(K\x01t", "a number in place of a size"),
        (b"K\x04", b"K\x00", b"(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t", b"(K\x01t", "9 dimensions"),
        (b"K\x05", b"K\x00", b"(K\x01t", b"(K\x01t", "has 16 bytes, its pickle claims 5 elements"),
        (b"K\x03", b"K\x00", b"(K\x01t", b"(K\x01t", "has 16 bytes, its pickle claims 3 elements"),
        (huge, b"K\x00", b"(K\x01t", b"(K\x01t", "16 bytes"),
        // 2^40 rows over one element: within its storage, and far more than the file.
        (b"K\x04", b"K\x00", b"(\x8a\x06\0\0\0\0\0\x01K\x01t", b"(K\x00K\x01t", "far more numbers"),
    ];
    for (elements, offset, size, stride, words) in cases {
        assert_refused(&archive(&tensor("FloatStorage", elements, offset, size, stride)), &[words]);
    }
    assert_refused(
        &archive(&tensor("ComplexFloatStorage", b"K\x04", b"K\x00", b"(K\x01t", b"(K\x01t")),
        &["torch.ComplexFloatStorage", "`w`"],
    );
    assert_refused(&Archive::torch(&good).bytes(), &["`archive/data/0`", "not in the archive"]);
    let unit_stride = tensor("FloatStorage", b"K\x04", b"K\x03", b"(K\x01K\x01t", &two_huge);
    std::fs::write(&path, archive(&unit_stride)).unwrap();
    assert_eq!(WeightFile::open(&path).unwrap().tensor("w", &Device::Cpu).unwrap().dims(), [1, 1]);
}

#[test]
fn bombs_cost_nothing() {
    // 64 nested pairs: 2^64 leaves when copied.
    let mut pairs = b"\x80\x02}X\x01\x00\x00\x00aN".to_vec();
    for level in 0..64u8 {
        pairs.extend([b'q', level, b'h', level, 0x86]);
    }
    pairs.extend(b"s.");
    assert_refused(&pickled(&pairs), &["deeper than"]);
    // The same, wide in place of deep: four levels of a thousand references.
    let mut wide = b"\x80\x02]q\x00".to_vec();
    for level in 0..4u8 {
        wide.extend(b"](");
        wide.extend(std::iter::repeat_n([b'h', level], 1000).flatten());
        wide.extend([b'e', b'q', level + 1]);
    }
    wide.push(b'.');
    assert_refused(&pickled(&wide), &["than its size explains"]);
    // 100,000 nested lists: neither reading nor dropping recurses.
    let deep = [b"\x80\x02}X\x01\x00\x00\x00a".as_slice(), &[b']'; 100_000], &[b'a'; 99_999], b"s."].concat();
    assert_refused(&pickled(&deep), &["deeper than"]);
    // A dictionary that contains itself, as an entry and as its own state_dict.
    assert_refused(&pickled(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."), &["contains itself"]);
    assert_refused(&pickled(b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s."), &["contains itself"]);
    // An ordered dictionary made over and over of one long list.
    let mut copies = b"\x80\x02](".to_vec();
    copies.extend(b"NN\x86q\x00".iter().chain(std::iter::repeat_n(b"h\x00", 5000).flatten()));
    copies.extend(b"eq\x01");
    copies.extend(std::iter::repeat_n(b"ccollections\nOrderedDict\nh\x01\x85R", 1000).flatten());
    copies.push(b'.');
    assert_refused(&pickled(&copies), &["copies too many"]);
}

#[test]
fn archives_that_torch_does_not_write_are_refused() {
    let good = || Archive::torch(b"\x80\x02}.");
    let cases: Vec<(Archive, &str)> = vec![
        (good().with("archive/data.pkl", b"\x80\x02}."), "two members `archive/data.pkl`"),
        (good().with("other/data.pkl", b"\x80\x02}."), "more than one data.pkl"),
        (good().with("/etc/passwd", b""), "leads out"),
        (good().with("archive/../../x", b""), "leads out"),
        (good().with("..\\x", b""), "leads out"),
        (good().with("archive/constants.pkl", b""), "TorchScript"),
        (good().with("archive/code/__torch__.py", b""), "TorchScript"),
        (good().with("archive/byteorder", b"big"), "byte order `big`"),
        (Archive::empty().with("archive/data", b""), "without data.pkl"),
        (good().with("archive/x", b"abc").change(|member| member.method = 8), "is compressed"),
        (good().with("archive/x", b"abc").change(|member| member.flags = 1), "is encrypted"),
        (good().with("archive/x", b"abc").change(|member| member.len = 2), "is compressed"),
        (good().with("archive/x", b"abc").change(|member| member.at = Some(0)), "another name in its header"),
        (good().with("archive/x", b"abc").change(|member| member.at = Some(u32::MAX - 1)), "outside of the archive"),
        (
            good().with("archive/x", b"abc").change(|member| (member.len, member.compressed) = (5000, 5000)),
            "outside of the archive",
        ),
        (Archive::torch(b"\x80\x02}.").change(|member| member.crc ^= 1), "checksum"),
    ];
    for (archive, words) in cases {
        assert_refused(&archive.bytes(), &[words]);
    }
    let overlapping = good().with("archive/a", b"abcdefgh").with("archive/b", b"x");
    assert_refused(&overlapping.change_at(1, |member| (member.len, member.compressed) = (20, 20)).bytes(), &["overlap"]);
    let mut trailing = good().bytes();
    trailing.extend([0; 10]);
    assert_refused(&trailing, &["truncated"]);
    let prefixed = [b"PK\x03\x04".as_slice(), &good().bytes()].concat();
    assert_refused(&prefixed, &["something stands before it"]);
    // A storage's checksum is compared when it is read.
    let pickle = tensor("FloatStorage", b"K\x01", b"K\x00", b"(K\x01t", b"(K\x01t");
    let damaged = Archive::torch(&pickle).with("archive/data/0", &[0; 4]).change(|member| member.crc ^= 1);
    assert_refused(&damaged.bytes(), &["`archive/data/0`", "checksum"]);
    // The same for views, which read only a part of it.
    let part = tensor("FloatStorage", b"K\x04", b"K\x01", b"(K\x02t", b"(K\x02t");
    let damaged = Archive::torch(&part).with("archive/data/0", &[0; 16]).change(|member| member.crc ^= 1);
    assert_refused(&damaged.bytes(), &["`archive/data/0`", "checksum"]);
}

/// Zip64 records say the same as the narrow ones.
#[test]
fn wide_archives_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.ckpt");
    let pickle = tensor("HalfStorage", b"K\x02", b"K\x00", b"(K\x02t", b"(K\x01t");
    let archive = Archive::torch(&pickle).with("archive/data/0", &[0, 0x3c, 0, 0x40]).with("archive/byteorder", b"little");
    std::fs::write(&path, archive.zip64().bytes()).unwrap();
    let read = WeightFile::open(&path).unwrap().tensor("w", &Device::Cpu).unwrap();
    assert_eq!(read.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap(), [1.0, 2.0]);
}

#[test]
fn legacy_streams_are_checked() {
    let pickle = tensor("FloatStorage", b"K\x02", b"K\x00", b"(K\x02t", b"(K\x01t");
    let storage = |count: u64, bytes: usize| [count.to_le_bytes().as_slice(), &vec![0; bytes]].concat();
    assert_refused(&legacy(&pickle, &[("0", &storage(3, 12))]), &["3 elements", "claims 2"]);
    assert_refused(&legacy(&pickle, &[("0", &storage(2, 7))]), &["truncated"]);
    assert_refused(&legacy(&pickle, &[("0", &storage(u64::MAX, 8))]), &["elements"]);
    assert_refused(&legacy(&pickle, &[]), &["`0` is missing"]);
    assert_refused(&legacy(&pickle, &[("0", &storage(2, 8)), ("0", &storage(2, 8))]), &["twice"]);
    assert_refused(&legacy(&pickle, &[("1", &storage(2, 8))]), &["nothing refers"]);
    let big_endian = legacy(&pickle, &[("0", &storage(2, 8))]);
    let at = big_endian.windows(13).position(|w| w == b"little_endian").unwrap() + 13;
    let mut swapped = big_endian.clone();
    assert_eq!(swapped[at], 0x88);
    swapped[at] = 0x89;
    assert_refused(&swapped, &["big-endian"]);
}
