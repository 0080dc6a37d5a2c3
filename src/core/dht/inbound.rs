//! Passes the requests of peers to the server, and the results of the store to the part that waits for them.
//!
//! Knows: which part waits for a result. Must not know: how the server answers.

use super::*;
use crate::core::announcement::RecordId;

impl Dht {
    pub(super) fn on_request(&mut self, now: Timestamp, from: PeerId, id: InboundId, request: Request) {
        self.stats.received[request.kind() as usize] += 1;
        if self.suspended || self.mode == Mode::Client {
            return self.serve(now, from, Some(id), Served::refuse(Refusal::NotServing));
        }
        let place = Key::from(&from);
        if !self.peers.access.accepts(&from, &place, &request) {
            return self.serve(now, from, Some(id), Served::refuse(Refusal::Denied));
        }
        self.on_sign_of_life(now, &place);
        self.on_request_from(now, from, &place);
        let (server, mut cx) = self.server_context(now);
        if let Some(served) = server.on_request(&mut cx, (from, place), id, request) {
            self.serve(now, from, Some(id), served);
        }
        let displaced = self.store_ops.take_displaced();
        self.on_store_ends(now, displaced);
        // The request may have announced the peer's addresses.
        self.leave_if_relayed(now, &place);
    }

    /// The server, and the parts of the node that it may use.
    fn server_context(&mut self, now: Timestamp) -> (&mut Server, ServerContext<'_>) {
        let Dht { time, config, peers, store_ops, rng, server, .. } = self;
        (server, ServerContext { now, date: time.date, config, peers, store_ops, rng })
    }

    /// Carries out what the server decided. A peer that no longer waits has no id and gets no reply, but its record is
    /// kept.
    fn serve(&mut self, now: Timestamp, to: PeerId, id: Option<InboundId>, served: Served) {
        if let Some(id) = id {
            if let Some(peer) = served.lost {
                self.look_for(now, peer);
            }
            if let Reply::Reset(why) = &served.reply {
                self.stats.refused += 1;
                if let Refusal::Misbehaved(what) = why {
                    self.misbehaved(now, to, *what);
                }
            }
            self.outputs.push_back(Output::Reply { to, id, reply: served.reply });
        }
        if let Some(event) = served.event {
            self.on_stored_here(&event);
            self.outputs.push_back(Output::Event(event));
        }
    }

    /// The store has run the operation for a peer's request.
    pub(super) fn on_served(&mut self, now: Timestamp, ticket: InboundTicket, done: Done) {
        let (server, mut cx) = self.server_context(now);
        if let Some((to, id, served)) = server.on_done(&mut cx, ticket, done) {
            self.serve(now, to, id, served);
        }
    }

    /// Reports the own values that better ones have replaced, and stops announcing them.
    pub(super) fn report_superseded(&mut self) {
        while let Some(key) = self.store_ops.take_superseded() {
            let record = RecordId { place: key.key(), provider: false };
            self.upkeep.own_records.forget(&record);
            self.stop_announcements(&record, None);
            self.outputs.push_back(Output::Event(Event::Superseded { key }));
        }
    }

    /// Looks up a provider whose addresses are no longer known, unless it or too many others were looked up recently.
    /// The next peer that asks for the content gets the addresses that were found.
    fn look_for(&mut self, now: Timestamp, peer: PeerId) {
        if self.is_full() || !self.provider_searches.begin(now, peer) {
            return;
        }
        let id = self.pool.next_id();
        let find = Find::peer(&self.cx(), peer, &QueryOptions::default());
        let mut query = RunningQuery::own(Machine::Find(Box::new(find)), Key::from(&peer), QueryKind::FindPeer);
        query.yields = true;
        self.pool.insert(now, id, self.config.lookup.query_timeout, query);
        self.drive(now, id);
    }

    /// The store has run operations.
    pub(super) fn on_store_ends(&mut self, now: Timestamp, ends: Vec<(Waiter, Done)>) {
        for (waiter, done) in ends {
            match waiter {
                Waiter::Query(id) => self.on_local(now, id, done),
                Waiter::Inbound(ticket) => self.on_served(now, ticket, done),
                Waiter::Restore => self.on_restored(now, done),
                Waiter::Duty(duty) => self.on_page(now, duty, done),
                Waiter::Expiry => self.expiry.on_done(now, &done),
                Waiter::Adopt | Waiter::Nobody => {}
            }
        }
    }
}
