//! Where addresses come in and go out: nothing passes that the address policy does not admit.
//!
//! Knows: which inputs and outputs carry addresses. Must not know: which addresses are admitted. *What is in the table
//! and in the address book came in here and is looked through again when the own addresses change, so what is served
//! from there needs no second look; what a store gives back, which may be from another time, does.*

use multiaddr::Multiaddr;

use super::*;

impl Dht {
    /// What came in, with its admitted addresses alone; `None` where those were all that it said.
    pub(super) fn screen(&mut self, input: Input) -> Option<Input> {
        let peers = &self.peers;
        Some(match input {
            Input::AddPeer(contact) => Input::AddPeer(self.screen_named(&contact)?),
            Input::Discovered(contact) => Input::Discovered(some_of(&contact, peers.filtered(&contact))?),
            Input::Connected { peer, outbound_addr, inbound_addr } => {
                let dialled = outbound_addr.and_then(|addr| peers.filtered(&Contact::new(peer, [addr])).addrs().next());
                Input::Connected { peer, outbound_addr: dialled, inbound_addr }
            }
            Input::Request { from, id, request: Request::AddProvider { key, providers } } => {
                let providers = screened(peers, providers);
                Input::Request { from, id, request: Request::AddProvider { key, providers } }
            }
            Input::Response { id, result: Ok(response) } => {
                Input::Response { id, result: Ok(screen_response(peers, response)) }
            }
            Input::LocalAddrs(mut addrs) => {
                addrs.retain(|addr| peers.policy.admits(addr.as_ref()));
                Input::LocalAddrs(addrs)
            }
            input => input,
        })
    }

    /// A peer that the application names. What is refused of it is told, since whoever names it counts on it.
    fn screen_named(&mut self, contact: &Arc<Contact>) -> Option<Arc<Contact>> {
        let filtered = self.peers.filtered(contact);
        let refused = contact.raw_addrs().iter().filter(|addr| !filtered.raw_addrs().contains(addr));
        let refused: Vec<Multiaddr> = contact.with_addrs(refused.cloned()).addrs().collect();
        if !refused.is_empty() {
            let peer = *contact.peer();
            tracing::warn!(%peer, ?refused, policy = ?self.peers.policy, "addresses of a named peer are refused");
            self.outputs.push_back(Output::Event(Event::AddrsRefused { peer, addrs: refused }));
        }
        some_of(contact, filtered)
    }

    /// The node has these addresses now. Whatever it knows under them is not the peer that was said to be there.
    pub(super) fn on_local_addrs(&mut self, now: Timestamp, addrs: Vec<Multiaddr>) {
        let local = self.peers.local.with_multiaddrs(addrs);
        if *local == *self.peers.local {
            return;
        }
        let before = std::mem::replace(&mut self.peers.local, local);
        for gone in self.peers.refilter(now) {
            self.left_table(now, gone);
            self.offer_waiting(now, &Key::from(&gone));
        }
        if !before.has_addrs() {
            self.upkeep.own_records.make_unannounced_due(now);
        }
        self.on_moved(now, &before);
    }
}

/// A contact that lost all its addresses says nothing; one that had none may.
fn some_of(contact: &Contact, filtered: Arc<Contact>) -> Option<Arc<Contact>> {
    (filtered.has_addrs() || !contact.has_addrs()).then_some(filtered)
}

fn screened(peers: &Peers, mut contacts: Vec<Arc<Contact>>) -> Vec<Arc<Contact>> {
    contacts.iter_mut().for_each(|contact| *contact = peers.filtered(contact));
    contacts
}

fn screen_response(peers: &Peers, response: Response) -> Response {
    match response {
        Response::FindNode { closer } => Response::FindNode { closer: screened(peers, closer) },
        Response::GetValue { key, value, closer } => Response::GetValue { key, value, closer: screened(peers, closer) },
        Response::GetProviders { key, providers, closer } => {
            let (providers, closer) = (screened(peers, providers), screened(peers, closer));
            Response::GetProviders { key, providers, closer }
        }
        response @ (Response::Ping | Response::PutValue { .. } | Response::AddProvider) => response,
    }
}
