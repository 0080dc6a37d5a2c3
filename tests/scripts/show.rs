//! The actions of a node, in words.
//!
//! Knows: outputs and names. Must not know: commands.

use std::time::Duration;

use libp2p_kad_dht::core::store::Item;
use libp2p_kad_dht::core::{
    Answer, Bootstrapped, ClosestPeers, Event, Found, FoundPeer, Progress, ProvidersFound, Published, QueryError,
    QueryEvent, Reply, Report, Request, Response, RoutingSnapshot, Value,
};

use super::names::Names;

impl Names {
    /// `GetValue 0001`.
    pub(crate) fn of_request(&self, request: &Request) -> String {
        let kind = request.kind();
        match request {
            Request::FindNode { key } => format!("{kind} {}", self.of_key(key)),
            Request::GetValue { key } | Request::GetProviders { key } => {
                format!("{kind} {}", self.of_key(key.as_bytes()))
            }
            Request::PutValue { value } => format!("{kind} {}", self.value(value)),
            Request::AddProvider { key, providers } => {
                format!("{kind} {} of={}", self.of_key(key.as_bytes()), self.of_contacts(providers))
            }
            _ => kind.to_string(),
        }
    }

    fn value(&self, value: &Value) -> String {
        let mut text = format!("{}={}", self.of_key(value.key.as_bytes()), String::from_utf8_lossy(&value.value));
        if let Some(publisher) = &value.publisher {
            text += &format!(" publisher={}", self.of_peer(publisher));
        }
        if let Some(ttl) = value.ttl {
            text += &format!(" ttl={}", span(ttl));
        }
        if let Some(age) = value.age {
            text += &format!(" age={}", span(age));
        }
        text
    }

    /// `reply 0100 GetValue value …`, or the reason why it is refused.
    pub(crate) fn of_reply(&self, reply: &Reply) -> String {
        match reply {
            Reply::Nothing => "nothing".to_owned(),
            Reply::Reset(why) => format!("reset ({why})"),
            Reply::Answer(response) => self.of_response(response),
            other => format!("{other:?}"),
        }
    }

    fn of_response(&self, response: &Response) -> String {
        let kind = response.kind();
        match response {
            Response::FindNode { closer } => format!("{kind} closer={}", self.of_contacts(closer)),
            Response::GetValue { value, closer, .. } => {
                let value = value.as_ref().map_or("no value".to_owned(), |value| self.value(value));
                format!("{kind} {value} closer={}", self.of_contacts(closer))
            }
            Response::PutValue { value } => format!("{kind} {}", self.value(value)),
            Response::GetProviders { providers, closer, .. } => {
                format!("{kind} providers={} closer={}", self.of_contacts(providers), self.of_contacts(closer))
            }
            _ => kind.to_string(),
        }
    }

    pub(crate) fn of_event(&self, event: &Event) -> String {
        match event {
            Event::QueryProgressed { id, event } => format!("{id} {}", self.of_query_event(event)),
            Event::RoutingChanged { peer, present: true } => format!("table +{}", self.of_peer(peer)),
            Event::RoutingChanged { peer, present: false } => format!("table -{}", self.of_peer(peer)),
            Event::RecordStored { key, from } => {
                format!("kept value {} from {}", self.of_key(key.as_bytes()), self.of_peer(from))
            }
            Event::Superseded { key } => format!("own value {} superseded", self.of_key(key.as_bytes())),
            Event::ProviderStored { key, provider } => {
                format!("kept provider {} of {}", self.of_peer(provider), self.of_key(key.as_bytes()))
            }
            Event::PeerMisbehaved { peer, what } => format!("misbehaved {} ({what})", self.of_peer(peer)),
            other => format!("{other:?}"),
        }
    }

    fn of_query_event(&self, event: &QueryEvent) -> String {
        match event {
            QueryEvent::Progress(Progress::Asked { peer, kind, shared_bits }) => {
                let shared = shared_bits.min(&9);
                format!("asked {} {kind}, {shared} bits", self.of_peer(peer))
            }
            QueryEvent::Progress(Progress::Answered { peer, took, news, .. }) => {
                format!("answered {} after {}, {news} news", self.of_peer(peer), span(*took))
            }
            QueryEvent::Progress(Progress::Failed { peer, why }) => format!("failed {} ({why})", self.of_peer(peer)),
            QueryEvent::Value(record) => format!("value {}", String::from_utf8_lossy(&record.value)),
            QueryEvent::Provider(provider) => {
                format!("provider {}", self.of_records(std::slice::from_ref(provider)))
            }
            QueryEvent::Finished(result) => match &**result {
                Ok(answer) => self.of_answer(answer),
                Err(error) => format!("finished {}", self.of_error(error)),
            },
            other => format!("{other:?}"),
        }
    }

    fn of_answer(&self, answer: &Answer) -> String {
        match answer {
            Answer::ClosestPeers(ClosestPeers { peers, report, .. }) => {
                format!("finished ClosestPeers {}; {}", self.of_records(peers), self.of_report(report))
            }
            Answer::Peer(FoundPeer { peer, evidence, report, .. }) => {
                let peer = self.of_records(std::slice::from_ref(peer));
                format!("finished Peer {peer} {evidence}; {}", self.of_report(report))
            }
            Answer::Value(Found { record, from, holders, outdated, missing, corrected, cached, report, .. }) => {
                let from = from.as_ref().map_or("here".to_owned(), |peer| self.of_peer(peer));
                let value = String::from_utf8_lossy(&record.value);
                let (holders, outdated) = (self.of_peers(holders), self.of_peers(outdated));
                let mut text = format!("finished Value {value} from {from} holders={holders} outdated={outdated}");
                for (word, peers) in [("missing", missing), ("corrected", corrected)] {
                    if !peers.is_empty() {
                        text += &format!(" {word}={}", self.of_peers(peers));
                    }
                }
                if let Some(cached) = cached {
                    text += &format!(" cached={}", self.of_peer(cached));
                }
                format!("{text}; {}", self.of_report(report))
            }
            Answer::Published(Published { report, .. }) => format!("finished Published; {}", self.of_report(report)),
            Answer::Providers(ProvidersFound { found, report, .. }) => {
                format!("finished Providers {found}; {}", self.of_report(report))
            }
            Answer::Bootstrapped(Bootstrapped { peers, report, .. }) => {
                format!("finished Bootstrapped {peers}; {}", self.of_report(report))
            }
            Answer::Removed => "finished Removed".to_owned(),
            Answer::Records(items) => {
                let items: Vec<_> = items.iter().map(|item| self.of_item(item)).collect();
                format!("finished Records {}", items.join(", "))
            }
            other => format!("{other:?}"),
        }
    }

    fn of_item(&self, item: &Item) -> String {
        let own = if item.is_own() { " own" } else { "" };
        match item {
            Item::Value(record) => {
                let value = String::from_utf8_lossy(&record.value);
                format!("{}={value}{own}", self.of_key(record.key.as_bytes()))
            }
            Item::Provider(record) => {
                let provider = self.of_peer(record.provider.peer());
                format!("{} by {provider}{own}", self.of_key(record.key.as_bytes()))
            }
        }
    }

    fn of_error(&self, error: &QueryError) -> String {
        match error {
            QueryError::NoAnswer(report) => format!("NoAnswer; {}", self.of_report(report)),
            QueryError::Overloaded(report) => format!("Overloaded; {}", self.of_report(report)),
            QueryError::NotFound(report) => format!("NotFound; {}", self.of_report(report)),
            QueryError::QuorumMissed { wanted, reached, best, holders, report } => {
                let best = best
                    .as_ref()
                    .map_or(String::new(), |best| format!(" best={}", String::from_utf8_lossy(&best.value)));
                let held = if holders.is_empty() { String::new() } else { format!(" at {}", self.of_peers(holders)) };
                format!("QuorumMissed {reached}/{wanted}{best}{held}; {}", self.of_report(report))
            }
            QueryError::TimedOut { after, report, .. } => {
                format!("TimedOut {}; {}", span(*after), self.of_report(report))
            }
            other => format!("{other:?}"),
        }
    }

    fn of_report(&self, report: &Report) -> String {
        let mut text = format!("{} requests, {} answers", report.requests, report.answers);
        if !report.acknowledged.is_empty() {
            text += &format!(", taken by {}", self.of_peers(&report.acknowledged));
        }
        if !report.sent.is_empty() {
            text += &format!(", sent to {}", self.of_peers(&report.sent));
        }
        for failure in &report.failed {
            text += &format!(", {} {}", self.of_peer(&failure.peer), failure.why);
        }
        text
    }

    /// One line per bucket, with a `?` for each failure of an entry.
    pub(crate) fn of_table(&self, table: &RoutingSnapshot) -> Vec<String> {
        let bucket = |bucket: &libp2p_kad_dht::core::BucketSnapshot| {
            let entry = |entry: &libp2p_kad_dht::core::EntrySnapshot| {
                self.of_peer(&entry.peer) + &"?".repeat(entry.failures as usize)
            };
            let entries: Vec<_> = bucket.entries.iter().map(entry).collect();
            let waiting = if bucket.waiting > 0 { format!(", {} waiting", bucket.waiting) } else { String::new() };
            format!("bucket {} of {}: {}{waiting}", bucket.prefix, bucket.capacity, entries.join(","))
        };
        table.buckets.iter().map(bucket).collect()
    }
}

/// In the largest unit that divides it.
pub(crate) fn span(time: Duration) -> String {
    let micros = time.as_micros();
    for (unit, size) in [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)] {
        if micros > 0 && micros.is_multiple_of(size) {
            return format!("{}{unit}", micros / size);
        }
    }
    format!("{micros}us")
}
