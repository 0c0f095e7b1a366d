//! Prompts to states: the original extractor's short and long path.

use candle_core::Tensor;

use super::{Pipeline, finite};
use crate::Result;

impl Pipeline {
    /// The states of a prompt as the original extractor makes them: up to 70 pieces of text padded or cut to 77 tokens, longer
    /// text in unpadded pieces of 77 tokens that are encoded apart and joined.
    ///
    /// # Shapes
    /// Returns `[1, n, hidden_size]`, `n` = 77 on the short path.
    /// # Errors
    /// When the tokenizer and the text encoder do not belong together, or the states are not finite.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Tensor> {
        if !self.tokenizer.is_long_prompt(prompt) {
            return self.encode_short_prompt(prompt);
        }
        let pieces = self.tokenizer.chunks_original(prompt)?;
        let states = pieces.into_iter().map(|ids| self.text_encoder.forward(&[ids], 1)).collect::<Result<Vec<_>>>()?;
        finite("the prompt's states", Tensor::cat(&states, 1)?)
    }

    /// The states of a prompt cut or padded to the tokenizer's length, as diffusers' pipelines encode every prompt.
    ///
    /// # Errors
    /// As [`Pipeline::encode_prompt`].
    pub fn encode_short_prompt(&self, prompt: &str) -> Result<Tensor> {
        finite("the prompt's states", self.text_encoder.forward(&[self.tokenizer.encode_prompt(prompt)?], 1)?)
    }
}
