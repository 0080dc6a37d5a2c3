//! The requests in flight: who waits for each, and until when. Each ends exactly once.
//!
//! Knows: ids, owners, deadlines, and what a fitting answer is. Must not know: what the owner does with the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::contact::Contact;
use super::io::{QueryId, RequestId};
use super::lookup::Tardy;
use super::message::{Kind, Misbehaviour, Request, RequestError, Response, Value};
use super::rtt::Patience;
use super::time::Timestamp;

/// Who waits for the end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A query, and its name for the part of it that asked.
    Query(QueryId, Tag),
    /// The duty that tries a candidate for the routing table.
    Probe,
    /// Nobody but the routing table, which learns who is alive.
    Evidence,
}

/// A query's own name for the part of it that asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag(pub(crate) u16);

/// A request in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) owner: Owner,
    pub(crate) to: Arc<Contact>,
    pub(crate) sent: Timestamp,
    /// Whether the peer was connected when it was asked.
    pub(crate) warm: bool,
    /// What its time has done to it so far.
    pub(crate) tardy: Option<Tardy>,
    request: Request,
    /// When time does the next thing to it.
    alarm: Timestamp,
    patience: Patience,
    /// Empty where nobody looks.
    pub(crate) span: Span,
}

impl InFlight {
    pub(crate) fn kind(&self) -> Kind {
        self.request.kind()
    }

    pub(crate) fn took(&self, now: Timestamp) -> Duration {
        now.since(self.sent)
    }

    /// Why it failed if its time is over. An announcement that went out on a connection has no answer to miss.
    pub(crate) fn timed_out(&self, connected: bool) -> RequestError {
        match self.kind() {
            Kind::AddProvider if connected => RequestError::Unacknowledged,
            _ => RequestError::Timeout,
        }
    }

    /// Whether an answer fits the request.
    pub(crate) fn check(&self, response: &Response) -> Result<(), Misbehaviour> {
        if response.kind() != self.kind() {
            return Err(Misbehaviour::WrongType);
        }
        match (&self.request, response) {
            (Request::GetValue { key }, Response::GetValue { key: answered, value, .. }) => {
                let same = |other: &super::record::RecordKey| other == key;
                let named = answered.as_bytes().is_empty() || same(answered);
                let right = named && value.as_ref().is_none_or(|value| same(&value.key));
                if right { Ok(()) } else { Err(Misbehaviour::WrongKey) }
            }
            (Request::GetProviders { key }, Response::GetProviders { key: answered, .. }) => {
                if answered.as_bytes().is_empty() || answered == key { Ok(()) } else { Err(Misbehaviour::WrongKey) }
            }
            (Request::PutValue { value }, Response::PutValue { value: echo }) => check_echo(value, echo),
            _ => Ok(()),
        }
    }
}

fn check_echo(sent: &Value, echo: &Value) -> Result<(), Misbehaviour> {
    if sent.key != echo.key {
        Err(Misbehaviour::WrongKey)
    } else if sent.value != echo.value {
        Err(Misbehaviour::WrongEcho)
    } else {
        Ok(())
    }
}

/// What time did to a request.
#[derive(Debug)]
pub(crate) enum Alarm {
    /// It is late, or overdue; it goes on.
    Tardy(RequestId, Tardy),
    /// It is over.
    Over(RequestId, Box<InFlight>),
}

/// All requests in flight.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    next: u64,
    open: BTreeMap<RequestId, InFlight>,
    alarms: BTreeSet<(Timestamp, RequestId)>,
}

impl Requests {
    pub(crate) fn start(
        &mut self,
        now: Timestamp,
        owner: Owner,
        to: Arc<Contact>,
        request: Request,
        warm: bool,
        patience: Patience,
    ) -> RequestId {
        let id = RequestId::new(self.next);
        self.next += 1;
        let alarm = now + patience.late;
        self.alarms.insert((alarm, id));
        self.open.insert(
            id,
            InFlight { owner, to, sent: now, warm, tardy: None, request, alarm, patience, span: Span::none() },
        );
        id
    }

    /// The request's span, which lives as long as it does.
    pub(crate) fn trace(&mut self, id: RequestId, span: Span) {
        if let Some(request) = self.open.get_mut(&id).filter(|_| !span.is_disabled()) {
            request.span = span;
        }
    }

    /// Ends a request, whatever the reason; `None` if it has ended before.
    pub(crate) fn end(&mut self, id: RequestId) -> Option<InFlight> {
        let request = self.open.remove(&id)?;
        self.alarms.remove(&(request.alarm, id));
        Some(request)
    }

    /// How many have no end yet.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<&InFlight> {
        self.open.get(&id)
    }

    /// Gives a request another owner; it goes on until it ends by itself.
    pub(crate) fn leave_to(&mut self, id: RequestId, owner: Owner) {
        if let Some(request) = self.open.get_mut(&id) {
            request.owner = owner;
        }
    }

    /// The next request that is late, overdue or over at `now`.
    pub(crate) fn next_alarm(&mut self, now: Timestamp) -> Option<Alarm> {
        let (at, id) = *self.alarms.first()?;
        if at > now {
            return None;
        }
        let request = self.open.get_mut(&id)?;
        let (tardy, next) = match request.tardy {
            _ if request.sent + request.patience.give_up <= at => {
                return self.end(id).map(|request| Alarm::Over(id, Box::new(request)));
            }
            None => (Tardy::Late, request.patience.overdue),
            Some(_) => (Tardy::Overdue, request.patience.give_up),
        };
        request.tardy = Some(tardy);
        request.alarm = request.sent + next.min(request.patience.give_up);
        self.alarms.remove(&(at, id));
        self.alarms.insert((request.alarm, id));
        Some(Alarm::Tardy(id, tardy))
    }

    /// When `next_alarm` has something next, and for which request.
    pub(crate) fn next_wake(&self) -> Option<(Timestamp, RequestId)> {
        self.alarms.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use libp2p_identity::PeerId;

    use super::*;
    use crate::core::record::RecordKey;

    const PATIENCE: Patience =
        Patience { late: Duration::from_secs(1), overdue: Duration::from_secs(2), give_up: Duration::from_secs(4) };

    fn start(requests: &mut Requests, request: Request) -> RequestId {
        let peer = Contact::new(PeerId::random(), []);
        requests.start(Timestamp::ZERO, Owner::Evidence, peer, request, true, PATIENCE)
    }

    #[test]
    fn late_then_overdue_then_over_and_nothing_after_that() {
        let mut requests = Requests::default();
        let id = start(&mut requests, Request::Ping);
        assert!(requests.next_alarm(Timestamp::from_millis(999)).is_none());
        for (second, tardy) in [(1, Tardy::Late), (2, Tardy::Overdue)] {
            assert_eq!(requests.next_wake(), Some((Timestamp::from_secs(second), id)));
            match requests.next_alarm(Timestamp::from_secs(second)) {
                Some(Alarm::Tardy(of, how)) => assert_eq!((of, how), (id, tardy)),
                other => panic!("{other:?}"),
            }
            assert!(requests.next_alarm(Timestamp::from_secs(second)).is_none());
        }
        assert_eq!(requests.next_wake(), Some((Timestamp::from_secs(4), id)));
        assert!(matches!(requests.next_alarm(Timestamp::from_secs(9)), Some(Alarm::Over(over, _)) if over == id));
        assert!(requests.end(id).is_none());
        assert!(requests.next_wake().is_none());
    }

    #[test]
    fn answers_must_fit() {
        let mut requests = Requests::default();
        let (asked, other) = (RecordKey::from("/a/b"), RecordKey::from("/a/c"));
        let mut check = |request: Request, response: Response| {
            let id = start(&mut requests, request);
            requests.get(id).unwrap().check(&response)
        };
        let get = || Request::GetValue { key: asked.clone() };
        let answer = |key: &RecordKey, value: Option<&RecordKey>| Response::GetValue {
            key: key.clone(),
            value: value.map(|key| Value::new(key.clone(), "v")),
            closer: vec![],
        };
        assert_eq!(check(get(), answer(&asked, Some(&asked))), Ok(()));
        assert_eq!(check(get(), answer(&RecordKey::new(Bytes::new()), None)), Ok(()));
        assert_eq!(check(get(), answer(&asked, Some(&other))), Err(Misbehaviour::WrongKey));
        assert_eq!(check(get(), answer(&other, None)), Err(Misbehaviour::WrongKey));
        assert_eq!(check(get(), Response::FindNode { closer: vec![] }), Err(Misbehaviour::WrongType));
        let put = || Request::PutValue { value: Value::new(asked.clone(), "v") };
        let echo = |value: Value| Response::PutValue { value };
        assert_eq!(check(put(), echo(Value::new(asked.clone(), "v"))), Ok(()));
        assert_eq!(check(put(), echo(Value::new(asked.clone(), "w"))), Err(Misbehaviour::WrongEcho));
        assert_eq!(check(put(), echo(Value::new(other.clone(), "v"))), Err(Misbehaviour::WrongKey));
    }
}
