//! Means and quantiles of what was measured.

/// Numbers that were measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers(Vec<f64>);

impl Numbers {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The value below which this share lies; not a number where nothing was measured.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((share * last as f64 + 0.5) as usize).copied().unwrap_or(f64::NAN)
    }

    /// The distribution as a curve of up to 100 points: value and share below it.
    pub(crate) fn distribution(&self) -> Vec<(f64, f64)> {
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
        let mut numbers = Numbers::default();
        assert!(numbers.quantile(0.5).is_nan());
        [3.0, 1.0, 2.0, 5.0, 4.0].into_iter().for_each(|n| numbers.push(n));
        assert_eq!((numbers.quantile(0.0), numbers.quantile(0.5), numbers.quantile(1.0)), (1.0, 3.0, 5.0));
        assert_eq!(numbers.mean(), 3.0);
        assert_eq!(numbers.distribution().last(), Some(&(5.0, 1.0)));
    }
}
