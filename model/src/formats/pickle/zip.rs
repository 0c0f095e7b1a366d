//! The directory of a zip archive whose members are stored as they are.
//!
//! Own code beside the `zip` crate, because an archive from a stranger must have no two members of one name and no two that
//! overlap (the crate keeps the last of two names and does not compare positions), and because members are read by position from
//! many threads. Format: PKWARE APPNOTE 6.3.10, with Zip64.

use super::super::positioned::PositionedFile;
use super::super::shown::shown;
use super::damaged;
use crate::error::{ArchiveCause, Error, MemberFault, Result};
use std::collections::BTreeMap;

/// A member's bytes in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) crc: u32,
}

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DIRECTORY_ENTRY: u32 = 0x0201_4b50;
const DIRECTORY_END: u32 = 0x0605_4b50;
const ZIP64_END: u32 = 0x0606_4b50;
const ZIP64_LOCATOR: u32 = 0x0706_4b50;
/// The directory's end without its comment.
const DIRECTORY_END_LEN: u64 = 22;

/// Reads little-endian fields one after the other; zeros once the bytes have ended, which callers check first.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let bytes = self.0.first_chunk::<N>().copied().unwrap_or([0; N]);
        self.0 = self.0.get(N..).unwrap_or_default();
        bytes
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

/// Where the directory is.
struct Directory {
    start: u64,
    len: u64,
    entries: u64,
}

/// Reads and checks the directory: all members by name.
pub(super) fn members(file: &PositionedFile) -> Result<BTreeMap<String, Member>> {
    let directory = find_directory(file)?;
    let bytes = file.read(directory.start, directory.len)?;
    let mut rest = bytes.as_slice();
    let mut members = BTreeMap::new();
    let mut spans = Vec::new();
    for _ in 0..directory.entries {
        let entry = Entry::parse(file, &mut rest)?;
        entry.check(file)?;
        let member = entry.locate(file, directory.start)?;
        spans.push((entry.local_header, member.start + member.len, entry.name.clone()));
        if members.insert(entry.name.clone(), member).is_some() {
            return Err(damaged(file, ArchiveCause::MemberTwice { name: shown(&entry.name) }));
        }
    }
    if !rest.is_empty() {
        return Err(damaged(file, ArchiveCause::DirectoryLength));
    }
    spans.sort_unstable();
    if let Some(pair) = spans.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        return Err(damaged(file, ArchiveCause::Overlap { names: [shown(&pair[0].2), shown(&pair[1].2)] }));
    }
    Ok(members)
}

/// Finds the directory by the record at the file's end, which may be followed by a comment.
fn find_directory(file: &PositionedFile) -> Result<Directory> {
    let tail_len = file.len().min(DIRECTORY_END_LEN + u64::from(u16::MAX));
    let tail_start = file.len() - tail_len;
    let tail = file.read(tail_start, tail_len)?;
    let truncated = || damaged(file, ArchiveCause::NoDirectory);
    let fits = |at: &usize| {
        let mut fields = Fields(&tail[*at..]);
        let is_end = fields.u32() == DIRECTORY_END;
        is_end && u64::from(Fields(&tail[*at + 20..]).u16()) + DIRECTORY_END_LEN == tail_len - *at as u64
    };
    let last = tail.len().checked_sub(DIRECTORY_END_LEN as usize).ok_or_else(truncated)?;
    let at = (0..=last).rev().find(fits).ok_or_else(truncated)?;
    let end_position = tail_start + at as u64;
    let mut fields = Fields(&tail[at + 4..]);
    let (disk, directory_disk) = (fields.u16(), fields.u16());
    let (_, entries, len, start) = (fields.u16(), fields.u16(), fields.u32(), fields.u32());
    if disk != 0 && disk != u16::MAX || directory_disk != 0 && directory_disk != u16::MAX {
        return Err(damaged(file, ArchiveCause::Split));
    }
    // torch writes the Zip64 record always; where the narrow fields say something as well, they must say the same.
    let (directory, end_position) = match find_zip64(file, end_position)? {
        Some((wide, position)) => {
            let agree = (entries == u16::MAX || u64::from(entries) == wide.entries)
                && (len == u32::MAX || u64::from(len) == wide.len)
                && (start == u32::MAX || u64::from(start) == wide.start);
            if !agree {
                return Err(damaged(file, ArchiveCause::TwoDirectories));
            }
            (wide, position)
        }
        None => (Directory { start: start.into(), len: len.into(), entries: entries.into() }, end_position),
    };
    if directory.start.checked_add(directory.len) != Some(end_position) {
        return Err(damaged(file, ArchiveCause::DirectoryPosition));
    }
    // An entry has at least 46 bytes.
    if directory.entries > directory.len / 46 {
        return Err(damaged(file, ArchiveCause::TooManyMembers));
    }
    Ok(directory)
}

/// The directory as a Zip64 record says, and that record's position; `None` where there is none before `end_position`.
fn find_zip64(file: &PositionedFile, end_position: u64) -> Result<Option<(Directory, u64)>> {
    let Some(locator_position) = end_position.checked_sub(20) else { return Ok(None) };
    let locator = file.read(locator_position, 20)?;
    let mut fields = Fields(&locator);
    if fields.u32() != ZIP64_LOCATOR {
        return Ok(None);
    }
    let (_, position) = (fields.u32(), fields.u64());
    let record = file.read(position, 56)?;
    let mut fields = Fields(&record);
    if fields.u32() != ZIP64_END {
        return Err(damaged(file, ArchiveCause::Zip64Position));
    }
    let (_, _, _, _, _) = (fields.u64(), fields.u16(), fields.u16(), fields.u32(), fields.u32());
    let (_, entries, len, start) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
    Ok(Some((Directory { start, len, entries }, position)))
}

/// A directory entry.
struct Entry {
    name: String,
    flags: u16,
    method: u16,
    crc: u32,
    compressed: u64,
    len: u64,
    local_header: u64,
}

impl Entry {
    /// Takes an entry from the front of `rest`.
    fn parse(file: &PositionedFile, rest: &mut &[u8]) -> Result<Self> {
        let broken = || damaged(file, ArchiveCause::Directory);
        if rest.len() < 46 {
            return Err(broken());
        }
        let mut fields = Fields(rest);
        if fields.u32() != DIRECTORY_ENTRY {
            return Err(broken());
        }
        let (_, _, flags, method, _) = (fields.u16(), fields.u16(), fields.u16(), fields.u16(), fields.u32());
        let (crc, compressed, len) = (fields.u32(), fields.u32(), fields.u32());
        let (name_len, extra_len, comment_len) = (fields.u16() as usize, fields.u16() as usize, fields.u16() as usize);
        let (_, _, _, local_header) = (fields.u16(), fields.u16(), fields.u32(), fields.u32());
        let after = fields.0;
        let (Some(name), Some(extra), Some(next)) =
            (after.get(..name_len), after.get(name_len..name_len + extra_len), after.get(name_len + extra_len + comment_len..))
        else {
            return Err(broken());
        };
        let name = std::str::from_utf8(name).map_err(|_| damaged(file, ArchiveCause::NameNotUtf8))?;
        *rest = next;
        let mut entry = Self {
            name: name.to_owned(),
            flags,
            method,
            crc,
            compressed: compressed.into(),
            len: len.into(),
            local_header: local_header.into(),
        };
        entry.widen(extra, [len, compressed, local_header]).ok_or_else(broken)?;
        Ok(entry)
    }

    /// Replaces fields that are all ones by those of the Zip64 extra field, which holds just these, in this order.
    fn widen(&mut self, extra: &[u8], narrow: [u32; 3]) -> Option<()> {
        if narrow.iter().all(|field| *field != u32::MAX) {
            return Some(());
        }
        let mut fields = Fields(extra);
        while fields.0.len() >= 4 {
            let (id, len) = (fields.u16(), usize::from(fields.u16()));
            let body = fields.0.get(..len)?;
            if id == 1 {
                let mut wide = Fields(body);
                for (narrow, field) in narrow.into_iter().zip([&mut self.len, &mut self.compressed, &mut self.local_header]) {
                    if narrow == u32::MAX {
                        *field = (wide.0.len() >= 8).then(|| wide.u64())?;
                    }
                }
                return Some(());
            }
            fields.0 = &fields.0[len..];
        }
        None
    }

    /// Refuses members that torch does not write.
    fn check(&self, file: &PositionedFile) -> Result<()> {
        let refuse = |fault: MemberFault| -> Result<()> {
            let cause = ArchiveCause::Member { name: shown(&self.name), fault };
            Err(Error::file(file.path(), cause, "torch writes no such files; write it again with torch.save"))
        };
        let outside =
            self.name.starts_with(['/', '\\']) || self.name.contains('\\') || self.name.split('/').any(|part| part == "..");
        let drive = self.name.as_bytes().get(1) == Some(&b':');
        if outside || drive || self.name.contains('\0') || self.name.is_empty() {
            return refuse(MemberFault::LeadsOut);
        }
        if self.flags & 1 != 0 {
            return refuse(MemberFault::Encrypted);
        }
        if self.method != 0 || self.compressed != self.len {
            return refuse(MemberFault::Compressed);
        }
        Ok(())
    }

    /// Finds the member's bytes behind its local header, all of it before the directory.
    fn locate(&self, file: &PositionedFile, directory_start: u64) -> Result<Member> {
        let broken = |fault: MemberFault| damaged(file, ArchiveCause::Member { name: shown(&self.name), fault });
        if self.local_header.checked_add(30).is_none_or(|end| end > directory_start) {
            return Err(broken(MemberFault::Outside));
        }
        let header = file.read(self.local_header, 30)?;
        let mut fields = Fields(&header);
        let signature = fields.u32();
        let (_, flags, method, _) = (fields.u16(), fields.u16(), fields.u16(), fields.u32());
        let (_, _, _) = (fields.u32(), fields.u32(), fields.u32());
        let (name_len, extra_len) = (u64::from(fields.u16()), u64::from(fields.u16()));
        if signature != LOCAL_HEADER || flags & 1 != 0 || method != 0 {
            return Err(broken(MemberFault::Header));
        }
        let start = self.local_header + 30 + name_len + extra_len;
        if start.checked_add(self.len).is_none_or(|end| end > directory_start) {
            return Err(broken(MemberFault::Outside));
        }
        if file.read(self.local_header + 30, name_len)? != self.name.as_bytes() {
            return Err(broken(MemberFault::OtherName));
        }
        Ok(Member { start, len: self.len, crc: self.crc })
    }
}
