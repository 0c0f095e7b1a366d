//! A generator's state as bytes, in the layout of `torch.get_rng_state()` (`CPUGeneratorImplState` of PyTorch 2.x, little endian):
//! a state saved here continues in PyTorch and the other way round.
//!
//! Deliberate difference: a state whose counters no sequence of draws can reach is refused; PyTorch accepts some of them.

use super::Generator;
use super::mt19937::{Mt19937, STATE_WORDS};
use crate::error::{Error, RandomStateCause, Result};

/// Bytes of a saved state.
const STATE_BYTES: usize = 5056;
const SEED: usize = 0;
const LEFT: usize = 8;
const SEEDED: usize = 12;
const NEXT: usize = 16;
const WORDS: usize = 24;
const NORMAL: usize = WORDS + 8 * STATE_WORDS + 8;
const NORMAL_IS_VALID: usize = NORMAL + 16;

impl Generator {
    /// The whole state, the spare normal included: 5056 bytes, equal to `torch.get_rng_state()` for the same history.
    pub fn state(&self) -> Vec<u8> {
        let mut bytes = vec![0; STATE_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(SEED, &self.seed.to_le_bytes());
        put(LEFT, &(self.engine.left as u32).to_le_bytes());
        put(SEEDED, &1_u32.to_le_bytes());
        put(NEXT, &(self.engine.next as u64).to_le_bytes());
        for (i, &word) in self.engine.words.iter().enumerate() {
            put(WORDS + 8 * i, &u64::from(word).to_le_bytes());
        }
        if let Some(normal) = self.spare_normal {
            put(NORMAL, &normal.to_le_bytes());
            put(NORMAL_IS_VALID, &1_u32.to_le_bytes());
        }
        bytes
    }

    /// The generator that continues exactly where [`Generator::state`] (or `torch.get_rng_state()`) was taken.
    ///
    /// # Errors
    /// [`Error::Argument`] when the bytes are not such a state.
    pub fn from_state(bytes: &[u8]) -> Result<Self> {
        let refuse = |cause: RandomStateCause| Error::argument("random state", cause);
        if bytes.len() != STATE_BYTES {
            return Err(refuse(RandomStateCause::Length { expected: STATE_BYTES, found: bytes.len() }));
        }
        if read_u32(bytes, SEEDED) != 1 {
            return Err(refuse(RandomStateCause::NotSeeded));
        }
        let mut words = [0; STATE_WORDS];
        for (i, word) in words.iter_mut().enumerate() {
            *word = u32::try_from(read_u64(bytes, WORDS + 8 * i)).map_err(|_| refuse(RandomStateCause::Word))?;
        }
        let left = read_u32(bytes, LEFT) as usize;
        let next = usize::try_from(read_u64(bytes, NEXT)).map_err(|_| refuse(RandomStateCause::Position))?;
        let engine = Mt19937::from_parts(words, left, next).ok_or_else(|| refuse(RandomStateCause::Position))?;
        let spare_normal = match read_u32(bytes, NORMAL_IS_VALID) {
            0 => None,
            1 => Some(f64::from_bits(read_u64(bytes, NORMAL))),
            _ => return Err(refuse(RandomStateCause::SpareNormal)),
        };
        Ok(Self { engine, seed: read_u64(bytes, SEED), spare_normal })
    }
}

/// The little-endian number at `at`; callers pass constant offsets into a state of checked length.
fn read_u64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |value, &byte| (value << 8) | u64::from(byte))
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, &byte| (value << 8) | u32::from(byte))
}
