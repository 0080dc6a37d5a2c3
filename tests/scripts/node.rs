//! One node and the commands that a story gives it.
//!
//! Knows: the public interface of the core. Must not know: how stories are written or compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad_dht::core::config::Interval;
use libp2p_kad_dht::core::validate::{Candidate, Valid};
use libp2p_kad_dht::core::{
    Contact, Dht, DhtConfig, InboundId, Input, InvalidValue, MemoryStore, MemoryStoreConfig, Mode, Operation, Output,
    QueryId, QueryOptions, RecordKey, Request, RequestId, Response, Store, Timestamp, Validator, Value, Wake,
};
use libp2p_kad_dht::testing::deferred::{DeferredControl, DeferredStore};

use super::names::Names;
use super::show::span;
use super::words::{Words, failure, store_error, time};

/// Accepts numbers as values; the greatest is the best.
#[derive(Debug)]
struct Numbers;

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl Validator for Numbers {
    fn validate(&self, _: Timestamp, _: &RecordKey, value: &[u8]) -> Result<Valid, InvalidValue> {
        number(value).map(|_| Valid::default()).ok_or(InvalidValue::MalformedValue)
    }

    fn select(&self, _: &RecordKey, values: &[Candidate<'_>]) -> usize {
        let rank = |i: &usize| (number(values[*i].value), std::cmp::Reverse(*i));
        (0..values.len()).max_by_key(rank).unwrap_or(0)
    }
}

pub(crate) struct Node {
    dht: Dht,
    names: Names,
    now: Timestamp,
    control: Option<DeferredControl>,
    /// Requests that have not ended, in the order in which they were sent.
    open: BTreeMap<RequestId, (PeerId, Request)>,
    connected: BTreeSet<PeerId>,
    inbound: u64,
    lines: Vec<String>,
}

impl Node {
    pub(crate) fn new(line: &str) -> Node {
        let words = Words::new(line);
        let mut names = Names::default();
        let local = names.contact(words.at(0));
        let memory = MemoryStore::new(MemoryStoreConfig::default(), [7; 32]);
        let (store, control): (Box<dyn Store>, _) = match words.option("store") {
            None => (Box::new(memory), None),
            Some("deferred") => {
                let (store, control) = DeferredStore::new(memory);
                (Box::new(store), Some(control))
            }
            Some(other) => panic!("no such store: {other}"),
        };
        let now = Timestamp::from_secs(1_000_000);
        let dht = Dht::new(now, local, store, [1; 32], Arc::new(config(&words))).unwrap();
        let open = BTreeMap::new();
        let connected = BTreeSet::new();
        let mut node = Node { dht, names, now, control, open, connected, inbound: 0, lines: Vec::new() };
        if words.has("knows") {
            for peer in words.from(2) {
                let contact = node.names.contact(peer);
                node.dht.admit_verified(now, &contact);
            }
        }
        while node.dht.poll_output().is_some() {}
        node
    }

    /// Executes a command, and returns the lines that it causes.
    pub(crate) fn obey(&mut self, line: &str) -> Vec<String> {
        let words = Words::new(line);
        let verb = words.at(0);
        match verb {
            "get" | "put" | "provide" | "providers" | "find" | "closest" | "bootstrap" | "records" | "stop"
            | "remove" => {
                self.start(verb, &words);
            }
            "cancel" => self.dht.cancel(QueryId::new(words.at(1).trim_start_matches('q').parse().unwrap())),
            "answer" | "fail" => self.end_request(verb, &words),
            "advance" => self.advance(time(words.at(1))),
            "await" => self.wait(time(words.at(1))),
            "request" => self.request(&words),
            "gone" => {
                let id = InboundId::new(words.at(1).trim_start_matches('i').parse().unwrap());
                self.input(Input::RequestGone { id });
            }
            "add" | "discovered" | "serves" | "connected" | "disconnected" => self.tell_of_peer(verb, &words),
            "ban" => self.dht.ban(self.now, self.names.peer(words.at(1)), time(words.at(2))),
            "unban" => _ = self.dht.unban(&self.names.peer(words.at(1))),
            "forget" => _ = self.dht.remove_peer(self.now, &self.names.peer(words.at(1))),
            "rename" => self.inbound = words.at(1).parse().unwrap(),
            "mode" => self.input(Input::Mode(if words.at(1) == "client" { Mode::Client } else { Mode::Server })),
            "addrs" => {
                let addrs = self.names.contacts(words.at(1).trim_start_matches("none")).into_iter();
                let addrs = addrs.flat_map(|contact| contact.addrs().collect::<Vec<_>>()).collect();
                self.input(Input::LocalAddrs(addrs));
            }
            "store" => self.tell_store(&words),
            "table" => self.lines.extend(self.names.of_table(&self.dht.routing_snapshot())),
            "wake" => self.show_wake(),
            "stores" => self.show_stores(),
            verb => panic!("no such command: {verb}"),
        }
        self.dht.poll_store(self.now, Waker::noop());
        self.drain();
        std::mem::take(&mut self.lines)
    }

    fn input(&mut self, input: Input) {
        self.dht.handle_input(self.now, input);
    }

    fn start(&mut self, verb: &str, words: &Words<'_>) {
        words.only(&["quorum", "limit", "timeout", "only"]);
        let mut options = QueryOptions::default();
        options.quorum = words.quorum("quorum");
        options.timeout = words.time("timeout");
        options.limit = words.number("limit");
        options.progress = words.has("progress");
        options.thorough = words.has("thorough");
        options.not_kept = words.has("unkept");
        options.only = words.option("only").map(|only| only.split(',').map(|bits| self.names.peer(bits)).collect());
        let operation = match verb {
            "get" => Operation::Get { key: self.names.key(words.at(1)) },
            "stop" => Operation::StopProviding { key: self.names.key(words.at(1)) },
            "remove" => Operation::Remove { key: self.names.key(words.at(1)) },
            "put" => {
                let value = Bytes::from(words.at(2).to_owned());
                Operation::Put { key: self.names.key(words.at(1)), value }
            }
            "provide" => Operation::Provide { key: self.names.key(words.at(1)) },
            "providers" => Operation::Providers { key: self.names.key(words.at(1)) },
            "find" => Operation::FindPeer { peer: self.names.peer(words.at(1)) },
            "closest" => Operation::ClosestPeers { key: self.names.key(words.at(1)).to_shared() },
            "bootstrap" => Operation::Bootstrap,
            _ => Operation::Records { after: None, limit: options.limit.unwrap_or(100.try_into().unwrap()) },
        };
        if self.dht.start(self.now, operation, options).is_err() {
            self.lines.push("busy".to_owned());
        }
    }

    /// Ends the oldest open request to a peer; `0100:PutValue` selects one of several.
    fn end_request(&mut self, verb: &str, words: &Words<'_>) {
        let (bits, kind) = words.at(1).split_once(':').map_or((words.at(1), None), |(bits, kind)| (bits, Some(kind)));
        let peer = self.names.peer(bits);
        let fits = |request: &Request| kind.is_none_or(|kind| request.kind().to_string() == kind);
        let open = self.open.iter().find(|(_, (to, request))| *to == peer && fits(request));
        let Some((id, (_, request))) = open.map(|(id, open)| (*id, open.clone())) else {
            return self.lines.push(format!("{bits} was not asked"));
        };
        self.open.remove(&id);
        let result = match verb {
            "answer" => Ok(self.response(&request, words)),
            _ => Err(failure(words.at(2))),
        };
        self.input(Input::Response { id, result });
    }

    fn response(&mut self, request: &Request, words: &Words<'_>) -> Response {
        words.only(&["closer", "providers", "value", "ttl", "age", "key", "type"]);
        let closer = self.names.contacts(words.option("closer").unwrap_or(""));
        let providers = self.names.contacts(words.option("providers").unwrap_or(""));
        let other_key = words.option("key").map(|key| self.names.key(key));
        let value = words.option("value").map(|value| Bytes::from(value.to_owned()));
        if words.option("type") == Some("Ping") {
            return Response::Ping;
        }
        match request {
            Request::FindNode { .. } => Response::FindNode { closer },
            Request::GetValue { key } => {
                let key = other_key.unwrap_or_else(|| key.clone());
                let value = value.map(|value| {
                    let mut value = Value::new(key.clone(), value);
                    (value.ttl, value.age) = (words.time("ttl"), words.time("age"));
                    value
                });
                Response::GetValue { value, key, closer }
            }
            Request::PutValue { value: sent } => {
                let key = other_key.unwrap_or_else(|| sent.key.clone());
                Response::PutValue { value: Value::new(key, value.unwrap_or_else(|| sent.value.clone())) }
            }
            Request::GetProviders { key } => {
                Response::GetProviders { key: other_key.unwrap_or_else(|| key.clone()), providers, closer }
            }
            Request::AddProvider { .. } => Response::AddProvider,
            _ => Response::Ping,
        }
    }

    fn request(&mut self, words: &Words<'_>) {
        words.only(&["ttl", "age", "of", "peer"]);
        let from = self.names.peer(words.at(1));
        let mut key = |place: usize| self.names.key(words.at(place));
        let request = match words.at(2) {
            "Ping" => Request::Ping,
            "FindNode" => match words.option("peer") {
                Some(bits) => Request::FindNode { key: self.names.peer(bits).to_bytes().into() },
                None => Request::FindNode { key: key(3).to_shared() },
            },
            "GetValue" => Request::GetValue { key: key(3) },
            "PutValue" => {
                let mut value = Value::new(key(3), words.at(4).to_owned());
                (value.ttl, value.age) = (words.time("ttl"), words.time("age"));
                Request::PutValue { value }
            }
            "GetProviders" => Request::GetProviders { key: key(3) },
            "AddProvider" => {
                let key = key(3);
                Request::AddProvider { key, providers: self.names.contacts(words.option("of").unwrap_or("")) }
            }
            kind => panic!("no such request: {kind}"),
        };
        let id = InboundId::new(self.inbound);
        self.inbound += 1;
        self.input(Input::Request { from, id, request });
    }

    fn tell_of_peer(&mut self, verb: &str, words: &Words<'_>) {
        let contact = self.names.contact(words.at(1));
        let peer = *contact.peer();
        match verb {
            "connected" => _ = self.connected.insert(peer),
            "disconnected" => _ = self.connected.remove(&peer),
            _ => {}
        }
        self.input(match verb {
            "add" => Input::AddPeer(contact),
            "discovered" => Input::Discovered(contact),
            "serves" => Input::Serves { peer, yes: words.at(2) == "yes" },
            "disconnected" => Input::Disconnected { peer },
            _ => {
                let outbound_addr = contact.addrs().next().filter(|_| words.has("dialled"));
                let inbound_addr = contact.addrs().next().filter(|_| words.has("inbound"));
                Input::Connected { peer, outbound_addr, inbound_addr }
            }
        });
    }

    fn tell_store(&mut self, words: &Words<'_>) {
        let control = self.control.as_mut().expect("a deferred store");
        match words.at(1) {
            "release" => control.release(words.at(2).parse().unwrap()),
            "release-at" => control.release_at(words.at(2).parse().unwrap()),
            "fail" => control.fail_next(store_error(words.at(2))),
            "refuse" => control.refuse_next(store_error(words.at(2))),
            other => panic!("no such command to a store: {other}"),
        }
    }

    /// Lets time pass, and reports what happens meanwhile.
    fn advance(&mut self, time: Duration) {
        let (begin, end) = (self.now, self.now + time);
        while let Some(at) = self.dht.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
            let before = self.lines.len();
            self.drain();
            if self.lines.len() > before {
                self.lines.insert(before, format!("+{}:", span(self.now - begin)));
            }
        }
        self.now = end;
    }

    /// Lets time pass until something happens, at most `time`; reports after how many minutes it did.
    fn wait(&mut self, time: Duration) {
        let (begin, end) = (self.now, self.now + time);
        while let Some(at) = self.dht.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
            self.drain();
            if !self.lines.is_empty() {
                let minutes = (self.now - begin).as_secs() / 60;
                return self.lines.insert(0, format!("after {}h{:02}m:", minutes / 60, minutes % 60));
            }
        }
        self.now = end;
    }

    /// Shows the store's counters that are not zero.
    fn show_stores(&mut self) {
        let stores = &self.dht.stats().stores;
        let all = [
            ("published", stores.published),
            ("announced", stores.announced),
            ("replicated", stores.replicated),
            ("joined", stores.joined),
            ("corrected", stores.corrected),
            ("cached", stores.cached),
        ];
        let some: Vec<_> = all.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
        self.lines.push(format!("stores: {}", if some.is_empty() { "none".to_owned() } else { some.join(", ") }));
    }

    fn show_wake(&mut self) {
        let line = match self.dht.next_wake() {
            None => "no wake".to_owned(),
            Some((at, wake)) => {
                let why = match wake {
                    Wake::Request(id) => format!("request to {}", self.names.of_peer(&self.open[&id].0)),
                    Wake::Query(id) => format!("query {id}"),
                    Wake::Expiry => "expiry".to_owned(),
                    _ => "maintenance".to_owned(),
                };
                format!("wake +{} {why}", span(at - self.now))
            }
        };
        self.lines.push(line);
    }

    fn drain(&mut self) {
        while let Some(output) = self.dht.poll_output() {
            let line = match output {
                Output::Send { to, id, request } => {
                    let line = format!("send {} {}", self.to(&to), self.names.of_request(&request));
                    self.open.insert(id, (*to.peer(), request));
                    if !self.connected.contains(to.peer()) {
                        self.dht.handle_input(self.now, Input::Dialling { id });
                    }
                    self.dht.handle_input(self.now, Input::Sent { id });
                    line
                }
                Output::Cancel { id } => {
                    let (peer, request) = self.open.remove(&id).expect("a request that has not ended");
                    format!("cancel {} {}", self.names.of_peer(&peer), request.kind())
                }
                Output::Reply { to, id, reply } => {
                    format!("reply {} {id} {}", self.names.of_peer(&to), self.names.of_reply(&reply))
                }
                Output::Event(event) => self.names.of_event(&event),
                Output::DialBack { peer, .. } => format!("dial back {}", self.names.of_peer(&peer)),
                other => format!("{other:?}"),
            };
            self.lines.push(line);
        }
    }

    fn to(&self, contact: &Arc<Contact>) -> String {
        self.names.of_contacts(std::slice::from_ref(contact))
    }
}

fn config(words: &Words<'_>) -> DhtConfig {
    words.only(&[
        "k",
        "paths",
        "parallelism",
        "resiliency",
        "bucket",
        "wide",
        "refresh",
        "checks",
        "announce",
        "regions",
        "replicate",
        "probes",
        "validator",
        "store",
        "read",
        "write",
        "query-timeout",
        "min-request-timeout",
        "address-book",
        "frontier",
        "request-timeout",
        "value-ttl",
        "provider-ttl",
        "addr-ttl",
        "inbound",
        "per-peer",
        "queries",
        "providers",
        "candidates",
        "caching",
    ]);
    let mut config = DhtConfig::default();
    let k = words.number("k").unwrap_or(config.lookup.replication);
    config.lookup.replication = k;
    config.lookup.paths = words.number("paths").unwrap_or(config.lookup.paths);
    config.lookup.parallelism = words.number("parallelism").unwrap_or(config.lookup.parallelism);
    config.lookup.resiliency = words.number("resiliency").unwrap_or(config.lookup.resiliency.min(k));
    config.lookup.query_timeout = words.time("query-timeout").unwrap_or(config.lookup.query_timeout);
    config.lookup.request_timeout = words.time("request-timeout").unwrap_or(config.lookup.request_timeout);
    config.lookup.min_request_timeout = words
        .time("min-request-timeout")
        .unwrap_or(config.lookup.min_request_timeout.min(config.lookup.request_timeout));
    config.routing.bucket_size = words.number("bucket").unwrap_or(config.routing.bucket_size);
    config.routing.wide_low_buckets = words.number("wide").unwrap_or(0);
    config.maintenance.refresh_interval = words.time("refresh");
    config.maintenance.check_interval = words.time("checks");
    let interval = |name| words.time(name).map_or(Interval::Never, Interval::Every);
    config.maintenance.announce_interval = interval("announce");
    config.maintenance.region_interval = interval("regions");
    config.maintenance.replicate_interval = interval("replicate");
    config.maintenance.probes = words.number("probes").unwrap_or(config.maintenance.probes);
    config.record.read_quorum = words.quorum("read").unwrap_or(config.record.read_quorum);
    config.record.write_quorum = words.quorum("write").unwrap_or(config.record.write_quorum);
    config.record.value_ttl = words.time("value-ttl").unwrap_or(config.record.value_ttl);
    config.record.provider_ttl = words.time("provider-ttl").unwrap_or(config.record.provider_ttl);
    config.record.provider_addr_ttl = words.time("addr-ttl").unwrap_or(config.record.provider_addr_ttl);
    config.limit.address_book = words.number("address-book").unwrap_or(config.limit.address_book);
    config.limit.frontier = words.number("frontier").unwrap_or(config.limit.frontier);
    config.limit.inbound = words.number("inbound").unwrap_or(config.limit.inbound);
    config.limit.inbound_per_peer = words.number("per-peer").unwrap_or(config.limit.inbound_per_peer);
    config.limit.queries = words.number("queries").unwrap_or(config.limit.queries);
    config.limit.candidates = words.number("candidates").unwrap_or(config.limit.candidates);
    config.limit.providers_per_query = words.number("providers").unwrap_or(config.limit.providers_per_query);
    config.record.path_caching = words.option("caching") != Some("no");
    match words.option("validator") {
        None => {}
        Some("numbers") => config.record.validator = Arc::new(Numbers),
        Some(other) => panic!("no such validator: {other}"),
    }
    config
}
