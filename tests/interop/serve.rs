//! A node of `libp2p-kad` as a program of `tests/interop/run`: it speaks `peers/PROTOCOL.md` on its standard streams.
//!
//! `KAD_CLIENT=1` makes it a client. Its `ipns SEED VALUE` answers with a record that this crate signs.

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use libp2p_kad::Mode;
use libp2p_kad_dht::validators::IpnsRecord;
use libp2p_kad_dht::{Key, Timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::live::PROTOCOL;
use crate::theirs::{self, Theirs};

const K: NonZeroUsize = NonZeroUsize::new(20).unwrap();
/// The longest time of one command.
const LIMIT: Duration = Duration::from_secs(20);
/// The expiry of the IPNS records that it signs, in seconds after 1970: far in the future.
const FAR: u64 = 4_000_000_000;

fn bytes(text: &str) -> Vec<u8> {
    let Some(hex) = text.strip_prefix("hex:") else { return text.into() };
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    format!("hex:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| hex(bytes), Into::into)
}

fn ids(peers: &[PeerId]) -> Value {
    peers.iter().map(ToString::to_string).collect()
}

async fn run(node: &Theirs, line: &str) -> Result<Value, String> {
    Ok(match *line.split_whitespace().collect::<Vec<_>>() {
        ["dial", addr] => {
            let addr: Multiaddr = addr.parse().unwrap();
            let Some(Protocol::P2p(peer)) = addr.iter().last() else { return Err("no peer".into()) };
            if !node.reaches(peer, vec![addr]).await {
                return Err("not reached".into());
            }
            json!({ "remote": peer.to_string() })
        }
        ["put", key, value] => json!({ "put": node.put(&bytes(key), &bytes(value)).await? }),
        ["get", key] => {
            let found = node.get(&bytes(key)).await.into_iter().map(|(value, _)| value).max();
            json!({ "value": text(&found.ok_or("not found")?) })
        }
        ["provide", key] => json!({ "provided": node.provide(&bytes(key)).await? }),
        ["findprovs", key] => {
            let found = node.providers(&bytes(key)).await;
            json!({ "providers": found.iter().map(|id| json!({ "id": id.to_string() })).collect::<Value>() })
        }
        ["findpeer", peer] => {
            let peer: PeerId = peer.parse().unwrap();
            let found = node.closest(&peer.to_bytes(), K).await;
            let found = found.iter().find(|found| found.peer_id == peer).ok_or("not found")?;
            json!({ "peer": { "id": peer.to_string(), "addrs": found.addrs } })
        }
        ["peers"] => json!({ "routing_table": ids(&node.table().await) }),
        ["ipns", seed, value] => {
            let keypair = Keypair::ed25519_from_bytes(Key::hash(seed.as_bytes()).to_bytes()).unwrap();
            let expires = Timestamp::ZERO + Duration::from_secs(FAR);
            let record = IpnsRecord::new(value.as_bytes().to_vec(), 1, expires, Duration::from_secs(300));
            let (key, record) = record.sign(&keypair).map_err(|why| why.to_string())?;
            let name = keypair.public().to_peer_id().to_string();
            json!({ "name": name, "key": hex(key.as_bytes()), "record": hex(&record) })
        }
        _ => return Err("unknown command".into()),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a program that reads commands, for tests/interop/run"]
async fn serve() {
    let node = theirs::start(K).await;
    if std::env::var_os("KAD_CLIENT").is_some() {
        node.act(|swarm| swarm.behaviour_mut().kad.set_mode(Some(Mode::Client))).await;
    }
    let addr = format!("{}/p2p/{}", node.addr, node.peer);
    let ready = json!({ "event": "ready", "impl": "rust", "peer": node.peer.to_string(), "addrs": [addr], "protocol": PROTOCOL.as_ref() });
    // The test's own name may stand on this line.
    println!("\n{ready}");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.trim() == "quit" {
            break;
        }
        let result = tokio::time::timeout(LIMIT, run(&node, &line)).await;
        let mut answer = match result.unwrap_or_else(|_| Err(format!("no end within {LIMIT:?}"))) {
            Ok(answer) => answer,
            Err(error) => json!({ "error": error }),
        };
        answer["ok"] = answer.get("error").is_none().into();
        answer["cmd"] = line.split_whitespace().next().into();
        println!("{answer}");
    }
}
