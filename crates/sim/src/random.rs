//! Random numbers from the seed, and the distributions of the models.
//!
//! Knows: streams of random numbers. Must not know: their use. Every stream has a name, so that a part of a simulation
//! that draws more numbers does not change the numbers of another part.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::math;

/// A stream of random numbers: seed, name and number decide all of it.
#[derive(Clone)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream with this name and number under this seed.
    pub fn new(seed: u64, name: &str, number: u64) -> Random {
        let named = name.bytes().fold(mix(seed), |sum, byte| mix(sum ^ u64::from(byte)));
        Random(ChaCha8Rng::seed_from_u64(mix(named ^ number)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 32 random bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A whole number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }

    /// A number strictly between 0 and 1.
    pub fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    /// `true` with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// `wanted` different numbers below `n`, or all if there are fewer, in random order.
    pub fn sample(&mut self, n: u32, wanted: u32) -> Vec<u32> {
        if wanted.saturating_mul(3) >= n {
            let mut all: Vec<u32> = (0..n).collect();
            for i in 0..wanted.min(n) {
                let j = i + self.below(n - i);
                all.swap(i as usize, j as usize);
            }
            all.truncate(wanted as usize);
            return all;
        }
        let mut chosen: Vec<u32> = Vec::with_capacity(wanted as usize);
        while chosen.len() < wanted as usize {
            let draw = self.below(n);
            if !chosen.contains(&draw) {
                chosen.push(draw);
            }
        }
        chosen
    }
}

/// Well-mixed bits of a number: the finaliser of SplitMix64.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bits as a number strictly between 0 and 1.
pub(crate) fn unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// The log-normal distribution of this median at the quantile `u`.
pub(crate) fn log_normal(u: f64, median: f64, sigma: f64) -> f64 {
    median * math::exp(sigma * math::normal_quantile(u))
}

/// The Weibull distribution of this shape and scale at the quantile `u`.
pub(crate) fn weibull(u: f64, shape: f64, scale: f64) -> f64 {
    scale * math::exp(math::ln(-math::ln(1.0 - u)) / shape)
}

/// The exponential distribution of this mean at the quantile `u`.
pub(crate) fn exponential(u: f64, mean: f64) -> f64 {
    -mean * math::ln(1.0 - u)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share_below(limit: f64, draw: impl Fn(f64) -> f64) -> f64 {
        let mut random = Random::new(7, "test", 0);
        (0..20_000).filter(|_| draw(random.unit()) <= limit).count() as f64 / 20_000.0
    }

    #[test]
    fn draws_follow_their_closed_forms() {
        // Weibull: P(X <= x) = 1 - exp(-(x / scale)^shape).
        let closed = |x: f64| 1.0 - (-(x / 3.66f64).powf(0.61)).exp();
        for hours in [0.5, 2.0, 8.0, 24.0] {
            assert!((share_below(hours, |u| weibull(u, 0.61, 3.66)) - closed(hours)).abs() < 0.012, "{hours} h");
        }
        assert!(
            (closed(2.0) - 0.50).abs() < 0.01 && (closed(8.0) - 0.80).abs() < 0.01,
            "RFM2: half end within 2 h, four in five within 8 h"
        );
        assert!((share_below(5.0, |u| exponential(u, 5.0)) - (1.0 - (-1.0f64).exp())).abs() < 0.012);
        assert!((share_below(145.0, |u| log_normal(u, 145.0, 0.55)) - 0.5).abs() < 0.012);
        let one_sigma = 145.0 * 0.55f64.exp();
        assert!((share_below(one_sigma, |u| log_normal(u, 145.0, 0.55)) - 0.8413).abs() < 0.012);
    }

    #[test]
    fn samples_are_distinct_and_even() {
        let mut random = Random::new(1, "test", 0);
        let mut hits = [0u32; 40];
        for round in 0..4_000 {
            let sample = random.sample(40, if round % 2 == 0 { 5 } else { 20 });
            let mut sorted = sample.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), sample.len());
            sample.iter().for_each(|i| hits[*i as usize] += 1);
        }
        // 4,000 rounds of 12.5 of 40 on average: 1,250 hits each, standard deviation below 31.
        assert!(hits.iter().all(|n| (1_100..1_400).contains(n)), "{hits:?}");
        assert_eq!(random.sample(3, 20).len(), 3);
    }

    #[test]
    fn streams_differ_by_name_number_and_seed() {
        let first = |seed, name, number| Random::new(seed, name, number).bits();
        assert_eq!(first(1, "a", 0), first(1, "a", 0));
        assert_ne!(first(1, "a", 0), first(2, "a", 0));
        assert_ne!(first(1, "a", 0), first(1, "b", 0));
        assert_ne!(first(1, "a", 0), first(1, "a", 1));
    }
}
