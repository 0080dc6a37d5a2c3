//! The commands: each is one call of the handle, with its outcome as fields.

use std::num::NonZeroUsize;
use std::time::SystemTime;

use kad::core::store::Item;
use kad::core::{InvalidValue, Kind, Report, Stats};
use kad::handle::{PeerRecord, ProviderUpdate, Published};
use kad::{DhtHandle, Key, NetworkResult, Query, QueryError, Timestamp};
use libp2p::{Multiaddr, PeerId};
use libp2p_kad_dht as kad;
use serde_json::{Value, json};

use crate::answer::{Failure, Fields};
use crate::fields;
use crate::parse::{COMMANDS, Command};
use crate::people::Steps;
use crate::swarm::{Control, ModeNow};

/// The number of records read at a time.
const PAGE: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Runs one command.
pub(crate) struct Runner {
    pub(crate) dht: DhtHandle,
    pub(crate) control: Control,
    /// The progress of the query, for people.
    pub(crate) steps: Steps,
}

type Outcome = Result<Fields, Failure>;

impl Runner {
    pub(crate) async fn run(mut self, command: Command) -> Outcome {
        match command {
            Command::Dial(addr) => self.dial(addr).await,
            Command::Put { key, value } => {
                let put = self.dht.put(key, value);
                published("stored", self.query(put).await)
            }
            Command::Get(key) => self.get(key).await,
            Command::Remove(key) => self.dht.remove(key).await.map(|()| Fields::new()).map_err(failed),
            Command::StopProviding(key) => self.dht.stop_providing(key).await.map(|()| Fields::new()).map_err(failed),
            Command::Provide(key) => {
                let provide = self.dht.provide(key);
                published("announced", self.query(provide).await)
            }
            Command::FindProvs(key) => self.find_providers(key).await,
            Command::FindPeer(peer) => self.find_peer(peer).await,
            Command::Closest(key) => self.closest(key).await,
            Command::Peers => self.peers().await,
            Command::Records => self.records().await,
            Command::Bootstrap => self.bootstrap().await,
            Command::Table => self.table().await,
            Command::Queries => self.queries().await,
            Command::Stats => Ok(counters(&self.dht.stats().await.map_err(failed)?)),
            Command::Mode => Ok(mode(&self.control.mode().await?)),
            Command::SetMode(wanted) => Ok(mode(&self.control.set_mode(wanted).await?)),
            Command::Help => Ok(COMMANDS.iter().map(|(usage, what)| (*usage, (*what).into())).collect()),
            Command::Quit => Ok(Fields::new()),
        }
    }

    /// Dials a peer, and adds it to the DHT, so that the next command can use it at once.
    async fn dial(&self, addr: Multiaddr) -> Outcome {
        let (remote, reached) = self.control.dial(addr.clone()).await?;
        // A peer that was connected already was not dialled at this address, which may be wrong.
        self.dht.add_peer(remote, reached.then_some(addr)).check().map_err(|why| why.to_string())?;
        Ok(vec![("remote", remote.to_string().into())])
    }

    async fn get(&mut self, key: Vec<u8>) -> Outcome {
        let get = self.dht.get(key);
        let found = self.query(get).await.map_err(failed)?;
        Ok(vec![
            ("value", fields::text(&found.record.value).into()),
            ("from", found.from.map(|peer| peer.to_string()).into()),
            ("answers", found.report.answers.into()),
        ])
    }

    async fn find_providers(&mut self, key: Vec<u8>) -> Outcome {
        let mut updates = self.dht.providers(key).with_progress();
        // One entry for each provider: it is reported a second time if its addresses are found later.
        let mut providers: Vec<PeerRecord> = Vec::new();
        while let Some(update) = self.steps.next(&mut updates).await {
            match update {
                ProviderUpdate::Step(step) => self.steps.on(&step),
                ProviderUpdate::Provider(provider) => {
                    providers.retain(|known| known.id != provider.id);
                    providers.push(provider);
                }
                _ => {}
            }
        }
        updates.await.map_err(failed)?;
        Ok(vec![("providers", providers.iter().map(fields::peer).collect())])
    }

    async fn find_peer(&mut self, peer: PeerId) -> Outcome {
        let find = self.dht.find_peer(peer);
        let found = self.query(find).await.map_err(failed)?;
        let addrs: Vec<_> = found.peer.addrs.iter().map(ToString::to_string).collect();
        let peer = json!({ "id": found.peer.id.to_string(), "addrs": addrs });
        Ok(vec![("peer", peer), ("evidence", json!(found.evidence.to_string()))])
    }

    async fn closest(&mut self, key: Vec<u8>) -> Outcome {
        let closest = self.dht.closest_peers(key);
        let closest = self.query(closest).await.map_err(failed)?;
        Ok(vec![("peers", closest.peers.iter().map(fields::peer).collect())])
    }

    async fn peers(&self) -> Outcome {
        let table = self.dht.routing_table().await.map_err(failed)?;
        let connected = self.control.connected().await?;
        let known = table.entries().map(|entry| &entry.peer);
        Ok(vec![("routing_table", fields::ids(known)), ("connected", fields::ids(&connected))])
    }

    async fn records(&self) -> Outcome {
        let (mut values, mut providers) = (Vec::new(), Vec::new());
        let mut after: Option<Key> = None;
        loop {
            let page = self.dht.records(after, PAGE).await.map_err(failed)?;
            after = page.last().map(|item| item.key().key());
            let last = page.len() < PAGE.get();
            let now = now();
            for item in page {
                match item {
                    Item::Value(record) => values.push(json!({
                        "key": fields::text(record.key.as_bytes()),
                        "own": record.own,
                        "expires_s": record.expires.map(|at| at.since(now).as_secs()),
                    })),
                    Item::Provider(record) => providers.push(json!({
                        "key": fields::text(record.key.as_bytes()),
                        "id": record.provider.peer().to_string(),
                        "own": record.own,
                        "expires_s": (!record.own).then(|| record.expires.since(now).as_secs()),
                    })),
                }
            }
            if last {
                return Ok(vec![("values", values.into()), ("providers", providers.into())]);
            }
        }
    }

    async fn bootstrap(&mut self) -> Outcome {
        let bootstrap = self.dht.bootstrap();
        let joined = self.query(bootstrap).await.map_err(failed)?;
        Ok([("peers", joined.peers.into())].into_iter().chain(fields::asked(&joined.report)).collect())
    }

    async fn table(&self) -> Outcome {
        let table = self.dht.routing_table().await.map_err(failed)?;
        let now = now();
        let buckets = table.buckets.iter().map(|bucket| {
            let peers: Vec<_> = bucket
                .entries
                .iter()
                .map(|entry| {
                    json!({
                        "id": entry.peer.to_string(),
                        "connected": entry.connected,
                        "since_s": now.since(entry.since).as_secs(),
                        "rtt_ms": entry.rtt.map(|rtt| rtt.as_millis() as u64),
                        "seen_s": now.since(entry.last_seen).as_secs(),
                        "useful_s": entry.last_useful.map(|at| now.since(at).as_secs()),
                        "failures": entry.failures,
                    })
                })
                .collect();
            json!({ "prefix": bucket.prefix, "capacity": bucket.capacity, "waiting": bucket.waiting, "peers": peers })
        });
        Ok(vec![("nodes", table.estimated_nodes.into()), ("buckets", buckets.collect())])
    }

    async fn queries(&self) -> Outcome {
        let queries = self.dht.queries().await.map_err(failed)?;
        let now = now();
        let queries = queries.iter().map(|query| {
            json!({
                "id": query.id.to_string(),
                "kind": query.kind.name(),
                "since_s": now.since(query.started).as_secs(),
                "left_s": query.deadline.since(now).as_secs(),
                "requests": query.requests,
                "answers": query.answers,
                "unasked": query.unasked,
            })
        });
        Ok(vec![("queries", queries.collect())])
    }

    /// Runs a query to its end and shows its steps to people.
    async fn query<T: NetworkResult>(&mut self, query: Query<T>) -> Result<T, QueryError> {
        let mut watched = query.with_progress();
        while let Some(step) = self.steps.next(&mut watched).await {
            self.steps.on(&step);
        }
        watched.await
    }
}

/// `kept` is whether this node has stored the record and will announce it again, whether or not a peer has stored it.
fn published(reached: &'static str, outcome: Result<Published, QueryError>) -> Outcome {
    let told = |acknowledged: &[PeerId], sent: &[PeerId], failed: &[_], kept: bool| {
        let mut fields = vec![(reached, fields::ids(acknowledged)), ("failed", fields::failures(failed))];
        if !sent.is_empty() {
            fields.push(("sent", fields::ids(sent)));
        }
        fields.push(("kept", kept.into()));
        fields
    };
    match outcome {
        Ok(published) => {
            Ok(told(&published.report.acknowledged, &published.report.sent, &published.report.failed, true))
        }
        Err(why) => {
            let nobody = Report::default();
            let report = why.report().unwrap_or(&nobody);
            let fields = told(&report.acknowledged, &report.sent, &report.failed, why.is_kept());
            Err(Failure { error: explain(&why), fields })
        }
    }
}

fn explain(why: &QueryError) -> String {
    match why {
        // Only the networks of IPFS refuse values.
        QueryError::InvalidValue(InvalidValue::UnknownNamespace) => {
            format!("{why}: this network takes values under /pk/ and /ipns/ alone")
        }
        why => why.to_string(),
    }
}

fn failed(why: QueryError) -> Failure {
    let fields = why.report().map(|report| vec![("failed", fields::failures(&report.failed))]);
    Failure { error: why.to_string(), fields: fields.unwrap_or_default() }
}

fn counters(stats: &Stats) -> Fields {
    let by_kind = |counts: &[u64; 6]| -> Value {
        let counts = Kind::ALL.iter().map(|kind| (kind.to_string(), counts[*kind as usize].into()));
        Value::Object(counts.collect())
    };
    let stores = stats.stores.by_cause().into_iter().map(|(cause, count)| (cause.to_owned(), count.into()));
    vec![
        ("sent", by_kind(&stats.sent)),
        ("answered", by_kind(&stats.answered)),
        ("failed", by_kind(&stats.failed)),
        ("cancelled", by_kind(&stats.cancelled)),
        ("received", by_kind(&stats.received)),
        ("stores", Value::Object(stores.collect())),
        ("refused", stats.refused.into()),
        ("queries_started", stats.queries_started.into()),
        ("queries_succeeded", stats.queries_succeeded.into()),
        ("queries_failed", stats.queries_failed.into()),
        ("table", stats.table.into()),
        ("admitted", stats.admitted.into()),
        ("evicted", stats.evicted.into()),
    ]
}

fn mode(mode: &ModeNow) -> Fields {
    let wanted = mode.wanted.map_or("auto".to_owned(), |wanted| wanted.to_string());
    vec![("mode", mode.mode.to_string().into()), ("wanted", wanted.into()), ("why", mode.why.into())]
}

/// The Unix time, which the expiry of records is compared with.
#[expect(clippy::disallowed_methods, reason = "records are shown with the time that is left to them")]
fn now() -> Timestamp {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::ZERO + unix
}
