//! Peers and keys by the leading bits of their place in the keyspace: found by trying, so that they are real ones.
//!
//! Knows: names and what they stand for. Must not know: the use that is made of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use libp2p_identity::PeerId;
use libp2p_kad_dht::core::{Contact, Key, PeerRecord, RecordKey};

/// All peers and keys that a story named so far.
#[derive(Default)]
pub(crate) struct Names {
    peers: BTreeMap<PeerId, String>,
    keys: BTreeMap<Vec<u8>, String>,
}

fn is_bits(name: &str) -> bool {
    !name.is_empty() && name.len() <= 14 && name.bytes().all(|c| matches!(c, b'0' | b'1'))
}

/// Whether a key begins with these bits.
fn begins(key: &Key, bits: &str) -> bool {
    key.common_prefix_len(&Key::from_bits(bits)) as usize >= bits.len()
}

impl Names {
    /// The peer whose key begins with these bits.
    pub(crate) fn peer(&mut self, bits: &str) -> PeerId {
        assert!(is_bits(bits), "not a peer: {bits:?}");
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&[0x12, 0x20]);
        bytes[2] = bits.len() as u8;
        let mut tries = 0u64..;
        let peer = tries.find_map(|n| {
            bytes[3..11].copy_from_slice(&n.to_be_bytes());
            Some(PeerId::from_bytes(&bytes).unwrap()).filter(|peer| begins(&Key::from(peer), bits))
        });
        let peer = peer.unwrap();
        self.peers.insert(peer, bits.to_owned());
        peer
    }

    /// The same with an address of its own; `0100!` stands for the peer without one, `0100@2` for another address.
    pub(crate) fn contact(&mut self, name: &str) -> Arc<Contact> {
        let (bits, port) = name.split_once('@').map_or((name, "1"), |(bits, port)| (bits, port));
        match bits.strip_suffix('!') {
            Some(bits) => Contact::new(self.peer(bits), []),
            None => {
                let host = usize::from_str_radix(bits, 2).unwrap();
                let addr = format!("/ip4/10.{}.{}.{}/tcp/{port}", bits.len(), host >> 8, host & 0xff);
                Contact::new(self.peer(bits), [addr.parse().unwrap()])
            }
        }
    }

    /// Several, separated by commas.
    pub(crate) fn contacts(&mut self, list: &str) -> Vec<Arc<Contact>> {
        list.split(',').filter(|name| !name.is_empty()).map(|name| self.contact(name)).collect()
    }

    /// The key at these bits; `len:81` is one of 81 bytes, at any place.
    pub(crate) fn key(&mut self, name: &str) -> RecordKey {
        let bytes = match name.strip_prefix("len:") {
            Some(len) => vec![b'x'; len.parse().unwrap()],
            None => {
                assert!(is_bits(name), "not a key: {name:?}");
                let mut tries = (0u64..).map(|n| format!("/story/{name}.{n}").into_bytes());
                tries.find(|bytes| begins(&Key::hash(bytes), name)).unwrap()
            }
        };
        self.keys.insert(bytes.clone(), name.to_owned());
        RecordKey::from(bytes)
    }

    pub(crate) fn of_peer(&self, peer: &PeerId) -> String {
        self.peers.get(peer).cloned().unwrap_or_else(|| format!("peer-{}", place(&Key::from(peer))))
    }

    pub(crate) fn of_peers<'a>(&self, peers: impl IntoIterator<Item = &'a PeerId>) -> String {
        let names: Vec<_> = peers.into_iter().map(|peer| self.of_peer(peer)).collect();
        names.join(",")
    }

    /// The names of contacts; `!` marks those without an address.
    pub(crate) fn of_contacts(&self, contacts: &[Arc<Contact>]) -> String {
        let name = |contact: &Arc<Contact>| {
            let mark = if contact.has_addrs() { "" } else { "!" };
            self.of_peer(contact.peer()) + mark
        };
        contacts.iter().map(name).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn of_records(&self, peers: &[PeerRecord]) -> String {
        let name = |peer: &PeerRecord| self.of_peer(&peer.id) + if peer.addrs.is_empty() { "!" } else { "" };
        peers.iter().map(name).collect::<Vec<_>>().join(",")
    }

    /// The name of a key, or of the peer whose id it is.
    pub(crate) fn of_key(&self, bytes: &[u8]) -> String {
        let peer = || Some(self.peers.get(&PeerId::from_bytes(bytes).ok()?)?.clone());
        let name = self.keys.get(bytes).cloned().or_else(peer);
        name.unwrap_or_else(|| format!("somewhere-{}", place(&Key::hash(bytes))))
    }
}

/// The first four bits.
fn place(key: &Key) -> String {
    format!("{:04b}", key.to_bytes()[0] >> 4)
}
