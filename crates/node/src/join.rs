//! Joins the network through the peers of `--bootstrap`, while commands run already.
//!
//! Knows: the peers to join through. Must not know: commands. A failure goes to standard error, since it answers no
//! command.

use kad::core::AddressPolicy;
use kad::{DhtHandle, QueryError};
use libp2p::PeerId;
use libp2p_kad_dht as kad;

use crate::answer::{Fields, report_event};
use crate::args::Seed;
use crate::fields;

/// Joins, and reports a failure. Does nothing without seeds.
pub(crate) async fn join(dht: DhtHandle, seeds: Seeds, json: bool) {
    if seeds.named == 0 {
        return;
    }
    let why = match dht.bootstrap().await {
        Ok(joined) => return tracing::info!(peers = joined.peers, "joined"),
        Err(why) => why,
    };
    let error = match why {
        QueryError::NoPeers if seeds.refused.len() == seeds.named => {
            format!("{why}, since no peer of --bootstrap can be used: {}", seeds.refused.join("; "))
        }
        _ => why.to_string(),
    };
    let mut fields: Fields = vec![("ok", false.into()), ("error", error.as_str().into())];
    fields.extend(why.report().map(|report| ("failed", fields::failures(&report.failed))));
    report_event(json, "bootstrap", fields, &format!("could not join: {error}"));
}

/// The peers to join through.
pub(crate) struct Seeds {
    named: usize,
    /// The seeds that are never dialled, each with the reason.
    refused: Vec<String>,
}

impl Seeds {
    pub(crate) fn new(local: PeerId, policy: AddressPolicy, seeds: &[Seed]) -> Seeds {
        let fault = |seed: &Seed| {
            let Seed { peer, addr } = seed;
            if *peer == local {
                Some(format!("{addr} is this node itself"))
            } else if policy.admits(addr.as_ref()) {
                None
            } else {
                let policy = format!("{policy:?}").to_lowercase();
                Some(format!("{addr} is refused by the address policy (--addresses {policy})"))
            }
        };
        Seeds { named: seeds.len(), refused: seeds.iter().filter_map(fault).collect() }
    }
}
