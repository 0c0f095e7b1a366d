//! The names under which the tensors of one layer's adapter are stored.

/// One stored tensor of a layer's adapter. Each family's file holds its own; what goes with any family stands here and in
/// [`decorators`](super::decorators). Names and meaning as in kohya sd-scripts `networks/` and LyCORIS 4.1 `modules/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Component {
    name: &'static str,
    described: &'static str,
    dotted: &'static [(Spelling, &'static str)],
}

/// Whose endings of dotted keys (diffusers, PEFT) are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spelling {
    /// PEFT's, which diffusers uses today.
    Peft,
    /// diffusers' own, before PEFT.
    Own,
    /// That of diffusers' attention processors.
    Processor,
}

/// The number that, over the rank, scales the change; OFT's constraint.
pub const ALPHA: Component = Component::named("alpha").dotted(&[
    (Spelling::Peft, ".alpha"),
    (Spelling::Own, ".lora.alpha"),
    (Spelling::Own, ".lora_linear_layer.alpha"),
    (Spelling::Processor, "_lora.alpha"),
]);

/// The difference of the bias, which goes with any family.
pub const BIAS_DIFFERENCE: Component = Component::named("diff_b");

impl Component {
    /// A component by its name after the first dot of a kohya key.
    pub(super) const fn named(name: &'static str) -> Self {
        Self { name, described: name, dotted: &[] }
    }

    /// The same with what errors call it.
    pub(super) const fn described(self, described: &'static str) -> Self {
        Self { described, ..self }
    }

    /// The same with the endings that it has in dotted keys.
    pub(super) const fn dotted(self, dotted: &'static [(Spelling, &'static str)]) -> Self {
        Self { dotted, ..self }
    }

    /// The name after the first dot of a kohya key.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// What errors call it.
    pub(super) fn description(self) -> &'static str {
        self.described
    }

    /// The endings that it has in dotted keys, none where diffusers and PEFT do not store it.
    pub(super) fn endings(self) -> &'static [(Spelling, &'static str)] {
        self.dotted
    }
}
