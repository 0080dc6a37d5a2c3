//! Find who provides some content, and tell as soon as one is known.
//!
//! A provider is reported once, when an address of it is known. Those that nobody knew an address of are looked for
//! with a walk of their own, a few at a time, once the first walk is over; whoever is still without an address then is
//! reported without.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::{Context, Heard, Step, find_node, unanswered, walk_on};
use crate::core::config::MAX_PROVIDER_KEY_LEN;
use crate::core::contact::Contact;
use crate::core::error::Report;
use crate::core::io::{Answer, QueryEvent, QueryOptions};
use crate::core::lookup::Lookup;
use crate::core::message::{Request, Response};
use crate::core::record::RecordKey;
use crate::core::requests::Tag;
use crate::core::store::{Done, Found};

/// So many providers without an address are looked for at most, one after the other. Source: a walk each is dear, and
/// whoever announces without addresses is rarely found with one.
const MAX_RESOLVED: usize = 8;

/// The walk for the providers; tags above it are the walks for their addresses.
const MAIN: Tag = Tag(0);

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
    /// Providers without an address, in the order in which they were heard of.
    unresolved: Vec<Arc<Contact>>,
    resolving: Option<Resolving>,
    resolved: u16,
    /// Reports that wait to be handed out by the next event.
    found: Vec<Arc<Contact>>,
}

/// The walk for one provider's address.
#[derive(Debug)]
struct Resolving {
    provider: Arc<Contact>,
    preimage: Bytes,
    lookup: Lookup,
}

impl FindProviders {
    /// The caller reads the store for `key` and reports by `on_local`.
    pub(crate) fn new(cx: &Context<'_>, key: RecordKey, options: &QueryOptions) -> FindProviders {
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
            unresolved: Vec::new(),
            resolving: None,
            resolved: 0,
            found: Vec::new(),
        }
    }

    pub(crate) fn on_local(&mut self, cx: &Context<'_>, done: Done, out: &mut Vec<QueryEvent>) {
        self.local = true;
        // A store that cannot tell is no reason not to ask others.
        let records = if let Ok(Found::Providers(records)) = done { records } else { Vec::new() };
        for record in records {
            let provider = if record.own { Arc::clone(&cx.peers.local) } else { cx.peers.admissible(&record.provider) };
            self.hear(cx, &provider);
        }
        self.hand_out(out);
    }

    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report, out: &mut Vec<QueryEvent>) -> Step {
        if !self.local {
            return Step::Wait;
        }
        if self.reported >= self.limit {
            return self.finish(report);
        }
        let key = &self.key;
        if let Some(step) = walk_on(&mut self.lookup, MAIN, || Request::GetProviders { key: key.clone() }) {
            return step;
        }
        if let Some(step) = self.resolve(cx) {
            return step;
        }
        self.report_rest(out);
        self.finish(report)
    }

    /// Walks for the address of one provider after the other; `None` when there is nothing left to find.
    fn resolve(&mut self, cx: &Context<'_>) -> Option<Step> {
        loop {
            if self.resolving.is_none() {
                self.resolving = next_to_resolve(cx, &mut self.unresolved, &mut self.resolved);
            }
            let resolving = self.resolving.as_mut()?;
            let preimage = &resolving.preimage;
            match walk_on(&mut resolving.lookup, Tag(self.resolved), || find_node(preimage)) {
                Some(step) => return Some(step),
                None => self.resolving = None,
            }
        }
    }

    /// Reports the providers that are known by id alone.
    fn report_rest(&mut self, out: &mut Vec<QueryEvent>) {
        let rest = self.heard.iter_mut().filter(|(_, reported)| !**reported);
        for (peer, reported) in rest.take(self.limit - self.reported) {
            *reported = true;
            self.found.push(Contact::new(*peer, []));
        }
        self.hand_out(out);
    }

    pub(crate) fn on_answer(&mut self, cx: &Context<'_>, heard: &Heard<'_>, out: &mut Vec<QueryEvent>) {
        if heard.tag != MAIN {
            self.on_resolving_answer(cx, heard);
        } else if let Response::GetProviders { providers, .. } = &heard.response {
            providers.iter().for_each(|provider| self.hear(cx, provider));
        }
        self.hand_out(out);
    }

    /// The lookup that this request is part of, unless that is over.
    pub(crate) fn lookup(&mut self, tag: Tag) -> Option<&mut Lookup> {
        if tag == MAIN {
            return Some(&mut self.lookup);
        }
        self.resolving.as_mut().filter(|_| tag == Tag(self.resolved)).map(|resolving| &mut resolving.lookup)
    }

    fn on_resolving_answer(&mut self, cx: &Context<'_>, heard: &Heard<'_>) {
        let Some(resolving) = self.resolving.as_ref().filter(|_| heard.tag == Tag(self.resolved)) else { return };
        let found = heard.closer.iter().find(|contact| contact.peer() == resolving.provider.peer());
        if let Some(found) = found.filter(|contact| contact.has_addrs()) {
            self.resolving = None;
            self.hear(cx, found);
        }
    }

    /// Someone says that this peer provides it. Bounded: what is over the limit is not remembered.
    fn hear(&mut self, cx: &Context<'_>, provider: &Arc<Contact>) {
        let reported = self.heard.get(provider.peer()).copied();
        if reported == Some(true) || (reported.is_none() && self.heard.len() >= self.most) {
            return;
        }
        // Where this node knows it to be comes first: it may have moved since it announced itself.
        let contact = cx.peers.present(provider);
        let reachable = contact.has_addrs();
        self.heard.insert(*contact.peer(), reachable);
        if reachable {
            self.unresolved.retain(|waiting| waiting.peer() != contact.peer());
            self.found.push(contact);
        } else if reported.is_none() {
            self.unresolved.push(contact);
        }
    }

    fn hand_out(&mut self, out: &mut Vec<QueryEvent>) {
        for contact in self.found.drain(..) {
            if self.reported < self.limit {
                self.reported += 1;
                out.push(QueryEvent::Provider(contact));
            }
        }
    }

    fn finish(&mut self, report: &mut Report) -> Step {
        if self.reported == 0 && report.answers == 0 {
            return Step::Finish(Err(unanswered(report)));
        }
        Step::Finish(Ok(Answer::Providers { found: self.reported, report: std::mem::take(report) }))
    }
}

fn next_to_resolve(cx: &Context<'_>, unresolved: &mut Vec<Arc<Contact>>, resolved: &mut u16) -> Option<Resolving> {
    if unresolved.is_empty() || usize::from(*resolved) >= MAX_RESOLVED {
        return None;
    }
    let provider = unresolved.remove(0);
    *resolved += 1;
    let lookup = cx.walk(*provider.key(), cx.replication(), None);
    Some(Resolving { preimage: provider.peer().to_bytes().into(), provider, lookup })
}
