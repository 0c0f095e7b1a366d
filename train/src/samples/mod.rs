//! Sample images during training.
//!
//! | file | what lives there |
//! | --- | --- |
//! | [`prompts`] | the prompt file |
//! | [`draw`] | from a prompt to an image |

pub mod draw;
pub mod prompts;

/// The sampler that stands in for one of kohya's that this program does not have: one with fresh noise at every step for another.
pub fn substitute(name: &str) -> Option<&'static str> {
    match name.strip_prefix("k_").unwrap_or(name) {
        "lms" | "heun" | "dpm_2" | "dpmsolver" | "dpmsolver++" | "dpmsingle" => Some("euler"),
        "dpm_2_a" => Some("euler_a"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use driftless::scheduler::SAMPLERS;

    /// Every `--sample_sampler` of sd-scripts 48d368f.
    #[test]
    fn every_sampler_of_kohya_draws() {
        let kohya = "ddim pndm lms euler euler_a heun dpm_2 dpm_2_a dpmsolver dpmsolver++ dpmsingle k_lms k_euler k_euler_a k_dpm_2 k_dpm_2_a";
        for name in kohya.split(' ') {
            assert!(SAMPLERS.contains(&super::substitute(name).unwrap_or(name)), "{name}");
        }
        assert!(SAMPLERS.iter().all(|name| super::substitute(name).is_none()));
        assert_eq!(super::substitute("dmp"), None);
    }
}
