//! Which instruction set the kernels use: the widest of the processor at hand, or what `DRIFTLESS_SIMD` names.
//!
//! The variable governs all kernels but the few products left to the `gemm` crate, which chooses for itself.

use std::sync::OnceLock;

use pulp::Simd;

use super::{Isa, Kernel};

/// The environment variable that forces an instruction set, read once per process.
const VARIABLE: &str = "DRIFTLESS_SIMD";

macro_rules! instruction_sets {
    ($($(#[$condition:meta])* $name:literal => $variant:ident($isa:ty);)*) => {
        /// An instruction set that this processor and build have.
        #[derive(Clone, Copy, Debug)]
        pub enum InstructionSet {
            $($(#[$condition])* #[doc = $name] $variant($isa),)*
        }

        /// The instruction sets that this processor and build have, from the plainest on, with their names in [`VARIABLE`].
        pub fn available() -> Vec<(&'static str, InstructionSet)> {
            let mut all = Vec::new();
            $($(#[$condition])* all.extend(<$isa as Isa>::detect().map(|isa| ($name, InstructionSet::$variant(isa))));)*
            all
        }

        impl InstructionSet {
            /// See [`Isa::FLOAT32`].
            pub fn is_float32(self) -> bool {
                match self {
                    $($(#[$condition])* Self::$variant(_) => <$isa as Isa>::FLOAT32,)*
                }
            }
        }

        /// Runs a kernel with an instruction set.
        pub fn dispatch<K: Kernel>(set: InstructionSet, kernel: K) -> K::Output {
            match set {
                $($(#[$condition])* InstructionSet::$variant(isa) => isa.simd().vectorize(
                    #[inline(always)]
                    || kernel.run(isa),
                ),)*
            }
        }
    };
}

// From the plainest to the one that is preferred. An instruction set is its file and its line here.
instruction_sets! {
    "scalar" => Scalar(pulp::Scalar128b);
    #[cfg(target_arch = "x86_64")] "avx2" => Avx2(pulp::x86::V3);
    #[cfg(target_arch = "x86_64")] "avx512" => Avx512(pulp::x86::V4);
    #[cfg(target_arch = "aarch64")] "neon" => Neon(pulp::aarch64::Neon);
    #[cfg(test)] "tile-model" => TileModel(super::tile_model::TileModel);
}

/// The best instruction set of this processor that rounds no operands.
fn best() -> InstructionSet {
    let float32 = available().into_iter().rfind(|(_, set)| set.is_float32());
    float32.map_or(InstructionSet::Scalar(pulp::Scalar128b), |(_, set)| set)
}

/// Why [`VARIABLE`] cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is not Unicode.
    NotText,
    /// It names an instruction set that this processor and build do not have.
    Unknown {
        /// The name.
        found: String,
        /// The names of those that are there.
        available: Vec<&'static str>,
    },
}

/// The instruction set of this process, or what is wrong with the one asked for.
fn choice() -> &'static Result<InstructionSet, Refused> {
    static CHOICE: OnceLock<Result<InstructionSet, Refused>> = OnceLock::new();
    CHOICE.get_or_init(|| match std::env::var(VARIABLE) {
        Ok(name) => named(&name),
        Err(std::env::VarError::NotPresent) => Ok(best()),
        Err(std::env::VarError::NotUnicode(_)) => Err(Refused::NotText),
    })
}

/// The instruction set called `name`, if this processor has it.
fn named(name: &str) -> Result<InstructionSet, Refused> {
    let present = available();
    if let Some((_, set)) = present.iter().find(|(present, _)| *present == name) {
        return Ok(*set);
    }
    Err(Refused::Unknown { found: name.to_owned(), available: present.iter().map(|(name, _)| *name).collect() })
}

/// The instruction set that kernels use: the best one where [`VARIABLE`] cannot be followed, which [`check`] tells.
pub fn current() -> InstructionSet {
    match choice() {
        Ok(set) => *set,
        Err(_) => best(),
    }
}

/// Whether [`VARIABLE`] can be followed: if not, its name and what is wrong with it.
pub fn check() -> Result<(), (&'static str, &'static Refused)> {
    choice().as_ref().map(|_| ()).map_err(|refused| (VARIABLE, refused))
}

/// A closure as a kernel: plain loops that the compiler turns into the vectors of each instruction set.
pub struct Loops<F>(pub F);

impl<T, F: FnOnce() -> T> Kernel for Loops<F> {
    type Output = T;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> T {
        (self.0)()
    }
}

/// Evaluates a block compiled for every instruction set, on the one in use.
///
/// The block is a closure that is called inside a function with the instruction set enabled; it has to be inlined there to profit,
/// with all that it calls. A closure that can be called repeatedly is reached through a shim that the compiler shares between the
/// instruction sets instead; moving `once` out of it makes it callable once, and inlined.
macro_rules! vectorize {
    ($block:block) => {{
        struct Once;
        let once = Once;
        $crate::kernels::isa::dispatch(
            $crate::kernels::isa::current(),
            $crate::kernels::isa::Loops(
                #[inline(always)]
                || {
                    let Once = { once };
                    $block
                },
            ),
        )
    }};
}

pub(crate) use vectorize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_set_is_found_by_name_or_refused_with_the_choices() {
        for (name, set) in available() {
            assert_eq!(format!("{:?}", named(name).unwrap()), format!("{set:?}"));
        }
        let problem = named("sse9").unwrap_err();
        assert!(matches!(&problem, Refused::Unknown { found, available } if found == "sse9" && available.contains(&"scalar")));
    }
}
