//! The Mersenne Twister MT19937, the engine behind PyTorch's CPU generator.
//!
//! Source: M. Matsumoto, T. Nishimura, "Mersenne Twister: a 623-dimensionally equidistributed uniform pseudo-random number
//! generator", ACM TOMACS 8 (1998), with the 2002 initialization; `at::mt19937` of PyTorch 2.x, whose bookkeeping (`left`,
//! `next`) is kept so that a saved state has PyTorch's own layout.

/// Words of state.
pub(super) const STATE_WORDS: usize = 624;
/// Distance of the word that is mixed in.
const SHIFT: usize = 397;
const MATRIX: u32 = 0x9908_b0df;
const UPPER_BIT: u32 = 0x8000_0000;
const LOWER_BITS: u32 = 0x7fff_ffff;

/// The engine's state. `next` is the index of the next word to hand out, `left - 1` words are left before a new round.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Mt19937 {
    pub(super) words: [u32; STATE_WORDS],
    pub(super) left: usize,
    pub(super) next: usize,
}

impl Mt19937 {
    /// The engine after `init_genrand(seed)`.
    pub(super) fn new(seed: u32) -> Self {
        let mut words = [0; STATE_WORDS];
        words[0] = seed;
        for i in 1..STATE_WORDS {
            let previous = words[i - 1];
            words[i] = 1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        // One word "left" and none handed out: the first draw starts a round.
        Self { words, left: 1, next: 0 }
    }

    /// The engine with a given state, or `None` where no sequence of draws leads to these counters.
    pub(super) fn from_parts(words: [u32; STATE_WORDS], left: usize, next: usize) -> Option<Self> {
        let fresh = left == 1 && next == 0;
        let in_a_round = (1..=STATE_WORDS).contains(&left) && left.checked_add(next) == Some(STATE_WORDS + 1);
        (fresh || in_a_round).then_some(Self { words, left, next })
    }

    /// The next 32 random bits.
    pub(super) fn next_u32(&mut self) -> u32 {
        self.left -= 1;
        if self.left == 0 {
            self.new_round();
        }
        let mut y = self.words[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn new_round(&mut self) {
        for i in 0..STATE_WORDS {
            let following = self.words[(i + 1) % STATE_WORDS];
            let mixed = (self.words[i] & UPPER_BIT) | (following & LOWER_BITS);
            let twist = if following & 1 == 1 { MATRIX } else { 0 };
            self.words[i] = self.words[(i + SHIFT) % STATE_WORDS] ^ (mixed >> 1) ^ twist;
        }
        self.left = STATE_WORDS;
        self.next = 0;
    }
}
