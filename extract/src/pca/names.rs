//! The order of names: as people count.

/// A part of a name, ordered as people do: numbers by their value, before letters.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    /// Length without leading zeros, then the digits themselves, then how many there are with the zeros.
    Number(usize, &'a str, usize),
    Text(&'a str),
}

/// What a name is ordered by: `train2` stands before `train10`.
pub fn order(name: &str) -> impl Ord + use<'_> {
    let mut parts = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let is_number = first.is_ascii_digit();
        let end = rest.find(|letter: char| letter.is_ascii_digit() != is_number).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        let digits = part.trim_start_matches('0');
        parts.push(if is_number { Part::Number(digits.len(), digits, part.len()) } else { Part::Text(part) });
        rest = behind;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted() {
        let mut names = ["b/train10", "b/train2", "a/train100", "b/train02", "b/train", "ä", "b/train9.5", ""];
        names.sort_by(|a, b| order(a).cmp(&order(b)));
        assert_eq!(names, ["", "a/train100", "b/train", "b/train2", "b/train02", "b/train9.5", "b/train10", "ä"]);
    }
}
