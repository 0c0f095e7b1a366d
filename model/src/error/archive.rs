//! What is wrong with the zip archive of a torch file.
#![expect(missing_docs, reason = "a variant's fields are what its message shows")]

/// Why an archive cannot be read. Names of members are escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveCause {
    #[error("its archive has no directory at its end: truncated")]
    NoDirectory,
    #[error("its archive is one of several parts")]
    Split,
    #[error("its archive has two directories")]
    TwoDirectories,
    #[error("its archive's directory is not where it should be: truncated, or something stands before it")]
    DirectoryPosition,
    #[error("its archive's Zip64 record is not where it should be")]
    Zip64Position,
    #[error("its archive claims more members than its directory holds")]
    TooManyMembers,
    #[error("its archive's directory is longer than its entries")]
    DirectoryLength,
    #[error("its archive's directory is broken")]
    Directory,
    #[error("its archive has a member whose name is not UTF-8")]
    NameNotUtf8,
    #[error("its archive has two members `{name}`")]
    MemberTwice { name: String },
    #[error("its archive's members `{}` and `{}` overlap", names[0], names[1])]
    Overlap { names: [String; 2] },
    #[error("its archive has more than one data.pkl")]
    TwoPickles,
    #[error("its archive's member `{name}` {fault}")]
    Member { name: String, fault: MemberFault },
    #[error("its record `{name}` has the checksum {found:08x}, {expected:08x} is expected")]
    Checksum { name: String, expected: u32, found: u32 },
}

/// What is wrong with a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemberFault {
    #[error("has a name that leads out of the archive")]
    LeadsOut,
    #[error("is encrypted")]
    Encrypted,
    #[error("is compressed")]
    Compressed,
    #[error("lies outside of the archive")]
    Outside,
    #[error("has another header than the directory says")]
    Header,
    #[error("has another name in its header")]
    OtherName,
}
