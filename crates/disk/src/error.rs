//! Why a store cannot be opened, and what to do.
//!
//! Knows: paths and causes. Must not know: how the store works.

use std::io;
use std::path::PathBuf;

use libp2p_kad_dht::core::StoreError;
use redb::StorageError;

/// The reason why a [`DiskStore`](super::DiskStore) was not opened. A failure changes no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another store of this process, has the database open. Close that one, or choose another
    /// path.
    #[error("{path} is in use by another node; stop that one or choose another path")]
    Locked {
        /// The path of the database.
        path: PathBuf,
    },
    /// This process may not read and write at the path. Grant the permission, or choose another path.
    #[error("{path} cannot be read and written ({source}); check the permissions or choose another path")]
    Denied {
        /// The path of the database, or of the directory in which to create it.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The path leads to something else: a directory, an empty file, or a file of another program. Choose another path.
    #[error("{path} is not a store of this library ({found}); it is left as it is, choose another path")]
    Foreign {
        /// The path that was to be opened.
        path: PathBuf,
        /// The kind of file that is there instead.
        found: &'static str,
    },
    /// Written by a later version of this crate. Update the crate.
    #[error("{path} has format {found}, this version reads format {known}; update the program")]
    Newer {
        /// The path of the database.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The format that this version reads.
        known: u64,
    },
    /// Written by an unreleased version of this crate; its records cannot be read. Move it away and start again:
    /// records that other nodes hold come back by themselves, and the application publishes its own again.
    #[error("{path} has format {found}, this version reads format {known}; move it away to start with an empty store")]
    Older {
        /// The path of the database.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The format that this version reads.
        known: u64,
    },
    /// The file is a store, but part of what a start needs is missing or wrong. Restore a copy, or move the file away
    /// and start again: records that other nodes hold come back by themselves, and the application publishes its own
    /// again.
    ///
    /// Every block of the file has a checksum, so the database below the store, which panics on pages that it did not
    /// write, never sees a damaged block. No error depends on catching panics: a program that is built with `panic =
    /// "abort"` gets the same ones. Damage that a start does not meet is reported by the operation that meets it, as
    /// [`StoreError::Damaged`].
    #[error("{path} is damaged ({cause}); restore it from a copy, or move it away to start with an empty store")]
    Damaged {
        /// The path of the database.
        path: PathBuf,
        /// The damage.
        cause: String,
    },
    /// The disk is full. Free some space.
    #[error("there is no room for {path} ({source})")]
    Full {
        /// The path at which the database was to be created or opened.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The path does not exist, or the disk failed.
    #[error("{path} cannot be opened ({source})")]
    Io {
        /// The path that was to be opened.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl OpenError {
    /// An error of the operating system at this path, as an `OpenError`.
    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> OpenError {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenError::Denied { path, source },
            kind if is_full(kind) => OpenError::Full { path, source },
            _ => OpenError::Io { path, source },
        }
    }

    /// The kind of the operating system's error; `Other` if there is none.
    pub(super) fn kind(&self) -> io::ErrorKind {
        match self {
            OpenError::Denied { source, .. } | OpenError::Full { source, .. } | OpenError::Io { source, .. } => {
                source.kind()
            }
            _ => io::ErrorKind::Other,
        }
    }
}

/// Whether the disk is full.
fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// The store error for an error of the database.
pub(super) fn reason(error: &StorageError) -> StoreError {
    match error {
        StorageError::Io(error) if is_full(error.kind()) => StoreError::Full,
        error if is_damage(error) => StoreError::Damaged,
        _ => StoreError::Failed,
    }
}

/// Whether data in the file is missing or wrong, as opposed to a failure of the disk now.
pub(super) fn is_damage(error: &StorageError) -> bool {
    match error {
        StorageError::Io(error) => matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData),
        StorageError::Corrupted(_) => true,
        _ => false,
    }
}
