//! Text from files on its way into the page.
//!
//! The templates escape what HTML gives a meaning. What is left are characters that are not shown: controls, which HTML forbids, and
//! marks that change the direction of text, by which a name or a command could look like another one.

use std::borrow::Cow;

/// Whether a character acts on the text around it without being seen.
fn is_unseen(character: char) -> bool {
    let controls = character.is_control() && !matches!(character, '\n' | '\t');
    controls || matches!(character, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text with a replacement character for each that is not seen.
pub fn seen(text: &str) -> Cow<'_, str> {
    match text.chars().any(is_unseen) {
        true => text.chars().map(|character| if is_unseen(character) { '\u{fffd}' } else { character }).collect(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_shown() {
        assert_eq!(seen("a\tb\nc é 名"), "a\tb\nc é 名");
        assert_eq!(seen("rm \u{202e}gpj.a\0\u{1b}[2J\u{85}"), "rm \u{fffd}gpj.a\u{fffd}\u{fffd}[2J\u{fffd}");
    }
}
