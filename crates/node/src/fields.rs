//! Keys, values and peers as text: bytes that are no text as `hex:`, a CID for its multihash.

use cid::Cid;
use kad::core::{PeerFailure, Report};
use kad::handle::PeerRecord;
use libp2p::PeerId;
use libp2p_kad_dht as kad;
use serde_json::{Value, json};

const HEX: &str = "hex:";

/// Bytes as text if they are UTF-8, else as `hex:`; text that begins with `hex:` too, so that there is no ambiguity.
pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(HEX) && !text.contains(char::is_control) => text.to_owned(),
        _ => bytes.iter().fold(HEX.to_owned(), |text, byte| text + &format!("{byte:02x}")),
    }
}

/// The bytes that a VALUE stands for.
pub(crate) fn bytes(given: &str) -> Result<Vec<u8>, String> {
    match given.strip_prefix(HEX) {
        Some(digits) => from_hex(digits),
        None => Ok(given.as_bytes().to_vec()),
    }
}

/// The bytes that a KEY stands for.
pub(crate) fn key(given: &str) -> Result<Vec<u8>, String> {
    match given.parse::<Cid>() {
        // The parser also looks for a CID inside a path, but a path is a key like any other.
        Ok(cid) if !given.contains('/') => Ok(cid.hash().to_bytes()),
        _ => bytes(given),
    }
}

/// The multihash that a CID stands for.
pub(crate) fn content(given: &str) -> Result<Vec<u8>, String> {
    if given.starts_with(HEX) {
        return bytes(given);
    }
    let cid: Cid = given.parse().map_err(|why| format!("not a CID ({why}); a raw multihash is given as {HEX}..."))?;
    Ok(cid.hash().to_bytes())
}

pub(crate) fn ids<'a>(peers: impl IntoIterator<Item = &'a PeerId>) -> Value {
    peers.into_iter().map(|peer| Value::from(peer.to_string())).collect()
}

pub(crate) fn peer(peer: &PeerRecord) -> Value {
    json!({ "id": peer.id.to_string(), "addrs": peer.addrs.iter().map(ToString::to_string).collect::<Vec<_>>() })
}

pub(crate) fn failures(failed: &[PeerFailure]) -> Value {
    failed.iter().map(|failure| json!({ "id": failure.peer.to_string(), "why": failure.why.to_string() })).collect()
}

pub(crate) fn asked(report: &Report) -> [(&'static str, Value); 2] {
    [("requests", report.requests.into()), ("answers", report.answers.into())]
}

fn from_hex(digits: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let decoded: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect();
    decoded.ok_or_else(|| format!("{HEX} is followed by pairs of hexadecimal digits"))
}
