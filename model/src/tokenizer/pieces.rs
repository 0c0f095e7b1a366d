//! Words of cleaned text, as CLIP's regular expression finds them, each written in byte symbols (`CLIPTokenizer._tokenize`
//! and `bytes_to_unicode` of transformers 4.49; GPT-2's byte-level encoding).

use regex::Regex;
use std::sync::LazyLock;

/// Special tokens, contractions, runs of letters, single digits, runs of anything else. Case is ignored by simple folding,
/// as there: a long s (`ſ`) counts as `s` in `'s`. Python's engine folds in the negated set too, so the one mark whose other
/// case is a letter (U+0345, iota subscript, upper case Ι) is neither a letter nor anything else there: no word has it.
// The pattern is a constant; a test runs it.
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i:<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+")
        .expect("a valid pattern")
});

/// The symbol that stands for each byte.
static SYMBOLS: LazyLock<[char; 256]> = LazyLock::new(byte_symbols);

/// The words of `text`, every byte of its UTF-8 replaced by the byte's symbol.
pub fn pieces(text: &str) -> impl Iterator<Item = String> {
    WORD.find_iter(text).map(|word| word.as_str().bytes().map(|byte| SYMBOLS[usize::from(byte)]).collect())
}

/// The visible character that stands for each byte: printable Latin-1 for itself, the other 68 bytes, in order, U+0100 on.
pub fn byte_symbols() -> [char; 256] {
    let mut others = '\u{100}'..;
    std::array::from_fn(|byte| {
        let own = char::from(byte as u8);
        if matches!(own, '!'..='~' | '¡'..='¬' | '®'..='ÿ') { own } else { others.next().unwrap_or(own) }
    })
}
