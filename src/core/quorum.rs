//! The number of the k closest peers that is enough.

use std::num::NonZeroUsize;

/// The number of peers that must hold or store a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "everything else is a number")]
pub enum Quorum {
    /// One.
    One,
    /// More than half of the k closest.
    Majority,
    /// All of the k closest.
    All,
    /// This many, but not more than k.
    N(NonZeroUsize),
}

impl Quorum {
    /// The number that this is of `k`.
    pub fn of(self, k: NonZeroUsize) -> NonZeroUsize {
        match self {
            Quorum::One => NonZeroUsize::MIN,
            Quorum::Majority => NonZeroUsize::MIN.saturating_add(k.get() / 2),
            Quorum::All => k,
            Quorum::N(n) => n.min(k),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic() {
        let n = |n| NonZeroUsize::new(n).unwrap();
        assert_eq!(Quorum::One.of(n(20)), n(1));
        assert_eq!(Quorum::Majority.of(n(20)), n(11));
        assert_eq!(Quorum::Majority.of(n(1)), n(1));
        assert_eq!(Quorum::All.of(n(20)), n(20));
        assert_eq!(Quorum::N(n(30)).of(n(20)), n(20));
    }
}
