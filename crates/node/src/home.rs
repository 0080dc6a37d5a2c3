//! The directory of `--store`: the identity of the node, its network, and its records.
//!
//! Knows: the names of the files. Must not know: the database.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use libp2p::PeerId;
use libp2p::identity::Keypair;

/// The directory of a node.
pub(crate) struct Home(PathBuf);

impl Home {
    /// The directory at `path`, created if it is missing.
    pub(crate) fn at(path: &Path) -> Result<Home, String> {
        fs::create_dir_all(path).map_err(|why| format!("cannot create {}: {why}", path.display()))?;
        Ok(Home(path.to_owned()))
    }

    /// Fails if the directory at `path` belongs to another network, whose records must not be published in this one.
    /// Changes no file. A directory without a network is for any.
    pub(crate) fn is_for(path: &Path, network: &str) -> Result<(), String> {
        match MadeFor::read(path)? {
            Some(made) if made.network != network => Err(format!(
                "--store {} was made for the network {}, and this is {network}: its records belong to the other \
                 network; name another directory",
                path.display(),
                made.network,
            )),
            _ => Ok(()),
        }
    }

    /// Binds the directory to this node and this network.
    pub(crate) fn bind(&self, peer: PeerId, network: &str) -> Result<(), String> {
        if MadeFor::read(&self.0)?.is_some() {
            return Ok(());
        }
        let path = MadeFor::path(&self.0);
        keep(&path, format!("{peer}\n{network}\n").as_bytes())
            .map_err(|why| format!("cannot write {}: {why}", path.display()))
    }

    /// The path of the database.
    pub(crate) fn records(&self) -> PathBuf {
        self.0.join("records")
    }

    /// The identity in the directory; an error if `wanted` is another one, since the records are published in its name.
    /// In a directory without an identity, `wanted` or a new one is written first. A file that is no identity is not
    /// changed.
    pub(crate) fn identity(&self, wanted: Option<Keypair>) -> Result<Keypair, String> {
        let path = self.0.join("identity");
        let kept = match fs::read(&path) {
            Ok(bytes) => read(&path, &bytes)?,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return self.begin(&path, wanted),
            Err(why) => return Err(format!("cannot read {}: {why}", path.display())),
        };
        let peer = kept.public().to_peer_id();
        if let Some(made) = MadeFor::read(&self.0)?
            && made.peer != peer
        {
            return Err(format!(
                "{} belongs to the node {}, and its file `identity` is that of {peer}: put the right one back, or name \
                 another directory",
                self.0.display(),
                made.peer,
            ));
        }
        match wanted {
            Some(wanted) if wanted.public() != kept.public() => Err(format!(
                "{} belongs to the node {}, and --key-seed makes the node {}: a directory is for one of them",
                self.0.display(),
                peer,
                wanted.public().to_peer_id(),
            )),
            _ => Ok(kept),
        }
    }

    fn begin(&self, path: &Path, wanted: Option<Keypair>) -> Result<Keypair, String> {
        if self.records().exists() {
            let dir = self.0.display();
            return Err(format!("{dir} holds records, but not the identity of the node that they belong to"));
        }
        let keypair = wanted.unwrap_or_else(Keypair::generate_ed25519);
        let bytes = keypair.to_protobuf_encoding().map_err(|why| why.to_string())?;
        keep(path, &bytes).map_err(|why| format!("cannot write {}: {why}", path.display()))?;
        Ok(keypair)
    }
}

/// The node and the network that a directory belongs to: a line each in the file `made-for`. Without it, a node whose
/// identity file was exchanged would publish the records of another node.
struct MadeFor {
    peer: PeerId,
    network: String,
}

impl MadeFor {
    fn path(home: &Path) -> PathBuf {
        home.join("made-for")
    }

    /// `None` if the directory is not bound yet.
    fn read(home: &Path) -> Result<Option<MadeFor>, String> {
        let path = MadeFor::path(home);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(why) if matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(why) => return Err(format!("cannot read {}: {why}", path.display())),
        };
        let made = text.split_once('\n').and_then(|(peer, network)| {
            Some(MadeFor { peer: peer.parse().ok()?, network: network.trim_end().to_owned() })
        });
        match made {
            Some(made) if !made.network.is_empty() => Ok(Some(made)),
            _ => Err(format!("{} does not name a node and its network, a line each", path.display())),
        }
    }
}

fn read(path: &Path, bytes: &[u8]) -> Result<Keypair, String> {
    if bytes.is_empty() {
        return Err(format!("{} is empty: the identity of the node that it belongs to is lost", path.display()));
    }
    Keypair::from_protobuf_encoding(bytes).map_err(|why| {
        format!("{} holds no identity, or one that was cut short ({} bytes): {why}", path.display(), bytes.len())
    })
}

/// Writes a new file that only its owner can read, completely or not at all.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    // The name of the file must survive a power failure too: without it the records belong to no node. Not every system
    // can sync a directory.
    if let Some(Ok(directory)) = path.parent().map(fs::File::open) {
        let _ = directory.sync_all();
    }
    Ok(())
}
