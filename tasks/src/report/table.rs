//! Means of feature sets: a row per set, a column per layer and timestep, a table per score.

use maud::{Markup, html};

use super::statistics::{Better, Mean, Score, best, decimals, number};
use super::text::seen;

/// Means of sets. Columns that follow each other with the same score become one table, with the score's name, unit and direction.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// What the numbers are means of.
    pub caption: String,
    /// What the columns are, from left to right.
    pub columns: Vec<Column>,
    /// A row per set.
    pub rows: Vec<Row>,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The layer's id; equal neighbors share a heading.
    pub layer: String,
    /// The noise level; `None` where there is none.
    pub timestep: Option<f64>,
    /// The score.
    pub score: Score,
}

/// A set's means.
#[derive(Clone, Debug)]
pub struct Row {
    /// The set's name.
    pub set: String,
    /// A mean per column; what is missing at the end or `None` has no value.
    pub cells: Vec<Option<Mean>>,
}

impl Table {
    /// The tables as HTML.
    pub fn render(&self) -> String {
        self.markup().into_string()
    }

    pub(super) fn markup(&self) -> Markup {
        let mut start = 0;
        html! {
            div.tables {
                @for columns in self.columns.chunk_by(|a, b| a.score == b.score) {
                    (self.of_score(columns, { start += columns.len(); start - columns.len() }))
                }
                p.note {
                    (seen(&self.caption)) " Each cell: mean and, below it, the standard error of the mean."
                    @if self.rows.len() > 1 {
                        " " strong.best { "Highlighted" } ": the best of its column, by more than its own and the next one's standard error combined."
                    }
                }
            }
        }
    }

    /// The columns from `start` on, which are of one score.
    fn of_score(&self, columns: &[Column], start: usize) -> Markup {
        let cell =
            |row: &Row, column: usize| row.cells.get(start + column).copied().flatten().filter(|cell| cell.mean.is_finite());
        let of_column = |column: usize| self.rows.iter().map(|row| cell(row, column)).collect::<Vec<_>>();
        let all: Vec<Mean> =
            (0..columns.len()).flat_map(|column| of_column(column).into_iter().flatten().collect::<Vec<_>>()).collect();
        let digits = decimals(all.iter());
        let Some(score) = columns.first().map(|column| &column.score) else { return html! {} };
        let bests: Vec<Option<usize>> = (0..columns.len()).map(|column| best(&of_column(column), score.better)).collect();
        html! {
            // Above the table and not its caption, which would be no wider than the table.
            p.table-heading { (about(score)) }
            // A region that scrolls has to be reachable by keyboard, and then has to have a name.
            div.scroll tabindex="0" role="region" aria-label=(seen(&score.name)) {
                table.means {
                    (heading(columns))
                    tbody {
                        @for (number, row) in self.rows.iter().enumerate() {
                            tr {
                                th scope="row" { (seen(&row.set)) }
                                @for column in 0..columns.len() {
                                    (mean(cell(row, column), digits, bests[column] == Some(number)))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A score with its unit and direction.
pub(super) fn about(score: &Score) -> Markup {
    let arrow = match score.better {
        Better::Higher => "\u{2191} ",
        Better::Lower => "\u{2193} ",
        Better::Neither => "",
    };
    html! {
        span.score { (seen(&score.name)) }
        @if !score.unit.is_empty() { " " span.unit { (seen(&score.unit)) } }
        @if let Some(words) = score.better.words() { " " span.unit { span aria-hidden="true" { (arrow) } (words) } }
    }
}

/// Layers over timesteps; layers alone where no column has a timestep.
fn heading(columns: &[Column]) -> Markup {
    let has_timesteps = columns.iter().any(|column| column.timestep.is_some());
    html! {
        thead {
            tr {
                th scope="col" rowspan=[has_timesteps.then_some("2")] { "Set" }
                @for same in columns.chunk_by(|a, b| a.layer == b.layer) {
                    th.layer scope="colgroup" colspan=(same.len()) { (seen(&same[0].layer)) }
                }
            }
            @if has_timesteps {
                tr {
                    @for same in columns.chunk_by(|a, b| a.layer == b.layer) {
                        @for column in same {
                            th scope="col" {
                                @if let Some(timestep) = column.timestep { i { "t" } "\u{202f}=\u{202f}" (timestep) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn mean(cell: Option<Mean>, digits: usize, is_best: bool) -> Markup {
    let Some(cell) = cell else { return html! { td.none { span aria-label="no value" { "\u{2013}" } } } };
    let images = if cell.count == 1 { "one value".to_owned() } else { format!("mean of {} values", cell.count) };
    html! {
        td class=[is_best.then_some("best")] title=(images) {
            @if is_best { strong { (number(cell.mean, digits)) } } @else { (number(cell.mean, digits)) }
            @if let Some(error) = cell.error { " " small { "\u{b1}\u{202f}" (number(error, digits)) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(layer: &str, timestep: Option<f64>, score: &str) -> Column {
        let score = Score { name: score.to_owned(), unit: "1 = best".to_owned(), better: Better::Higher };
        Column { layer: layer.to_owned(), timestep, score }
    }

    fn row(set: &str, means: &[f64]) -> Row {
        let cells = means.iter().map(|mean| Some(Mean { mean: *mean, error: Some(0.01), count: 4 })).collect();
        Row { set: set.to_owned(), cells }
    }

    fn count(text: &str, part: &str) -> usize {
        text.matches(part).count()
    }

    #[test]
    fn a_table_per_score_with_grouped_layers() {
        let columns = vec![
            column("up", Some(50.0), "cka"),
            column("up", Some(261.5), "cka"),
            column("mid", Some(50.0), "cka"),
            column("up", None, "paper"),
        ];
        let table = Table {
            caption: "32 images.".to_owned(),
            columns,
            rows: vec![row("a", &[0.9, 0.5, 0.1, 0.2]), row("b", &[0.8, 0.5])],
        };
        let page = table.render();
        assert_eq!(count(&page, "<table"), 2);
        assert!(page.contains(r#"<th class="layer" scope="colgroup" colspan="2">up</th>"#));
        assert!(page.contains("<i>t</i>\u{202f}=\u{202f}261.5"));
        assert!(page.contains("higher is better"));
        // 0.9 and 0.8 are further apart than 0.014; 0.5 twice is not, and a column of one set has no best.
        assert_eq!(count(&page, r#"<td class="best""#), 1);
        assert!(page.contains("<strong>0.90</strong> <small>\u{b1}\u{202f}0.01</small>"));
        assert_eq!(count(&page, "no value"), 2);
    }

    #[test]
    fn numbers_that_are_none_have_no_cell() {
        let table = Table {
            columns: vec![column("up", None, "cka")],
            rows: vec![row("a", &[f64::NAN]), row("b", &[0.1])],
            ..Table::default()
        };
        let page = table.render();
        assert!(!page.contains("NaN") && count(&page, "no value") == 1);
    }
}
