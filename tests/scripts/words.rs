//! Words of a command: `name=value` options among plain words, times, reasons.
//!
//! Knows: spelling. Must not know: nodes.

use std::time::Duration;

use libp2p_kad_dht::core::{DialCause, Misbehaviour, Quorum, RequestError, StoreError, Unreachable};

/// The words of one command.
pub(crate) struct Words<'a> {
    plain: Vec<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a str) -> Words<'a> {
        let (named, plain): (Vec<_>, Vec<_>) = line.split_whitespace().partition(|word| word.contains('='));
        Words { plain, options: named.into_iter().filter_map(|word| word.split_once('=')).collect() }
    }

    /// The plain word at this place.
    pub(crate) fn at(&self, place: usize) -> &'a str {
        self.plain.get(place).unwrap_or_else(|| panic!("a word is missing after {:?}", self.plain))
    }

    pub(crate) fn from(&self, place: usize) -> &[&'a str] {
        self.plain.get(place..).unwrap_or(&[])
    }

    pub(crate) fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }

    pub(crate) fn option(&self, name: &str) -> Option<&'a str> {
        self.options.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.option(name).map(|value| value.parse().unwrap_or_else(|_| panic!("not a number: {value}")))
    }

    pub(crate) fn time(&self, name: &str) -> Option<Duration> {
        self.option(name).map(time)
    }

    pub(crate) fn quorum(&self, name: &str) -> Option<Quorum> {
        self.option(name).map(|value| match value {
            "one" => Quorum::One,
            "majority" => Quorum::Majority,
            "all" => Quorum::All,
            number => Quorum::N(number.parse().unwrap()),
        })
    }

    /// All options, so that a misspelt one is noticed.
    pub(crate) fn only(&self, known: &[&str]) {
        let strange = self.options.iter().find(|(name, _)| !known.contains(name));
        assert!(strange.is_none(), "no such option: {strange:?}");
    }
}

/// `10s`, `250ms`, `48h`.
pub(crate) fn time(text: &str) -> Duration {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or_else(|| panic!("a time without a unit: {text}"));
    let number: u64 = text[..end].parse().unwrap();
    match &text[end..] {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        unit => panic!("no such unit: {unit}"),
    }
}

pub(crate) fn failure(word: &str) -> RequestError {
    match word {
        "unreachable" => RequestError::Unreachable(Unreachable::DialFailed(DialCause::Unknown)),
        "held-back" => RequestError::Unreachable(Unreachable::BackingOff(DialCause::Refused)),
        "denied" => RequestError::Unreachable(Unreachable::Denied),
        "closed" => RequestError::ConnectionClosed,
        "timeout" => RequestError::Timeout,
        "unacknowledged" => RequestError::Unacknowledged,
        "refused" => RequestError::Refused,
        "unsupported" => RequestError::Unsupported,
        "undecodable" => RequestError::Misbehaved(Misbehaviour::Undecodable),
        "busy" => RequestError::Busy,
        word => panic!("no such failure: {word}"),
    }
}

pub(crate) fn store_error(word: &str) -> StoreError {
    match word {
        "full" => StoreError::Full,
        "too-large" => StoreError::TooLarge,
        "failed" => StoreError::Failed,
        word => panic!("no such failure of a store: {word}"),
    }
}
