//! Text cleaning of the slow `transformers.CLIPTokenizer` 4.49 without ftfy: `BasicTokenizer(strip_accents=False,
//! do_split_on_punc=False)`, its tokens joined by single spaces.
//!
//! The `tokenizers` crate's `BertNormalizer`, `NFC` and `Lowercase` do nearly the same and are not used: their tables are
//! those of Unicode 9 and earlier, and the last does not know the final sigma.

use regex::Regex;
use std::sync::LazyLock;
use unicode_normalization::UnicodeNormalization;

/// Categories C* (control, format, private use, unassigned) except the three that count as whitespace, and the replacement
/// character.
// The pattern is a constant; a test runs it.
static DROPPED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[[\p{C}\x{FFFD}]--[\t\n\r]]+").expect("a valid pattern"));

/// `text` without control characters, ideographs set apart, composed (NFC), lower-cased, words parted by one space.
pub fn clean(text: &str) -> String {
    let kept = DROPPED.replace_all(text, "");
    let mut spaced = String::with_capacity(kept.len());
    for character in kept.chars() {
        if is_ideograph(character) {
            spaced.extend([' ', character, ' ']);
        } else {
            spaced.push(character);
        }
    }
    let composed: String = spaced.nfc().collect();
    // Word by word, because the lower case of a capital sigma depends on what follows it.
    let words: Vec<String> = composed.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

/// The blocks that BERT calls Chinese: CJK unified ideographs, extensions A to E, and the compatibility ideographs; neither
/// kana nor hangul.
fn is_ideograph(character: char) -> bool {
    matches!(u32::from(character),
        0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF
        | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F | 0x2B820..=0x2CEAF | 0x2F800..=0x2FA1F)
}
