//! Curves over timesteps: a small chart per layer with common axes, as SVG; the numbers as a table below, for whoever cannot see them.

use maud::{Markup, html};

use super::axis::Axis;
use super::statistics::{Mean, Score, decimals, number};
use super::table::about;
use super::text::seen;

/// Chart sizes in units of its view box.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 388.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 216.0;
/// Between the points of two series at one timestep, so that their error bars can be told apart.
const DODGE: f64 = 3.0;
/// Colors and shapes there are; further series use them again with broken lines.
const COLORS: usize = 6;

/// Charts of one score.
#[derive(Clone, Debug)]
pub struct Curves {
    /// What is to be seen.
    pub caption: String,
    /// What the horizontal axis counts.
    pub x: String,
    /// What the vertical axis measures.
    pub y: Score,
    /// The names of the series: the feature sets. Color and shape of each are the same in all charts.
    pub series: Vec<String>,
    /// A chart each.
    pub panels: Vec<Panel>,
}

/// One chart.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Its title: the layer.
    pub title: String,
    /// The points of each series, in the order of [`Curves::series`], from left to right.
    pub lines: Vec<Vec<Point>>,
}

/// A point with its error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where: the timestep.
    pub x: f64,
    /// How high, and how far off that may be.
    pub y: Mean,
}

impl Point {
    fn is_finite(&self) -> bool {
        self.x.is_finite() && self.y.mean.is_finite()
    }

    /// Half the length of its error bar.
    fn error(&self) -> f64 {
        self.y.error.filter(|error| error.is_finite()).unwrap_or(0.0)
    }
}

impl Curves {
    /// The charts as HTML.
    pub fn render(&self) -> String {
        self.markup().into_string()
    }

    pub(super) fn markup(&self) -> Markup {
        let points = || self.panels.iter().flat_map(|panel| panel.lines.iter().flatten()).filter(|point| point.is_finite());
        let across = Axis::at(points().map(|point| point.x), 6);
        let up = Axis::around(points().flat_map(|point| [point.y.mean - point.error(), point.y.mean + point.error()]), 5);
        html! {
            div.curves {
                p.chart-heading { (about(&self.y)) }
                ul.legend aria-label="Series" {
                    @for (number, name) in self.series.iter().enumerate() {
                        li {
                            svg.chart viewBox="0 0 34 14" aria-hidden="true" {
                                g class=(style(number)) { path.line d="M2 7H32" {} (marker(number, 17.0, 7.0)) }
                            }
                            span { (seen(name)) }
                        }
                    }
                }
                div.panels {
                    @for panel in &self.panels { (self.chart(panel, &across, &up)) }
                }
                p.note { (seen(&self.caption)) " Bars: standard error of the mean." }
                (self.numbers())
            }
        }
    }

    fn chart(&self, panel: &Panel, across: &Axis, up: &Axis) -> Markup {
        let x = |value: f64| LEFT + across.position(value) * (RIGHT - LEFT);
        let y = |value: f64| BOTTOM - up.position(value) * (BOTTOM - TOP);
        html! {
            figure {
                figcaption { (seen(&panel.title)) }
                svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.in_words(panel)) {
                    g.grid {
                        @for tick in &up.ticks { path d={ "M" (LEFT) " " (short(y(*tick))) "H" (RIGHT) } {} }
                    }
                    g.axis {
                        path d={ "M" (LEFT) " " (BOTTOM) "H" (RIGHT) } {}
                        @for tick in &across.ticks { path d={ "M" (short(x(*tick))) " " (BOTTOM) "v5" } {} }
                    }
                    g.ticks text-anchor="end" {
                        @for tick in &up.ticks { text x=(LEFT - 7.0) y=(short(y(*tick) + 4.0)) { (number(*tick, up.decimals)) } }
                    }
                    g.ticks text-anchor="middle" {
                        @for tick in &across.ticks { text x=(short(x(*tick))) y=(BOTTOM + 19.0) { (number(*tick, across.decimals)) } }
                        text x=((LEFT + RIGHT) / 2.0) y=(BOTTOM + 39.0) { (seen(&self.x)) }
                    }
                    @for (number, line) in panel.lines.iter().enumerate() {
                        (drawn(number, line, DODGE * (number as f64 - (panel.lines.len() as f64 - 1.0) / 2.0), &x, &y))
                    }
                }
            }
        }
    }

    /// What a chart shows, for screen readers.
    fn in_words(&self, panel: &Panel) -> String {
        let digits = decimals(panel.lines.iter().flatten().map(|point| &point.y));
        let line = |(name, points): (&String, &Vec<Point>)| {
            let values = points.iter().filter(|point| point.is_finite());
            let values: Vec<String> = values.map(|point| format!("{} at {}", number(point.y.mean, digits), point.x)).collect();
            format!("{name}: {}", if values.is_empty() { "no value".to_owned() } else { values.join(", ") })
        };
        let lines: Vec<String> = self.series.iter().zip(&panel.lines).map(line).collect();
        seen(&format!("{} over {}, {}. {}.", self.y.name, self.x, panel.title, lines.join("; "))).into_owned()
    }

    /// The same numbers as a table.
    fn numbers(&self) -> Markup {
        let all = self.panels.iter().flat_map(|panel| panel.lines.iter().flatten());
        let digits = decimals(all.map(|point| &point.y));
        html! {
            details {
                summary { "The numbers of these charts" }
                div.scroll tabindex="0" role="region" aria-label={ "Numbers of " (seen(&self.y.name)) } {
                    table {
                        thead { tr {
                            th scope="col" { "Chart" } th scope="col" { "Set" }
                            th scope="col" { (seen(&self.x)) } th scope="col" { (seen(&self.y.name)) } th scope="col" { "Standard error" }
                        } }
                        tbody {
                            @for panel in &self.panels { @for (name, line) in self.series.iter().zip(&panel.lines) { @for point in line {
                                tr {
                                    th scope="row" { (seen(&panel.title)) } td.name { (seen(name)) } td { (point.x) }
                                    @if point.is_finite() { td { (number(point.y.mean, digits)) } } @else { td { "\u{2013}" } }
                                    td { (point.y.error.filter(|error| error.is_finite()).map_or("\u{2013}".to_owned(), |error| number(error, digits))) }
                                }
                            } } }
                        }
                    }
                }
            }
        }
    }
}

/// A series: error bars, the line, and a shape at each point.
fn drawn(series: usize, points: &[Point], shift: f64, x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) -> Markup {
    let points: Vec<Point> = points.iter().copied().filter(Point::is_finite).collect();
    let at = |point: &Point| (x(point.x) + shift, y(point.y.mean));
    let mut line = String::new();
    for point in &points {
        let (x, y) = at(point);
        line += &format!("{}{} {}", if line.is_empty() { 'M' } else { 'L' }, short(x), short(y));
    }
    html! {
        g class=(style(series)) {
            @for point in points.iter().filter(|point| point.error() > 0.0) {
                @let (low, high) = (short(y(point.y.mean - point.error())), short(y(point.y.mean + point.error())));
                @let (left, middle) = (short(at(point).0 - 3.0), short(at(point).0));
                path.error d={ "M" (middle) " " (low) "V" (high) "M" (left) " " (low) "h6M" (left) " " (high) "h6" } {}
            }
            @if points.len() > 1 { path.line d=(line) {} }
            @for point in &points { (marker(series, at(point).0, at(point).1)) }
        }
    }
}

/// The classes of a series.
fn style(series: usize) -> String {
    let broken = if series >= COLORS { " broken" } else { "" };
    format!("series-{}{broken}", series % COLORS)
}

/// The shape of a series around a point.
fn marker(series: usize, x: f64, y: f64) -> Markup {
    let outline = match series % COLORS {
        0 => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",    // circle
        1 => "m-3.6-3.6h7.2v7.2h-7.2z",               // square
        2 => "m0-4.8l4.6 8h-9.2z",                    // triangle
        3 => "m0-5l5 5l-5 5l-5-5z",                   // diamond
        4 => "m0 4.8l4.6-8h-9.2z",                    // triangle, on its tip
        _ => "m-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", // cross
    };
    html! { path.marker d={ "M" (short(x)) " " (short(y)) (outline) } {} }
}

/// A length with one decimal, which is finer than a screen.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Better;

    fn point(x: f64, mean: f64, error: Option<f64>) -> Point {
        Point { x, y: Mean { mean, error, count: 3 } }
    }

    fn curves(lines: Vec<Vec<Point>>) -> Curves {
        let y = Score { name: "draw consistency".to_owned(), unit: String::new(), better: Better::Higher };
        let series = (0..lines.len()).map(|number| format!("set {number}")).collect();
        let panels = vec![Panel { title: "up-level1-upsampler-out".to_owned(), lines }];
        Curves { caption: "32 images.".to_owned(), x: "timestep".to_owned(), y, series, panels }
    }

    #[test]
    fn points_stand_at_their_numbers() {
        let drawn = curves(vec![vec![point(0.0, 0.0, Some(0.25)), point(100.0, 1.0, None)]]).render();
        // The vertical axis is from -0.5 to 1 in steps of 0.5: 0 is at two thirds, the bar's ends a sixth around it.
        let y = |part: f64| short(BOTTOM - part * (BOTTOM - TOP));
        assert!(drawn.contains(&format!("V{}", y(0.5))), "{drawn}");
        assert!(drawn.contains(&format!(" {}L", y(1.0 / 3.0))), "{drawn}");
        assert_eq!(drawn.matches("path class=\"error\"").count(), 1);
        assert!(
            drawn.contains("draw consistency over timestep, up-level1-upsampler-out. set 0: 0.0 at 0, 1.0 at 100."),
            "{drawn}"
        );
    }

    #[test]
    fn numbers_that_are_none_are_left_out() {
        let drawn =
            curves(vec![vec![point(50.0, f64::NAN, None), point(f64::INFINITY, 0.5, Some(f64::NAN))], Vec::new()]).render();
        assert!(!drawn.contains("NaN") && !drawn.contains("dM"), "{drawn}");
        assert!(drawn.contains("set 0: no value; set 1: no value"));
        assert!(curves(Vec::new()).render().contains("<svg"));
    }

    #[test]
    fn many_series_are_told_apart() {
        let lines = (0..8).map(|number| vec![point(50.0, f64::from(number), None)]).collect();
        let drawn = curves(lines).render();
        assert!(drawn.contains(r#"class="series-1 broken""#) && drawn.contains(r#"class="series-1""#));
    }
}
