//! The life of a request that a peer sends, and of what waits for the store.
//!
//! Knows: whom the store's answers are for. Must not know: what the server makes of them.

use super::*;
use crate::core::announcement::RecordId;

impl Dht {
    pub(super) fn on_request(&mut self, now: Timestamp, from: PeerId, id: InboundId, request: Request) {
        self.stats.received[request.kind() as usize] += 1;
        if self.mode == Mode::Client {
            return self.reply(from, id, Served::refuse(Refusal::NotServing));
        }
        let place = Key::from(&from);
        self.on_sign_of_life(now, &place);
        self.on_asked(now, from, &place);
        let Dht { time: NodeTime { date, .. }, config, peers, storage, rng, .. } = self;
        let mut cx = ServerContext { now, date: *date, config, peers, storage, rng };
        if let Some(served) = self.server.on_request(&mut cx, (from, place), id, request) {
            self.look_for(now, served.lost);
            self.reply(from, id, served);
        }
        let displaced = self.storage.take_displaced();
        self.on_store_ends(now, displaced);
        // It may have announced where it is.
        self.leave_if_relayed(now, &place);
    }

    pub(super) fn reply(&mut self, to: PeerId, id: InboundId, served: Served) {
        if let Reply::Reset(why) = &served.reply {
            self.stats.refused += 1;
            if let Refusal::Misbehaved(what) = why {
                self.misbehaved(to, *what);
            }
        }
        self.outputs.push_back(Output::Reply { to, id, reply: served.reply });
        self.happened(served.event);
    }

    /// The store did what a peer asked for. A peer that is gone gets no reply, but what it stored is kept.
    pub(super) fn on_served(&mut self, now: Timestamp, visit: Visit, done: Done) {
        let Dht { time: NodeTime { date, .. }, config, peers, storage, rng, .. } = self;
        let mut cx = ServerContext { now, date: *date, config, peers, storage, rng };
        match self.server.on_done(&mut cx, visit, done) {
            Some((to, Some(id), served)) => {
                self.look_for(now, served.lost);
                self.reply(to, id, served);
            }
            Some((_, None, served)) => self.happened(served.event),
            None => {}
        }
    }

    /// Tells the application which of its values have given way to others, and announces them no more.
    pub(super) fn tell_superseded(&mut self) {
        while let Some(key) = self.storage.take_superseded() {
            let name = RecordId { place: key.key(), provider: false };
            self.upkeep.own_records.forget(&name);
            self.stop_announcements(&name, None);
            self.outputs.push_back(Output::Event(Event::Superseded { key }));
        }
    }

    /// Looks for a provider that lost its addresses, unless it or too many others were looked for lately. Whoever asks next
    /// is told where it was found.
    fn look_for(&mut self, now: Timestamp, lost: Option<PeerId>) {
        let busy = self.queries() >= self.config.limit.queries;
        let Some(peer) = lost.filter(|peer| !busy && self.provider_searches.begin(now, *peer)) else { return };
        let id = self.pool.next_id();
        let find = Find::peer(&self.preparing().cx, peer, &QueryOptions::default());
        let mut query = Query::new(Machine::Find(find), Key::from(&peer), QueryKind::FindPeer);
        (query.asked, query.yields) = (false, true);
        self.pool.insert(now, id, self.config.lookup.query_timeout, query);
        self.drive(now, id);
    }

    fn happened(&mut self, event: Option<Event>) {
        if let Some(event) = event {
            self.on_stored_here(&event);
            self.outputs.push_back(Output::Event(event));
        }
    }

    /// Operations of the store have ended.
    pub(super) fn on_store_ends(&mut self, now: Timestamp, ends: Vec<(Asker, Done)>) {
        for (asker, done) in ends {
            match asker {
                Asker::Query(id) => self.on_local(now, id, done),
                Asker::Inbound(visit) => self.on_served(now, visit, done),
                Asker::Restore => self.on_restored(now, done),
                Asker::Duty(duty) => self.on_page(now, duty, done),
                Asker::Expiry => self.expiry.on_done(now, &done),
                Asker::Adopt | Asker::Nobody => {}
            }
        }
    }
}
