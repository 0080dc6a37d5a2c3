//! The file below the database, in blocks that each have a checksum, so that a read returns what was written or fails.
//!
//! Knows: reads, writes and syncs of bytes. Must not know: what they mean.
//!
//! The database trusts its pages and panics on those that it did not write, in places where no guard can catch it. So
//! it never sees a block that is damaged, moved or missing: reading one is a disk error. The file begins with its
//! format, followed by the database's header, twice, and then by groups of one block of checksums and the 512 blocks
//! that they cover. A checksum is written before the sync that makes its block valid.
//!
//! Of 2,869 single-byte changes of a file without checksums, 77 caused a panic in redb, some of them while the database
//! was dropped, where no guard can catch it. The checksums cost one small read per uncached page and 0.2 % of the file.
//! *Dropped:* redb's own check at each start, which reads the whole file and protects only until then; and catching
//! panics alone, which cannot stop one in a drop.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

use super::DiskStoreConfig;
#[cfg(any(test, feature = "testing"))]
use super::faults::DiskFaults;

/// Size of a block, the unit with a checksum; the smallest page of the database.
const BLOCK: u64 = 4_096;
/// Number of blocks whose checksums share one block.
const GROUP: u64 = 512;
/// Length of the content of the database's first block.
const HEADER: usize = 320;
/// Where that content is stored; both copies are written before each sync that needs it, so one may be lost.
const HEADS: [u64; 2] = [BLOCK, 2 * BLOCK];
/// Length of a copy: a growing number, the length of the database, its header, and the checksum of these.
const HEAD: usize = 8 + 8 + HEADER + 8;
/// Where the groups begin.
const GROUPS: u64 = 3 * BLOCK;

/// The file, with the faults that tests inject.
pub(super) struct Disk {
    file: Box<dyn StorageBackend>,
    access: Access,
    state: OnceLock<Mutex<State>>,
    #[cfg(any(test, feature = "testing"))]
    faults: DiskFaults,
}

/// How the file is opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Access {
    /// The file is still empty.
    Create,
    Write,
    /// The file is only read. A database writes while it is opened, though, and a full disk has no room even for that;
    /// so these writes are kept in memory.
    Look,
}

/// Changes that are not in the file yet.
struct State {
    number: u64,
    len: u64,
    header: [u8; HEADER],
    /// Whether the header or the length in the file is out of date.
    head_changed: bool,
    /// Checksums that the file does not have yet. Bounded by what one transaction writes.
    sums: BTreeMap<u64, u64>,
    /// Blocks whose writes are kept in memory. Few: those that opening writes.
    aside: BTreeMap<u64, Vec<u8>>,
}

impl Disk {
    pub(super) fn new(file: File, access: Access, config: &DiskStoreConfig) -> Result<Disk, DatabaseError> {
        Ok(Disk::on(Box::new(FileBackend::new(file)?), access, config))
    }

    fn on(file: Box<dyn StorageBackend>, access: Access, _config: &DiskStoreConfig) -> Disk {
        Disk {
            file,
            access,
            state: OnceLock::new(),
            #[cfg(any(test, feature = "testing"))]
            faults: _config.faults.clone(),
        }
    }

    /// The state. It is read from the file at first use, which is after the database has locked the file.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.state.get().is_none() {
            let state = match self.access {
                Access::Create => State::new(0, 0, [0; HEADER]),
                Access::Write | Access::Look => State::read(&*self.file)?,
            };
            let _ = self.state.set(Mutex::new(state));
        }
        let state = self.state.get().ok_or_else(|| damaged("there is no header"))?;
        Ok(state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_blocks(&self, first: u64, out: &mut [u8]) -> io::Result<()> {
        for blocks in runs(first, out.len()) {
            let out = &mut out[bytes_of(&blocks, first)];
            let state = self.state()?;
            let aside: BTreeMap<_, _> =
                state.aside.range(blocks.clone()).map(|(at, bytes)| (*at, bytes.clone())).collect();
            drop(state);
            if aside.is_empty() {
                self.read_run(blocks, out)?;
                continue;
            }
            for (block, out) in blocks.zip(out.chunks_exact_mut(narrow(BLOCK))) {
                match aside.get(&block) {
                    Some(bytes) => out.copy_from_slice(bytes),
                    None => self.read_run(block..block + 1, out)?,
                }
            }
        }
        Ok(())
    }

    /// Reads blocks of one group from the file.
    fn read_run(&self, blocks: Range<u64>, out: &mut [u8]) -> io::Result<()> {
        // Take the checksums that are not in the file yet first: they may be written to it meanwhile.
        let mut sums: BTreeMap<_, _> = self.state()?.sums.range(blocks.clone()).map(|(at, sum)| (*at, *sum)).collect();
        self.file.read(data_at(blocks.start), out)?;
        let mut stored = vec![0; 8 * out.len() / narrow(BLOCK)];
        self.file.read(sum_at(blocks.start), &mut stored)?;
        for ((block, bytes), stored) in blocks.zip(out.chunks_exact(narrow(BLOCK))).zip(stored.chunks_exact(8)) {
            if sums.remove(&block).unwrap_or_else(|| number(stored)) != sum_of(block, bytes) {
                return Err(damaged(format!("block {block} is not what was written there")));
            }
        }
        Ok(())
    }

    fn write_file(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        #[cfg(any(test, feature = "testing"))]
        self.faults.check()?;
        self.file.write(at, bytes)
    }

    /// Writes the checksums that are missing in the file, neighbouring ones at once.
    fn write_sums(&self) -> io::Result<()> {
        let sums = self.state()?.sums.clone();
        let mut rest = sums.iter().peekable();
        while let Some((first, sum)) = rest.next() {
            let mut bytes = sum.to_le_bytes().to_vec();
            while let Some((_, next)) = rest.next_if(|(block, _)| sum_at(**block) == sum_at(*first) + wide(bytes.len()))
            {
                bytes.extend(next.to_le_bytes());
            }
            self.write_file(sum_at(*first), &bytes)?;
        }
        self.state()?.sums.retain(|block, sum| sums.get(block) != Some(sum));
        Ok(())
    }
}

impl State {
    fn read(file: &dyn StorageBackend) -> io::Result<State> {
        let actual = file.len()?;
        let heads = HEADS.iter().filter_map(|at| State::read_head(file, *at));
        let state = heads.max_by_key(|state| state.number).ok_or_else(|| damaged("both its headers are damaged"))?;
        if actual < file_len(state.len) {
            return Err(damaged(format!("it has {actual} bytes of {}", file_len(state.len))));
        }
        Ok(state)
    }

    fn read_head(file: &dyn StorageBackend, at: u64) -> Option<State> {
        let mut bytes = [0; HEAD];
        file.read(at, &mut bytes).ok()?;
        let (head, sum) = bytes.split_at(HEAD - 8);
        let header = head[16..].try_into().ok()?;
        (number(sum) == sum_of(0, head)).then(|| State::new(number(&head[..8]), number(&head[8..16]), header))
    }

    fn new(number: u64, len: u64, header: [u8; HEADER]) -> State {
        State { number, len, header, head_changed: false, sums: BTreeMap::new(), aside: BTreeMap::new() }
    }

    fn head(&self) -> Vec<u8> {
        let mut head = self.number.to_le_bytes().to_vec();
        head.extend(self.len.to_le_bytes());
        head.extend(self.header);
        head.extend(sum_of(0, &head).to_le_bytes());
        head
    }
}

/// Where a block is in the file; the first block is stored in the heads instead.
fn data_at(block: u64) -> u64 {
    let (group, at) = (block.saturating_sub(1) / GROUP, block.saturating_sub(1) % GROUP);
    GROUPS + (group * (GROUP + 1) + 1 + at) * BLOCK
}

/// Where the checksum of a block is in the file.
fn sum_at(block: u64) -> u64 {
    let (group, at) = (block.saturating_sub(1) / GROUP, block.saturating_sub(1) % GROUP);
    GROUPS + group * (GROUP + 1) * BLOCK + at * 8
}

/// Length of the file for a database of this length.
fn file_len(len: u64) -> u64 {
    match len.div_ceil(BLOCK) {
        0 | 1 => GROUPS,
        blocks => data_at(blocks - 1) + BLOCK,
    }
}

/// The blocks that `len` bytes take from block `first` on, one range per group.
fn runs(first: u64, len: usize) -> impl Iterator<Item = Range<u64>> {
    let end = first + wide(len) / BLOCK;
    std::iter::successors(Some(first), |block| Some(block - (block.saturating_sub(1) % GROUP) + GROUP))
        .take_while(move |start| *start < end)
        .map(move |start| start..end.min(start - (start.saturating_sub(1) % GROUP) + GROUP))
}

/// The range of these blocks in a buffer that begins with block `first`.
fn bytes_of(blocks: &Range<u64>, first: u64) -> Range<usize> {
    narrow((blocks.start - first) * BLOCK)..narrow((blocks.end - first) * BLOCK)
}

/// The checksum of these bytes at this block. Never zero, which marks a block that was never written.
pub(super) fn sum_of(block: u64, bytes: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block.to_le_bytes());
    hasher.update(bytes);
    (1 << 32) | u64::from(hasher.finalize())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

fn damaged(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

pub(super) fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Converts the length of a buffer in memory.
fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The number of the block at this offset; an error unless offset and length are whole blocks.
fn block_at(offset: u64, len: usize) -> io::Result<u64> {
    let whole = offset > 0 && offset.is_multiple_of(BLOCK) && wide(len).is_multiple_of(BLOCK);
    if whole { Ok(offset / BLOCK) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        if offset.saturating_add(wide(out.len())) > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if offset == 0 && out.len() <= HEADER {
            out.copy_from_slice(&state.header[..out.len()]);
            return Ok(());
        }
        drop(state);
        self.read_blocks(block_at(offset, out.len())?, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        // The file is shortened only after the sync that makes the new length valid.
        if self.access != Access::Look && file_len(len) > self.file.len()? {
            self.file.set_len(file_len(len))?;
        }
        state.sums.split_off(&len.div_ceil(BLOCK));
        state.aside.split_off(&len.div_ceil(BLOCK));
        (state.len, state.head_changed) = (len, true);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.access == Access::Look {
            return Ok(());
        }
        #[cfg(any(test, feature = "testing"))]
        self.faults.wait();
        self.write_sums()?;
        let mut state = self.state()?;
        let len = state.len;
        let head = state.head_changed.then(|| {
            (state.number, state.head_changed) = (state.number + 1, false);
            state.head()
        });
        drop(state);
        let written = head.iter().try_for_each(|head| HEADS.iter().try_for_each(|at| self.write_file(*at, head)));
        written.and_then(|()| self.file.sync_data()).inspect_err(|_| {
            if let Ok(mut state) = self.state() {
                state.head_changed |= head.is_some();
            }
        })?;
        if self.file.len()? > file_len(len) {
            self.file.set_len(file_len(len))?;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        if offset == 0 && data.len() == HEADER {
            state.header.copy_from_slice(data);
            state.head_changed = true;
            return Ok(());
        }
        let first = block_at(offset, data.len())?;
        let blocks = (first..).zip(data.chunks_exact(narrow(BLOCK)));
        if self.access == Access::Look {
            state.aside.extend(blocks.map(|(block, bytes)| (block, bytes.to_vec())));
            return Ok(());
        }
        drop(state);
        for blocks in runs(first, data.len()) {
            self.write_file(data_at(blocks.start), &data[bytes_of(&blocks, first)])?;
        }
        self.state()?.sums.extend(blocks.map(|(block, bytes)| (block, sum_of(block, bytes))));
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("access", &self.access).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
