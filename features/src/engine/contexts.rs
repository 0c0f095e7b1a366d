//! Prompts as the UNet takes them. What is the same for all images is encoded once per model, with its keys and values; prompts by folder
//! are kept while they are among the last used; a prompt of one image's own lives as long as its batch.

use std::rc::Rc;

use candle_core::Tensor;
use driftless::Result;
use driftless::pipeline::Pipeline;
use driftless::unet::TextContext;

use crate::inputs::Prompt;
use crate::timings::{Stage, Timings};

/// Prompts kept beside one for each pass: each holds some megabytes of keys and values, and folders can be many.
const ROOM: usize = 16;

/// Prompts that were encoded already.
pub struct Contexts {
    /// By adapter combination and text: adapters change the text encoder and the UNet's keys and values. The last used at the end.
    shared: Vec<((usize, String), Rc<TextContext>)>,
    /// Prompts kept at most.
    room: usize,
}

/// Images that go through the UNet together, as a range of the batch, with their prompts.
pub struct Group {
    /// First image.
    pub start: usize,
    /// Number of images.
    pub len: usize,
    /// Their prompts, batch 1 or `len`.
    pub context: Rc<TextContext>,
}

impl Contexts {
    /// None yet.
    pub fn new(passes: usize) -> Self {
        Self { shared: Vec::new(), room: passes + ROOM }
    }

    /// The prompts of a batch. They are one group unless images have prompts of different lengths, which the UNet cannot take together.
    ///
    /// # Errors
    /// When a prompt cannot be encoded.
    pub fn groups(&mut self, pipeline: &Pipeline, adapters: usize, prompts: &[Prompt], timings: &Timings) -> Result<Vec<Group>> {
        if let [first, others @ ..] = prompts
            && first.shared
            && others.iter().all(|prompt| prompt == first)
        {
            let context = self.shared(pipeline, adapters, &first.text, timings)?;
            return Ok(vec![Group { start: 0, len: prompts.len(), context }]);
        }
        let states = prompts.iter().map(|prompt| match prompt.shared {
            true => Ok(self.shared(pipeline, adapters, &prompt.text, timings)?.states().clone()),
            false => timings.measure(Stage::EncodeText, || pipeline.encode_prompt(&prompt.text)),
        });
        let states = states.collect::<Result<Vec<_>>>()?;
        let tokens = states.iter().map(|states| Ok(states.dim(1)?)).collect::<Result<Vec<usize>>>()?;
        if tokens.windows(2).all(|pair| pair[0] == pair[1]) {
            let context = Rc::new(TextContext::new(Tensor::cat(&states, 0)?));
            return Ok(vec![Group { start: 0, len: prompts.len(), context }]);
        }
        let single = |(start, states)| Group { start, len: 1, context: Rc::new(TextContext::new(states)) };
        Ok(states.into_iter().enumerate().map(single).collect())
    }

    fn shared(&mut self, pipeline: &Pipeline, adapters: usize, text: &str, timings: &Timings) -> Result<Rc<TextContext>> {
        let found = self.shared.iter().position(|((combination, known), _)| *combination == adapters && known == text);
        let entry = match found {
            Some(place) => self.shared.remove(place),
            None => {
                let states = timings.measure(Stage::EncodeText, || pipeline.encode_prompt(text))?;
                ((adapters, text.to_owned()), Rc::new(TextContext::new(states)))
            }
        };
        let context = entry.1.clone();
        self.shared.push(entry);
        let surplus = self.shared.len().saturating_sub(self.room);
        self.shared.drain(..surplus);
        Ok(context)
    }
}
