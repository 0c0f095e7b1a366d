//! The tokenizer against `transformers.CLIPTokenizer` 4.49 (slow class, no ftfy): ids from `tests/reference/tokenizer.py`,
//! compared exactly, over a small vocabulary in CLIP's format.

use driftless::Error;
use driftless::tokenizer::{Padding, Tokenizer, write_miniature};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tokenizer")
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_folder(&fixture()).unwrap()
}

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
    sequences: Vec<Sequence>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Sequence {
    text: String,
    long: bool,
    untruncated: Vec<u32>,
    padded: HashMap<usize, Vec<u32>>,
}

fn reference() -> Reference {
    serde_json::from_slice(&std::fs::read(fixture().join("ids.json")).unwrap()).unwrap()
}

/// A folder with the fixture's vocabulary and the settings given.
fn folder_with(settings: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(fixture().join(name), folder.path().join(name)).unwrap();
    }
    for (name, text) in settings {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn ids_equal_the_reference() {
    let (tokenizer, reference) = (tokenizer(), reference());
    assert!(reference.cases.len() >= 1000, "only {} cases", reference.cases.len());
    let wrong: Vec<_> = reference.cases.iter().filter(|case| tokenizer.encode(&case.text).unwrap() != case.ids).collect();
    for case in wrong.iter().take(10) {
        eprintln!("{:?}\n  theirs {:?}\n  ours   {:?}", case.text, case.ids, tokenizer.encode(&case.text).unwrap());
    }
    assert!(wrong.is_empty(), "{} of {} strings differ", wrong.len(), reference.cases.len());
}

#[test]
fn prompts_are_cut_and_padded_as_by_diffusers() {
    let tokenizer = tokenizer();
    for case in reference().sequences {
        assert_eq!(tokenizer.encode_prompt(&case.text).unwrap(), case.padded[&77], "{:?}", case.text);
    }
}

#[test]
fn long_prompts_run_through_in_pieces() {
    let tokenizer = tokenizer();
    let mut long = 0;
    for case in reference().sequences {
        assert_eq!(tokenizer.is_long_prompt(&case.text), case.long, "{:?}", case.text);
        let chunks = tokenizer.chunks_original(&case.text).unwrap();
        if case.long {
            long += 1;
            assert_eq!(chunks.concat(), case.untruncated);
            assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() == 77));
        } else {
            assert_eq!(chunks, [case.padded[&77].clone()]);
        }
    }
    assert!(long >= 3);
    // 71 one-token words: start, 71 ids, end. Double spaces count as pieces, newlines do not split.
    let seventy_one = ["a"; 71].join(" ");
    assert_eq!(tokenizer.chunks_original(&seventy_one).unwrap()[0].len(), 73);
    assert!(tokenizer.is_long_prompt(&"a  ".repeat(36)));
    assert!(!tokenizer.is_long_prompt(&"a\n".repeat(100)));
}

#[test]
fn long_captions_become_kohyas_pieces() {
    let tokenizer = tokenizer();
    let (start, end) = (tokenizer.start_token(), tokenizer.end_token());
    for case in reference().sequences {
        for length in [75, 150, 225] {
            let whole = &case.padded[&(length + 2)];
            let pieces = tokenizer.encode_kohya(&case.text, length).unwrap();
            assert_eq!(pieces.len(), length / 75);
            for (piece, middle) in pieces.iter().zip(whole[1..].chunks(75)) {
                assert_eq!((piece[0], piece[76]), (start, end));
                assert_eq!(piece[1..76], *middle);
            }
        }
    }
    let error = tokenizer.encode_kohya("a", 100).unwrap_err().to_string();
    assert!(error.contains("max_token_length") && error.contains("100"), "{error}");
}

/// sd-scripts' branch for SD2 and SDXL, whose pad token is not the end token.
#[test]
fn a_pad_token_of_its_own_leaves_one_end_token() {
    let folder = folder_with(&[("special_tokens_map.json", r#"{"pad_token": "!"}"#)]);
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let (start, end, pad) = (tokenizer.start_token(), tokenizer.end_token(), tokenizer.pad_token());
    assert_eq!((start, end, pad), (912, 913, 0));
    let short = tokenizer.encode_kohya("a dog", 150).unwrap();
    let words = tokenizer.encode("a dog").unwrap();
    assert_eq!(short[0][..=words.len() + 2], [vec![start], words, vec![end, pad]].concat());
    assert_eq!(short[0][76], pad);
    assert_eq!(short[1][..3], [start, end, pad]);
    let full = tokenizer.encode_kohya(&"a ".repeat(90), 150).unwrap();
    assert_eq!((full[0][75], full[0][76]), (full[0][1], end));
    assert_eq!((full[1][16], full[1][17], full[1][76]), (end, pad, pad));
    assert_eq!(tokenizer.encode_prompt("a dog").unwrap()[76], pad);
}

#[test]
fn sizes_and_special_tokens_come_from_the_folder() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.vocab_size(), 914);
    assert_eq!((tokenizer.start_token(), tokenizer.end_token(), tokenizer.pad_token()), (912, 913, 913));
    assert_eq!(tokenizer.model_max_length(), 77);

    // transformers' "no limit", and no settings at all: CLIP's own.
    for settings in [&[("tokenizer_config.json", r#"{"model_max_length": 1000000000000000019884624838656}"#)][..], &[]] {
        let folder = folder_with(settings);
        let bare = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!((bare.model_max_length(), bare.pad_token()), (77, 913));
    }
    let folder = folder_with(&[("tokenizer_config.json", r#"{"model_max_length": 16}"#)]);
    let short = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(short.encode_prompt("a dog").unwrap().len(), 16);
    assert!(short.encode_kohya("a dog", 75).is_err());
}

#[test]
fn added_tokens_are_cut_out_of_the_text() {
    let files = [("added_tokens.json", r#"{"<toy>": 914, "<toys>": 915}"#), ("tokenizer_config.json", "{}")];
    let folder = folder_with(&files);
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 916);
    let dog = tokenizer.encode("dog").unwrap();
    assert_eq!(tokenizer.encode("<toys>dog<toy>").unwrap(), [vec![915], dog.clone(), vec![914]].concat());

    // In the newer layout the older files do not count, and flags hold.
    let decoder = r#"{"added_tokens_decoder": {"914": {"content": "toy", "single_word": true}}}"#;
    let folder = folder_with(&[files[0], ("tokenizer_config.json", decoder)]);
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 915);
    assert_eq!(tokenizer.encode("dog toy dog").unwrap(), [dog.clone(), vec![914], dog].concat());
    assert!(!tokenizer.encode("toys").unwrap().contains(&914));
}

#[test]
fn broken_folders_are_refused_in_words() {
    let empty = tempfile::tempdir().unwrap();
    let message = |folder: &Path| Tokenizer::from_folder(folder).unwrap_err().to_string();
    assert!(message(empty.path()).contains("vocab.json: no such file"));
    let cases = [
        ("vocab.json", "[1, 2]", "vocab.json: not the JSON"),
        ("vocab.json", r#"{"a": -1}"#, "vocab.json: not the JSON"),
        ("vocab.json", r#"{"a": 0}"#, "unknown token `<|endoftext|>`"),
        ("merges.txt", "#version: 0.2\na b c\n", "line 2 is not a pair"),
        ("merges.txt", "#version: 0.2\nno where\n", "does not fit vocab.json"),
        ("tokenizer_config.json", r#"{"model_max_length": 1}"#, "`model_max_length`"),
        ("tokenizer_config.json", r#"{"pad_token": null}"#, "`pad_token`"),
        ("tokenizer_config.json", r#"{"added_tokens_decoder": {"x": "y"}}"#, "`added_tokens_decoder`"),
        ("added_tokens.json", r#"{"<toy>": 1e12}"#, "`<toy>`"),
        ("special_tokens_map.json", "{", "special_tokens_map.json: not the JSON"),
    ];
    for (name, text, expected) in cases {
        let folder = folder_with(&[(name, text)]);
        let error = Tokenizer::from_folder(folder.path()).unwrap_err();
        assert!(matches!(error, Error::File { .. } | Error::Config { .. }));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// The miniature vocabulary is the fixture's, byte for byte: the ids above, and that transformers loads it, hold for it too.
#[test]
fn the_miniature_vocabulary_equals_the_fixture() {
    let folder = tempfile::tempdir().unwrap();
    let size = write_miniature(&folder.path().join("tokenizer"), Padding::EndToken).unwrap();
    assert_eq!(size, 914);
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"] {
        let ours = std::fs::read_to_string(folder.path().join("tokenizer").join(name)).unwrap();
        assert_eq!(ours, std::fs::read_to_string(fixture().join(name)).unwrap(), "{name}");
    }
}
