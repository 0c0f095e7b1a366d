//! A small vocabulary in CLIP's format, made on the spot: for models small enough to test with, without a download.
//!
//! The layout is CLIP's own (openai/CLIP, `simple_tokenizer.py`): 256 byte symbols, the same with `</w>`, one token a merge,
//! start and end token last. The merges are trained on the text beside this file, most frequent pair first (Sennrich et
//! al., arXiv 1508.07909, algorithm 1), equal counts by the pair's order in code points. The same on every machine.

use super::{DEFAULT_END, DEFAULT_START, END_OF_WORD, clean::clean, pieces};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What the merges are trained on.
const TEXT: &str = include_str!("miniature.txt");

/// How many merges are learnt.
const MERGES: usize = 400;

type Pair = (String, String);

/// What fills a sequence behind the end token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// The end token, as in SD1.5's folder.
    EndToken,
    /// `!`, id 0, as in SD2's folder: `special_tokens_map.json` says so, against `tokenizer_config.json`, which names the end token and is
    /// overruled.
    ExclamationMark,
}

/// Writes `vocab.json`, `merges.txt`, `tokenizer_config.json` and `special_tokens_map.json` into `folder`, which is created
/// where it does not exist, and returns the number of tokens: 914, the start token 912, the end token 913.
///
/// # Errors
/// [`Error::Io`] when the folder or a file cannot be written.
pub fn write_miniature(folder: &Path, padding: Padding) -> Result<usize> {
    let merges = train();
    let mut symbols = pieces::byte_symbols();
    symbols.sort_unstable();
    let bytes = symbols.iter().map(char::to_string);
    let last_bytes = symbols.iter().map(|symbol| format!("{symbol}{END_OF_WORD}"));
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let tokens = bytes.chain(last_bytes).chain(merged).chain([DEFAULT_START.to_owned(), DEFAULT_END.to_owned()]);
    let vocab: Map<String, Value> = tokens.enumerate().map(|(id, token)| (token, Value::from(id))).collect();
    let rules: String = merges.iter().map(|(left, right)| format!("{left} {right}\n")).collect();
    let (config, special) = settings(padding);

    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let size = vocab.len();
    write(folder, "vocab.json", &Value::Object(vocab).to_string())?;
    write(folder, "merges.txt", &format!("#version: 0.2\n{rules}"))?;
    write(folder, "tokenizer_config.json", &format!("{config:#}\n"))?;
    write(folder, "special_tokens_map.json", &format!("{special:#}\n"))?;
    Ok(size)
}

/// The merges in the order learnt.
fn train() -> Vec<Pair> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for word in pieces::pieces(&clean(TEXT)) {
        *counts.entry(word).or_default() += 1;
    }
    let mut words: Vec<(Vec<String>, usize)> = counts.into_iter().map(|(word, count)| (split_word(&word), count)).collect();
    let mut merges = Vec::with_capacity(MERGES);
    while merges.len() < MERGES {
        let Some(pair) = most_frequent(&words) else { break };
        for (symbols, _) in &mut words {
            merge(symbols, &pair);
        }
        merges.push(pair);
    }
    merges
}

fn split_word(word: &str) -> Vec<String> {
    let mut symbols: Vec<String> = word.chars().map(String::from).collect();
    if let Some(last) = symbols.last_mut() {
        last.push_str(END_OF_WORD);
    }
    symbols
}

fn most_frequent(words: &[(Vec<String>, usize)]) -> Option<Pair> {
    let mut pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (symbols, count) in words {
        for pair in symbols.windows(2) {
            *pairs.entry((&pair[0], &pair[1])).or_default() += count;
        }
    }
    // Of equals max_by_key returns the last, so the walk goes backwards to end at the first in order.
    let (pair, _) = pairs.into_iter().rev().max_by_key(|(_, count)| *count)?;
    Some((pair.0.to_owned(), pair.1.to_owned()))
}

fn merge(symbols: &mut Vec<String>, pair: &Pair) {
    let mut at = 0;
    while at + 1 < symbols.len() {
        if symbols[at] == pair.0 && symbols[at + 1] == pair.1 {
            let right = symbols.remove(at + 1);
            symbols[at].push_str(&right);
        }
        at += 1;
    }
}

/// `tokenizer_config.json` and `special_tokens_map.json` with the entries of SD1.5's or SD2's folder.
fn settings(padding: Padding) -> (Value, Value) {
    let pad_token = match padding {
        Padding::EndToken => DEFAULT_END,
        Padding::ExclamationMark => "!",
    };
    let token =
        |content: &str| json!({"content": content, "lstrip": false, "normalized": true, "rstrip": false, "single_word": false});
    let typed = |content: &str| json!({"__type": "AddedToken", "content": content, "lstrip": false, "normalized": true, "rstrip": false, "single_word": false});
    let config = json!({
        "add_prefix_space": false,
        "bos_token": typed(DEFAULT_START),
        "do_lower_case": true,
        "eos_token": typed(DEFAULT_END),
        "errors": "replace",
        "model_max_length": super::CONTEXT_LENGTH,
        "pad_token": DEFAULT_END,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": typed(DEFAULT_END),
    });
    let special = json!({
        "bos_token": token(DEFAULT_START),
        "eos_token": token(DEFAULT_END),
        "pad_token": pad_token,
        "unk_token": token(DEFAULT_END),
    });
    (config, special)
}

/// Writes a temporary file in the same folder, then renames, so that a file that exists is whole.
fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let unfinished = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    std::fs::write(&unfinished, text).map_err(Error::io(&unfinished))?;
    std::fs::rename(&unfinished, &path).map_err(Error::io(&path))
}
