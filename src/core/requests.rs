//! The requests of this node that have not ended: the owner of each, its stage, and its deadlines. Each ends exactly
//! once.
//!
//! Knows: ids, owners, deadlines, and which answers fit. Must not know: what the owner does with the end.
//!
//! A request first waits for a slot, then for the driver; neither counts against the peer. The peer's time begins when
//! the driver reports that it dials, or that it writes the first byte: from then on the request can become late, then
//! overdue. Its limit counts from the dial, and again from the first byte. While one request to a peer is overdue, the
//! time of those that wait behind it runs too, since the peer is what delays them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::contact::Contact;
use super::io::{QueryId, RequestId};
use super::key::Key;
use super::lookup::Lateness;
use super::message::{DialCause, Kind, Misbehaviour, Request, RequestError, Response, Unreachable};
use super::record::RecordKey;
use super::rtt::{Deadlines, Urgency};
use super::time::Timestamp;

/// A driver that calls this much later than it was asked to was busy: the delay does not count against peers. Source:
/// the usual runtimes' timers are a few milliseconds late on a machine that is not overloaded.
const BUSY_AFTER: Duration = Duration::from_millis(10);
/// Maximum time by which one such delay moves the deadlines. Source: the longest time of a request; a longer delay was
/// a suspended machine, whose connections are gone.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// While a dial is overdue, its owner is reminded of it this often, since what it knows may have changed.
const REMIND: Duration = Duration::from_millis(250);
/// A dial takes far too long after this many times the time at which it is overdue.
const FAR_LONGER: u32 = 3;

/// The part of the node that waits for the end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A query, with its own name for the part of it that asked.
    Query(QueryId, Tag),
    /// The duty that probes peers for the routing table.
    Probe,
    /// None: the routing table only learns whether the peer is alive.
    Evidence,
}

impl Owner {
    pub(crate) fn query(self) -> Option<QueryId> {
        match self {
            Owner::Query(id, _) => Some(id),
            Owner::Probe | Owner::Evidence => None,
        }
    }
}

/// A query's own name for the part of it that asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag(pub(crate) u16);

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestStage {
    /// It waits for a slot.
    Queued,
    /// The driver has it, and has not begun with it.
    WithDriver,
    /// The same, while other requests to the peer are overdue: the peer is why it waits.
    Behind,
    /// The driver dials the peer for it.
    Dialling,
    /// Its first byte is written.
    Sent,
    /// It has timed out for its owner. A late answer still tells how long the peer takes.
    TimedOut,
}

/// The event with which the peer's time begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Other requests to the peer, behind which this one waits, are overdue.
    Behind,
    /// The driver dials the peer for it.
    Dial,
    /// The driver writes the first byte.
    Write,
}

/// A request without an end.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) owner: Owner,
    pub(crate) to: Arc<Contact>,
    pub(crate) urgency: Urgency,
    pub(crate) lateness: Option<Lateness>,
    /// Number of times it was sent again.
    resends: u8,
    /// Whether the peer was connected when it was sent.
    pub(crate) connected: bool,
    /// Disabled where no subscriber records it.
    pub(crate) span: Span,
    /// Whether the peer had to be dialled for it.
    pub(crate) dialled: bool,
    stage: RequestStage,
    request: Request,
    /// When the driver got it; before that, when it was made.
    pub(crate) passed_at: Timestamp,
    /// When the peer's time began.
    began: Timestamp,
    /// When the limit began to count.
    sent: Timestamp,
    deadlines: Deadlines,
    /// The next time at which it becomes late or overdue, times out, or its owner is reminded of it.
    alarm: Option<Timestamp>,
    /// When its owner asked to be reminded of it.
    reminder: Timestamp,
    /// The time by which the driver must have begun, unless a query's deadline bounds that.
    until: Option<Timestamp>,
}

impl InFlight {
    pub(crate) fn kind(&self) -> Kind {
        self.request.kind()
    }

    pub(crate) fn request(&self) -> Request {
        self.request.clone()
    }

    /// Whether the request may be sent again: it was sent again fewer than `most` times, and has not timed out. If so,
    /// this counts as one more time.
    pub(crate) fn try_resend(&mut self, most: u8) -> bool {
        let may = self.resends < most && !self.has_timed_out();
        self.resends += u8::from(may);
        may
    }

    /// The part of the peer's time that has passed.
    pub(crate) fn elapsed(&self, now: Timestamp) -> Duration {
        if self.has_begun() { now.since(self.began) } else { Duration::ZERO }
    }

    /// The round trip, if an answer that comes now shows it: not if the driver never reported that it sends, nor before
    /// an answer could come.
    pub(crate) fn round_trip(&self, now: Timestamp) -> Option<Duration> {
        (self.has_begun() && self.stage != RequestStage::Behind && self.began <= now).then(|| now.since(self.began))
    }

    /// Whether the peer's time has begun. Before that a failure does not count against the peer.
    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.stage, RequestStage::Queued | RequestStage::WithDriver)
    }

    /// Whether the request is late and on its way to the peer: its end shows whether the peer is alive.
    pub(crate) fn shows_liveness(&self) -> bool {
        self.lateness.is_some() && matches!(self.stage, RequestStage::Dialling | RequestStage::Sent)
    }

    /// Whether the driver has it.
    pub(crate) fn is_with_driver(&self) -> bool {
        self.stage != RequestStage::Queued
    }

    pub(crate) fn has_timed_out(&self) -> bool {
        self.stage == RequestStage::TimedOut
    }

    /// Whether the request takes up one of the window's slots.
    pub(crate) fn holds_slot(&self) -> bool {
        matches!(self.owner, Owner::Query(..)) && self.is_with_driver() && self.lateness.is_none()
    }

    /// The time until which an answer still shows something, `most` after the first byte; `None` before that is
    /// written.
    pub(crate) fn may_answer_until(&self, most: Duration) -> Option<Timestamp> {
        (self.stage == RequestStage::Sent).then(|| self.sent + most)
    }

    /// Whether the driver began with the request at once, and it is not late: more may be in flight.
    pub(crate) fn was_prompt(&self) -> bool {
        self.lateness.is_none() && self.began.since(self.passed_at) < BUSY_AFTER
    }

    /// Whether the driver dials for it, and for far longer than most dials take.
    pub(crate) fn dials_far_too_long(&self, now: Timestamp) -> bool {
        self.dials() && now.since(self.began) >= self.deadlines.overdue.saturating_mul(FAR_LONGER)
    }

    /// Whether the driver dials for it.
    pub(crate) fn dials(&self) -> bool {
        self.stage == RequestStage::Dialling
    }

    /// The error of a time-out. An ADD_PROVIDER on a connection has no answer that could be missing; if the driver
    /// never began with the request, this node failed, not the peer.
    pub(crate) fn timeout_error(&self, connected: bool) -> RequestError {
        match self.stage {
            RequestStage::Queued | RequestStage::WithDriver => RequestError::Busy,
            RequestStage::Dialling => Unreachable::DialFailed(DialCause::TimedOut).into(),
            _ if self.kind() == Kind::AddProvider && connected => RequestError::Unacknowledged,
            _ => RequestError::Timeout,
        }
    }

    /// Whether an answer fits the request.
    pub(crate) fn check(&self, response: &Response) -> Result<(), Misbehaviour> {
        // Some peers leave the key out of the answer: it is empty then.
        let names = |answered: &RecordKey, key| answered.as_bytes().is_empty() || answered == key;
        let fits = match (&self.request, response) {
            _ if response.kind() != self.kind() => return Err(Misbehaviour::WrongType),
            (Request::GetValue { key }, Response::GetValue { key: answered, value, .. }) => {
                names(answered, key) && value.as_ref().is_none_or(|value| value.key == *key)
            }
            (Request::GetProviders { key }, Response::GetProviders { key: answered, .. }) => names(answered, key),
            (Request::PutValue { value }, Response::PutValue { value: echo }) => {
                if value.key == echo.key && value.value != echo.value {
                    return Err(Misbehaviour::WrongEcho);
                }
                value.key == echo.key
            }
            _ => true,
        };
        if fits { Ok(()) } else { Err(Misbehaviour::WrongKey) }
    }

    /// The next alarm after the one at `at`.
    fn alarm_after(&self, at: Timestamp) -> Timestamp {
        let next = match self.lateness {
            None => self.began + self.deadlines.late,
            Some(Lateness::Late) => self.began + self.deadlines.overdue,
            Some(Lateness::Overdue) if self.dials() => at + REMIND,
            Some(Lateness::Overdue) => Timestamp::MAX,
        };
        let reminder = if self.reminder > at { self.reminder } else { Timestamp::MAX };
        next.min(reminder).min(self.sent + self.deadlines.limit)
    }
}

/// The effect of time on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// The request is late, or overdue; it continues.
    Lateness(Lateness),
    /// It is as before; its owner asked to be reminded of it.
    Reminder,
    TimedOut,
}

/// All requests without an end.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    next: u64,
    /// Boxed, since the nodes of the map are half empty.
    open: BTreeMap<RequestId, Box<InFlight>>,
    alarms: BTreeSet<(Timestamp, RequestId)>,
    /// When the deadlines were last moved because the driver was busy.
    shifted: Timestamp,
    /// Number of requests that the driver has and that have not timed out.
    awaited: usize,
    /// Number of requests to each peer that are overdue.
    overdue: BTreeMap<Key, u32>,
}

impl Requests {
    /// Adds a request, which waits for a slot.
    pub(crate) fn queue(
        &mut self,
        now: Timestamp,
        owner: Owner,
        urgency: Urgency,
        to: Arc<Contact>,
        request: Request,
    ) -> RequestId {
        let id = RequestId::new(self.next);
        self.next += 1;
        let request = Box::new(InFlight {
            owner,
            to,
            urgency,
            lateness: None,
            resends: 0,
            connected: false,
            span: Span::none(),
            dialled: false,
            stage: RequestStage::Queued,
            request,
            passed_at: now,
            began: now,
            sent: now,
            deadlines: Deadlines::default(),
            alarm: None,
            reminder: Timestamp::MAX,
            until: None,
        });
        self.open.insert(id, request);
        id
    }

    /// The driver gets a request, and must have begun with it by `until`. Returns whether the peer's time begins at
    /// once, since other requests to it are overdue.
    pub(crate) fn pass_to_driver(
        &mut self,
        now: Timestamp,
        id: RequestId,
        span: Span,
        until: Option<Timestamp>,
    ) -> bool {
        let Some(request) = self.open.get_mut(&id) else { return false };
        (request.stage, request.passed_at, request.until) = (RequestStage::WithDriver, now, until);
        self.awaited += 1;
        if !span.is_disabled() {
            request.span = span;
        }
        let is_behind = self.overdue.contains_key(request.to.key());
        self.set_alarm(id, until);
        is_behind
    }

    /// The peer's time begins. A request that the driver begins with once more gets a new limit.
    pub(crate) fn begin(&mut self, now: Timestamp, id: RequestId, begin: Begin, deadlines: Deadlines) {
        let Some(request) = self.open.get_mut(&id) else { return };
        if !request.is_with_driver() || request.has_timed_out() {
            return;
        }
        // A request that waited behind others has a time of its own from now on.
        let first = matches!(request.stage, RequestStage::WithDriver | RequestStage::Behind);
        request.stage = match begin {
            Begin::Behind if !first => return,
            Begin::Behind => RequestStage::Behind,
            Begin::Dial => RequestStage::Dialling,
            Begin::Write => RequestStage::Sent,
        };
        request.dialled |= begin == Begin::Dial;
        request.sent = now;
        if first {
            request.began = request.sent;
            request.deadlines = deadlines;
        } else {
            request.deadlines.limit = deadlines.limit;
        }
        let alarm = request.alarm_after(now);
        self.set_alarm(id, Some(alarm));
    }

    /// Replaces the deadlines of a dial: it is known better now how long one takes.
    pub(crate) fn set_deadlines(&mut self, now: Timestamp, id: RequestId, deadlines: Deadlines) {
        let Some(request) = self.open.get_mut(&id) else { return };
        request.deadlines = deadlines;
        let alarm = request.alarm_after(now).max(now);
        self.set_alarm(id, Some(alarm));
    }

    /// Has the owner of a request reminded of it at this time.
    pub(crate) fn remind(&mut self, id: RequestId, at: Timestamp) {
        let Some(request) = self.open.get_mut(&id) else { return };
        request.reminder = at;
        if request.alarm.is_some_and(|alarm| at < alarm) {
            self.set_alarm(id, Some(at));
        }
    }

    /// Ends a request, whatever the reason; `None` if it has ended before.
    pub(crate) fn end(&mut self, id: RequestId) -> Option<Box<InFlight>> {
        self.set_alarm(id, None);
        let request = self.open.remove(&id)?;
        self.awaited -= usize::from(request.is_with_driver() && !request.has_timed_out());
        if request.lateness == Some(Lateness::Overdue)
            && let Some(count) = self.overdue.get_mut(request.to.key())
        {
            *count -= 1;
            if *count == 0 {
                self.overdue.remove(request.to.key());
            }
        }
        Some(request)
    }

    /// A peer answered: it is slow, not silent. The time of the requests that waited behind overdue ones stops.
    pub(crate) fn on_answer(&mut self, peer: &Key) {
        if self.overdue.remove(peer).is_none() {
            return;
        }
        for id in self.filtered(|request| request.stage == RequestStage::Behind && request.to.key() == peer) {
            if let Some(request) = self.open.get_mut(&id) {
                request.stage = RequestStage::WithDriver;
                let until = request.until;
                self.set_alarm(id, until);
            }
        }
    }

    /// Keeps a request that has just timed out, for an answer that comes by `until`. Its owner waits no more.
    pub(crate) fn keep_timed_out(&mut self, id: RequestId, mut request: Box<InFlight>, until: Timestamp) {
        // The peer still owes this answer, so requests behind it wait for the peer.
        *self.overdue.entry(*request.to.key()).or_default() += 1;
        (request.owner, request.stage) = (Owner::Evidence, RequestStage::TimedOut);
        (request.lateness, request.alarm) = (Some(Lateness::Overdue), None);
        self.open.insert(id, request);
        self.set_alarm(id, Some(until));
    }

    /// Number of requests that the driver has and that have not timed out.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<&InFlight> {
        self.open.get(&id).map(|request| &**request)
    }

    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut InFlight> {
        self.open.get_mut(&id).map(|request| &mut **request)
    }

    /// Gives a request another owner. It continues until it ends by itself.
    pub(crate) fn set_owner(&mut self, id: RequestId, owner: Owner) {
        if let Some(request) = self.open.get_mut(&id) {
            request.owner = owner;
        }
    }

    /// Extends the limit of a request; `false` if it had as much, or its first byte is not written.
    pub(crate) fn extend_limit(&mut self, id: RequestId, limit: Duration) -> bool {
        let Some(request) = self.open.get_mut(&id) else { return false };
        if request.stage != RequestStage::Sent || request.deadlines.limit >= limit {
            return false;
        }
        request.deadlines.limit = limit;
        let alarm = request.sent + limit;
        self.set_alarm(id, Some(alarm));
        true
    }

    /// All requests with their owners and peers.
    pub(crate) fn all(&self) -> Vec<(RequestId, Owner, Arc<Contact>)> {
        self.open.iter().map(|(id, request)| (*id, request.owner, Arc::clone(&request.to))).collect()
    }

    /// The requests for which the driver dials.
    pub(crate) fn dials(&self) -> Vec<RequestId> {
        self.filtered(InFlight::dials)
    }

    /// The requests to this peer that the driver has and has not begun with.
    pub(crate) fn waiting_for(&self, peer: &Key) -> Vec<RequestId> {
        self.filtered(|request| request.stage == RequestStage::WithDriver && request.to.key() == peer)
    }

    fn filtered(&self, wanted: impl Fn(&InFlight) -> bool) -> Vec<RequestId> {
        self.open.iter().filter(|(_, request)| wanted(request)).map(|(id, _)| *id).collect()
    }

    /// If the driver was busy when an alarm was due, moves all deadlines by as much, [`MAX_DELAY`] at most: answers may
    /// have waited for as long. Returns whether it was.
    pub(crate) fn shift_for_delay(&mut self, now: Timestamp) -> bool {
        let Some((at, _)) = self.alarms.first() else { return false };
        // An alarm that was overdue at the last shift shows only the delay since then.
        let delay = now.since(*at).min(now.since(self.shifted));
        if delay <= BUSY_AFTER {
            return false;
        }
        let delay = delay.min(MAX_DELAY);
        self.shifted = now;
        self.alarms.clear();
        for (id, request) in &mut self.open {
            if let Some(alarm) = &mut request.alarm {
                *alarm += delay;
                self.alarms.insert((*alarm, *id));
                request.began += delay;
                request.sent += delay;
            }
        }
        true
    }

    /// The next request that is late or overdue, has timed out or whose owner is to be reminded of it, at `now`.
    pub(crate) fn next_alarm(&mut self, now: Timestamp) -> Option<(RequestId, Alarm)> {
        let (at, id) = self.alarms.first().copied().filter(|(at, _)| *at <= now)?;
        let request = self.open.get_mut(&id)?;
        let counts = matches!(request.stage, RequestStage::Behind | RequestStage::Dialling | RequestStage::Sent);
        if !counts || request.sent + request.deadlines.limit <= at {
            self.set_alarm(id, None);
            return Some((id, Alarm::TimedOut));
        }
        let lateness = match request.lateness {
            None if request.began + request.deadlines.late <= at => Some(Lateness::Late),
            Some(Lateness::Late) if request.began + request.deadlines.overdue <= at => Some(Lateness::Overdue),
            _ => None,
        };
        if lateness.is_some() {
            request.lateness = lateness;
        }
        if lateness == Some(Lateness::Overdue) {
            *self.overdue.entry(*request.to.key()).or_default() += 1;
        }
        // Several deadlines that have passed come one after the other, but one reminder stands for all that were
        // missed.
        let next = request.alarm_after(if lateness.is_some() { at } else { now });
        self.set_alarm(id, Some(next));
        Some((id, lateness.map_or(Alarm::Reminder, Alarm::Lateness)))
    }

    /// When `next_alarm` has something next, and for which request.
    pub(crate) fn next_wake(&self) -> Option<(Timestamp, RequestId)> {
        self.alarms.first().copied()
    }

    fn set_alarm(&mut self, id: RequestId, at: Option<Timestamp>) {
        let Some(request) = self.open.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut request.alarm, at) {
            self.alarms.remove(&(old, id));
        }
        if let Some(at) = at {
            self.alarms.insert((at, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use libp2p_identity::PeerId;

    use super::*;
    use crate::core::message::Value;

    const DEADLINES: Deadlines =
        Deadlines { late: Duration::from_secs(1), overdue: Duration::from_secs(2), limit: Duration::from_secs(4) };

    fn queue(requests: &mut Requests, request: Request) -> RequestId {
        let peer = Contact::new(PeerId::random(), []);
        requests.queue(Timestamp::ZERO, Owner::Evidence, Urgency::Normal, peer, request)
    }

    fn begin(requests: &mut Requests, at: u64, dials: bool) -> RequestId {
        let id = queue(requests, Request::Ping);
        requests.pass_to_driver(Timestamp::ZERO, id, Span::none(), None);
        let begin = if dials { Begin::Dial } else { Begin::Write };
        requests.begin(Timestamp::from_secs(at), id, begin, DEADLINES);
        id
    }

    /// All alarms of the only request, with their seconds.
    fn alarms(requests: &mut Requests) -> Vec<(u64, Alarm)> {
        std::iter::from_fn(|| {
            let (at, _) = requests.next_wake()?;
            Some((at.as_secs(), requests.next_alarm(at)?.1))
        })
        .collect()
    }

    const LATE: Alarm = Alarm::Lateness(Lateness::Late);
    const OVERDUE: Alarm = Alarm::Lateness(Lateness::Overdue);

    #[test]
    fn a_request_is_late_then_overdue_then_times_out_once() {
        let mut requests = Requests::default();
        let id = begin(&mut requests, 10, false);
        assert!(requests.next_alarm(Timestamp::from_millis(10_999)).is_none());
        assert_eq!(alarms(&mut requests), [(11, LATE), (12, OVERDUE), (14, Alarm::TimedOut)]);
        assert_eq!(requests.end(id).unwrap().elapsed(Timestamp::from_secs(14)), Duration::from_secs(4));
        assert!(requests.end(id).is_none() && requests.overdue.is_empty());
    }

    #[test]
    fn no_time_runs_while_a_request_waits() {
        let mut requests = Requests::default();
        let id = queue(&mut requests, Request::Ping);
        assert_eq!(requests.next_wake(), None);
        requests.pass_to_driver(Timestamp::ZERO, id, Span::none(), Some(Timestamp::from_secs(60)));
        assert_eq!(alarms(&mut requests), [(60, Alarm::TimedOut)]);
        let request = requests.end(id).unwrap();
        assert_eq!(
            (request.timeout_error(true), request.elapsed(Timestamp::from_secs(60))),
            (RequestError::Busy, Duration::ZERO)
        );
    }

    #[test]
    fn lateness_counts_from_the_dial_and_the_limit_from_the_first_byte() {
        let mut requests = Requests::default();
        let id = begin(&mut requests, 10, true);
        requests.begin(Timestamp::from_secs(12), id, Begin::Write, DEADLINES);
        assert_eq!(alarms(&mut requests), [(11, LATE), (12, OVERDUE), (16, Alarm::TimedOut)]);
        let mut requests = Requests::default();
        begin(&mut requests, 10, true);
        let (begin, end): (Vec<_>, Vec<_>) =
            alarms(&mut requests).into_iter().partition(|(_, how)| *how != Alarm::TimedOut);
        assert_eq!((begin[0], begin.len() > 4), ((11, LATE), true), "its owner is reminded of a dial");
        assert_eq!(end, [(14, Alarm::TimedOut)]);
    }

    /// A driver that is late by a month has no more to do than one that is late by a second.
    #[test]
    fn one_reminder_comes_for_all_that_were_missed() {
        let mut requests = Requests::default();
        let id = queue(&mut requests, Request::Ping);
        requests.pass_to_driver(Timestamp::ZERO, id, Span::none(), None);
        let deadlines = Deadlines { limit: Duration::MAX, ..DEADLINES };
        requests.begin(Timestamp::ZERO, id, Begin::Dial, deadlines);
        let month = Timestamp::from_secs(30 * 24 * 3_600);
        let alarms: Vec<_> = std::iter::from_fn(|| requests.next_alarm(month)).map(|(_, alarm)| alarm).collect();
        assert_eq!(alarms, [LATE, OVERDUE, Alarm::Reminder]);
        assert_eq!(requests.next_wake(), Some((month + REMIND, id)));
    }

    #[test]
    fn a_busy_driver_moves_the_deadlines_by_at_most_the_time_of_a_request() {
        let mut requests = Requests::default();
        begin(&mut requests, 10, false);
        assert!(!requests.shift_for_delay(Timestamp::from_millis(11_009)), "timers are not exact");
        assert!(requests.shift_for_delay(Timestamp::from_secs(13)));
        assert_eq!(alarms(&mut requests), [(13, LATE), (14, OVERDUE), (16, Alarm::TimedOut)]);
        let mut requests = Requests::default();
        begin(&mut requests, 10, false);
        assert!(requests.shift_for_delay(Timestamp::from_secs(3_600)));
        assert_eq!(requests.next_wake().map(|(at, _)| at), Some(Timestamp::from_secs(21)));
    }

    #[test]
    fn a_request_behind_an_overdue_one_waits_for_the_peer() {
        let mut requests = Requests::default();
        let peer = Contact::new(PeerId::random(), []);
        let pass = |requests: &mut Requests| {
            let id =
                requests.queue(Timestamp::ZERO, Owner::Evidence, Urgency::Normal, Arc::clone(&peer), Request::Ping);
            (id, requests.pass_to_driver(Timestamp::ZERO, id, Span::none(), None))
        };
        let (first, second) = (pass(&mut requests), pass(&mut requests));
        requests.begin(Timestamp::ZERO, first.0, Begin::Write, DEADLINES);
        while requests.next_wake().is_some_and(|(at, _)| at <= Timestamp::from_secs(2)) {
            requests.next_alarm(Timestamp::from_secs(2));
        }
        assert_eq!(requests.waiting_for(peer.key()), [second.0]);
        assert_eq!([first.1, second.1, pass(&mut requests).1], [false, false, true]);
        requests.begin(Timestamp::from_secs(2), second.0, Begin::Behind, DEADLINES);
        requests.on_answer(peer.key());
        assert!(!requests.get(second.0).unwrap().has_begun(), "a peer that answers is slow, not silent");
        requests.end(first.0);
        assert!(!pass(&mut requests).1);
    }

    #[test]
    fn a_late_answer_is_waited_for_after_the_owner_gave_up() {
        let mut requests = Requests::default();
        let id = begin(&mut requests, 0, false);
        alarms(&mut requests);
        let request = requests.end(id).unwrap();
        assert_eq!(request.may_answer_until(Duration::from_secs(10)), Some(Timestamp::from_secs(10)));
        requests.keep_timed_out(id, request, Timestamp::from_secs(10));
        assert!(requests.get(id).unwrap().has_timed_out());
        assert_eq!(alarms(&mut requests), [(10, Alarm::TimedOut)]);
        assert!(requests.end(id).is_some());
        assert!(requests.overdue.is_empty());
    }

    #[test]
    fn answers_must_fit() {
        let mut requests = Requests::default();
        let (asked, other) = (RecordKey::from("/a/b"), RecordKey::from("/a/c"));
        let mut check = |request: Request, response: Response| {
            let id = queue(&mut requests, request);
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
