//! Special and added tokens: where a tokenizer folder names them, and how they are cut out of a text.
//!
//! Mirrors `PreTrainedTokenizer.tokenize`, `Trie.split` and `PreTrainedTokenizerBase._from_pretrained` of transformers 4.49.
//! Difference: where tokens overlap in a text, the leftmost and then the longest wins, which is what the Trie is meant to do.

use super::{DEFAULT_END, DEFAULT_START, parse_json};
use crate::error::{ConfigCause, Error, Result, TokenizerCause};
use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use tokenizers::models::bpe::Vocab;

/// The `model_max_length` of CLIP, for folders that do not say.
const DEFAULT_LENGTH: usize = super::CONTEXT_LENGTH;

/// transformers writes 10^30 for "no limit"; nothing above this is a sequence length.
const LARGEST_LENGTH: u64 = 1 << 20;

/// The most text in all added tokens together. Models have a few dozen short ones; textual inversions add some thousands.
const MOST_ADDED_BYTES: usize = 4 << 20;

/// Names of the single special tokens in the order in which transformers adds them.
const SPECIAL_NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token that is cut out of the raw text, spelt exactly.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddedToken {
    /// Its spelling.
    pub content: String,
    /// Takes the whitespace before it away.
    lstrip: bool,
    /// Takes the whitespace behind it away.
    rstrip: bool,
    /// Counts only between spaces or at an end.
    single_word: bool,
}

impl AddedToken {
    fn plain(content: &str) -> Self {
        Self { content: content.to_owned(), ..Self::default() }
    }

    /// A string, or an object with `content` and flags.
    fn from_json(value: &Value) -> Option<Self> {
        let flag = |name| value.get(name).and_then(Value::as_bool).unwrap_or(false);
        match value {
            Value::String(content) => Some(Self::plain(content)),
            Value::Object(entries) => Some(Self {
                content: entries.get("content")?.as_str()?.to_owned(),
                lstrip: flag("lstrip"),
                rstrip: flag("rstrip"),
                single_word: flag("single_word"),
            }),
            _ => None,
        }
    }
}

/// What the JSON files of a tokenizer folder say.
#[derive(Debug)]
pub struct Settings {
    /// `bos_token`.
    pub start: AddedToken,
    /// `eos_token`.
    pub end: AddedToken,
    /// `pad_token`.
    pub pad: AddedToken,
    /// `unk_token`.
    pub unknown: AddedToken,
    /// Tokens per sequence, at least 2.
    pub model_max_length: usize,
    /// All special tokens, in transformers' order.
    special: Vec<AddedToken>,
    /// Tokens with an id of their own.
    added: BTreeMap<u32, AddedToken>,
}

impl Settings {
    /// Reads the files that exist; none of them has to.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let config_path = folder.join("tokenizer_config.json");
        let config = read_object(&config_path)?;
        let mut reader = Reader { entries: config.clone(), added: BTreeMap::new(), by_content: HashMap::new() };
        if let Some(decoder) = config.get("added_tokens_decoder") {
            reader.read_decoder(&config_path, decoder)?;
        } else {
            reader.read_older_files(folder)?;
        }
        reader.index();
        let mut named = HashMap::new();
        let mut special = Vec::new();
        for name in SPECIAL_NAMES {
            let token = reader.special(&config_path, name)?;
            special.extend(token.clone());
            named.insert(name, token);
        }
        special.extend(reader.additional(&config_path)?);
        let mut take = |name: &str, default: &str| named.remove(name).flatten().unwrap_or_else(|| AddedToken::plain(default));
        Ok(Self {
            start: take("bos_token", DEFAULT_START),
            end: take("eos_token", DEFAULT_END),
            pad: take("pad_token", DEFAULT_END),
            unknown: take("unk_token", DEFAULT_END),
            model_max_length: sequence_length(&config_path, &config)?,
            special,
            added: reader.added,
        })
    }
}

type Object = serde_json::Map<String, Value>;

/// The JSON object in a file, an empty one when there is no file. A link that leads nowhere is a file that is missing.
fn read_object(path: &Path) -> Result<Object> {
    if path.symlink_metadata().is_ok() { parse_json(path) } else { Ok(Object::new()) }
}

fn sequence_length(path: &Path, config: &Object) -> Result<usize> {
    let value = match config.get("model_max_length").or_else(|| config.get("max_len")) {
        None | Some(Value::Null) => return Ok(DEFAULT_LENGTH),
        Some(value) => value,
    };
    match value.as_f64() {
        Some(length) if length > LARGEST_LENGTH as f64 => Ok(DEFAULT_LENGTH),
        Some(length) if length >= 2.0 && length.fract() == 0.0 => Ok(length as usize),
        _ => Err(Error::config(
            path,
            "model_max_length",
            ConfigCause::WrongType { expected: "a number of tokens, 2 or more", found: Some(value.to_string()) },
        )),
    }
}

/// Entries of `tokenizer_config.json`, overridden by those of older files where these count.
struct Reader {
    entries: Object,
    added: BTreeMap<u32, AddedToken>,
    /// The first id of each spelling in `added`.
    by_content: HashMap<String, u32>,
}

impl Reader {
    fn index(&mut self) {
        for (id, token) in &self.added {
            self.by_content.entry(token.content.clone()).or_insert(*id);
        }
    }

    fn read_decoder(&mut self, path: &Path, decoder: &Value) -> Result<()> {
        let wrong = || {
            Error::config(
                path,
                "added_tokens_decoder",
                ConfigCause::WrongType { expected: "an object from ids to tokens", found: None },
            )
        };
        for (id, token) in decoder.as_object().ok_or_else(wrong)? {
            let id = id.parse().map_err(|_| wrong())?;
            self.added.insert(id, AddedToken::from_json(token).ok_or_else(wrong)?);
        }
        Ok(())
    }

    /// Folders written before transformers 4.34 spread their tokens over three more files.
    fn read_older_files(&mut self, folder: &Path) -> Result<()> {
        for (name, value) in read_object(&folder.join("special_tokens_map.json"))? {
            self.entries.insert(name, value);
        }
        let path = folder.join("added_tokens.json");
        for (content, id) in read_object(&path)? {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id =
                id.ok_or_else(|| Error::config(&path, &content, ConfigCause::WrongType { expected: "an id", found: None }))?;
            self.added.insert(id, AddedToken::plain(&content));
        }
        let path = folder.join("tokenizer.json");
        if let Some(Value::Array(tokens)) = read_object(&path)?.get("added_tokens") {
            for token in tokens {
                let id = token.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
                let (Some(id), Some(token)) = (id, AddedToken::from_json(token)) else {
                    return Err(Error::config(
                        &path,
                        "added_tokens",
                        ConfigCause::WrongType { expected: "a list of tokens with ids", found: None },
                    ));
                };
                self.added.insert(id, token);
            }
        }
        Ok(())
    }

    /// A single special token; its flags are those of the added token of the same spelling.
    fn special(&self, path: &Path, name: &str) -> Result<Option<AddedToken>> {
        let default = match name {
            "bos_token" => Some(DEFAULT_START),
            "eos_token" | "unk_token" | "pad_token" => Some(DEFAULT_END),
            _ => None,
        };
        let token = match self.entries.get(name) {
            None => match default {
                None => return Ok(None),
                Some(content) => AddedToken::plain(content),
            },
            Some(Value::Null) if default.is_none() => return Ok(None),
            Some(value) => AddedToken::from_json(value).filter(|token| !token.content.is_empty()).ok_or_else(|| {
                Error::config(path, name, ConfigCause::WrongType { expected: "a token", found: Some(value.to_string()) })
            })?,
        };
        Ok(Some(self.with_flags(token)))
    }

    fn additional(&self, path: &Path) -> Result<Vec<AddedToken>> {
        let wrong = || {
            Error::config(path, "additional_special_tokens", ConfigCause::WrongType { expected: "a list of tokens", found: None })
        };
        match self.entries.get("additional_special_tokens") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(tokens)) => tokens
                .iter()
                .map(|token| AddedToken::from_json(token).map(|token| self.with_flags(token)).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    fn with_flags(&self, token: AddedToken) -> AddedToken {
        self.by_content.get(&token.content).and_then(|id| self.added.get(id)).cloned().unwrap_or(token)
    }
}

/// The added tokens with their ids.
#[derive(Debug, Clone)]
pub struct AddedTokens {
    by_content: HashMap<String, (u32, AddedToken)>,
    /// Finds all of them in one pass over a text.
    finder: AhoCorasick,
}

impl AddedTokens {
    /// Special tokens that the vocabulary lacks get the ids behind it. `folder` is named in errors.
    ///
    /// # Errors
    /// [`Error::File`] when there is more text in the tokens than anybody means.
    pub fn new(settings: &Settings, vocab: &Vocab, folder: &Path) -> Result<Self> {
        let mut by_content = HashMap::new();
        for (id, token) in &settings.added {
            if !token.content.is_empty() {
                by_content.insert(token.content.clone(), (*id, token.clone()));
            }
        }
        let all: HashSet<&str> = vocab.keys().map(String::as_str).chain(by_content.keys().map(String::as_str)).collect();
        let mut next = u32::try_from(all.len()).unwrap_or(u32::MAX);
        for token in &settings.special {
            if token.content.is_empty() || by_content.contains_key(&token.content) {
                continue;
            }
            let id = vocab.get(&token.content).copied().unwrap_or_else(|| {
                next = next.saturating_add(1);
                next - 1
            });
            by_content.insert(token.content.clone(), (id, token.clone()));
        }
        let finder = finder(by_content.keys(), folder)?;
        Ok(Self { by_content, finder })
    }

    /// The id of the added token spelt `content`.
    pub fn id(&self, content: &str) -> Option<u32> {
        self.by_content.get(content).map(|(id, _)| *id)
    }

    /// All ids, in no order.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.by_content.values().map(|(id, _)| *id)
    }

    /// `text` cut before and behind every added token; empty pieces are left out.
    pub fn split(&self, text: &str) -> Vec<String> {
        let mut pieces = self.cut(text);
        for index in 0..pieces.len() {
            if let Some((_, token)) = self.by_content.get(&pieces[index]) {
                apply_flags(&mut pieces, index, token);
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    fn cut(&self, text: &str) -> Vec<String> {
        let (mut pieces, mut begin) = (Vec::new(), 0);
        for found in self.finder.find_iter(text) {
            if begin < found.start() {
                pieces.push(text[begin..found.start()].to_owned());
            }
            pieces.push(text[found.range()].to_owned());
            begin = found.end();
        }
        if begin < text.len() {
            pieces.push(text[begin..].to_owned());
        }
        pieces
    }
}

/// The automaton for these tokens, of which none is empty; it takes some 20 bytes for each byte of theirs.
fn finder<'a>(tokens: impl Iterator<Item = &'a String> + Clone, folder: &Path) -> Result<AhoCorasick> {
    let refuse = |cause| Err(Error::file(folder, cause, "take the tokenizer's files from the model's own folder"));
    let bytes: usize = tokens.clone().map(String::len).sum();
    if bytes > MOST_ADDED_BYTES {
        return refuse(TokenizerCause::AddedTokens { found: bytes, most: MOST_ADDED_BYTES });
    }
    match AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(tokens) {
        Ok(finder) => Ok(finder),
        Err(source) => refuse(TokenizerCause::Automaton { source }),
    }
}

/// What an added token's flags do to its neighbors, and to itself: a single word that touches another one is text.
fn apply_flags(pieces: &mut [String], index: usize, token: &AddedToken) {
    let left = index.checked_sub(1).map(|i| pieces[i].clone()).filter(|piece| !piece.is_empty());
    let right = pieces.get(index + 1).cloned().filter(|piece| !piece.is_empty());
    if let (true, Some(right)) = (token.rstrip, &right) {
        pieces[index + 1] = right.trim_start().to_owned();
    }
    if let (true, Some(left)) = (token.lstrip, &left) {
        pieces[index - 1] = left.trim_end().to_owned();
    }
    if !token.single_word {
        return;
    }
    if left.is_some_and(|left| !left.ends_with(' ')) {
        let word = std::mem::take(&mut pieces[index]);
        pieces[index - 1].push_str(&word);
    } else if right.is_some_and(|right| !right.starts_with(' ')) {
        let word = std::mem::take(&mut pieces[index]);
        pieces[index + 1].insert_str(0, &word);
    }
}
