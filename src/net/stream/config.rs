//! How streams are used: sizes, numbers and times, each with its source.
//!
//! Knows: numbers. Must not know: who reads them.

use std::time::Duration;

use libp2p_swarm::StreamProtocol;

use crate::core::ConfigError;
use crate::core::config::{at_most, nonzero};

/// Default for [`StreamConfig::max_message_in`]: 4 MiB. Source: the Go implementation reads and writes as much.
pub const DEFAULT_MAX_MESSAGE_IN: usize = 4 * 1024 * 1024;
/// Default for [`StreamConfig::max_message_out`]: 16 KiB. Source: `libp2p-kad` reads no more.
pub const DEFAULT_MAX_MESSAGE_OUT: usize = 16 * 1024;
/// Default for [`StreamConfig::streams_per_peer`]. Source: js-libp2p and `libp2p-kad` take 32 of a peer, and other protocols
/// need some. With 24 a peer 100 ms away is asked 240 times a second.
pub const DEFAULT_STREAMS_PER_PEER: usize = 24;
/// As many streams every known server takes at once. Source: py-libp2p, the strictest of them. Where more are open and one
/// is refused, the node keeps to these on that connection, and tries again what was on it.
pub const SAFE_STREAMS_PER_PEER: usize = 12;
/// Default for [`StreamConfig::queued_per_peer`]. Source: in a small network each of the 10,000 queries that may run
/// asks the same peers.
pub const DEFAULT_QUEUED_PER_PEER: usize = 10_000;
/// Default for [`StreamConfig::inbound_streams`]. Source: js-libp2p and `libp2p-kad` take 32.
pub const DEFAULT_INBOUND_STREAMS: usize = 32;
/// Default for [`StreamConfig::inbound_buffer`]: 8 MiB. Source: two messages of the longest kind, or 256 KiB a stream.
pub const DEFAULT_INBOUND_BUFFER: usize = 8 * 1024 * 1024;
/// Default for [`StreamConfig::open_timeout`]: 12 s. Source: a backstop behind the 10 s that the core gives a request.
pub const DEFAULT_OPEN_TIMEOUT: Duration = Duration::from_secs(12);
/// Default for [`StreamConfig::inbound_request_timeout`]: 9 s. Source: a peer waits 10 s for its answer, so that what
/// is not complete a little earlier is not waited for.
pub const DEFAULT_INBOUND_REQUEST_TIMEOUT: Duration = Duration::from_secs(9);
/// Default for [`StreamConfig::inbound_idle_timeout`]: 60 s. Source: the Go implementation's idle limit.
pub const DEFAULT_INBOUND_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Default for [`StreamConfig::outbound_idle_timeout`]: 30 s. Source: half of the time after which the Go implementation
/// closes an idle stream, so that a request seldom meets a stream that the peer is about to close.
pub const DEFAULT_OUTBOUND_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Default for [`StreamConfig::announcement_settle`]: 200 ms. Source: a round trip within a continent and the time to
/// check an announcement.
pub const DEFAULT_ANNOUNCEMENT_SETTLE: Duration = Duration::from_millis(200);

/// The longest that any time of a [`StreamConfig`] may be: a year. Source: longer than any connection lives, and far
/// from where the addition of a system's clock overflows.
pub const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// How the streams of each connection are used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamConfig {
    /// The names under which the protocol is spoken, in order of preference; never empty.
    pub protocols: Vec<StreamProtocol>,
    /// The longest message that is read, in bytes. Default: [`DEFAULT_MAX_MESSAGE_IN`].
    pub max_message_in: usize,
    /// The longest message that is written, in bytes. Default: [`DEFAULT_MAX_MESSAGE_OUT`].
    pub max_message_out: usize,
    /// Streams that this node has open to a peer at once, idle ones included. Default: [`DEFAULT_STREAMS_PER_PEER`].
    pub streams_per_peer: usize,
    /// Requests to a peer that wait for a stream; one more ends as busy. Default: [`DEFAULT_QUEUED_PER_PEER`].
    pub queued_per_peer: usize,
    /// Streams that a peer may have open to this node; one more replaces the longest idle one, and is reset if none is
    /// idle. Default: [`DEFAULT_INBOUND_STREAMS`].
    pub inbound_streams: usize,
    /// Bytes of unfinished requests that all streams of one connection may hold together; the stream that goes beyond
    /// is reset. Default: [`DEFAULT_INBOUND_BUFFER`].
    pub inbound_buffer: usize,
    /// The time in which a stream to a peer must be open. How long a request may take is the core's to say
    /// ([`LookupConfig::request_timeout`](crate::core::config::LookupConfig::request_timeout)).
    /// Default: [`DEFAULT_OPEN_TIMEOUT`].
    pub open_timeout: Duration,
    /// The time in which the first request on a new stream, and every later one after its first byte, must be complete,
    /// and in which a peer must have taken its answer. Default: [`DEFAULT_INBOUND_REQUEST_TIMEOUT`].
    pub inbound_request_timeout: Duration,
    /// How long a stream of a peer is kept that was used and is idle. Default: [`DEFAULT_INBOUND_IDLE_TIMEOUT`].
    pub inbound_idle_timeout: Duration,
    /// How long a stream to a peer is kept for the next request. Default: [`DEFAULT_OUTBOUND_IDLE_TIMEOUT`].
    pub outbound_idle_timeout: Duration,
    /// How long an announcement waits for a reset before this node closes its side of the stream. Afterwards some
    /// muxers (yamux) no longer tell a reset from a clean end, so that a refusal that takes longer counts as an
    /// acknowledgement there. It also paces announcements: a stream carries one in this time. Zero closes at once. Default: [`DEFAULT_ANNOUNCEMENT_SETTLE`].
    pub announcement_settle: Duration,
}

impl StreamConfig {
    /// The defaults, for these protocol names in order of preference.
    pub fn new(protocols: impl IntoIterator<Item = StreamProtocol>) -> StreamConfig {
        StreamConfig {
            protocols: protocols.into_iter().collect(),
            max_message_in: DEFAULT_MAX_MESSAGE_IN,
            max_message_out: DEFAULT_MAX_MESSAGE_OUT,
            streams_per_peer: DEFAULT_STREAMS_PER_PEER,
            queued_per_peer: DEFAULT_QUEUED_PER_PEER,
            inbound_streams: DEFAULT_INBOUND_STREAMS,
            inbound_buffer: DEFAULT_INBOUND_BUFFER,
            open_timeout: DEFAULT_OPEN_TIMEOUT,
            inbound_request_timeout: DEFAULT_INBOUND_REQUEST_TIMEOUT,
            inbound_idle_timeout: DEFAULT_INBOUND_IDLE_TIMEOUT,
            outbound_idle_timeout: DEFAULT_OUTBOUND_IDLE_TIMEOUT,
            announcement_settle: DEFAULT_ANNOUNCEMENT_SETTLE,
        }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// Names the first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.protocols.is_empty() {
            return Err(ConfigError::Empty("stream.protocols"));
        }
        nonzero([
            ("stream.max_message_in", self.max_message_in),
            ("stream.max_message_out", self.max_message_out),
            ("stream.streams_per_peer", self.streams_per_peer),
            ("stream.inbound_streams", self.inbound_streams),
        ])?;
        let needed = [
            ("stream.open_timeout", self.open_timeout),
            ("stream.inbound_request_timeout", self.inbound_request_timeout),
            ("stream.inbound_idle_timeout", self.inbound_idle_timeout),
        ];
        nonzero(needed)?;
        within_max_time(needed)?;
        within_max_time([
            ("stream.outbound_idle_timeout", self.outbound_idle_timeout),
            ("stream.announcement_settle", self.announcement_settle),
        ])?;
        at_most(("stream.max_message_in", self.max_message_in), ("stream.inbound_buffer", self.inbound_buffer))
    }
}

/// Refuses the first of these times that is longer than [`MAX_TIME`].
pub(crate) fn within_max_time<const N: usize>(times: [(&'static str, Duration); N]) -> Result<(), ConfigError> {
    let longer = times.into_iter().find(|(_, time)| *time > MAX_TIME);
    longer.map_or(Ok(()), |(name, _)| Err(ConfigError::TooLong(name, MAX_TIME)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> StreamConfig {
        StreamConfig::new([StreamProtocol::new("/test/kad/1.0.0")])
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(config().validate(), Ok(()));
    }

    #[test]
    fn errors_name_the_field() {
        assert_eq!(StreamConfig::new([]).validate(), Err(ConfigError::Empty("stream.protocols")));
        let zero = StreamConfig { streams_per_peer: 0, ..config() };
        assert_eq!(zero.validate(), Err(ConfigError::Zero("stream.streams_per_peer")));
        let zero = StreamConfig { inbound_idle_timeout: Duration::ZERO, ..config() };
        assert_eq!(zero.validate(), Err(ConfigError::Zero("stream.inbound_idle_timeout")));
        let endless = StreamConfig { open_timeout: Duration::MAX, ..config() };
        assert_eq!(endless.validate(), Err(ConfigError::TooLong("stream.open_timeout", MAX_TIME)));
        let endless = StreamConfig { outbound_idle_timeout: Duration::MAX, ..config() };
        assert_eq!(endless.validate(), Err(ConfigError::TooLong("stream.outbound_idle_timeout", MAX_TIME)));
        let small = StreamConfig { inbound_buffer: 1024, ..config() };
        assert!(matches!(small.validate(), Err(ConfigError::Greater("stream.max_message_in", _))));
    }
}
