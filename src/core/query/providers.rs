//! Find who provides some content, and tell as soon as one is known.
//!
//! A provider is reported once, when an address of it is known. Those that nobody knew an address of are reported at the
//! end, by their ids alone. Of a long list a peer gives, any may be the first to be reported.

use std::collections::BTreeMap;
use std::sync::Arc;

use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;

use super::{Context, Step, unanswered, walk_on};
use crate::core::config::MAX_PROVIDER_KEY_LEN;
use crate::core::contact::Contact;
use crate::core::error::Report;
use crate::core::io::{Answer, PeerRecord, ProvidersFound, QueryEvent, QueryOptions};
use crate::core::lookup::Lookup;
use crate::core::message::{Request, Response};
use crate::core::record::RecordKey;
use crate::core::requests::Tag;
use crate::core::shuffle::shuffle;
use crate::core::store::{Done, Found};

#[derive(Debug)]
pub(crate) struct FindProviders {
    key: RecordKey,
    pub(super) lookup: Lookup,
    /// How many are enough.
    limit: usize,
    /// How many are remembered, so that those without an address take no place from those with one.
    most: usize,
    local: bool,
    /// Everyone heard of, and whether it was reported.
    heard: BTreeMap<PeerId, bool>,
    reported: usize,
    /// Reports that wait to be handed out by the next event.
    found: Vec<PeerRecord>,
    rng: ChaCha8Rng,
}

impl FindProviders {
    /// The caller reads the store for `key` and reports by `on_local`.
    pub(crate) fn new(cx: &Context<'_>, key: RecordKey, options: &QueryOptions, rng: ChaCha8Rng) -> FindProviders {
        debug_assert!(key.as_bytes().len() <= MAX_PROVIDER_KEY_LEN, "checked at the door");
        let most = cx.config.limit.providers_per_query;
        FindProviders {
            lookup: cx.walk(key.key(), cx.replication(), options.paths),
            key,
            limit: options.limit.map_or(most, |limit| limit.get().min(most)),
            most,
            local: false,
            heard: BTreeMap::new(),
            reported: 0,
            found: Vec::new(),
            rng,
        }
    }

    pub(crate) fn on_local(&mut self, cx: &Context<'_>, done: Done, out: &mut Vec<QueryEvent>) {
        self.local = true;
        // A store that cannot tell is no reason not to ask others.
        let mut records = if let Ok(Found::Providers(records)) = done { records } else { Vec::new() };
        shuffle(&mut records, &mut self.rng);
        for record in records {
            let provider = if record.own { Arc::clone(&cx.peers.local) } else { cx.peers.filtered(&record.provider) };
            self.hear(cx, &provider);
        }
        self.hand_out(out);
    }

    pub(crate) fn next(&mut self, report: &mut Report, out: &mut Vec<QueryEvent>) -> Step {
        if !self.local {
            return Step::Wait;
        }
        if self.reported >= self.limit {
            return self.finish(report);
        }
        let key = &self.key;
        if let Some(step) = walk_on(&mut self.lookup, Tag::default(), || Request::GetProviders { key: key.clone() }) {
            return step;
        }
        self.report_rest(out);
        self.finish(report)
    }

    /// Reports the providers that are known by id alone.
    fn report_rest(&mut self, out: &mut Vec<QueryEvent>) {
        let rest = self.heard.iter_mut().filter(|(_, reported)| !**reported);
        for (peer, reported) in rest.take(self.limit - self.reported) {
            *reported = true;
            self.found.push(PeerRecord::from(&*Contact::new(*peer, [])));
        }
        self.hand_out(out);
    }

    pub(crate) fn on_answer(&mut self, cx: &Context<'_>, response: Response, out: &mut Vec<QueryEvent>) {
        if let Response::GetProviders { mut providers, .. } = response {
            shuffle(&mut providers, &mut self.rng);
            providers.iter().for_each(|provider| self.hear(cx, provider));
        }
        self.hand_out(out);
    }

    /// Someone says that this peer provides it. Bounded: what is over the limit is not remembered.
    fn hear(&mut self, cx: &Context<'_>, provider: &Arc<Contact>) {
        let reported = self.heard.get(provider.peer()).copied();
        if reported == Some(true) || (reported.is_none() && self.heard.len() >= self.most) {
            return;
        }
        // Where this node knows it to be comes first: it may have moved since it announced itself.
        let contact = cx.peers.with_current_addrs(provider);
        let reachable = contact.has_addrs();
        self.heard.insert(*contact.peer(), reachable);
        if reachable {
            self.found.push(cx.record_of(&contact));
        }
    }

    fn hand_out(&mut self, out: &mut Vec<QueryEvent>) {
        for provider in self.found.drain(..) {
            if self.reported < self.limit {
                self.reported += 1;
                out.push(QueryEvent::Provider(provider));
            }
        }
    }

    fn finish(&mut self, report: &mut Report) -> Step {
        if self.reported == 0 && report.answers == 0 {
            return Step::Finish(Err(unanswered(report)));
        }
        Step::Finish(Ok(Answer::Providers(ProvidersFound { found: self.reported, report: std::mem::take(report) })))
    }
}
