//! A report of made-up numbers, to look at: every kind of block, long names, missing values.
//!
//! `cargo run -p driftless-tasks --example report > report.html`

use std::process::ExitCode;

use tasks::report::{
    Better, Block, Column, Curves, Exhibit, Gallery, Image, Mean, NotPng, Panel, Point, Report, Row, Score, Section, Strip, Table,
};

const SETS: [&str; 6] = ["plain", "prompt", "controlnet", "lora", "prompt + controlnet + lora", "lora by cleandift"];
const LAYERS: [&str; 5] = [
    "up-level0-upsampler-out",
    "up-level1-upsampler-out",
    "up-level2-upsampler-out",
    "up-level1-repeat2-vit-out",
    "up-level2-repeat2-vit-out",
];
const TIMESTEPS: [f64; 3] = [50.0, 261.0, 500.0];

/// Falls with the timestep, slower for later sets.
fn mean(set: usize, layer: usize, timestep: f64) -> Mean {
    let drift = timestep / 1000.0 * (0.6 - 0.08 * set as f64 + 0.03 * layer as f64);
    Mean { mean: 0.97 - drift, error: Some(0.004 + 0.02 * timestep / 1000.0), count: 32 }
}

fn score() -> Score {
    Score { name: "Draw consistency".to_owned(), unit: "1 = nothing invented anew".to_owned(), better: Better::Higher }
}

fn table() -> Table {
    let places = || LAYERS.iter().enumerate().flat_map(|(number, layer)| TIMESTEPS.map(|timestep| (number, *layer, timestep)));
    let column =
        |(_, layer, timestep): (usize, &str, f64)| Column { layer: layer.to_owned(), timestep: Some(timestep), score: score() };
    let row = |(set, name): (usize, &&str)| {
        let cells = places().map(|(layer, _, timestep)| (set != 2 || layer != 4).then(|| mean(set, layer, timestep)));
        Row { set: (*name).to_owned(), cells: cells.collect() }
    };
    Table {
        caption: "32 images, 4 draws each.".to_owned(),
        columns: places().map(column).collect(),
        rows: SETS.iter().enumerate().map(row).collect(),
    }
}

fn curves() -> Curves {
    let line = |set: usize, layer: usize| TIMESTEPS.map(|timestep| Point { x: timestep, y: mean(set, layer, timestep) }).to_vec();
    let panel = |(number, layer): (usize, &&str)| Panel {
        title: (*layer).to_owned(),
        lines: (0..SETS.len()).map(|set| line(set, number)).collect(),
    };
    Curves {
        caption: "32 images, 4 draws each.".to_owned(),
        x: "timestep".to_owned(),
        y: score(),
        series: SETS.iter().map(|name| (*name).to_owned()).collect(),
        panels: LAYERS.iter().enumerate().map(panel).collect(),
    }
}

fn gallery(png: &[u8]) -> Result<Gallery, NotPng> {
    let strip = |layer: &&str| {
        let images = SETS.iter().map(|set| Image::new(*set, png.to_vec())).collect::<Result<_, _>>()?;
        Ok(Strip { label: (*layer).to_owned(), images })
    };
    let exhibit = |name: &str| {
        let photo = Image::new("photo", png.to_vec())?;
        let first = Strip { label: String::new(), images: vec![photo] };
        let strips = std::iter::once(Ok(first)).chain(LAYERS[..2].iter().map(strip)).collect::<Result<_, _>>()?;
        Ok(Exhibit { name: name.to_owned(), strips })
    };
    let names =
        ["train0.png", "a name that is so long_that_it_has_to_be_broken_somewhere_as_it_would_not_fit_into_a_narrow_window.png"];
    let exhibits = names.map(exhibit).into_iter().collect::<Result<_, _>>()?;
    Ok(Gallery { caption: "Features in one common basis per layer.".to_owned(), exhibits })
}

/// The report, with this image wherever one is shown.
///
/// # Errors
/// When the bytes are no PNG file.
pub fn report(png: &[u8]) -> Result<Report, NotPng> {
    let section = |heading: &str, blocks| Section { heading: heading.to_owned(), blocks };
    let command = "extract score --config sets.toml --draws 4 --timesteps 50,261,500 --warps 2 --output scores".to_owned();
    let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Ok(Report {
        title: "How far features drift".to_owned(),
        summary: vec![
            "Agreement of features between independent noise draws of one image: what differs was invented, not seen.".to_owned(),
        ],
        facts: vec![
            fact("Model", "assets/miniature"),
            fact("Images", "32"),
            fact("Draws", "4"),
            fact("Timesteps", "50, 261, 500"),
        ],
        sections: vec![
            section("Sets", vec![Block::Table(table())]),
            section("Over timesteps", vec![Block::Curves(curves())]),
            section("Images", vec![Block::Gallery(gallery(png)?)]),
            section("Commands", vec![Block::Text("These commands made this page.".to_owned()), Block::Commands(vec![command])]),
        ],
        made_by: "extract 0.1.0".to_owned(),
    })
}

fn main() -> ExitCode {
    match report(include_bytes!("report.png")) {
        Ok(report) => {
            print!("{}", report.render());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
