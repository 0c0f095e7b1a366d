//! The names that a torch file may mention. A global is a name and nothing else; what is not in this table is refused.

use safetensors::Dtype;

/// What a known name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`: storage, offset, size, stride, requires_grad, hooks.
    RebuildTensorV2,
    /// `torch._utils._rebuild_tensor`: storage, offset, size, stride.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`: tensor, requires_grad, hooks.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: function, class, arguments, state.
    RebuildFromType,
    /// `torch.Tensor` or `torch.nn.parameter.Parameter`.
    TensorClass,
    /// `torch.FloatStorage` and its kin: an element type, inside a persistent id.
    Storage(Dtype),
    /// `torch.Size`: a tuple.
    Size,
    /// `torch.device`, `torch.float32` and other plain values.
    Plain,
    /// Allowed beside weights, never built.
    Opaque,
}

/// What the name stands for; `None` for every name that is not known.
pub(super) fn lookup(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensorV2,
        ("torch._utils", "_rebuild_tensor") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        ("torch", "Tensor") | ("torch.nn.parameter", "Parameter") => Global::TensorClass,
        ("torch", "Size") => Global::Size,
        ("torch", _) => return storage(name).map(Global::Storage).or_else(|| plain(name)),
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar")
        | ("numpy.core.multiarray", "_reconstruct")
        | ("numpy", "dtype" | "ndarray")
        | ("_codecs", "encode")
        | ("builtins" | "__builtin__", "set")
        | ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
        | ("torch.nn.modules.container", "ParameterDict") => Global::Opaque,
        _ => return None,
    })
}

/// Element types of storages.
fn storage(name: &str) -> Option<Dtype> {
    Some(match name {
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "ByteStorage" => Dtype::U8,
        "CharStorage" => Dtype::I8,
        "ShortStorage" => Dtype::I16,
        "IntStorage" => Dtype::I32,
        "LongStorage" => Dtype::I64,
        "BoolStorage" => Dtype::BOOL,
        _ => return None,
    })
}

/// `torch.device` and the names of element types.
fn plain(name: &str) -> Option<Global> {
    const NAMES: [&str; 20] = [
        "device",
        "float32",
        "float",
        "float64",
        "double",
        "float16",
        "half",
        "bfloat16",
        "uint8",
        "int8",
        "int16",
        "short",
        "int32",
        "int",
        "int64",
        "long",
        "bool",
        "complex64",
        "complex128",
        "cfloat",
    ];
    NAMES.contains(&name).then_some(Global::Plain)
}
