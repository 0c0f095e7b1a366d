//! CLIP's byte-pair tokenizer, read from a pipeline folder's `tokenizer/`.
//!
//! Mirrors `transformers.CLIPTokenizer` 4.49 *without* ftfy installed: the slow class, which is what diffusers pipelines of
//! that time load from `model_index.json` and what kohya's trainer uses. The steps, in order:
//!
//! 1. `added_tokens`: special and added tokens are cut out of the raw text, spelt exactly (`<|endoftext|>`).
//! 2. `clean`: what is left is cleaned the way BERT's BasicTokenizer does it: control characters go, whitespace becomes one
//!    space, CJK ideographs stand alone, NFC, lower case.
//! 3. `pieces`: CLIP's regular expression cuts words, each becomes byte symbols.
//! 4. Byte-pair merges, by the `tokenizers` crate; the last symbol of a word carries `</w>`.
//!
//! Deliberate differences from the slow class:
//! - Unicode data are of version 16/17 (regex-syntax, std, unicode-normalization) where Python has its own version's (14 with 3.11).
//!   Characters assigned since then are kept here and dropped there as unassigned.
//! - A `merges.txt` that names tokens missing in `vocab.json` is refused; the slow class would emit the unknown token.
//! - Without a usable `model_max_length` (conversion tools may write none, transformers then writes 10^30) it is 77.
//! - diffusers expands a multi-vector textual inversion token into `token token_1 ...` before tokenizing; that is not done.
//!
//! How others differ, found by running them (`tests/reference/tokenizer_others.py`; 539 of the 1192 fixture strings):
//! `CLIPTokenizerFast` 4.49 and `CLIPTokenizer` of transformers 5.0, which is the fast one,
//! - put no spaces round CJK ideographs, so a run of them is one word: other ids for nearly every Chinese or Japanese prompt;
//! - keep control, format and private characters (joiners in emoji, soft hyphens, byte-order marks, U+FFFD) as bytes;
//! - lower-case each character alone, so that a final capital sigma becomes σ, not ς;
//! - take `'ſ` for two words, not for a contraction, and keep a lone iota subscript (U+0345).
//!
//! The slow class *with* ftfy (494 of 1192) spaces no ideographs and keeps format characters either, and repairs the text first:
//! mojibake, curly quotation marks, full-width letters. Plain English has the same ids everywhere.

mod added_tokens;
mod clean;
mod miniature;
mod pieces;

pub use miniature::{Padding, write_miniature};

use crate::error::{ArgumentCause, ConfigCause, Error, FileCause, Result, TokenizerCause};
use crate::formats::{self, FileKind, no_such_file};
use added_tokens::AddedTokens;
use std::path::{Path, PathBuf};
use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

/// Tokens in one sequence of the text encoder, start and end token included.
pub const CONTEXT_LENGTH: usize = 77;

/// The longest prompt, in pieces between single spaces, that the original extractor cuts to [`CONTEXT_LENGTH`].
const LONGEST_SHORT_PROMPT: usize = 70;

/// The slow class reads no more merges than CLIP has, whatever the file holds (49152 tokens less 256 bytes and 2 specials).
const MOST_MERGES: usize = 49152 - 256 - 2;

/// A tokenizer folder, loaded: text to ids.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    model: BPE,
    added: AddedTokens,
    vocab_size: usize,
    start: u32,
    end: u32,
    pad: u32,
    model_max_length: usize,
}

impl Tokenizer {
    /// The files that [`Self::from_folder`] reads, whether they are there or not.
    pub fn files(tokenizer_dir: &Path) -> Vec<PathBuf> {
        const NAMES: [&str; 6] = [
            "vocab.json",
            "merges.txt",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "tokenizer.json",
        ];
        NAMES.map(|name| tokenizer_dir.join(name)).to_vec()
    }

    /// Reads `vocab.json` and `merges.txt`, and where they exist `tokenizer_config.json`, `special_tokens_map.json`,
    /// `added_tokens.json` and `tokenizer.json` (the last for its added tokens only).
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Io`] or [`Error::Config`] when a file is missing, unreadable or does not fit the others.
    pub fn from_folder(tokenizer_dir: &Path) -> Result<Self> {
        let vocab_path = tokenizer_dir.join("vocab.json");
        let vocab: Vocab = parse_json::<std::collections::HashMap<String, u32>>(&vocab_path)?.into_iter().collect();
        let merges_path = tokenizer_dir.join("merges.txt");
        let merges = parse_merges(&merges_path)?;
        let settings = added_tokens::Settings::from_folder(tokenizer_dir)?;
        let added = AddedTokens::new(&settings, &vocab, tokenizer_dir)?;
        let largest = vocab.values().copied().chain(added.ids()).max().unwrap_or(0);
        let unknown = settings.unknown.content.clone();
        let mut builder = BPE::builder().end_of_word_suffix(END_OF_WORD.to_owned());
        if vocab.contains_key(&unknown) {
            builder = builder.unk_token(unknown);
        } else {
            return Err(Error::file(
                &vocab_path,
                TokenizerCause::NoUnknownToken { token: unknown },
                "take vocab.json and tokenizer_config.json from the same model",
            ));
        }
        let model = builder.vocab_and_merges(vocab, merges).build().map_err(|source| {
            Error::file(&merges_path, TokenizerCause::Merges { source }, "take both files from the same model")
        })?;
        let id = |token: &added_tokens::AddedToken| {
            added.id(&token.content).ok_or_else(|| Error::config(tokenizer_dir, &token.content, ConfigCause::TokenWithoutId))
        };
        Ok(Self {
            start: id(&settings.start)?,
            end: id(&settings.end)?,
            pad: id(&settings.pad)?,
            vocab_size: largest as usize + 1,
            model_max_length: settings.model_max_length,
            model,
            added,
        })
    }

    /// The ids of `text`, without start and end token, not cut and not padded (`tokenizer(text, add_special_tokens=False)`).
    ///
    /// # Errors
    /// [`Error::Argument`] when the byte-pair model refuses a word; with a folder that loaded this does not happen.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for piece in self.added.split(text) {
            match self.added.id(&piece) {
                Some(id) => ids.push(id),
                None => self.encode_text(&piece, &mut ids)?,
            }
        }
        Ok(ids)
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        for piece in pieces::pieces(&clean::clean(text)) {
            // The slow class never merges these two, which only get here in another spelling than their own: `<|EndOfText|>`.
            if matches!(piece.as_str(), DEFAULT_START | DEFAULT_END) {
                let id = self.added.id(&piece).or_else(|| self.model.token_to_id(&piece)).unwrap_or(self.unknown());
                ids.push(id);
                continue;
            }
            let tokens = self
                .model
                .tokenize(&piece)
                .map_err(|source| Error::argument("prompt", ArgumentCause::Untokenizable { piece: piece.clone(), source }))?;
            ids.extend(tokens.iter().map(|token| token.id));
        }
        Ok(())
    }

    fn unknown(&self) -> u32 {
        // from_folder refuses a vocabulary without the unknown token.
        self.model.unk_token.as_ref().and_then(|token| self.model.token_to_id(token)).unwrap_or(self.end)
    }

    /// One sequence for the text encoder: start token, at most `model_max_length - 2` ids, end token, padded with the pad token
    /// to `model_max_length` (77 for SD1.5). What diffusers' `encode_prompt` and kohya feed.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_padded(text, self.model_max_length)
    }

    fn encode_padded(&self, text: &str, length: usize) -> Result<Vec<u32>> {
        let mut ids = self.encode(text)?;
        ids.truncate(length - 2);
        ids.insert(0, self.start);
        ids.push(self.end);
        ids.resize(length, self.pad);
        Ok(ids)
    }

    /// Whether the original extractor takes its long path for `text`: more than 70 pieces between single spaces. Newlines
    /// do not split, double spaces count extra pieces.
    pub fn is_long_prompt(&self, text: &str) -> bool {
        text.split(' ').count() > LONGEST_SHORT_PROMPT
    }

    /// The sequences that the original extractor runs through the text encoder one by one, its outputs concatenated
    /// (generic-diffusion-feature, `encode_long_prompt.py`): for a short prompt the one of [`Tokenizer::encode_prompt`], for a
    /// [long](Tokenizer::is_long_prompt) one start, all ids and end, cut into consecutive pieces of `model_max_length`.
    /// Only the first piece has the start token, only the last the end token; the last is shorter and not padded.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn chunks_original(&self, text: &str) -> Result<Vec<Vec<u32>>> {
        if !self.is_long_prompt(text) {
            return Ok(vec![self.encode_prompt(text)?]);
        }
        let mut ids = self.encode(text)?;
        ids.insert(0, self.start);
        ids.push(self.end);
        Ok(ids.chunks(self.model_max_length).map(<[u32]>::to_vec).collect())
    }

    /// kohya's sequences for `max_token_length` 75, 150 or 225: one, two or three of 77 ids, each with a start token, 75
    /// ids of the caption cut at `max_token_length`, and an end token (sd-scripts `TokenizeStrategy._get_input_ids`).
    /// Where the pad token is not the end token (SD2), the end token stands once, behind the last id, as there.
    ///
    /// # Errors
    /// [`Error::Argument`] for another `max_token_length`, or when the folder's `model_max_length` is not 77.
    pub fn encode_kohya(&self, text: &str, max_token_length: usize) -> Result<Vec<[u32; CONTEXT_LENGTH]>> {
        if self.model_max_length != CONTEXT_LENGTH {
            let cause = ArgumentCause::TokenizerLength { expected: CONTEXT_LENGTH, found: self.model_max_length };
            return Err(Error::argument("max_token_length", cause));
        }
        if !matches!(max_token_length, 75 | 150 | 225) {
            return Err(Error::argument("max_token_length", ArgumentCause::TokenLength { found: max_token_length }));
        }
        let ids = self.encode_padded(text, max_token_length + 2)?;
        let last = ids[ids.len() - 1];
        let pieces = ids[1..=max_token_length].chunks_exact(CONTEXT_LENGTH - 2).map(|middle| {
            let mut piece = [self.start; CONTEXT_LENGTH];
            piece[1..CONTEXT_LENGTH - 1].copy_from_slice(middle);
            piece[CONTEXT_LENGTH - 1] = last;
            if self.pad != self.end && max_token_length > 75 {
                self.mend_padded_piece(&mut piece);
            }
            piece
        });
        Ok(pieces.collect())
    }

    /// With a pad token of its own, a full piece ends with the end token and an empty one begins with it.
    fn mend_padded_piece(&self, piece: &mut [u32; CONTEXT_LENGTH]) {
        let before_last = piece[CONTEXT_LENGTH - 2];
        if before_last != self.end && before_last != self.pad {
            piece[CONTEXT_LENGTH - 1] = self.end;
        }
        if piece[1] == self.pad {
            piece[1] = self.end;
        }
    }

    /// One more than the largest id: the rows a token embedding must have (SD1.5: 49408).
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id that opens a sequence (SD1.5: 49406, `<|startoftext|>`).
    pub fn start_token(&self) -> u32 {
        self.start
    }

    /// The id that closes a sequence (SD1.5: 49407, `<|endoftext|>`).
    pub fn end_token(&self) -> u32 {
        self.end
    }

    /// The id that fills a sequence (SD1.5: the end token's).
    pub fn pad_token(&self) -> u32 {
        self.pad
    }

    /// Tokens in one sequence, start and end token included (SD1.5: 77).
    pub fn model_max_length(&self) -> usize {
        self.model_max_length
    }
}

/// What the last symbol of a word carries.
const END_OF_WORD: &str = "</w>";

/// CLIP's start token.
const DEFAULT_START: &str = "<|startoftext|>";

/// CLIP's end, pad and unknown token.
const DEFAULT_END: &str = "<|endoftext|>";

/// One of a tokenizer's files.
fn read_text(path: &Path) -> Result<String> {
    const ADVICE: &str = "give the folder of a Stable Diffusion pipeline, with tokenizer/vocab.json and tokenizer/merges.txt";
    formats::read_text(path, FileKind::Tokenizer).map_err(no_such_file(ADVICE))
}

fn parse_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|source| {
        Error::file(path, FileCause::Json { expected: "the JSON expected here", source }, "fetch the file again")
    })
}

/// The merge rules in order: one pair a line, below a line for the version.
fn parse_merges(path: &Path) -> Result<Merges> {
    let text = read_text(path)?;
    let mut merges = Merges::new();
    for (index, line) in text.trim().lines().enumerate().skip(1).take(MOST_MERGES) {
        let mut symbols = line.split_whitespace();
        match (symbols.next(), symbols.next(), symbols.next()) {
            (Some(left), Some(right), None) => merges.push((left.to_owned(), right.to_owned())),
            (None, ..) => {}
            _ => {
                let cause = TokenizerCause::NotAPair { line: index + 1 };
                return Err(Error::file(path, cause, "fetch the file again"));
            }
        }
    }
    if merges.is_empty() {
        return Err(Error::file(path, TokenizerCause::NoMerges, "fetch the file again"));
    }
    Ok(merges)
}
