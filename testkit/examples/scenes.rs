//! Writes procedural images with known truth in the layout of a public data set:
//!
//! `cargo run --release --package driftless-testkit --example scenes -- kohya OUT --style print --side 128 --count 30 --seed 0`
//!
//! Layouts: `kohya` (three groups of captioned images), `images` (held-out images with sentences), `spair`, `label-scarce` (parts of
//! `--category horse`), `ade20k`, `cityscapes`. `--count` is the number of training images (per category with `spair`), a third of it is
//! held out. The same options give the same bytes everywhere.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum};
use testkit::scenes::layouts::{DataSet, ade20k, cityscapes, kohya, label_scarce, spair};
use testkit::scenes::{CATEGORIES, Style};

/// The layouts.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "kebab-case")]
enum Layout {
    /// Three groups of captioned images, to train on.
    Kohya,
    /// Images of no training set, with sentences.
    Images,
    /// SPair-71k.
    Spair,
    /// ddpm-segmentation: the parts of one category.
    LabelScarce,
    /// ADE20K.
    #[value(name = "ade20k")]
    Ade20k,
    /// CityScapes.
    Cityscapes,
}

/// Writes procedural images with known truth.
#[derive(Parser)]
struct Arguments {
    /// The data set whose layout is written.
    #[arg(value_enum)]
    layout: Layout,
    /// The folder to write into.
    output: PathBuf,
    /// How the images look.
    #[arg(long, default_value = "photo", value_parser = PossibleValuesParser::new(Style::ALL.map(Style::name)))]
    style: String,
    /// The shorter side of the images in pixels.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(8..=4096))]
    side: u16,
    /// Training images.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    count: u32,
    /// Decides all scenes (0 to 4095).
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..4096))]
    seed: u64,
    /// The category whose parts `label-scarce` has.
    #[arg(long, default_value = "horse", value_parser = PossibleValuesParser::new(CATEGORIES.map(|category| category.name)))]
    category: String,
}

fn main() -> driftless::Result<()> {
    let Arguments { layout, output, style, side, count, seed, category } = Arguments::parse();
    // Both are among the values that the parser lets through.
    let style = Style::ALL.into_iter().find(|known| known.name() == style).unwrap_or(Style::Photo);
    let category = CATEGORIES.iter().position(|known| known.name == category).unwrap_or_default();
    let data = DataSet { style, side: usize::from(side), seed };
    let training = count as usize;
    let held_out = training.div_ceil(3);
    match layout {
        Layout::Images => kohya::write_held_out(&output, &data, training),
        Layout::Spair => spair::write(&output, &data, spair::Counts { training, validation: held_out, test: held_out }),
        Layout::Ade20k => ade20k::write(&output, &data, training, held_out),
        Layout::Cityscapes => cityscapes::write(&output, &data, training, held_out),
        Layout::LabelScarce => {
            let classes = label_scarce::write(&output, &data, category, training, held_out)?;
            println!("{classes} classes: ground, {}", CATEGORIES[category].part_names().join(", "));
            Ok(())
        }
        Layout::Kohya => kohya::write(&output, &data, training),
    }
}
