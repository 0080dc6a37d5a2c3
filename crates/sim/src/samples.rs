//! Means and quantiles of measured values.
//!
//! Knows: numbers. Must not know: their meaning.

/// Measured values of one quantity.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a value.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The mean; not a number without values.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The value below which this share of the values lies; not a number without values.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((share * last as f64 + 0.5) as usize).copied().unwrap_or(f64::NAN)
    }

    /// The distribution as a curve of about 100 points: a value, and the share of values below it.
    pub fn distribution(&self) -> Vec<(f64, f64)> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1).max(1);
        let step = (sorted.len() / 100).max(1);
        sorted.iter().enumerate().step_by(step).map(|(i, value)| (*value, i as f64 / last as f64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_means() {
        let mut numbers = Samples::default();
        assert!(numbers.quantile(0.5).is_nan());
        [3.0, 1.0, 2.0, 5.0, 4.0].into_iter().for_each(|n| numbers.push(n));
        assert_eq!((numbers.quantile(0.0), numbers.quantile(0.5), numbers.quantile(1.0)), (1.0, 3.0, 5.0));
        assert_eq!(numbers.mean(), 3.0);
        assert_eq!(numbers.distribution().last(), Some(&(5.0, 1.0)));
    }
}
