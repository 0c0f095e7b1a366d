//! What is wrong with the pickles of a torch file, and with the storages behind them.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

use safetensors::Dtype;

/// Why a torch file's pickles cannot be read. Objects are named by their kind, `a list` for instance; names are escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PickleCause {
    #[error("its pickle ends at byte {end} where {expected} more bytes were expected at byte {position}")]
    Short { position: u64, expected: u64, end: u64 },
    #[error("its pickle has a name of more than {most} bytes")]
    LongName { most: usize },
    #[error("its pickle has more than {most} instructions")]
    TooManyInstructions { most: u32 },
    #[error("its pickle has protocol {found}, which is not known")]
    Protocol { found: u8 },
    #[error("its pickle has the instruction 0x{found:02x} at byte {position}, which torch does not write")]
    Instruction { found: u8, position: u64 },
    #[error("its pickle names a global by something that is no text")]
    GlobalName,
    #[error("asks for `{name}`, which no weight needs")]
    Global { name: String },
    #[error("its pickle has a whole number of {bytes} bytes; at most 16 are read")]
    LongNumber { bytes: u8 },
    #[error("its pickle has more than {most} bytes of text")]
    TooMuchText { most: u64 },
    #[error("its pickle appends to {found}")]
    AppendsTo { found: &'static str },
    #[error("its pickle puts a key without a value into a dictionary")]
    KeyWithoutValue,
    #[error("its pickle puts entries into {found}")]
    SetsItemsOf { found: &'static str },
    #[error("its pickle refers to object {index}, which it has not made")]
    UnknownObject { index: u32 },
    #[error("its pickle gives attributes to {found}")]
    Builds { found: &'static str },
    #[error("its pickle calls {found}")]
    Calls { found: &'static str },
    #[error("its pickle copies too many objects")]
    TooManyCopies,
    #[error("its pickle takes an object where none is")]
    EmptyStack,
    #[error("its pickle closes a group that was not opened")]
    NoMark,

    #[error("its pickle has a call with {found} arguments")]
    ArgumentCount { found: usize },
    #[error("its pickle has a call whose arguments are {found}")]
    Arguments { found: &'static str },
    #[error("its pickle has a dictionary that is made of something else than pairs")]
    NotPairs,
    #[error("its pickle has a tensor of a class that is not known")]
    TensorClass,
    #[error("its pickle has a parameter made of {found}")]
    Parameter { found: &'static str },
    #[error("its pickle has a call that torch does not write")]
    UnknownCall,
    #[error("its pickle has a tensor made of {found}")]
    TensorOf { found: &'static str },
    #[error("its pickle has a tensor with {sizes} sizes and {strides} strides")]
    Strides { sizes: usize, strides: usize },
    #[error("its pickle has a tensor of shape {shape:?} and strides {strides:?} outside of its {elements} elements")]
    OutsideStorage { shape: Vec<u64>, strides: Vec<u64>, elements: u64 },
    #[error("its pickle has a tensor with {found} dimensions")]
    Dimensions { found: usize },
    #[error("its pickle has a tensor whose sizes are {found}")]
    Sizes { found: &'static str },
    #[error("its pickle has the negative size {found}")]
    NegativeSize { found: i64 },
    #[error("its pickle has {found} in place of a size")]
    Size { found: &'static str },
    #[error("its pickle has a reference to something that is no storage")]
    NoStorage,
    #[error("its pickle has the storage `{key}` with two types or sizes")]
    StorageTwice { key: String },

    #[error("its state_dict contains itself")]
    ContainsItself,
    #[error("holds {found}; a dictionary of tensors (a state_dict) is expected")]
    NoStateDict { found: &'static str },
    #[error("nests deeper than {most} levels, or contains itself (under the key `{key}`)")]
    TooDeep { most: usize, key: String },
    #[error("names more than {most} entries, which is more than its size explains")]
    TooManyEntries { most: u64 },
    #[error("names its entries in more than {most} bytes, which is more than its size explains")]
    LongNames { most: u64 },

    #[error("its magic number is not torch's")]
    Magic,
    #[error("its protocol is not torch's 1001")]
    LegacyProtocol,
    #[error("its third pickle is no dictionary")]
    NoFacts,
    #[error("does not say its byte order")]
    NoByteOrder,
    #[error("its list of storages is no list")]
    NoStorageList,
    #[error("its list of storages has something else than texts")]
    StorageKey,
    #[error("it holds the storage `{key}`, to which nothing refers")]
    UnusedStorage { key: String },
    #[error("its storage `{key}` has {found} elements, its pickle claims {claimed}")]
    StorageLength { key: String, found: u64, claimed: u64 },
    #[error("its storage `{key}` ends behind the end of the file: truncated")]
    StorageEnd { key: String },
    #[error("it lists the storage `{key}` twice")]
    ListedTwice { key: String },
    #[error("its storage `{key}` is missing: truncated")]
    StorageMissing { key: String },
    #[error("its pickle refers to the record `{record}`, which is not in the archive")]
    RecordMissing { record: String },
    #[error("its record `{record}` has {found} bytes, its pickle claims {elements} elements of {dtype:?}")]
    RecordLength { record: String, found: u64, elements: u64, dtype: Dtype },
}
