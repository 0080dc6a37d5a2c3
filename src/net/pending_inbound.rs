//! The connection of each unanswered inbound request.
//!
//! Knows: ids. Must not know: what is asked. Each handler bounds the number of its unanswered requests.

use std::collections::{BTreeMap, BTreeSet};

use libp2p_swarm::ConnectionId;

use crate::core::InboundId;

#[derive(Debug, Default)]
pub(crate) struct PendingInbound {
    connections: BTreeMap<ConnectionId, BTreeSet<InboundId>>,
    requests: BTreeMap<InboundId, ConnectionId>,
}

impl PendingInbound {
    pub(crate) fn on_request(&mut self, connection: ConnectionId, id: InboundId) {
        self.connections.entry(connection).or_default().insert(id);
        self.requests.insert(id, connection);
    }

    /// A request is answered or gone. Returns its connection; `None` if it had ended before.
    pub(crate) fn finish(&mut self, id: InboundId) -> Option<ConnectionId> {
        let connection = self.requests.remove(&id)?;
        if let Some(ids) = self.connections.get_mut(&connection) {
            ids.remove(&id);
            if ids.is_empty() {
                self.connections.remove(&connection);
            }
        }
        Some(connection)
    }

    /// A connection closed. Returns its unanswered requests, which are gone.
    pub(crate) fn close(&mut self, connection: ConnectionId) -> BTreeSet<InboundId> {
        let ids = self.connections.remove(&connection).unwrap_or_default();
        for id in &ids {
            self.requests.remove(id);
        }
        ids
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_ends_once_and_is_forgotten() {
        let (one, two) = (ConnectionId::new_unchecked(1), ConnectionId::new_unchecked(2));
        let mut pending = PendingInbound::default();
        for id in 0..4 {
            pending.on_request(if id < 3 { one } else { two }, InboundId::new(id));
        }
        assert_eq!(pending.finish(InboundId::new(0)), Some(one));
        assert_eq!(pending.finish(InboundId::new(0)), None);
        assert_eq!(pending.close(one).into_iter().collect::<Vec<_>>(), [InboundId::new(1), InboundId::new(2)]);
        assert_eq!(pending.finish(InboundId::new(1)), None);
        assert_eq!(pending.finish(InboundId::new(3)), Some(two));
        assert!(pending.connections.is_empty() && pending.requests.is_empty());
    }
}
