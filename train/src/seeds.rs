//! One seed for the run, and a generator of its own for each purpose, so that what is drawn for one changes nothing for another.
//!
//! Noise draws from `manual_seed(seed)` itself: `torch.manual_seed(seed)` gives a reference trainer the same noise.

use driftless::rng::Generator;

/// What a generator is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Noise, timesteps, and latents that are not cached; one stream over the whole run.
    Noise,
    /// First values of the adapter.
    Adapter,
    /// The order of an epoch.
    Order,
    /// Captions, mirroring and cropping of a sample.
    Augmentation,
    /// The sample from the VAE's posterior of a cached image.
    Latent,
    /// Sample images whose prompt names no seed.
    Sample,
    /// Which images are held back for validation.
    Validation,
    /// First values of what an objective learns beside the adapter.
    Alignment,
}

/// The generator for `purpose`; `index` tells apart epochs, samples or images.
pub fn generator(seed: u64, purpose: Purpose, index: u64) -> Generator {
    if purpose == Purpose::Noise && index == 0 {
        return Generator::manual_seed(seed);
    }
    Generator::manual_seed(mix(mix(seed ^ mix(purpose as u64 + 1)).wrapping_add(index)))
}

/// A bijection that scatters neighboring numbers (SplitMix64's finalizer).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_indices_draw_different_numbers() {
        let mut first: Vec<u32> = Vec::new();
        for purpose in [
            Purpose::Noise,
            Purpose::Adapter,
            Purpose::Order,
            Purpose::Augmentation,
            Purpose::Latent,
            Purpose::Sample,
            Purpose::Validation,
            Purpose::Alignment,
        ] {
            for index in 0..20 {
                for seed in [0, 1] {
                    first.push(generator(seed, purpose, index).random());
                }
            }
        }
        let count = first.len();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), count);
    }

    #[test]
    fn noise_is_that_of_the_seed_itself() {
        assert_eq!(generator(42, Purpose::Noise, 0), Generator::manual_seed(42));
    }
}
