//! Sizes, numbers and times of streams, each with its source.
//!
//! Knows: numbers. Must not know: the streams that they apply to.

use std::time::Duration;

use libp2p_swarm::StreamProtocol;

use crate::core::ConfigError;
use crate::core::config::{at_most, nonzero};

/// The use of the streams of each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamConfig {
    /// Protocol names in order of preference; never empty.
    pub protocols: Vec<StreamProtocol>,
    /// Longest answer that is read, in bytes. Default: [`DEFAULT_MAX_MESSAGE_IN`](Self::DEFAULT_MAX_MESSAGE_IN).
    pub max_message_in: usize,
    /// Longest message that is written, in bytes. Default: [`DEFAULT_MAX_MESSAGE_OUT`](Self::DEFAULT_MAX_MESSAGE_OUT).
    pub max_message_out: usize,
    /// Maximum number of streams that this node has open to a peer, idle ones included.
    /// Default: [`DEFAULT_STREAMS_PER_PEER`](Self::DEFAULT_STREAMS_PER_PEER).
    pub streams_per_peer: usize,
    /// Maximum number of requests to a peer that wait for a stream; one more fails as busy.
    /// Default: [`DEFAULT_QUEUED_PER_PEER`](Self::DEFAULT_QUEUED_PER_PEER).
    pub queued_per_peer: usize,
    /// Maximum number of streams that a peer may have open to this node. One more replaces the stream that was idle for
    /// longest, and is reset if none is idle. Default: [`DEFAULT_INBOUND_STREAMS`](Self::DEFAULT_INBOUND_STREAMS).
    pub inbound_streams: usize,
    /// Longest request that is read, in bytes; a longer one is refused before it arrives, and a stream on which more
    /// bytes come while a request is not answered is reset. Never less than a PUT_VALUE of the longest value that this
    /// node keeps takes, with 8 KiB beside its keys.
    /// Default: [`DEFAULT_MAX_REQUEST_IN`](Self::DEFAULT_MAX_REQUEST_IN).
    pub max_request_in: usize,
    /// Bytes of unfinished requests, and of those that wait behind another on their stream, that all connections of the
    /// node may hold together. Beyond that the connection that holds the most loses them.
    /// Default: [`DEFAULT_INBOUND_BUFFER`](Self::DEFAULT_INBOUND_BUFFER).
    pub inbound_buffer: usize,
    /// Bytes of answers that a peer may leave untaken; while there are more, no further request of its connection is
    /// read. Default: [`DEFAULT_UNTAKEN_ANSWERS`](Self::DEFAULT_UNTAKEN_ANSWERS).
    pub untaken_answers: usize,
    /// Time within which a stream to a peer must be open. The core decides how long a request may take
    /// ([`LookupConfig::request_timeout`](crate::core::config::LookupConfig::request_timeout)).
    /// Default: [`DEFAULT_OPEN_TIMEOUT`](Self::DEFAULT_OPEN_TIMEOUT).
    pub open_timeout: Duration,
    /// Time within which the first request on a new stream, and every later one after its first byte, must be complete,
    /// and within which a peer must have taken its answer.
    /// Default: [`DEFAULT_INBOUND_REQUEST_TIMEOUT`](Self::DEFAULT_INBOUND_REQUEST_TIMEOUT).
    pub inbound_request_timeout: Duration,
    /// Time for which a peer's stream is kept idle after a request.
    /// Default: [`DEFAULT_INBOUND_IDLE_TIMEOUT`](Self::DEFAULT_INBOUND_IDLE_TIMEOUT).
    pub inbound_idle_timeout: Duration,
    /// Time for which a stream to a peer is kept for the next request.
    /// Default: [`DEFAULT_OUTBOUND_IDLE_TIMEOUT`](Self::DEFAULT_OUTBOUND_IDLE_TIMEOUT).
    pub outbound_idle_timeout: Duration,
}

impl StreamConfig {
    /// 4 MiB. Source: the Go implementation's limit for reading and writing.
    pub const DEFAULT_MAX_MESSAGE_IN: usize = 4 * 1024 * 1024;
    /// 16 KiB. Source: the longest message that `libp2p-kad` reads.
    pub const DEFAULT_MAX_MESSAGE_OUT: usize = 16 * 1024;
    /// 24 streams. Source: js-libp2p and `libp2p-kad` accept 32 streams of a peer, and other protocols need some of
    /// them. This is enough for 240 requests a second to a peer 100 ms away.
    pub const DEFAULT_STREAMS_PER_PEER: usize = 24;
    /// The number of streams that every known server accepts. Source: py-libp2p, the strictest of them. If a peer
    /// refuses a stream while more than these are open, the node stays within this number on that connection and sends
    /// the refused request again.
    pub const SAFE_STREAMS_PER_PEER: usize = 12;
    /// 10,000. Source: in a small network each of the 10,000 queries that may run asks the same peers.
    pub const DEFAULT_QUEUED_PER_PEER: usize = 10_000;
    /// 32. Source: js-libp2p and `libp2p-kad`.
    pub const DEFAULT_INBOUND_STREAMS: usize = 32;
    /// 64 KiB. Source: three times the longest useful request, an announcement with all the addresses that are read of a
    /// peer. A PUT_VALUE must be answered in 16 KiB.
    pub const DEFAULT_MAX_REQUEST_IN: usize = 64 * 1024;
    /// 16 MiB. Source: a quarter of the 64 MiB that strangers may cost a node in all.
    pub const DEFAULT_INBOUND_BUFFER: usize = 16 * 1024 * 1024;
    /// 64 KiB. Source: four answers of the maximum length.
    pub const DEFAULT_UNTAKEN_ANSWERS: usize = 64 * 1024;
    /// 12 s. Source: a backstop behind the 10 s that the core gives a request.
    pub const DEFAULT_OPEN_TIMEOUT: Duration = Duration::from_secs(12);
    /// 9 s. Source: peers wait 10 s for an answer, so a request that is completed later is of no use to them.
    pub const DEFAULT_INBOUND_REQUEST_TIMEOUT: Duration = Duration::from_secs(9);
    /// 60 s. Source: the Go implementation's idle limit.
    pub const DEFAULT_INBOUND_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
    /// 30 s. Source: half of the Go implementation's idle limit, so that a request seldom meets a stream that the peer
    /// is about to close.
    pub const DEFAULT_OUTBOUND_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
    /// Maximum for every time in this configuration: a year. Source: longer than any connection lives, and far from
    /// where adding it to a system's clock overflows.
    pub const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

    /// The defaults, for these protocol names in order of preference.
    pub fn new(protocols: impl IntoIterator<Item = StreamProtocol>) -> StreamConfig {
        StreamConfig {
            protocols: protocols.into_iter().collect(),
            max_message_in: Self::DEFAULT_MAX_MESSAGE_IN,
            max_message_out: Self::DEFAULT_MAX_MESSAGE_OUT,
            streams_per_peer: Self::DEFAULT_STREAMS_PER_PEER,
            queued_per_peer: Self::DEFAULT_QUEUED_PER_PEER,
            inbound_streams: Self::DEFAULT_INBOUND_STREAMS,
            max_request_in: Self::DEFAULT_MAX_REQUEST_IN,
            inbound_buffer: Self::DEFAULT_INBOUND_BUFFER,
            untaken_answers: Self::DEFAULT_UNTAKEN_ANSWERS,
            open_timeout: Self::DEFAULT_OPEN_TIMEOUT,
            inbound_request_timeout: Self::DEFAULT_INBOUND_REQUEST_TIMEOUT,
            inbound_idle_timeout: Self::DEFAULT_INBOUND_IDLE_TIMEOUT,
            outbound_idle_timeout: Self::DEFAULT_OUTBOUND_IDLE_TIMEOUT,
        }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// The first field that cannot work, by name.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.protocols.is_empty() {
            return Err(ConfigError::Empty("stream.protocols"));
        }
        nonzero([
            ("stream.max_message_in", self.max_message_in),
            ("stream.max_message_out", self.max_message_out),
            ("stream.streams_per_peer", self.streams_per_peer),
            ("stream.inbound_streams", self.inbound_streams),
            ("stream.max_request_in", self.max_request_in),
            ("stream.untaken_answers", self.untaken_answers),
        ])?;
        let needed = [
            ("stream.open_timeout", self.open_timeout),
            ("stream.inbound_request_timeout", self.inbound_request_timeout),
            ("stream.inbound_idle_timeout", self.inbound_idle_timeout),
        ];
        nonzero(needed)?;
        within_max_time(needed)?;
        within_max_time([("stream.outbound_idle_timeout", self.outbound_idle_timeout)])?;
        at_most(("stream.max_request_in", self.max_request_in), ("stream.inbound_buffer", self.inbound_buffer))
    }
}

/// Refuses the first of these times that is longer than [`StreamConfig::MAX_TIME`].
pub(crate) fn within_max_time<const N: usize>(times: [(&'static str, Duration); N]) -> Result<(), ConfigError> {
    let longer = times.into_iter().find(|(_, time)| *time > StreamConfig::MAX_TIME);
    longer.map_or(Ok(()), |(name, _)| Err(ConfigError::TooLong(name, StreamConfig::MAX_TIME)))
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
        assert_eq!(endless.validate(), Err(ConfigError::TooLong("stream.open_timeout", StreamConfig::MAX_TIME)));
        let endless = StreamConfig { outbound_idle_timeout: Duration::MAX, ..config() };
        assert_eq!(
            endless.validate(),
            Err(ConfigError::TooLong("stream.outbound_idle_timeout", StreamConfig::MAX_TIME))
        );
        let small = StreamConfig { inbound_buffer: 1024, ..config() };
        assert!(matches!(small.validate(), Err(ConfigError::Greater("stream.max_request_in", _))));
    }
}
