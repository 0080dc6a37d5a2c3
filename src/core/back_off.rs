//! How long a peer that failed is left alone.
//!
//! Knows: numbers of failures. Must not know: what became of the peer, or who wants to ask it.

use std::time::Duration;

/// After its first failure a peer is left alone for this long, after each further one for twice as long. Source: longer
/// than a request may take, so that all requests that one loss of a packet or a restart spoils count as one failure.
pub(crate) const BACK_OFF: Duration = Duration::from_secs(30);
/// It doubles so many times at most. Source: to 8 min, less than the interval of refreshing, so that each refresh tries
/// a boot node that was down for long.
const MAX_DOUBLINGS: u32 = 4;

/// How long a peer is left alone after so many failures in a row, at least one.
pub(crate) fn back_off(failures: u32) -> Duration {
    BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(MAX_DOUBLINGS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_eight_minutes() {
        let after = [1, 2, 3, 5, 6, u32::MAX].map(|failures| back_off(failures).as_secs());
        assert_eq!(after, [30, 60, 120, 480, 480, 480]);
    }
}
