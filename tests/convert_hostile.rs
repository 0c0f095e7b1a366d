//! A corpus of hostile and broken files, made byte by byte, through the `convert` command: each is refused in one line that names the
//! file and the reason (and the key or record, where there is one), in little memory, with nothing written and nothing executed.
//!
//! The readers' own tests (`model/tests/checkpoint_*.rs`) look closer at each check; here the whole way from a file to a message is seen.

use std::path::Path;
use std::process::{Command, Output};
use testkit::torch_files::{Archive, legacy, pickled};

/// A hostile file: name, bytes, and words that its refusal must hold.
type Case = (String, Vec<u8>, Vec<String>);

/// Address space that a refusal may take, in KiB: the program, its threads' stacks, and little more.
const MEMORY: u32 = 1_000_000;

fn case(name: &str, bytes: Vec<u8>, words: &[&str]) -> Case {
    (name.to_owned(), bytes, words.iter().map(|word| (*word).to_owned()).collect())
}

/// A safetensors file of this header and data.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), data].concat()
}

/// A header entry.
fn entry(name: &str, dtype: &str, shape: &[usize], from: usize, to: usize) -> String {
    format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{from},{to}]}}")
}

/// A safetensors file of float32 zeros, or of other numbers where `fill` says so.
fn tensors(entries: &[(&str, &[usize])], fill: f32) -> Vec<u8> {
    let (mut header, mut at) = (Vec::new(), 0);
    for (name, shape) in entries {
        let end = at + 4 * shape.iter().product::<usize>();
        header.push(entry(name, "F32", shape, at, end));
        at = end;
    }
    safetensors(&format!("{{{}}}", header.join(",")), &fill.to_le_bytes().repeat(at / 4))
}

/// Pickles that want to run `touch executed`, by every instruction that can make one call something.
fn calls() -> Vec<Case> {
    let argument = b"X\x0e\x00\x00\x00touch executed";
    let global = |name: &str| [b"\x80\x02c".as_slice(), name.replace('.', "\n").as_bytes(), b"\n"].concat();
    let mut cases = Vec::new();
    for name in [
        "os.system",
        "posix.system",
        "nt.system",
        "subprocess.Popen",
        "subprocess.check_output",
        "builtins.eval",
        "builtins.exec",
        "__builtin__.eval",
        "builtins.getattr",
        "runpy._run_code",
        "torch.load",
        "pickle.loads",
        "webbrowser.open",
        "numpy.load",
    ] {
        let called = [global(name).as_slice(), argument, b"\x85R."].concat();
        cases.push(case(&format!("reduce {name}"), pickled(&called), &[name]));
    }
    let hub = [b"\x80\x02ctorch.hub\nload\n".as_slice(), argument, b"\x85R."].concat();
    cases.push(case("reduce torch.hub.load", pickled(&hub), &["torch.hub.load"]));
    // Beside a good weight, under a key of its own.
    let beside = [b"\x80\x02}X\x04\x00\x00\x00evilcposix\nsystem\n".as_slice(), argument, b"\x85Rs."].concat();
    cases.push(case("a call beside weights", pickled(&beside), &["posix.system", "evil"]));
    for (name, bytes) in [
        ("inst", [b"\x80\x02(".as_slice(), argument, b"iposix\nsystem\n."].concat()),
        ("obj", [b"\x80\x02(cposix\nsystem\n".as_slice(), argument, b"o."].concat()),
        ("newobj", [b"\x80\x02cposix\nsystem\n".as_slice(), argument, b"\x85\x81."].concat()),
        ("newobj_ex", [b"\x80\x04cposix\nsystem\n".as_slice(), argument, b"\x85}\x92."].concat()),
        ("stack_global", [b"\x80\x04\x8c\x05posix\x8c\x06system\x93".as_slice(), argument, b"\x85R."].concat()),
        ("build", [b"\x80\x02cposix\nsystem\n".as_slice(), argument, b"b."].concat()),
        ("ext1", [b"\x80\x02\x82\x01".as_slice(), argument, b"\x85R."].concat()),
        ("ext4", [b"\x80\x02\x84\x01\x00\x00\x00".as_slice(), argument, b"\x85R."].concat()),
        ("persid", b"\x80\x02Pposix.system\n.".to_vec()),
        ("setstate of a tensor", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R}b.".to_vec()),
        ("a call of what a call gave", [b"\x80\x02ccollections\nOrderedDict\n)R".as_slice(), argument, b"\x85R."].concat()),
    ] {
        cases.push(case(name, pickled(&bytes), &[]));
        cases.push(case(&format!("{name}, legacy"), legacy(&bytes, &[]), &[]));
    }
    cases
}

/// Containers that are broken.
fn containers() -> Vec<Case> {
    let good = || Archive::torch(b"\x80\x02}.");
    let mut tar = vec![0u8; 600];
    tar[257..262].copy_from_slice(b"ustar");
    let whole = tensors(
        &[("lora_unet_conv_in.lora_down.weight", &[2, 4, 3, 3]), ("lora_unet_conv_in.lora_up.weight", &[8, 2, 1, 1])],
        1.0,
    );
    let torch = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/checkpoint/adapters/kohya.ckpt")).unwrap();
    let old =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/checkpoint/adapters/kohya_legacy.pt")).unwrap();
    let mut cases = vec![
        case("empty", vec![], &["empty"]),
        case("web page", b"<!DOCTYPE html><html></html>".to_vec(), &["web page"]),
        case("lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec(), &["Git LFS"]),
        case("tar", tar, &["tar archive"]),
        case("gzip", b"\x1f\x8b\x08\x00aaaaaaaa".to_vec(), &["compressed"]),
        case("noise", (0..2000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect(), &[]),
        case("a name that leads out", good().with("archive/../../executed", b"x").bytes(), &["leads out"]),
        case("an absolute name", good().with("/etc/cron.d/x", b"x").bytes(), &["leads out"]),
        case("deflated", good().with("archive/x", b"abc").change(|member| member.method = 8).bytes(), &["compressed"]),
        case(
            "bomb",
            good().with("archive/x", b"abc").change(|member| (member.method, member.len) = (8, 1 << 30)).bytes(),
            &["compressed"],
        ),
        case("encrypted", good().with("archive/x", b"abc").change(|member| member.flags = 1).bytes(), &["encrypted"]),
        case("two pickles", good().with("other/data.pkl", b"\x80\x02}.").bytes(), &["data.pkl"]),
        case("torchscript", good().with("archive/code/x.py", b"x").bytes(), &["TorchScript"]),
        case("big-endian", good().with("archive/byteorder", b"big").bytes(), &["big"]),
        case("checksum", Archive::torch(b"\x80\x02}.").change(|member| member.crc ^= 1).bytes(), &["checksum"]),
        case(
            "header of 100 GB",
            safetensors("{", b"").into_iter().enumerate().map(|(i, b)| if i == 4 { 25 } else { b }).collect(),
            &["neither safetensors"],
        ),
        case("header that is no JSON", safetensors("{\"a\":", b""), &["not valid"]),
        case(
            "overlap",
            safetensors(&format!("{{{},{}}}", entry("a", "F32", &[2], 0, 8), entry("b", "F32", &[2], 4, 12)), &[0; 12]),
            &["`b`"],
        ),
        case(
            "gap",
            safetensors(&format!("{{{},{}}}", entry("a", "F32", &[1], 0, 4), entry("b", "F32", &[1], 8, 12)), &[0; 12]),
            &["`b`"],
        ),
        case("beyond the end", safetensors(&format!("{{{}}}", entry("a", "F32", &[4], 0, 16)), &[0; 12]), &[]),
        case("backwards", safetensors(&format!("{{{}}}", entry("a", "F32", &[1], 4, 0)), &[0; 4]), &["`a`"]),
        case("overflow", safetensors(&format!("{{{}}}", entry("a", "F32", &[usize::MAX, 8], 0, 4)), &[0; 4]), &["`a`"]),
        case("wrong size", safetensors(&format!("{{{}}}", entry("a", "F32", &[3], 0, 4)), &[0; 4]), &["`a`"]),
        case("unknown type", safetensors(&format!("{{{}}}", entry("a", "F31", &[1], 0, 4)), &[0; 4]), &[]),
        case("the same key twice", safetensors(&format!("{{{0},{0}}}", entry("a", "F32", &[1], 0, 4)), &[0; 4]), &["`a`"]),
        case("bytes behind the data", [whole.clone(), vec![0]].concat(), &[]),
    ];
    for (kind, bytes) in [("safetensors", &whole), ("zip", &torch), ("legacy", &old)] {
        for part in 1..=5 {
            cases.push(case(&format!("{kind}, cut at {part} of 6"), bytes[..bytes.len() * part / 6].to_vec(), &[]));
        }
    }
    cases
}

/// Pickles that claim what is not there, or more than memory.
fn claims() -> Vec<Case> {
    let tensor = |elements: &[u8], size: &[u8], stride: &[u8]| {
        let start: &[u8] = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu";
        let pickle = [start, elements, b"tQK\x00", size, stride, b"\x89}tRs."].concat();
        Archive::torch(&pickle).with("archive/data/0", &[0; 16]).bytes()
    };
    let deep = [b"\x80\x02}X\x01\x00\x00\x00a".as_slice(), &[b']'; 100_000], &[b'a'; 99_999], b"s."].concat();
    let mut pairs = b"\x80\x02}X\x01\x00\x00\x00aN".to_vec();
    for level in 0..64u8 {
        pairs.extend([b'q', level, b'h', level, 0x86]);
    }
    pairs.extend(b"s.");
    vec![
        case("rows over one element", tensor(b"K\x04", b"(\x8a\x06\0\0\0\0\0\x01K\x01t", b"(K\x00K\x01t"), &["`w`"]),
        case("outside of its storage", tensor(b"K\x04", b"(K\x05t", b"(K\x01t"), &["`w`", "outside"]),
        case("negative size", tensor(b"K\x04", b"(J\xff\xff\xff\xfft", b"(K\x01t"), &["negative"]),
        case(
            "sizes that overflow",
            tensor(
                b"K\x04",
                b"(\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7ft",
                b"(K\x00K\x00t",
            ),
            &["`w`"],
        ),
        case("a storage of another size", tensor(b"K\x09", b"(K\x01t", b"(K\x01t"), &["9 elements"]),
        case("a text of 4 GiB", pickled(b"\x80\x02X\xff\xff\xff\xffa."), &[]),
        case("a number of 255 bytes", pickled(&[b"\x80\x02\x8a\xff".as_slice(), &[1; 255], b"."].concat()), &["255 bytes"]),
        case("an object that was not made", pickled(b"\x80\x02h\x07."), &["object 7"]),
        case("lists in lists", pickled(&deep), &["deeper"]),
        case("pairs of pairs", pickled(&pairs), &["deeper"]),
        case("a dictionary in itself", pickled(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."), &["contains itself"]),
        case("nothing on the stack", pickled(b"\x80\x02."), &["pickle"]),
        case("no end", pickled(b"\x80\x02}"), &[]),
        case("numbers in the place of weights", pickled(b"\x80\x02}X\x01\x00\x00\x00aK\x01s."), &[]),
    ]
}

/// Adapters that are none, or contradict themselves; other models.
fn adapters() -> Vec<Case> {
    const TO_Q: &str = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
    let of = |parts: &[(&str, &[usize])], fill: f32| {
        let named: Vec<(String, &[usize])> = parts.iter().map(|(part, shape)| (format!("{TO_Q}.{part}"), *shape)).collect();
        tensors(&named.iter().map(|(name, shape)| (name.as_str(), *shape)).collect::<Vec<_>>(), fill)
    };
    let (down, up): ((&str, &[usize]), (&str, &[usize])) = (("lora_down.weight", &[2, 8]), ("lora_up.weight", &[8, 2]));
    let hada = |last: (&'static str, &'static [usize])| {
        of(&[("hada_w1_a", &[8, 2]), ("hada_w1_b", &[2, 8]), ("hada_w2_a", &[8, 2]), last], 1.0)
    };
    vec![
        case("nothing inside", safetensors("{}", b""), &["without tensors"]),
        case("half an adapter", of(&[down], 1.0), &["lora_down", "missing"]),
        case("two ranks", of(&[down, ("lora_up.weight", &[8, 3])], 1.0), &["lora_up", "rank 3"]),
        case("not a number", of(&[down, up], f32::NAN), &["finite"]),
        case("infinity", of(&[down, up], f32::INFINITY), &["finite"]),
        case("alpha of two numbers", of(&[down, up, ("alpha", &[2])], 1.0), &["alpha"]),
        case("alpha 0", of(&[down, up, ("alpha", &[])], 0.0), &["alpha is 0"]),
        case("an empty factor", of(&[("lora_down.weight", &[0, 8]), ("lora_up.weight", &[8, 0])], 1.0), &["empty"]),
        case("a kernel on a linear layer", of(&[("lora_down.weight", &[2, 8, 3, 3]), up], 1.0), &["linear layer"]),
        case("loha without a factor", of(&[("hada_w1_a", &[8, 2]), ("hada_w1_b", &[2, 8])], 1.0), &["hada_w2", "missing"]),
        case("loha that disagrees", hada(("hada_w2_b", &[3, 8])), &["hada_w2", "does not fit"]),
        case("loha of other sizes", hada(("hada_w2_b", &[2, 9])), &["hada_w2_b", "does not fit"]),
        case("lokr without a factor", of(&[("lokr_w1", &[2, 2]), ("lokr_w2_a", &[4, 1])], 1.0), &["lokr_w2_b", "missing"]),
        case("lokr twice", of(&[("lokr_w1", &[2, 2]), ("lokr_w2", &[4, 4]), ("lokr_w2_a", &[4, 1])], 1.0), &["two forms"]),
        case("lokr beyond memory", of(&[("lokr_w1", &[70_000, 1]), ("lokr_w2", &[1000, 1])], 1.0), &["larger than any"]),
        case("two families", of(&[down, up, ("diff", &[8, 8])], 1.0), &["diff", "full difference"]),
        case("magnitudes of a matrix", of(&[down, up, ("dora_scale", &[8, 8])], 1.0), &["dora_scale"]),
        case("magnitudes alone", of(&[("dora_scale", &[8, 1])], 1.0), &["without the factors"]),
        case("another type", of(&[("bm.weight", &[2, 2])], 1.0), &["GLoRA with a core"]),
        case("butterflies of an odd size", of(&[("oft_blocks", &[1, 2, 3, 3])], 1.0), &["oft_blocks", "powers of two"]),
        case("butterflies of too many stages", of(&[("oft_blocks", &[70, 2, 4, 4])], 1.0), &["oft_blocks", "powers of two"]),
        case("norms on a linear layer", of(&[("w_norm", &[8])], 1.0), &["w_norm", "is no norm"]),
        case(
            "lora on a norm",
            tensors(
                &[("lora_unet_conv_norm_out.lora_down.weight", &[2, 8]), ("lora_unet_conv_norm_out.lora_up.weight", &[8, 2])],
                1.0,
            ),
            &["conv_norm_out", "is a norm"],
        ),
        case("half a norm", tensors(&[("lora_unet_conv_norm_out.b_norm", &[8])], 1.0), &["b_norm", "missing"]),
        case("half a list", tensors(&[("0", &[8, 2]), ("1", &[2, 8])], 1.0), &["cloneofsimo"]),
        case("an unknown part", of(&[down, up, ("executed", &[1])], 1.0), &["not understood"]),
        case("no layer of the model", tensors(&[("lora_unet_executed.lora_down.weight", &[2, 8])], 1.0), &[]),
        case(
            "two spellings",
            tensors(
                &[
                    ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", &[2, 8]),
                    ("unet.mid_block.attentions.0.proj_in.lora_A.weight", &[2, 8]),
                ],
                1.0,
            ),
            &["both"],
        ),
        case("sdxl", tensors(&[("lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha", &[])], 1.0), &["SDXL"]),
        case("flux", tensors(&[("lora_unet_double_blocks_0_img_attn_proj.lora_down.weight", &[2, 8])], 1.0), &["Flux"]),
        case("sd2", tensors(&[("cond_stage_model.model.ln_final.weight", &[8])], 1.0), &["Stable Diffusion 2"]),
        case("inpainting", tensors(&[("model.diffusion_model.input_blocks.0.0.weight", &[4, 9, 3, 3])], 1.0), &["inpainting"]),
        case("controlnet", tensors(&[("control_model.input_blocks.0.0.weight", &[4, 4, 3, 3])], 1.0), &["ControlNet"]),
        case("embedding", tensors(&[("emb_params", &[2, 768])], 1.0), &["textual inversion"]),
        case("cloneofsimo", tensors(&[("unet:0:up", &[8, 2])], 1.0), &["cloneofsimo"]),
        case(
            "peft without its configuration",
            tensors(
                &[
                    ("base_model.model.mid_block.attentions.0.proj_in.lora_A.weight", &[2, 8]),
                    ("base_model.model.mid_block.attentions.0.proj_in.lora_B.weight", &[8, 2]),
                ],
                1.0,
            ),
            &["adapter_config.json"],
        ),
    ]
}

/// Runs the command with a limit on its memory, where the system has one.
fn convert(folder: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_convert");
    let mut command = if cfg!(target_os = "linux") {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\""), program]);
        command
    } else {
        Command::new(program)
    };
    command.env("HF_HUB_OFFLINE", "1").env("RAYON_NUM_THREADS", "2").current_dir(folder).args(arguments).output().unwrap()
}

/// What is wrong with a refusal.
fn problem((name, _, words): &Case, file: &str, arguments: &[&str], output: &Output) -> Option<String> {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = message.trim_end().lines().filter(|line| !line.contains("warning")).collect();
    let one_line = lines.len() == 1 && lines[0].starts_with("error: ") && message.len() < 2000;
    let missing: Vec<&String> = words.iter().filter(|word| arguments[0] == "kohya" && !message.contains(word.as_str())).collect();
    let good = output.status.code() == Some(1) && one_line && message.contains(file) && missing.is_empty();
    let shown: String = message.chars().take(400).collect();
    (!good).then(|| format!("{name}, {}: status {:?}, lacks {missing:?}: {shown}", arguments[0], output.status.code()))
}

#[test]
fn every_file_of_the_corpus_is_refused() {
    let cases = [calls(), containers(), claims(), adapters()].concat();
    assert!(cases.len() >= 60, "{} files", cases.len());
    let folder = tempfile::tempdir().unwrap();
    let mut problems = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let (name, bytes, _) = case;
        // What a file is called says nothing about what it is.
        let file = ["bad.ckpt", "bad.safetensors"][number % 2];
        std::fs::write(folder.path().join(file), bytes).unwrap();
        let commands = [
            &["kohya", file, "--output", "out.safetensors"][..],
            &["diffusers", file, "--output", "out"],
            &["merge", "--base", file, file, "--output", "out.safetensors"],
        ];
        problems
            .extend(commands.iter().filter_map(|arguments| problem(case, file, arguments, &convert(folder.path(), arguments))));
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{name}: left {left:?}");
    }
    assert!(problems.is_empty(), "{} of {} files:\n{}", problems.len(), cases.len(), problems.join("\n"));
}
