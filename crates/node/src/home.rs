//! The directory of `--store`: who the node is, which network it is in, and what it keeps.
//!
//! Knows: names of files. Must not know: what is in the database.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use libp2p::PeerId;
use libp2p::identity::Keypair;

/// A node's directory.
pub(crate) struct Home(PathBuf);

impl Home {
    /// The directory at `path`, made if it is missing.
    pub(crate) fn at(path: &Path) -> Result<Home, String> {
        fs::create_dir_all(path).map_err(|why| format!("cannot keep anything in {}: {why}", path.display()))?;
        Ok(Home(path.to_owned()))
    }

    /// Whether the directory at `path` may be used in this network: what was published in one must not go to another.
    /// Touches nothing. A directory that does not say is for any.
    pub(crate) fn is_for(path: &Path, network: &str) -> Result<(), String> {
        match MadeFor::read(path)? {
            Some(made) if made.network != network => Err(format!(
                "--store {} was made for the network {}, and this is {network}: what is kept there was published in \
                 the other one; name another directory",
                path.display(),
                made.network,
            )),
            _ => Ok(()),
        }
    }

    /// From now on the directory is for this node in this network alone.
    pub(crate) fn settle(&self, peer: PeerId, network: &str) -> Result<(), String> {
        if MadeFor::read(&self.0)?.is_some() {
            return Ok(());
        }
        let path = MadeFor::path(&self.0);
        keep(&path, format!("{peer}\n{network}\n").as_bytes())
            .map_err(|why| format!("cannot keep {}: {why}", path.display()))
    }

    /// The database of records.
    pub(crate) fn records(&self) -> PathBuf {
        self.0.join("records")
    }

    /// The identity kept here, which must be `wanted` where one is given: what is published from here is published in
    /// its name. Where none is kept, `wanted` or a new one is kept first. What is there and is no identity is left as it
    /// is.
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
        keep(path, &bytes).map_err(|why| format!("cannot keep {}: {why}", path.display()))?;
        Ok(keypair)
    }
}

/// What a directory was made for: the node's id and the network, a line each in the file `made-for`. Without it somebody
/// who exchanged the identity would publish the records of another node for ever.
struct MadeFor {
    peer: PeerId,
    network: String,
}

impl MadeFor {
    fn path(home: &Path) -> PathBuf {
        home.join("made-for")
    }

    /// `None` where nothing was settled yet.
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

/// Writes a new file that only its owner can read, whole or not at all.
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
    // The name too has to be there after the power failed: without it the records are nobody's. Not every system can.
    if let Some(Ok(directory)) = path.parent().map(fs::File::open) {
        let _ = directory.sync_all();
    }
    Ok(())
}
