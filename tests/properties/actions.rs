//! Anything that can happen to a node, in any order.
//!
//! Knows: how to pick what happens by a few numbers. Must not know: what the node should do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad_dht::core::{
    Contact, DialCause, InboundId, Input, Misbehaviour, Mode, Operation, QueryId, QueryOptions, Quorum, RecordKey,
    Request, RequestError, RequestId, Response, StoreError, Unreachable, Value,
};
use proptest::prelude::*;

use super::lawful::{FORGOTTEN, Lawful};
use super::places;

/// One thing that happens. The numbers pick from what there is.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Start {
        operation: u8,
        key: u8,
        options: u8,
    },
    Cancel(u8),
    Answer {
        nth: u8,
        how: u8,
        peers: u32,
    },
    Fail {
        nth: u8,
        why: u8,
    },
    /// The driver dials for a request, or sends it.
    Begin {
        nth: u8,
        dials: bool,
    },
    /// The end of a request that has ended.
    Stray {
        nth: u8,
        how: u8,
    },
    Advance(u16),
    /// The next time at which the node wants to be woken comes.
    Wake,
    Request {
        from: u8,
        kind: u8,
        key: u8,
        value: u8,
    },
    Gone(u8),
    Store {
        what: u8,
        at: u8,
    },
    Peer {
        what: u8,
        peer: u8,
    },
    Own {
        what: u8,
        key: u8,
    },
    /// Suspends the node, or resumes it.
    Suspend(bool),
}

pub(crate) fn action() -> impl Strategy<Value = Action> {
    let byte = any::<u8>;
    prop_oneof![
        4 => (byte(), byte(), byte()).prop_map(|(operation, key, options)| Action::Start { operation, key, options }),
        1 => byte().prop_map(Action::Cancel),
        12 => (byte(), byte(), any::<u32>()).prop_map(|(nth, how, peers)| Action::Answer { nth, how, peers }),
        3 => (byte(), byte()).prop_map(|(nth, why)| Action::Fail { nth, why }),
        8 => (byte(), any::<bool>()).prop_map(|(nth, dials)| Action::Begin { nth, dials }),
        1 => (byte(), byte()).prop_map(|(nth, how)| Action::Stray { nth, how }),
        2 => (0..4_000u16).prop_map(Action::Advance),
        4 => Just(Action::Wake),
        5 => (byte(), byte(), byte(), byte())
            .prop_map(|(from, kind, key, value)| Action::Request { from, kind, key, value }),
        1 => byte().prop_map(Action::Gone),
        5 => (byte(), byte()).prop_map(|(what, at)| Action::Store { what, at }),
        5 => (byte(), byte()).prop_map(|(what, peer)| Action::Peer { what, peer }),
        1 => (byte(), byte()).prop_map(|(what, key)| Action::Own { what, key }),
        2 => prop::sample::select(vec![true, false, false]).prop_map(Action::Suspend),
    ]
}

/// The number of peers; the first is the node itself.
pub(crate) const PEERS: u32 = 24;

pub(crate) fn peer(i: u32) -> PeerId {
    let mut bytes = [0; 34];
    bytes[..2].copy_from_slice(&[0x12, 0x20]);
    bytes[2..6].copy_from_slice(&i.to_be_bytes());
    PeerId::from_bytes(&bytes).unwrap()
}

pub(crate) fn contact(i: u32) -> Arc<Contact> {
    Contact::new(peer(i), places::addrs(i))
}

/// The peers of which a bit is set, some without addresses.
fn some(bits: u32) -> Vec<Arc<Contact>> {
    let named = (0..PEERS).filter(|i| bits >> i & 1 == 1);
    named.map(|i| if bits.rotate_left(i) & 3 == 0 { Contact::new(peer(i), []) } else { contact(i) }).collect()
}

fn key(i: u8) -> RecordKey {
    match i {
        0 => RecordKey::new(Bytes::new()),
        1 => RecordKey::from(vec![b'x'; 81]),
        2 => RecordKey::from(vec![b'x'; 2_049]),
        i => RecordKey::from(format!("/key/{}", i % 5).into_bytes()),
    }
}

fn value(i: u8) -> Bytes {
    if i.is_multiple_of(5) { Bytes::from_static(b"bad") } else { Bytes::from(format!("v{}", i % 7)) }
}

/// An answer to a request: mostly a good one.
pub(crate) fn answer(request: &Request, how: u8, peers: u32) -> Response {
    let closer = if how == 1 { (0..1_000).map(contact).collect() } else { some(peers) };
    let wrong = |key: &RecordKey| if how == 2 { RecordKey::from("/wrong/key") } else { key.clone() };
    if how == 3 {
        return Response::Ping;
    }
    match request {
        Request::FindNode { .. } => Response::FindNode { closer },
        Request::GetValue { key } => {
            let key = if how == 4 { RecordKey::new(Bytes::new()) } else { wrong(key) };
            let asked = if how == 4 { request_key(request) } else { key.clone() };
            let value = how.is_multiple_of(3).then(|| Value::new(asked, value(how)));
            Response::GetValue { key, value, closer }
        }
        Request::PutValue { value } => {
            let mut value = value.clone();
            value.key = wrong(&value.key);
            if how == 4 {
                value.value = Bytes::from_static(b"other");
            }
            Response::PutValue { value }
        }
        Request::GetProviders { key } => {
            Response::GetProviders { key: wrong(key), providers: some(peers.reverse_bits()), closer }
        }
        Request::AddProvider { .. } => Response::AddProvider,
        _ => Response::Ping,
    }
}

fn request_key(request: &Request) -> RecordKey {
    match request {
        Request::GetValue { key } | Request::GetProviders { key } => key.clone(),
        _ => RecordKey::new(Bytes::new()),
    }
}

pub(crate) fn failure(why: u8) -> RequestError {
    let all = [
        RequestError::Unreachable(Unreachable::DialFailed(DialCause::Unknown)),
        RequestError::Unreachable(Unreachable::Denied),
        RequestError::ConnectionClosed,
        RequestError::Timeout,
        RequestError::Refused,
        RequestError::Unsupported,
        RequestError::Misbehaved(Misbehaviour::Undecodable),
        RequestError::Busy,
        RequestError::Unacknowledged,
    ];
    all[usize::from(why) % all.len()]
}

fn operation(what: u8, i: u8) -> Operation {
    match what % 9 {
        0 => Operation::ClosestPeers { key: key(i).to_shared() },
        1 => Operation::FindPeer { peer: peer(u32::from(i) % (PEERS + 1)) },
        2 => Operation::Get { key: key(i) },
        3 | 4 => Operation::Put { key: key(i), value: value(what / 9) },
        5 => Operation::Provide { key: key(i) },
        6 => Operation::Providers { key: key(i) },
        7 => Operation::Bootstrap,
        _ => Operation::Records { after: None, limit: 3.try_into().unwrap() },
    }
}

fn options(bits: u8) -> QueryOptions {
    let mut options = QueryOptions::default();
    options.progress = bits & 1 == 1;
    options.timeout = (bits & 6 == 6).then(|| Duration::from_millis(u64::from(bits) * 10));
    options.quorum = [None, Some(Quorum::All), Some(Quorum::Majority), None][usize::from(bits >> 3 & 3)];
    options.limit = (usize::from(bits >> 5)).try_into().ok();
    options
}

fn nth<T: Copy>(all: impl ExactSizeIterator<Item = T>, n: u8) -> Option<T> {
    let mut all = all;
    let len = all.len();
    if len == 0 { None } else { all.nth(usize::from(n) % len) }
}

impl Lawful {
    /// Lets it happen, and takes what comes of it.
    pub(crate) fn act(&mut self, action: &Action) {
        match *action {
            Action::Start { operation: what, key, options: bits } => self.start(operation(what, key), options(bits)),
            Action::Cancel(n) => {
                let id = nth(self.queries.keys(), n).copied().unwrap_or(QueryId::new(n.into()));
                self.call(move |dht, _| dht.cancel(id));
            }
            Action::Answer { nth: n, how, peers } => {
                if let Some((id, request)) = self.pick(n) {
                    self.respond(id, Ok(answer(&request, how, peers)));
                }
            }
            Action::Fail { nth: n, why } => {
                if let Some((id, _)) = self.pick(n) {
                    self.respond(id, Err(failure(why)));
                }
            }
            Action::Begin { nth: n, dials } => {
                // Also ids that were begun, have ended, or never existed.
                let open = self.pick(n).map(|(id, _)| id);
                let id = open.or_else(|| self.ended.first().copied()).unwrap_or(RequestId::new(1_000_000));
                self.input(move || match dials {
                    true => Input::Dialling { id },
                    false => Input::Sent { id },
                });
            }
            Action::Stray { nth: n, how } => {
                let id = nth(self.ended.iter(), n).copied().unwrap_or(RequestId::new(1_000_000));
                let result = if how % 2 == 0 { Ok(Response::FindNode { closer: vec![] }) } else { Err(failure(how)) };
                self.respond(id, result);
            }
            Action::Advance(millis) => self.sleep(Duration::from_millis(millis.into())),
            Action::Wake => {
                let time = self.dht.poll_timeout().map_or(Duration::ZERO, |at| at - self.now);
                self.sleep(time.min(Duration::from_secs(100)));
            }
            Action::Request { from, kind, key: i, value: v } => self.on_request(from, kind, i, v),
            Action::Gone(n) => {
                if let Some(id) = nth(self.inbound.keys(), n).copied() {
                    self.inbound.remove(&id);
                    self.input(move || Input::RequestGone { id });
                }
            }
            Action::Store { what, at } => self.on_store(what, at),
            Action::Peer { what, peer } => self.on_peer(what, peer),
            Action::Own { what, key: i } => self.on_own(what, i),
            Action::Suspend(yes) => self.suspend(yes),
        }
        self.drain();
    }

    fn pick(&self, n: u8) -> Option<(RequestId, Request)> {
        nth(self.open.iter(), n).map(|(id, (_, request))| (*id, request.clone()))
    }

    fn input(&mut self, input: impl Fn() -> Input + 'static) {
        let now = self.now;
        self.call(move |dht, _| dht.handle_input(now, input()));
    }

    fn sleep(&mut self, time: Duration) {
        self.now += time;
        self.wake();
    }

    fn on_request(&mut self, from: u8, kind: u8, i: u8, v: u8) {
        let from = u32::from(from) % (PEERS - 1) + 1;
        let request = match kind % 6 {
            0 => Request::Ping,
            1 if v.is_multiple_of(2) => Request::FindNode { key: peer(u32::from(i) % PEERS).to_bytes().into() },
            1 => Request::FindNode { key: key(i).to_shared() },
            2 => Request::GetValue { key: key(i) },
            3 => {
                let mut sent = Value::new(key(i), value(v));
                sent.ttl = v.is_multiple_of(4).then(|| Duration::from_secs(v.into()));
                Request::PutValue { value: sent }
            }
            4 => Request::GetProviders { key: key(i) },
            _ => Request::AddProvider { key: key(i), providers: some(1 << from | u32::from(v)) },
        };
        // The smallest name that is free: drivers may use one again.
        let id = (0..).map(InboundId::new).find(|id| !self.inbound.contains_key(id)).unwrap();
        self.request(peer(from), id, request);
    }

    fn on_store(&mut self, what: u8, at: u8) {
        let error = [StoreError::Full, StoreError::Failed, StoreError::TooLarge][usize::from(at) % 3];
        self.call(move |_, control| {
            let Some(control) = control else { return };
            match what % 8 {
                0 => control.fail_next(error),
                1 => control.refuse_next(error),
                2..=4 => control.release(usize::from(at) % 3 + 1),
                _ => control.release_at(usize::from(at) % 4),
            }
        });
    }

    fn on_peer(&mut self, what: u8, i: u8) {
        let contact = contact(u32::from(i) % PEERS);
        match what % 8 {
            3 | 4 => _ = self.connected.insert(*contact.peer()),
            5 => _ = self.connected.remove(contact.peer()),
            _ => {}
        }
        self.input(move || {
            let peer = *contact.peer();
            match what % 8 {
                0 | 1 => Input::AddPeer(Arc::clone(&contact)),
                2 => Input::Discovered(Arc::clone(&contact)),
                3 => Input::Connected {
                    peer,
                    outbound_addr: None,
                    inbound_addr: contact.addrs().nth(usize::from(what / 8) % 2),
                },
                4 => {
                    let outbound_addr = contact.addrs().nth(usize::from(what / 8) % 2);
                    Input::Connected { peer, outbound_addr, inbound_addr: None }
                }
                5 => Input::Disconnected { peer },
                6 => Input::Serves { peer, yes: true },
                _ => Input::Serves { peer, yes: false },
            }
        });
    }

    fn on_own(&mut self, what: u8, i: u8) {
        match what % 5 {
            0 => self.input(|| Input::Mode(Mode::Client)),
            1 => self.input(|| Input::Mode(Mode::Server)),
            2 => {
                self.moved = true;
                self.input(move || Input::LocalAddrs(contact(i.into()).addrs().take(i as usize % 4).collect()));
            }
            3 if self.pending() < FORGOTTEN => {
                self.start(Operation::StopProviding { key: key(i) }, QueryOptions::default())
            }
            4 if self.pending() < FORGOTTEN => self.start(Operation::Remove { key: key(i) }, QueryOptions::default()),
            _ => {}
        }
    }
}
