//! The spans of queries and requests: their names, and those of their fields, in one place.
//!
//! Knows: `query`, `request`, `peer`, as every event of this crate calls them. Must not know: who looks. Where nobody
//! does, a span is an empty value and no field of it is made.

use std::time::Duration;

use tracing::field::{Empty, debug};
use tracing::span::{Id, Span};

use super::contact::Contact;
use super::io::QueryKind;
use super::io::{QueryId, RequestId};
use super::key::Key;
use super::message::Kind;
use super::stats::QueryEnd;

/// A query from its start to its end.
pub(crate) fn query(id: QueryId, kind: QueryKind, target: &Key) -> Span {
    tracing::debug_span!(
        parent: None,
        "query",
        query = %id,
        operation = kind.name(),
        key = %target,
        outcome = Empty,
        took = Empty,
    )
}

/// The query is over.
pub(crate) fn end_query(span: &Span, end: QueryEnd, took: Duration) {
    if !span.is_disabled() {
        span.record("outcome", end.name());
        span.record("took", debug(took));
    }
}

/// A request from its sending to its end, below the span of the query that it is for.
pub(crate) fn request(of: Option<QueryId>, parent: Option<Id>, id: RequestId, kind: Kind, to: &Contact) -> Span {
    tracing::debug_span!(
        parent: parent,
        "request",
        query = of.map(display),
        request = %id,
        peer = %to.peer(),
        kind = %kind,
        outcome = Empty,
        took = Empty,
    )
}

/// The request is over; how long it took is not known of one that nobody waits for any more.
pub(crate) fn end_request(span: &Span, outcome: &'static str, took: Option<Duration>) {
    if !span.is_disabled() {
        span.record("outcome", outcome);
        span.record("took", took.map(debug));
    }
}
