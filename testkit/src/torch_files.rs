//! Torch files made byte by byte, good and bad, for tests.

/// A member of a zip archive, with everything that its directory entry claims.
#[derive(Clone)]
pub struct Member {
    name: String,
    data: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    pub crc: u32,
    pub compressed: u32,
    pub len: u32,
    /// Where the entry claims that the member is; where it is, unless set.
    pub at: Option<u32>,
}

/// A zip archive in the making.
pub struct Archive {
    members: Vec<Member>,
    zip64: bool,
}

impl Archive {
    pub fn empty() -> Self {
        Self { members: Vec::new(), zip64: false }
    }

    /// torch's archive of this pickle, without storages.
    pub fn torch(pickle: &[u8]) -> Self {
        Self::empty().with("archive/data.pkl", pickle)
    }

    pub fn with(mut self, name: &str, data: &[u8]) -> Self {
        let len = data.len() as u32;
        let crc = crc32fast::hash(data);
        self.members.push(Member {
            name: name.into(),
            data: data.into(),
            method: 0,
            flags: 0,
            crc,
            compressed: len,
            len,
            at: None,
        });
        self
    }

    /// Changes the last member's claims.
    pub fn change(self, change: impl FnOnce(&mut Member)) -> Self {
        let last = self.members.len() - 1;
        self.change_at(last, change)
    }

    pub fn change_at(mut self, index: usize, change: impl FnOnce(&mut Member)) -> Self {
        change(&mut self.members[index]);
        self
    }

    /// Writes sizes and places in Zip64 records.
    pub fn zip64(mut self) -> Self {
        self.zip64 = true;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut directory = Vec::new();
        for member in &self.members {
            let at = bytes.len() as u32;
            let name = member.name.as_bytes();
            bytes.extend(b"PK\x03\x04");
            bytes.extend(words(&[20, member.flags, member.method, 0, 0]));
            bytes.extend([member.crc, member.compressed, member.len].map(u32::to_le_bytes).concat());
            bytes.extend(words(&[name.len() as u16, 0]));
            bytes.extend(name);
            bytes.extend(&member.data);
            directory.extend(self.entry(member, member.at.unwrap_or(at)));
        }
        let (start, len, count) = (bytes.len(), directory.len(), self.members.len());
        bytes.extend(directory);
        if self.zip64 {
            let record = bytes.len() as u64;
            bytes.extend(b"PK\x06\x06");
            bytes.extend(44u64.to_le_bytes());
            bytes.extend(words(&[45, 45, 0, 0, 0, 0]));
            bytes.extend([count as u64, count as u64, len as u64, start as u64].map(u64::to_le_bytes).concat());
            bytes.extend(b"PK\x06\x07\0\0\0\0");
            bytes.extend(record.to_le_bytes());
            bytes.extend(1u32.to_le_bytes());
        }
        bytes.extend(b"PK\x05\x06");
        if self.zip64 {
            bytes.extend(words(&[0, 0, u16::MAX, u16::MAX]));
            bytes.extend([u32::MAX, u32::MAX].map(u32::to_le_bytes).concat());
        } else {
            bytes.extend(words(&[0, 0, count as u16, count as u16]));
            bytes.extend([len as u32, start as u32].map(u32::to_le_bytes).concat());
        }
        bytes.extend([0, 0]);
        bytes
    }

    fn entry(&self, member: &Member, at: u32) -> Vec<u8> {
        let name = member.name.as_bytes();
        let extra = if self.zip64 {
            let fields = [member.len, member.compressed, at].map(|field| u64::from(field).to_le_bytes()).concat();
            // Another field stands before it, as padding does in torch's files.
            [words(&[0x4246, 3]), vec![b'Z'; 3], words(&[1, 24]), fields].concat()
        } else {
            Vec::new()
        };
        let narrow = |field: u32| if self.zip64 { u32::MAX } else { field };
        let mut entry = b"PK\x01\x02".to_vec();
        entry.extend(words(&[20, 20, member.flags, member.method, 0, 0]));
        entry.extend([member.crc, narrow(member.compressed), narrow(member.len)].map(u32::to_le_bytes).concat());
        entry.extend(words(&[name.len() as u16, extra.len() as u16, 0, 0, 0]));
        entry.extend([0, narrow(at)].map(u32::to_le_bytes).concat());
        entry.extend(name);
        entry.extend(extra);
        entry
    }
}

fn words(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A torch archive of this pickle alone.
pub fn pickled(pickle: &[u8]) -> Vec<u8> {
    Archive::torch(pickle).bytes()
}

/// A legacy stream of this pickle, with keys and bytes (count included) of its storages.
pub fn legacy(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
    bytes.extend(b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.");
    bytes.extend(pickle);
    bytes.extend(b"\x80\x02]");
    for (key, _) in storages {
        bytes.extend([b'X', key.len() as u8, 0, 0, 0]);
        bytes.extend(key.as_bytes());
        bytes.push(b'a');
    }
    bytes.push(b'.');
    bytes.extend(storages.iter().flat_map(|(_, data)| data.iter().copied()));
    bytes
}
