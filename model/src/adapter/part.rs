//! The parts that an adapter of one layer is stored in.

/// A part of one layer's adapter. Names and meaning as in kohya sd-scripts `networks/lora.py` and LyCORIS 4.1 `modules/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// `lora_down`, `lora_A`.
    Down,
    /// `lora_up`, `lora_B`.
    Up,
    /// `lora_mid`, the core of a factorized convolution.
    Mid,
    /// The number that, over the rank, scales the change.
    Alpha,
    /// LoHa: left factor of the first product.
    HadamardW1A,
    /// LoHa: right factor of the first product.
    HadamardW1B,
    /// LoHa: left factor of the second product.
    HadamardW2A,
    /// LoHa: right factor of the second product.
    HadamardW2B,
    /// LoHa: core of the first product.
    HadamardT1,
    /// LoHa: core of the second product.
    HadamardT2,
    /// LoKr: the outer factor.
    KroneckerW1,
    /// LoKr: left factor of the outer factor.
    KroneckerW1A,
    /// LoKr: right factor of the outer factor.
    KroneckerW1B,
    /// LoKr: the inner factor.
    KroneckerW2,
    /// LoKr: left factor of the inner factor.
    KroneckerW2A,
    /// LoKr: right factor of the inner factor.
    KroneckerW2B,
    /// LoKr: core of the inner factor.
    KroneckerT2,
    /// The difference of the weight itself.
    Difference,
    /// The difference of the bias.
    BiasDifference,
    /// DoRA's magnitudes.
    Magnitude,
    /// IA3: the vector that scales inputs or outputs.
    ScaleVector,
    /// IA3: whether it scales inputs.
    OnInput,
}

/// Every part with its name after the first dot of a kohya key.
const NAMES: [(Part, &str); 22] = [
    (Part::Down, "lora_down.weight"),
    (Part::Up, "lora_up.weight"),
    (Part::Mid, "lora_mid.weight"),
    (Part::Alpha, "alpha"),
    (Part::HadamardW1A, "hada_w1_a"),
    (Part::HadamardW1B, "hada_w1_b"),
    (Part::HadamardW2A, "hada_w2_a"),
    (Part::HadamardW2B, "hada_w2_b"),
    (Part::HadamardT1, "hada_t1"),
    (Part::HadamardT2, "hada_t2"),
    (Part::KroneckerW1, "lokr_w1"),
    (Part::KroneckerW1A, "lokr_w1_a"),
    (Part::KroneckerW1B, "lokr_w1_b"),
    (Part::KroneckerW2, "lokr_w2"),
    (Part::KroneckerW2A, "lokr_w2_a"),
    (Part::KroneckerW2B, "lokr_w2_b"),
    (Part::KroneckerT2, "lokr_t2"),
    (Part::Difference, "diff"),
    (Part::BiasDifference, "diff_b"),
    (Part::Magnitude, "dora_scale"),
    (Part::ScaleVector, "weight"),
    (Part::OnInput, "on_input"),
];

impl Part {
    /// The name after the first dot of a kohya key.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(part, _)| *part == self).map_or("", |(_, name)| name)
    }

    /// The part of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, other)| *other == name).map(|(part, _)| *part)
    }
}
