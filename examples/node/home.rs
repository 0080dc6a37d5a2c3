//! The directory of `--store`: who the node is, and what it keeps.
//!
//! Knows: names of files. Must not know: what is in the database.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use libp2p::identity::Keypair;

/// A node's directory.
pub(crate) struct Home(PathBuf);

impl Home {
    /// The directory at `path`, made if it is missing.
    pub(crate) fn at(path: &Path) -> Result<Home, String> {
        fs::create_dir_all(path).map_err(|why| format!("cannot keep anything in {}: {why}", path.display()))?;
        Ok(Home(path.to_owned()))
    }

    /// The database of records.
    pub(crate) fn records(&self) -> PathBuf {
        self.0.join("records")
    }

    /// The identity kept here; a new one is kept first. What is there and is no identity is left as it is.
    pub(crate) fn identity(&self) -> Result<Keypair, String> {
        let path = self.0.join("identity");
        match fs::read(&path) {
            Ok(bytes) => Keypair::from_protobuf_encoding(&bytes)
                .map_err(|why| format!("{} holds no identity: {why}", path.display())),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                let keypair = Keypair::generate_ed25519();
                let bytes = keypair.to_protobuf_encoding().map_err(|why| why.to_string())?;
                keep_secret(&path, &bytes).map_err(|why| format!("cannot keep {}: {why}", path.display()))?;
                Ok(keypair)
            }
            Err(why) => Err(format!("cannot read {}: {why}", path.display())),
        }
    }
}

/// Writes a new file that only its owner can read, whole or not at all.
fn keep_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)
}
