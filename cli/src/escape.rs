//! Text from files, made harmless for a terminal.
//!
//! Names, keys, metadata and captions come from strangers. Control characters in them could move the cursor, change the title, or fake
//! a line of output; directional and invisible characters could make a name look like another. They are shown as Rust writes them,
//! `\u{9b}`; in JSON as JSON writes them, `\u009b`.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character does something else than show itself: controls (C0, DEL, C1), line and paragraph separators, marks that
/// change the direction of text, and characters without width that no script needs.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A text that stays on its line.
pub fn one_line(text: &str) -> Cow<'_, str> {
    replaced(text, acts, |character, out| out.extend(character.escape_default()))
}

/// A text of several lines, whose line breaks and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    let acts = |character| acts(character) && !matches!(character, '\n' | '\t');
    replaced(text, acts, |character, out| out.extend(character.escape_default()))
}

/// Serialized JSON, which stays the same value: outside of strings it has line breaks alone.
pub fn json(serialized: &str) -> Cow<'_, str> {
    let acts = |character| acts(character) && character != '\n';
    replaced(serialized, acts, |character, out| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

fn replaced(text: &str, acts: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(&acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match acts(character) {
            true => escape(character, &mut out),
            false => out.push(character),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown_instead() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc\u{9b}d\u{202e}e\u{7f}"), r"a\u{1b}[2Jb\nc\u{9b}d\u{202e}e\u{7f}");
        assert_eq!(lines("a\tb\n\r\u{2066}"), "a\tb\n\\r\\u{2066}");
        for character in (0..0x20).chain(0x7f..0xa0).chain([0x200b, 0x202a, 0x2069, 0xfeff, 0xe0041]).filter_map(char::from_u32) {
            assert!(!one_line(&format!("a{character}b")).contains(character), "{character:?}");
        }
    }

    #[test]
    fn ordinary_text_of_all_scripts_stays() {
        for text in ["plain", "größe", "漢字", "می\u{200c}خواهم", "👩\u{200d}🎨", r"C:\a"] {
            assert_eq!(one_line(text), text);
        }
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!({ "k\u{9b}": ["\u{202e}\u{7f}\n\u{1b}", "\u{e0041}", 1] });
        let text = format!("{value:#}");
        let escaped = json(&text);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        assert!(escaped.chars().all(|character| character == '\n' || !acts(character)), "{escaped}");
    }
}
