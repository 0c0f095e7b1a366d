//! How a caption changes at every draw: prefix and suffix, dropout, wildcards, shuffling, tag dropout.
//!
//! Mirrors `BaseDataset.process_caption` of sd-scripts 48d368f, step by step in its order. Random choices come from the caller's generator,
//! so a draw does not depend on earlier ones.

use crate::options::values::StepsOrShare;
use driftless::rng::Generator;

/// How the captions of one subset change.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptionSettings {
    /// Put before, with a space.
    pub prefix: Option<String>,
    /// Put after, with a space.
    pub suffix: Option<String>,
    /// Probability of an empty caption.
    pub dropout_rate: f64,
    /// Every so many epochs all captions are empty; 0: never.
    pub dropout_every_n_epochs: usize,
    /// Choose among `{a|b}` and among lines.
    pub wildcard: bool,
    /// Shuffle flexible tags.
    pub shuffle: bool,
    /// Tags at the beginning that are not flexible.
    pub keep_tokens: usize,
    /// Text between fixed and flexible tags.
    pub keep_tokens_separator: Option<String>,
    /// Text between tags.
    pub separator: String,
    /// Becomes `separator` in the end.
    pub secondary_separator: Option<String>,
    /// Probability that a flexible tag is dropped.
    pub tag_dropout_rate: f64,
    /// Flexible tags at the first step of the warm-up.
    pub warmup_min: usize,
    /// Length of the warm-up; 0: none.
    pub warmup: StepsOrShare,
}

/// Where in the run a caption is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Counted from 1.
    pub epoch: usize,
    /// Optimizer steps done.
    pub step: usize,
    /// Optimizer steps of the whole run.
    pub total_steps: usize,
}

impl CaptionSettings {
    /// The same without anything that chance or the moment decides: what validation sees.
    pub fn settled(&self) -> Self {
        Self {
            dropout_rate: 0.0,
            dropout_every_n_epochs: 0,
            wildcard: false,
            shuffle: false,
            tag_dropout_rate: 0.0,
            warmup: StepsOrShare::Steps(0),
            ..self.clone()
        }
    }

    /// Whether a caption is the same at every draw, so that its embedding can be kept.
    pub fn is_fixed(&self) -> bool {
        !self.rearranges() && !self.wildcard && self.dropout_rate == 0.0 && self.dropout_every_n_epochs == 0
    }

    fn rearranges(&self) -> bool {
        self.shuffle || self.warmup.is_some() || self.tag_dropout_rate > 0.0
    }

    /// `caption` as it is drawn at `moment`.
    pub fn draw(&self, caption: &str, moment: Moment, generator: &mut Generator) -> String {
        let mut caption = self.framed(caption);
        if self.is_dropped(moment, generator) {
            return String::new();
        }
        caption = if self.wildcard {
            choose_wildcards(&caption, generator)
        } else {
            caption.split('\n').next().unwrap_or_default().to_owned()
        };
        if self.rearranges() {
            caption = self.rearranged(&caption, moment, generator);
        }
        match &self.secondary_separator {
            Some(secondary) if !secondary.is_empty() => caption.replace(secondary, &self.separator),
            _ => caption,
        }
    }

    fn framed(&self, caption: &str) -> String {
        let mut framed = caption.to_owned();
        if let Some(prefix) = self.prefix.as_ref().filter(|prefix| !prefix.is_empty()) {
            framed = format!("{prefix} {framed}");
        }
        if let Some(suffix) = self.suffix.as_ref().filter(|suffix| !suffix.is_empty()) {
            framed = format!("{framed} {suffix}");
        }
        framed
    }

    fn is_dropped(&self, moment: Moment, generator: &mut Generator) -> bool {
        let by_chance = self.dropout_rate > 0.0 && chance(generator) < self.dropout_rate;
        let by_epoch = self.dropout_every_n_epochs > 0 && moment.epoch.is_multiple_of(self.dropout_every_n_epochs);
        by_chance || by_epoch
    }

    fn rearranged(&self, caption: &str, moment: Moment, generator: &mut Generator) -> String {
        let Parts { fixed, mut flexible, tail } = self.parts(caption);
        let warmup_steps = self.warmup.of(moment.total_steps);
        if moment.step < warmup_steps {
            let growth = (flexible.len() as f64 - self.warmup_min as f64) / warmup_steps as f64;
            let tags = (moment.step as f64 * growth).floor() + self.warmup_min as f64;
            flexible.truncate(tags.max(0.0) as usize);
        }
        if self.shuffle {
            let order = generator.randperm(flexible.len());
            flexible = order.into_iter().map(|index| flexible[index]).collect();
        }
        if self.tag_dropout_rate > 0.0 {
            flexible.retain(|_| chance(generator) >= self.tag_dropout_rate);
        }
        [fixed, flexible, tail].concat().join(", ")
    }

    fn parts<'a>(&self, caption: &'a str) -> Parts<'a> {
        let tags = |text: &'a str| -> Vec<&'a str> {
            text.split(self.separator.as_str()).map(str::trim).filter(|tag| !tag.is_empty()).collect()
        };
        let keep = self.keep_tokens_separator.as_deref().filter(|separator| !separator.is_empty());
        if let Some((separator, (fixed, rest))) = keep.and_then(|separator| Some((separator, caption.split_once(separator)?))) {
            let (flexible, tail) = rest.split_once(separator).unwrap_or((rest, ""));
            return Parts { fixed: tags(fixed), flexible: tags(flexible), tail: tags(tail) };
        }
        // Here, unlike above, kohya leaves empty tags in.
        let mut fixed: Vec<&str> = caption.trim().split(self.separator.as_str()).map(str::trim).collect();
        let flexible = fixed.split_off(self.keep_tokens.min(fixed.len()));
        Parts { fixed, flexible, tail: vec![] }
    }
}

struct Parts<'a> {
    fixed: Vec<&'a str>,
    flexible: Vec<&'a str>,
    tail: Vec<&'a str>,
}

/// Uniform in [0, 1).
fn chance(generator: &mut Generator) -> f64 {
    generator.rand(&[1]).first().copied().map_or(0.0, f64::from)
}

fn choose<'a>(choices: &[&'a str], generator: &mut Generator) -> &'a str {
    let index = generator.randint(0, choices.len() as i64, 1).first().copied().unwrap_or(0);
    choices.get(index as usize).copied().unwrap_or_default()
}

/// One line of several, and one of each `{a|b|c}`; `{{` and `}}` stand for braces.
fn choose_wildcards(caption: &str, generator: &mut Generator) -> String {
    let lines: Vec<&str> = caption.split('\n').collect();
    let line = if lines.len() > 1 { choose(&lines, generator) } else { caption };
    // Stand-ins for literal braces, long enough not to occur in the caption, as kohya makes them.
    let (mut open, mut close) = ("⦅".to_owned(), "⦆".to_owned());
    while line.contains(&open) || line.contains(&close) {
        open.push('⦅');
        close.push('⦆');
    }
    let line = line.replace("{{", &open).replace("}}", &close);
    let mut chosen = String::new();
    let mut rest = line.as_str();
    while let Some(start) = rest.find('{') {
        let Some(length) = rest[start + 1..].find('}') else { break };
        if length == 0 {
            // `{}` is no wildcard, and stays.
            chosen.push_str(&rest[..start + 1]);
            rest = &rest[start + 1..];
            continue;
        }
        chosen.push_str(&rest[..start]);
        let choices: Vec<&str> = rest[start + 1..start + 1 + length].split('|').collect();
        chosen.push_str(choose(&choices, generator));
        rest = &rest[start + length + 2..];
    }
    chosen.push_str(rest);
    chosen.replace(&open, "{").replace(&close, "}")
}

impl Default for CaptionSettings {
    fn default() -> Self {
        Self {
            prefix: None,
            suffix: None,
            dropout_rate: 0.0,
            dropout_every_n_epochs: 0,
            wildcard: false,
            shuffle: false,
            keep_tokens: 0,
            keep_tokens_separator: None,
            separator: ",".into(),
            secondary_separator: None,
            tag_dropout_rate: 0.0,
            warmup_min: 1,
            warmup: StepsOrShare::Steps(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const START: Moment = Moment { epoch: 1, step: 0, total_steps: 100 };

    /// All captions that 200 draws give.
    fn draws(settings: &CaptionSettings, caption: &str) -> BTreeSet<String> {
        let mut generator = Generator::manual_seed(0);
        (0..200).map(|_| settings.draw(caption, START, &mut generator)).collect()
    }

    fn only(settings: &CaptionSettings, caption: &str) -> String {
        let all = draws(settings, caption);
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().unwrap()
    }

    fn set(captions: &[&str]) -> BTreeSet<String> {
        captions.iter().map(|&caption| caption.to_owned()).collect()
    }

    #[test]
    fn a_caption_is_used_as_it_is_written() {
        let settings = CaptionSettings::default();
        assert!(settings.is_fixed());
        assert_eq!(only(&settings, "a ,b,  c"), "a ,b,  c");
        assert_eq!(only(&settings, "first line\nsecond"), "first line");
        assert_eq!(only(&settings, ""), "");
    }

    #[test]
    fn prefix_and_suffix_come_before_everything_else() {
        let settings = CaptionSettings { prefix: Some("p,".into()), suffix: Some(",s".into()), ..Default::default() };
        assert_eq!(only(&settings, "a, b"), "p, a, b ,s");
        assert_eq!(only(&settings, ""), "p,  ,s");
        let dropped = CaptionSettings { dropout_rate: 1.0, ..settings };
        assert_eq!(only(&dropped, "a"), "", "dropout drops the prefix too");
    }

    #[test]
    fn dropout_by_chance_and_by_epoch() {
        let mut generator = Generator::manual_seed(1);
        let settings = CaptionSettings { dropout_rate: 0.25, ..Default::default() };
        let dropped = (0..4000).filter(|_| settings.draw("a", START, &mut generator).is_empty()).count();
        // Five standard deviations of a binomial with 4000 draws at 1/4.
        assert!((863..=1137).contains(&dropped), "{dropped}");

        let settings = CaptionSettings { dropout_every_n_epochs: 3, ..Default::default() };
        let mut at = |epoch| settings.draw("a", Moment { epoch, ..START }, &mut generator);
        assert_eq!([at(1), at(2), at(3), at(4), at(6)], ["a", "a", "", "a", ""]);
        assert!(!settings.is_fixed());
    }

    #[test]
    fn shuffling_keeps_the_first_tags() {
        let settings = CaptionSettings { shuffle: true, keep_tokens: 1, ..Default::default() };
        assert_eq!(draws(&settings, " a,b ,  c"), set(&["a, b, c", "a, c, b"]));
        let all = CaptionSettings { shuffle: true, keep_tokens: 9, ..Default::default() };
        assert_eq!(only(&all, "a,b"), "a, b");
    }

    #[test]
    fn a_separator_parts_fixed_flexible_and_tail() {
        let settings =
            CaptionSettings { shuffle: true, keep_tokens_separator: Some("|||".into()), keep_tokens: 5, ..Default::default() };
        assert_eq!(draws(&settings, "a, b ||| c, d,, ||| e, f"), set(&["a, b, c, d, e, f", "a, b, d, c, e, f"]));
        assert_eq!(draws(&settings, "a ||| b, c"), set(&["a, b, c", "a, c, b"]));
        assert_eq!(only(&settings, "a, b, c"), "a, b, c", "without the separator keep_tokens counts");
    }

    #[test]
    fn a_group_of_tags_moves_as_one() {
        let settings = CaptionSettings { shuffle: true, secondary_separator: Some(";;;".into()), ..Default::default() };
        assert_eq!(draws(&settings, "a;;;b, c"), set(&["a,b, c", "c, a,b"]));
        let plain = CaptionSettings { secondary_separator: Some(";;;".into()), ..Default::default() };
        assert_eq!(only(&plain, "a;;;b"), "a,b");
    }

    #[test]
    fn tags_drop_one_by_one() {
        let settings = CaptionSettings { tag_dropout_rate: 0.5, keep_tokens: 1, ..Default::default() };
        assert_eq!(draws(&settings, "a,b,c"), set(&["a, b, c", "a, b", "a, c", "a"]));
        let all = CaptionSettings { tag_dropout_rate: 1.0, ..Default::default() };
        assert_eq!(only(&all, "a,b"), "");
    }

    #[test]
    fn tags_warm_up() {
        let settings = CaptionSettings { warmup: StepsOrShare::Share(0.1), warmup_min: 1, ..Default::default() };
        let mut generator = Generator::manual_seed(0);
        let mut at = |step| settings.draw("a,b,c,d,e", Moment { step, ..START }, &mut generator);
        assert_eq!([at(0), at(5), at(9), at(10)], ["a", "a, b, c", "a, b, c, d", "a, b, c, d, e"]);
    }

    #[test]
    fn wildcards_choose() {
        let settings = CaptionSettings { wildcard: true, ..Default::default() };
        assert_eq!(draws(&settings, "a {b|c} d"), set(&["a b d", "a c d"]));
        assert_eq!(draws(&settings, "{{b|c}} {}"), set(&["{b|c} {}"]));
        assert_eq!(draws(&settings, "one\ntwo {x|}"), set(&["one", "two x", "two "]));
        assert_eq!(only(&settings, "a ⦅ {{b}} {open"), "a ⦅ {b} {open");
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let settings = CaptionSettings { shuffle: true, tag_dropout_rate: 0.3, ..Default::default() };
        let draw = |seed| settings.draw("a,b,c,d,e,f,g", START, &mut Generator::manual_seed(seed));
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
