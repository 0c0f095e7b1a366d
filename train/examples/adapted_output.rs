//! What the UNet answers with an adapter file on it, for tests/reference/train_files.py to compare with other loaders:
//!
//! ```text
//! cargo run --release -p train --example adapted_output -- MODEL_FOLDER ADAPTER INPUTS OUTPUT
//! ```
//!
//! `INPUTS` is a safetensors file with `sample` `[b, 4, h, w]` and `ids` `[b, 77]` (as float32); `OUTPUT` receives `states` (the text
//! encoder's, with the adapter) and `prediction` at timestep 261.

use candle_core::{DType, Device};
use driftless::error::ArgumentCause;
use driftless::formats::{WeightFile, write_safetensors};
use driftless::pipeline::{ModelOptions, Pipeline};
use driftless::unet::{TextContext, UnetInput};
use std::collections::BTreeMap;
use std::path::Path;

fn main() -> driftless::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, adapter, inputs, output] = &arguments[..] else {
        return Err(driftless::Error::argument("MODEL_FOLDER ADAPTER INPUTS OUTPUT", ArgumentCause::Missing));
    };
    let pipeline = Pipeline::load(Path::new(model), &ModelOptions::default())?;
    pipeline.attach_adapter(Path::new(adapter), 1.0)?;
    let inputs = WeightFile::open(inputs)?;
    let sample = inputs.tensor("sample", &Device::Cpu)?;
    let ids: Vec<Vec<f32>> = inputs.tensor("ids", &Device::Cpu)?.to_dtype(DType::F32)?.to_vec2()?;
    let ids: Vec<Vec<u32>> = ids.into_iter().map(|row| row.into_iter().map(|id| id as u32).collect()).collect();
    let states = pipeline.text_encoder.forward(&ids, 1)?;
    let context = TextContext::uncached(states.clone());
    let input = UnetInput { sample: &sample, timesteps: &[261.0], context: &context, residuals: None };
    let prediction = pipeline.unet.forward(&input)?;
    let tensors = [("states".to_owned(), states), ("prediction".to_owned(), prediction)];
    write_safetensors(output, tensors, &BTreeMap::new())
}
