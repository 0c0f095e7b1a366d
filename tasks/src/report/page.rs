//! The page around the blocks.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::text::seen;
use super::{Block, Report, Section};

/// The page's own style: two color schemes, narrow and wide windows, paper.
const STYLE: &str = include_str!("style.css");

/// Nothing is loaded and nothing runs, whatever a text in the page tries.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

pub(super) fn of(report: &Report) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                link rel="icon" href="data:,"; // else browsers ask the folder for one
                title { (seen(&report.title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(report))
                main { @for (number, section) in report.sections.iter().enumerate() { (part(number, section)) } }
                @if !report.made_by.is_empty() { footer { p { "Made by " (seen(&report.made_by)) "." } } }
            }
        }
    }
}

fn head(report: &Report) -> Markup {
    html! {
        header {
            h1 { (seen(&report.title)) }
            @for paragraph in &report.summary { p.summary { (seen(paragraph)) } }
            @if !report.facts.is_empty() {
                dl { @for (name, value) in &report.facts { div { dt { (seen(name)) } dd { (seen(value)) } } } }
            }
            @if report.sections.len() > 1 {
                nav aria-label="Sections" {
                    ul { @for (number, section) in report.sections.iter().enumerate() {
                        li { a href={ "#section-" (number + 1) } { (seen(&section.heading)) } }
                    } }
                }
            }
        }
    }
}

fn part(number: usize, section: &Section) -> Markup {
    html! {
        section id={ "section-" (number + 1) } {
            h2 { (seen(&section.heading)) }
            @for block in &section.blocks {
                @match block {
                    Block::Text(text) => p { (seen(text)) },
                    Block::Table(table) => (table.markup()),
                    Block::Curves(curves) => (curves.markup()),
                    Block::Gallery(gallery) => (gallery.markup()),
                    Block::Commands(commands) => @for command in commands { pre tabindex="0" { code { (seen(command)) } } },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Better, Column, Curves, Exhibit, Gallery, Mean, Panel, Point, Row, Score, Table};

    /// A name that tries every way out of the place where it stands.
    const HOSTILE: &str =
        "</title></style>--><script>alert(1)</script><img src=http://x.test/ onerror=alert(1)>\"'&amp;{{}}\0\u{202e}";

    fn hostile() -> Report {
        let name = || HOSTILE.to_owned();
        let score = Score { name: name(), unit: name(), better: Better::Higher };
        let mean = Mean { mean: 0.5, error: Some(0.1), count: 2 };
        let column = Column { layer: name(), timestep: Some(50.0), score: score.clone() };
        let table = Table { caption: name(), columns: vec![column], rows: vec![Row { set: name(), cells: vec![Some(mean)] }] };
        let panel = Panel { title: name(), lines: vec![vec![Point { x: 50.0, y: mean }]] };
        let curves = Curves { caption: name(), x: name(), y: score, series: vec![name()], panels: vec![panel] };
        let gallery = Gallery { caption: name(), exhibits: vec![Exhibit { name: name(), strips: Vec::new() }] };
        let blocks = vec![
            Block::Text(name()),
            Block::Table(table),
            Block::Curves(curves),
            Block::Gallery(gallery),
            Block::Commands(vec![name()]),
        ];
        let section = Section { heading: name(), blocks };
        let (summary, facts) = (vec![name()], vec![(name(), name())]);
        Report { title: name(), summary, facts, sections: vec![section.clone(), section], made_by: name() }
    }

    #[test]
    fn hostile_names_stay_text() {
        let page = hostile().render();
        let harmless = Report::default().render();
        for part in ["<script", "<img", "</title>", "</style>", "-->"] {
            assert_eq!(page.matches(part).count(), harmless.matches(part).count(), "{part}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        // Neither in an attribute, which a quote would end: every quote of the name is written as an entity.
        assert!(!page.contains("alert(1)>\"") && !page.contains('\0') && !page.contains('\u{202e}'));
    }

    #[test]
    fn nothing_is_loaded() {
        let page = hostile().render();
        let text = page.replace("&lt;img src=http://x.test/", "");
        for part in ["http:", "https:", "url(", "@import", "<script", "<iframe", "<object"] {
            assert!(!text.contains(part), "{part}");
        }
        assert!(page.contains("default-src 'none'") || page.contains("default-src &#39;none"));
    }
}
