//! The length of sessions and absences.
//!
//! Knows: published session models (RFM2, ProbeLab 2022; Steiner 2009; Rhea 2004). Must not know: what a peer does in a
//! session.

use std::time::Duration;

use super::random::{Random, exponential, weibull};

/// A model of sessions. Absences have the same distribution as sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Churn {
    /// No peer joins or leaves.
    None,
    /// Weibull of shape 0.61 and scale 3.66 h: half of all sessions last 2 h, four of five 8 h.
    Ipfs2022,
    /// Weibull of shape 0.615 and scale 169.5 min: the KAD network of 2009.
    Kad,
    /// Exponential with this mean.
    Poisson(Duration),
}

/// The share of peers that come back with a new id (Steiner 2009: many change it each session).
pub(crate) const NEW_IDENTITY: f64 = 0.3;

impl Churn {
    /// The length of one session or absence in microseconds; `None` if it never ends.
    pub(crate) fn draw(self, random: &mut Random) -> Option<u64> {
        let u = random.unit();
        let seconds = match self {
            Churn::None => return None,
            Churn::Ipfs2022 => weibull(u, 0.61, 3.66 * 3600.0),
            Churn::Kad => weibull(u, 0.615, 169.5 * 60.0),
            Churn::Poisson(mean) => exponential(u, mean.as_secs_f64()),
        };
        // A second at least; a year is longer than every simulation.
        Some((seconds.clamp(1.0, 31_536_000.0) * 1e6) as u64)
    }

    /// The rest of the session or absence in which an observer at a random moment finds a peer, in microseconds.
    ///
    /// An observer meets longer ones more often, so a draw is accepted with a probability in proportion to its length,
    /// up to 96 h; the Weibull distribution of IPFS has less than 0.1 % of its mass beyond that.
    pub(crate) fn draw_remaining(self, random: &mut Random) -> Option<u64> {
        const LONGEST: u64 = 96 * 3_600_000_000;
        loop {
            let whole = self.draw(random)?;
            if random.chance(whole as f64 / LONGEST as f64) {
                return Some(((whole as f64 * random.unit()) as u64).max(1_000_000));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipfs_sessions_have_the_published_quantiles() {
        let mut random = Random::new(3, "test", 0);
        let draws: Vec<u64> = (0..20_000).filter_map(|_| Churn::Ipfs2022.draw(&mut random)).collect();
        let share = |hours: u64| draws.iter().filter(|d| **d <= hours * 3_600_000_000).count() as f64 / 20_000.0;
        assert!((share(2) - 0.50).abs() < 0.012 && (share(8) - 0.80).abs() < 0.012, "{} {}", share(2), share(8));
        assert!((1.0 - share(24) - 0.043).abs() < 0.006, "{}", share(24));
        assert_eq!(Churn::None.draw(&mut random), None);
    }

    #[test]
    fn a_session_met_at_random_has_the_length_biased_remainder() {
        // Exponential sessions have no memory: what is left of one met at random has the same mean.
        let mut random = Random::new(3, "test", 1);
        let churn = Churn::Poisson(Duration::from_secs(3600));
        let draws: Vec<u64> = (0..2_000).filter_map(|_| churn.draw_remaining(&mut random)).collect();
        let mean = draws.iter().sum::<u64>() as f64 / 2_000.0 / 1e6;
        assert!((mean - 3600.0).abs() < 250.0, "{mean}");
    }
}
