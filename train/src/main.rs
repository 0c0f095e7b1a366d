//! The `train` command.
#![allow(dead_code)]
mod data;
mod options;
mod optimise;
mod seeds;
mod steps;

fn main() {}
