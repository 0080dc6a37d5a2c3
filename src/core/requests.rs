//! The requests of this node: who waits for each, how far it got, and until when. Each ends exactly once.
//!
//! Knows: ids, owners, deadlines, and what a fitting answer is. Must not know: what the owner does with the end.
//!
//! A request waits for its turn, then for the driver, and neither is the peer's doing. The peer's time begins when the
//! driver says that it dials, or that the first byte is written: from then on the request may become late and overdue.
//! Its limit counts from the dial, and anew from the first byte. A peer that lets one request become overdue is why those
//! behind it wait, so their time begins then too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::contact::Contact;
use super::io::{QueryId, RequestId};
use super::key::Key;
use super::lookup::Lateness;
use super::message::{DialCause, Kind, Misbehaviour, Request, RequestError, Response, Unreachable, Value};
use super::rtt::{Deadlines, Urgency};
use super::time::Timestamp;

/// A driver that calls this much later than asked for was busy: its lateness is not the peers'. Source: timers of the
/// usual runtimes are a few milliseconds late on a machine that is not overloaded.
const BUSY_AFTER: Duration = Duration::from_millis(10);
/// The most that one such delay moves the deadlines. Source: the longest time of a request; a longer delay was a suspended
/// machine, whose connections are gone.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// While a dial is overdue, its owner is reminded of it this often, since what it knows may have changed.
const REMIND: Duration = Duration::from_millis(250);

/// A dial has taken far longer than most after this many times the time at which it is overdue.
const FAR_LONGER: u32 = 3;

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

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for its turn.
    Queued,
    /// The driver has it, and has not begun with it.
    WithDriver,
    /// The same, while others to the peer are overdue: they are why it waits.
    Behind,
    /// A connection is being made for it.
    Dialling,
    /// Its first byte is written.
    Sent,
    /// Its time is over and its owner knows. A late answer still teaches how long the peer takes.
    TimedOut,
}

/// What the peer's time begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The request waits behind others to the peer that are overdue.
    Behind,
    /// The driver makes a connection for it.
    Dial,
    /// Its first byte is written; an answer cannot come before this much time has passed.
    Write(Duration),
}

/// A request without an end.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) owner: Owner,
    pub(crate) to: Arc<Contact>,
    pub(crate) urgency: Urgency,
    /// What time has done to it so far.
    pub(crate) lateness: Option<Lateness>,
    /// How often it was sent again.
    again: u8,
    /// Whether the peer was connected when it was sent.
    pub(crate) connected: bool,
    /// Empty where nobody looks.
    pub(crate) span: Span,
    /// Whether the peer had to be dialled for it.
    pub(crate) dialled: bool,
    stage: Stage,
    request: Request,
    /// When the driver got it; before that, when it was made.
    pub(crate) passed_at: Timestamp,
    /// When the peer's time began.
    began: Timestamp,
    /// When the limit began to count.
    sent: Timestamp,
    deadlines: Deadlines,
    /// When time does the next thing to it, if ever.
    alarm: Option<Timestamp>,
    /// When somebody wants to be reminded of it.
    reminder: Timestamp,
    /// Until when the driver may take to begin, where no query's deadline bounds it.
    until: Option<Timestamp>,
}

impl InFlight {
    pub(crate) fn kind(&self) -> Kind {
        self.request.kind()
    }

    pub(crate) fn request(&self) -> Request {
        self.request.clone()
    }

    /// Whether it was sent again less than so often; counts that.
    pub(crate) fn try_resend(&mut self, most: u8) -> bool {
        let may = self.again < most && !self.has_timed_out();
        self.again += u8::from(may);
        may
    }

    /// The time that the peer took.
    pub(crate) fn elapsed(&self, now: Timestamp) -> Duration {
        if self.has_begun() { now.since(self.began) } else { Duration::ZERO }
    }

    /// The time that the peer took to answer now, where the answer tells it: not if the driver never said that it sends, nor
    /// before it had settled.
    pub(crate) fn round_trip(&self, now: Timestamp) -> Option<Duration> {
        (self.has_begun() && self.stage != Stage::Behind && self.began <= now).then(|| now.since(self.began))
    }

    /// Whether the peer's time has begun: until then nothing speaks against it.
    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.stage, Stage::Queued | Stage::WithDriver)
    }

    /// Whether it is late though the driver is on its way to the peer: how it ends tells whether the peer is alive.
    pub(crate) fn shows_liveness(&self) -> bool {
        self.lateness.is_some() && matches!(self.stage, Stage::Dialling | Stage::Sent)
    }

    /// Whether the driver has it.
    pub(crate) fn is_with_driver(&self) -> bool {
        self.stage != Stage::Queued
    }

    /// Whether its owner was told that its time is over.
    pub(crate) fn has_timed_out(&self) -> bool {
        self.stage == Stage::TimedOut
    }

    /// Whether it takes up one of the window's slots.
    pub(crate) fn holds_slot(&self) -> bool {
        matches!(self.owner, Owner::Query(..)) && self.is_with_driver() && self.lateness.is_none()
    }

    /// Until when an answer may come that still teaches something; never before the first byte is written.
    pub(crate) fn may_answer_until(&self, most: Duration) -> Option<Timestamp> {
        (self.stage == Stage::Sent).then(|| self.sent + most)
    }

    /// Whether the driver began with it at once, and it is not late: more may be in flight.
    pub(crate) fn was_prompt(&self) -> bool {
        self.lateness.is_none() && self.began.since(self.passed_at) < BUSY_AFTER
    }

    /// Whether a connection is being made for it, and far longer than most take.
    pub(crate) fn dials_far_too_long(&self, now: Timestamp) -> bool {
        self.dials() && now.since(self.began) >= self.deadlines.overdue.saturating_mul(FAR_LONGER)
    }

    /// Whether a connection is being made for it.
    pub(crate) fn dials(&self) -> bool {
        self.stage == Stage::Dialling
    }

    /// Why it failed if its time is over. An announcement that went out on a connection has no answer to miss; what the
    /// driver never began with is this node's own failure.
    pub(crate) fn timeout_error(&self, connected: bool) -> RequestError {
        match self.stage {
            Stage::Queued | Stage::WithDriver => RequestError::Busy,
            Stage::Dialling => Unreachable::DialFailed(DialCause::TimedOut).into(),
            _ if self.kind() == Kind::AddProvider && connected => RequestError::Unacknowledged,
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

    /// When time does the next thing to it, after it did one at `at`.
    fn alarm_after(&self, at: Timestamp) -> Timestamp {
        let next = match self.lateness {
            None => self.began + self.deadlines.late,
            Some(Lateness::Late) => self.began + self.deadlines.overdue,
            Some(Lateness::Overdue) if self.stage == Stage::Dialling => at + REMIND,
            Some(Lateness::Overdue) => Timestamp::MAX,
        };
        let reminder = if self.reminder > at { self.reminder } else { Timestamp::MAX };
        next.min(reminder).min(self.sent + self.deadlines.limit)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// It is late, or overdue; it goes on.
    Lateness(Lateness),
    /// It is as before, and somebody wanted to be reminded of it.
    Reminder,
    /// Its time is over.
    TimedOut,
}

/// All requests without an end.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    next: u64,
    open: BTreeMap<RequestId, InFlight>,
    alarms: BTreeSet<(Timestamp, RequestId)>,
    /// When the deadlines were moved last since the driver was busy.
    followed: Timestamp,
    /// How many of them are with the driver and awaited.
    awaited: usize,
    /// How many requests to each peer are overdue.
    overdue: BTreeMap<Key, u32>,
}

impl Requests {
    /// A request that waits for its turn.
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
        let (stage, span, deadlines) = (Stage::Queued, Span::none(), Deadlines::default());
        let request = InFlight {
            owner,
            to,
            urgency,
            lateness: None,
            span,
            again: 0,
            connected: false,
            dialled: false,
            stage,
            request,
            passed_at: now,
            began: now,
            sent: now,
            deadlines,
            alarm: None,
            reminder: Timestamp::MAX,
            until: None,
        };
        self.open.insert(id, request);
        id
    }

    /// The driver gets a request; `until` bounds how long it may take to begin, where nothing else does. Says whether the
    /// peer's time begins at once, since others to it are overdue.
    pub(crate) fn pass_to_driver(
        &mut self,
        now: Timestamp,
        id: RequestId,
        span: Span,
        until: Option<Timestamp>,
    ) -> bool {
        let Some(request) = self.open.get_mut(&id) else { return false };
        (request.stage, request.passed_at, request.until) = (Stage::WithDriver, now, until);
        self.awaited += 1;
        if !span.is_disabled() {
            request.span = span;
        }
        let waits = self.overdue.contains_key(request.to.key());
        self.set_alarm(id, until);
        waits
    }

    /// The peer's time begins. What the driver begins with once more gets a limit anew.
    pub(crate) fn begin(&mut self, now: Timestamp, id: RequestId, begin: Begin, deadlines: Deadlines) {
        let Some(request) =
            self.open.get_mut(&id).filter(|request| request.is_with_driver() && !request.has_timed_out())
        else {
            return;
        };
        // What waited behind others has now a time of its own.
        let first = matches!(request.stage, Stage::WithDriver | Stage::Behind);
        let (stage, settle) = match begin {
            Begin::Behind if !first => return,
            Begin::Behind => (Stage::Behind, Duration::ZERO),
            Begin::Dial => (Stage::Dialling, Duration::ZERO),
            Begin::Write(settle) => (Stage::Sent, settle),
        };
        request.stage = stage;
        request.dialled |= begin == Begin::Dial;
        request.sent = now + settle;
        if first {
            request.began = request.sent;
            request.deadlines = deadlines;
        } else {
            request.deadlines.limit = deadlines.limit;
        }
        let alarm = request.alarm_after(now);
        self.set_alarm(id, Some(alarm));
    }

    /// It is known better now how long a dial takes than when this one began.
    pub(crate) fn set_deadlines(&mut self, now: Timestamp, id: RequestId, deadlines: Deadlines) {
        let Some(request) = self.open.get_mut(&id) else { return };
        request.deadlines = deadlines;
        let alarm = request.alarm_after(now).max(now);
        self.set_alarm(id, Some(alarm));
    }

    /// Has a reminder of a request come at this time.
    pub(crate) fn remind(&mut self, id: RequestId, at: Timestamp) {
        let Some(request) = self.open.get_mut(&id) else { return };
        request.reminder = at;
        if request.alarm.is_some_and(|alarm| at < alarm) {
            self.set_alarm(id, Some(at));
        }
    }

    /// Ends a request, whatever the reason; `None` if it has ended before.
    pub(crate) fn end(&mut self, id: RequestId) -> Option<InFlight> {
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

    /// A peer answered: it is slow, not silent, and those behind what is overdue wait for their turn again.
    pub(crate) fn on_answer(&mut self, peer: &Key) {
        if self.overdue.remove(peer).is_none() {
            return;
        }
        let behind = |request: &InFlight| request.stage == Stage::Behind && request.to.key() == peer;
        let behind: Vec<_> = self.open.iter().filter(|(_, request)| behind(request)).map(|(id, _)| *id).collect();
        for id in behind {
            if let Some(request) = self.open.get_mut(&id) {
                request.stage = Stage::WithDriver;
                let until = request.until;
                self.set_alarm(id, until);
            }
        }
    }

    /// The owner of a request that has just ended knows, and waits no more: until `until` an answer still teaches.
    pub(crate) fn keep_timed_out(&mut self, id: RequestId, request: InFlight, until: Timestamp) {
        // It is still owed, so that those behind it wait for the peer.
        *self.overdue.entry(*request.to.key()).or_default() += 1;
        let lateness = Some(Lateness::Overdue);
        self.open
            .insert(id, InFlight { owner: Owner::Evidence, stage: Stage::TimedOut, lateness, alarm: None, ..request });
        self.set_alarm(id, Some(until));
    }

    /// How many are with the driver and awaited.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<&InFlight> {
        self.open.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut InFlight> {
        self.open.get_mut(&id)
    }

    /// Gives a request another owner; it goes on until it ends by itself.
    pub(crate) fn set_owner(&mut self, id: RequestId, owner: Owner) {
        if let Some(request) = self.open.get_mut(&id) {
            request.owner = owner;
        }
    }

    /// Lets a request go on up to this limit; `false` if it had as much.
    pub(crate) fn extend_limit(&mut self, id: RequestId, limit: Duration) -> bool {
        let Some(request) = self.open.get_mut(&id) else { return false };
        if request.stage != Stage::Sent || request.deadlines.limit >= limit {
            return false;
        }
        request.deadlines.limit = limit;
        let alarm = request.sent + limit;
        self.set_alarm(id, Some(alarm));
        true
    }

    /// Those for which a connection is being made.
    pub(crate) fn dials(&self) -> Vec<RequestId> {
        let dials = |request: &InFlight| request.stage == Stage::Dialling;
        self.open.iter().filter(|(_, request)| dials(request)).map(|(id, _)| *id).collect()
    }

    /// Those handed to the driver for this peer with which it has not begun.
    pub(crate) fn waiting_for(&self, peer: &Key) -> Vec<RequestId> {
        let waits = |request: &InFlight| request.stage == Stage::WithDriver && request.to.key() == peer;
        self.open.iter().filter(|(_, request)| waits(request)).map(|(id, _)| *id).collect()
    }

    /// If the driver was busy when something was due, moves all deadlines by as much, [`MAX_DELAY`] at most: answers may
    /// have waited for as long. Says whether it was.
    pub(crate) fn shift_for_delay(&mut self, now: Timestamp) -> bool {
        // What a long delay left is no delay of its own.
        let late = |at: &Timestamp| now.since(*at).min(now.since(self.followed));
        let delay = self.alarms.first().map_or(Duration::ZERO, |(at, _)| late(at));
        if delay <= BUSY_AFTER {
            return false;
        }
        let delay = delay.min(MAX_DELAY);
        self.followed = now;
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

    /// The next request that is late, overdue or over at `now`.
    pub(crate) fn next_alarm(&mut self, now: Timestamp) -> Option<(RequestId, Alarm)> {
        let (at, id) = self.alarms.first().copied().filter(|(at, _)| *at <= now)?;
        let request = self.open.get_mut(&id)?;
        let counts = matches!(request.stage, Stage::Behind | Stage::Dialling | Stage::Sent);
        if !counts || request.sent + request.deadlines.limit <= at {
            self.set_alarm(id, None);
            return Some((id, Alarm::TimedOut));
        }
        let alarm = match request.lateness {
            None if request.began + request.deadlines.late <= at => Alarm::Lateness(Lateness::Late),
            Some(Lateness::Late) if request.began + request.deadlines.overdue <= at => {
                Alarm::Lateness(Lateness::Overdue)
            }
            _ => Alarm::Reminder,
        };
        if let Alarm::Lateness(how) = alarm {
            request.lateness = Some(how);
        }
        if alarm == Alarm::Lateness(Lateness::Overdue) {
            *self.overdue.entry(*request.to.key()).or_default() += 1;
        }
        // What is due by now comes one after the other, but one reminder stands for all that were missed.
        let next = request.alarm_after(if alarm == Alarm::Reminder { now } else { at });
        self.set_alarm(id, Some(next));
        Some((id, alarm))
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
    use crate::core::record::RecordKey;

    const DEADLINES: Deadlines =
        Deadlines { late: Duration::from_secs(1), overdue: Duration::from_secs(2), limit: Duration::from_secs(4) };

    fn queue(requests: &mut Requests, request: Request) -> RequestId {
        let peer = Contact::new(PeerId::random(), []);
        requests.queue(Timestamp::ZERO, Owner::Evidence, Urgency::Normal, peer, request)
    }

    fn begin(requests: &mut Requests, at: u64, dials: bool) -> RequestId {
        let id = queue(requests, Request::Ping);
        requests.pass_to_driver(Timestamp::ZERO, id, Span::none(), None);
        let begin = if dials { Begin::Dial } else { Begin::Write(Duration::ZERO) };
        requests.begin(Timestamp::from_secs(at), id, begin, DEADLINES);
        id
    }

    /// All that time does to the only request, by the second at which it does.
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
    fn late_then_overdue_then_over_and_nothing_after_that() {
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
        requests.begin(Timestamp::from_millis(11_500), id, Begin::Write(Duration::from_millis(500)), DEADLINES);
        assert_eq!(alarms(&mut requests), [(11, LATE), (12, OVERDUE), (16, Alarm::TimedOut)]);
        let mut requests = Requests::default();
        begin(&mut requests, 10, true);
        let (begin, over): (Vec<_>, Vec<_>) =
            alarms(&mut requests).into_iter().partition(|(_, how)| *how != Alarm::TimedOut);
        assert_eq!((begin[0], begin.len() > 4), ((11, LATE), true), "its owner is reminded of a dial");
        assert_eq!(over, [(14, Alarm::TimedOut)]);
    }

    /// A driver that is late by a month has no more to do than one that is late by a second.
    #[test]
    fn of_the_reminders_that_were_missed_one_comes() {
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
    fn a_busy_driver_moves_what_is_due_and_no_more_than_a_request_lasts() {
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
    fn what_waits_behind_an_overdue_request_waits_for_the_peer() {
        let mut requests = Requests::default();
        let peer = Contact::new(PeerId::random(), []);
        let hand = |requests: &mut Requests| {
            let id =
                requests.queue(Timestamp::ZERO, Owner::Evidence, Urgency::Normal, Arc::clone(&peer), Request::Ping);
            (id, requests.pass_to_driver(Timestamp::ZERO, id, Span::none(), None))
        };
        let (first, second) = (hand(&mut requests), hand(&mut requests));
        requests.begin(Timestamp::ZERO, first.0, Begin::Write(Duration::ZERO), DEADLINES);
        while requests.next_wake().is_some_and(|(at, _)| at <= Timestamp::from_secs(2)) {
            requests.next_alarm(Timestamp::from_secs(2));
        }
        assert_eq!(requests.waiting_for(peer.key()), [second.0]);
        assert_eq!([first.1, second.1, hand(&mut requests).1], [false, false, true]);
        requests.begin(Timestamp::from_secs(2), second.0, Begin::Behind, DEADLINES);
        requests.on_answer(peer.key());
        assert!(!requests.get(second.0).unwrap().has_begun(), "a peer that answers is slow, not silent");
        requests.end(first.0);
        assert!(!hand(&mut requests).1);
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
