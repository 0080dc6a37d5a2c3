//! Applies the address policy to all input: addresses that this node does not admit do not get in.
//!
//! Knows: which inputs carry addresses. Must not know: which addresses are admitted.
//!
//! The table and the address book are filtered again when this node's own addresses change, so their addresses need no
//! filter on the way out. Addresses from two other sources are filtered at their use: those of a query, which may have
//! begun before the change (`Context::record_of`, and before each request), and those of stored records, which may be
//! from an earlier run.

use multiaddr::Multiaddr;

use super::*;

impl Dht {
    /// Removes from an input the addresses that this node does not admit. Returns `false` if nothing of the input
    /// remains.
    pub(super) fn filter_input(&mut self, input: &mut Input) -> bool {
        let peers = &self.peers;
        match input {
            Input::AddPeer(contact) => return self.filter_named(contact),
            Input::Discovered(contact) => return filter(peers, contact),
            Input::Connected { peer, outbound_addr, .. } => {
                if let Some(addr) = outbound_addr.take() {
                    *outbound_addr = peers.filtered(&Contact::new(*peer, [addr])).addrs().next();
                }
            }
            Input::Request { request: Request::AddProvider { providers, .. }, .. } => filter_all(peers, providers),
            Input::Response { result: Ok(response), .. } => match response {
                Response::FindNode { closer } | Response::GetValue { closer, .. } => filter_all(peers, closer),
                Response::GetProviders { providers, closer, .. } => {
                    filter_all(peers, providers);
                    filter_all(peers, closer);
                }
                Response::Ping | Response::PutValue { .. } | Response::AddProvider => {}
            },
            Input::LocalAddrs(addrs) => addrs.retain(|addr| peers.policy.admits(addr.as_ref())),
            _ => {}
        }
        true
    }

    /// A peer that the application adds. Refused addresses are reported, since the application relies on them.
    fn filter_named(&mut self, contact: &mut Arc<Contact>) -> bool {
        let named = Arc::clone(contact);
        let remains = filter(&self.peers, contact);
        let refused = named.raw_addrs().filter(|addr| !contact.has_addr(addr));
        let refused: Vec<Multiaddr> = named.with_addrs(refused).addrs().collect();
        if !refused.is_empty() {
            let peer = *contact.peer();
            tracing::warn!(%peer, ?refused, policy = ?self.peers.policy, "addresses of a named peer are refused");
            self.outputs.push_back(Output::Event(Event::AddrsRefused { peer, addrs: refused }));
        }
        remains
    }

    /// This node's addresses changed. A peer that was said to be at one of them is not there.
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

/// Removes the addresses that are not admitted. Returns `false` if none remain; a contact that had none may pass.
fn filter(peers: &Peers, contact: &mut Arc<Contact>) -> bool {
    let had_addrs = contact.has_addrs();
    *contact = peers.filtered(contact);
    contact.has_addrs() || !had_addrs
}

fn filter_all(peers: &Peers, contacts: &mut [Arc<Contact>]) {
    for contact in contacts {
        *contact = peers.filtered(contact);
    }
}
