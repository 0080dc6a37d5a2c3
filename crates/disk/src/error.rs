//! Why a store cannot be opened, and who must act.
//!
//! Knows: paths and causes. Must not know: how the store works.

use std::io;
use std::path::PathBuf;

use libp2p_kad_dht::core::StoreError;
use redb::StorageError;

/// Why a [`DiskStore`](super::DiskStore) was not opened. Nothing that was at the path is changed by a failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another store of this one, has it open. Close that, or choose another path.
    #[error("{path} is in use by another node; stop that one or choose another path")]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// The operating system does not let this process read and write there. Give it the right, or choose another path.
    #[error("{path} cannot be read and written ({source}); check the permissions or choose another path")]
    Denied {
        /// The database, or where it was to be made.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Something else is there: a directory, an empty file, or a file of another program. Choose another path.
    #[error("{path} is not a store of this library ({found}); it is left as it is, choose another path")]
    Foreign {
        /// What was to be opened.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
    },
    /// A later version of this crate made it. Update the crate.
    #[error("{path} has format {found}, this version reads format {known}; update the program")]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The format that this version reads.
        known: u64,
    },
    /// An unreleased version of this crate made it; its records cannot be read any more. Move it away and start again:
    /// what other nodes keep comes back by itself, and the application publishes its own records again.
    #[error("{path} has format {found}, this version reads format {known}; move it away to start with an empty store")]
    Older {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The format that this version reads.
        known: u64,
    },
    /// It is a store, but part of it that a start needs is missing or wrong. Bring back a copy, or move it away and start
    /// again: what other nodes keep comes back by itself, and the application publishes its own records again.
    ///
    /// Every block of the file has a checksum. So the database under the store, which panics over what it did not write,
    /// never sees a block that is damaged, and nothing depends on catching its panics: a program that is built with
    /// `panic = "abort"` gets the same errors. Damage that a start does not meet is reported by the operation that does,
    /// as [`StoreError::Damaged`](libp2p_kad_dht::core::StoreError::Damaged).
    #[error("{path} is damaged ({cause}); restore it from a copy, or move it away to start with an empty store")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The disk has no room for it. Make room.
    #[error("there is no room for {path} ({source})")]
    Full {
        /// Where it was to be made or opened.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The path leads nowhere, or the disk failed.
    #[error("{path} cannot be opened ({source})")]
    Io {
        /// What was to be opened.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl OpenError {
    /// The operating system's answer as an error of this path.
    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> OpenError {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenError::Denied { path, source },
            kind if is_full(kind) => OpenError::Full { path, source },
            _ => OpenError::Io { path, source },
        }
    }

    /// What the operating system's part in it is.
    pub(super) fn kind(&self) -> io::ErrorKind {
        match self {
            OpenError::Denied { source, .. } | OpenError::Full { source, .. } | OpenError::Io { source, .. } => {
                source.kind()
            }
            _ => io::ErrorKind::Other,
        }
    }
}

/// Whether the cause is a want of room.
fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// What a failure of the database means to who uses the store.
pub(super) fn reason(error: &StorageError) -> StoreError {
    match error {
        StorageError::Io(error) if is_full(error.kind()) => StoreError::Full,
        error if is_damage(error) => StoreError::Damaged,
        _ => StoreError::Failed,
    }
}

/// Whether something is missing in the file, or wrong: that is not the disk's fault now.
pub(super) fn is_damage(error: &StorageError) -> bool {
    match error {
        StorageError::Io(error) => matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData),
        StorageError::Corrupted(_) => true,
        _ => false,
    }
}
