//! Results as one HTML file that needs nothing else: no script, no font, no network. Readable in a dark and a light window, narrow and
//! wide, and on paper.
//!
//! A [`Report`] is a title and sections of blocks: a [`Table`] of means, [`Curves`], a [`Gallery`] of images, commands to copy, and text.
//! They are plain values; whoever has results fills them, and [`Report::render`] makes the page. Every text is escaped on its way into
//! the page, so names and captions may hold anything. The page forbids itself, by its content security policy, to load or run anything.

mod axis;
mod curves;
mod gallery;
mod page;
mod statistics;
mod table;
mod text;

pub use curves::{Curves, Panel, Point};
pub use gallery::{Exhibit, Gallery, Image, NotPng, Strip};
pub use statistics::{Better, Mean, Score};
pub use table::{Column, Row, Table};

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its title, the window's as well.
    pub title: String,
    /// What it shows, a paragraph each.
    pub summary: Vec<String>,
    /// What has to be known of the run, name and value: model, images, draws.
    pub facts: Vec<(String, String)>,
    /// What was found.
    pub sections: Vec<Section>,
    /// Who made it: program and version.
    pub made_by: String,
}

/// A part of a page under a heading.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// What stands there, from top to bottom.
    pub blocks: Vec<Block>,
}

/// What a section holds.
#[derive(Clone, Debug)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Means of sets.
    Table(Table),
    /// Means over timesteps.
    Curves(Curves),
    /// Images.
    Gallery(Gallery),
    /// Commands, each to be copied as it stands.
    Commands(Vec<String>),
}

impl Report {
    /// The page.
    pub fn render(&self) -> String {
        page::of(self).into_string()
    }
}
