//! Which vector instructions the kernels use: the widest of the processor at hand, or what `DRIFTLESS_SIMD` names.
//!
//! The variable governs everything in `kernels` that is compiled per instruction set; the few products left to the `gemm` crate
//! choose for themselves.

pub mod exponential;
pub mod lanes;

use std::sync::OnceLock;

use pulp::Arch;

/// The environment variable that forces an instruction set, read once per process.
const VARIABLE: &str = "DRIFTLESS_SIMD";

/// The instruction set of this process, or what is wrong with the one asked for.
fn choice() -> &'static Result<Arch, String> {
    static CHOICE: OnceLock<Result<Arch, String>> = OnceLock::new();
    CHOICE.get_or_init(|| match std::env::var(VARIABLE) {
        Ok(name) => named(&name),
        Err(std::env::VarError::NotPresent) => Ok(Arch::new()),
        Err(std::env::VarError::NotUnicode(_)) => Err("is not text".to_owned()),
    })
}

/// The instruction set called `name`, if this processor has it.
fn named(name: &str) -> Result<Arch, String> {
    let present = available();
    if let Some((_, arch)) = present.iter().find(|(present, _)| *present == name) {
        return Ok(*arch);
    }
    let names: Vec<_> = present.iter().map(|(name, _)| *name).collect();
    Err(format!("is \"{name}\", but this processor and build have {}", names.join(", ")))
}

/// The instruction sets that this processor and build have, from the plainest on, with their names in [`VARIABLE`].
pub fn available() -> Vec<(&'static str, Arch)> {
    let mut all = vec![("scalar", Arch::Scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        all.extend(pulp::x86::V3::try_new().map(|simd| ("avx2", Arch::V3(simd))));
        all.extend(pulp::x86::V4::try_new().map(|simd| ("avx512", Arch::V4(simd))));
    }
    #[cfg(target_arch = "aarch64")]
    all.extend(pulp::aarch64::Neon::try_new().map(|simd| ("neon", Arch::Neon(simd))));
    all
}

/// The instruction set that kernels use: the best one where [`VARIABLE`] cannot be followed, which [`check`] tells.
pub fn arch() -> Arch {
    match choice() {
        Ok(arch) => *arch,
        Err(_) => Arch::new(),
    }
}

/// Whether [`VARIABLE`] can be followed: if not, its name and what is wrong with it.
pub fn check() -> Result<(), (&'static str, &'static str)> {
    choice().as_ref().map(|_| ()).map_err(|problem| (VARIABLE, problem.as_str()))
}

/// Evaluates a block compiled for every instruction set that `pulp` knows, on the one in use.
///
/// The block is a closure that `pulp` calls inside a function with the instruction set enabled; it has to be inlined there to
/// profit, with all that it calls. A closure that can be called repeatedly is reached through a shim that the compiler shares
/// between the instruction sets instead; moving `once` out of it makes it callable once, and inlined.
macro_rules! vectorize {
    ($block:block) => {{
        struct Once;
        let once = Once;
        $crate::kernels::isa::arch().dispatch(
            #[inline(always)]
            || {
                let Once = { once };
                $block
            },
        )
    }};
}

pub(crate) use vectorize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_set_is_found_by_name_or_refused_with_the_choices() {
        for (name, arch) in available() {
            assert_eq!(format!("{:?}", named(name).unwrap()), format!("{arch:?}"));
        }
        let problem = named("sse9").unwrap_err();
        assert!(problem.contains("sse9") && problem.contains("scalar"), "{problem}");
    }
}
