//! The tracing spans of queries and requests: their names and fields, in one place.
//!
//! Knows: `query`, `request`, `peer`, the names that every event of this crate uses. Must not know: the subscriber.
//! Without one, a span is an empty value and none of its fields is computed.

use std::time::Duration;

use tracing::field::{Empty, debug};
use tracing::span::{Id, Span};

use super::contact::Contact;
use super::io::QueryKind;
use super::io::{QueryId, RequestId};
use super::key::Key;
use super::message::Kind;
use super::stats::QueryEnd;

/// The span of a query, from its start to its end.
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

/// Records the end of a query.
pub(crate) fn end_query(span: &Span, end: QueryEnd, took: Duration) {
    if !span.is_disabled() {
        span.record("outcome", end.name());
        span.record("took", debug(took));
    }
}

/// The span of a request, from its sending to its end, below the span of its query.
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

/// Records the end of a request. A cancelled one has no known time.
pub(crate) fn end_request(span: &Span, outcome: &'static str, took: Option<Duration>) {
    if !span.is_disabled() {
        span.record("outcome", outcome);
        span.record("took", took.map(debug));
    }
}
