//! From published numbers to the registry's text.
//!
//! Knows: the encoder. Must not know: what any metric means.

use std::fmt;
use std::sync::{Arc, Mutex};

use prometheus_client::collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};

use super::table::{METRICS, Read, Value};
use super::{Published, lock};
use crate::core::stats::{BOUNDS, Durations};

#[derive(Debug)]
pub(super) struct Collector {
    pub(super) shared: Arc<Mutex<Vec<Published>>>,
}

impl collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A copy, so that no node waits for an encoding.
        let all = lock(&self.shared).clone();
        for metric in METRICS {
            let kind = metric.kind;
            let mut family = encoder.encode_descriptor(metric.name, metric.help, metric.unit.as_ref(), kind)?;
            for published in all.iter().filter(|published| published.begun) {
                let mut result = Ok(());
                let mut take = |labels: &[(&str, &str)], value: Value<'_>| {
                    let network = published.network.iter().map(|network| ("network", network.as_str()));
                    let labels: Vec<_> = network.chain(labels.iter().copied()).collect();
                    result = result.and_then(|()| sample(&mut family, &labels, value));
                };
                match metric.read {
                    Read::Count(read) => take(&[], Value::Count(read(published))),
                    Read::Level(read) => take(&[], Value::Level(read(published))),
                    Read::All(read) => read(published, &mut take),
                }
                result?;
            }
        }
        Ok(())
    }
}

fn sample(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], value: Value<'_>) -> fmt::Result {
    match value {
        Value::Info => family.encode_info(&labels),
        value if labels.is_empty() => write(family, value),
        value => write(&mut family.encode_family(&labels)?, value),
    }
}

fn write(metric: &mut MetricEncoder<'_>, value: Value<'_>) -> fmt::Result {
    match value {
        Value::Count(count) => metric.encode_counter::<NoLabelSet, u64, u64>(&count, None),
        Value::Level(level) => metric.encode_gauge(&level),
        Value::Times(times) => histogram(metric, times),
        Value::Info => Ok(()),
    }
}

/// The only place in which a time becomes a float, since that is what the text has.
fn histogram(metric: &mut MetricEncoder<'_>, times: &Durations) -> fmt::Result {
    let bounds = BOUNDS.iter().map(|bound| bound.as_secs_f64()).chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(times.counts).collect();
    let sum = times.sum_us as f64 / 1e6;
    metric.encode_histogram::<NoLabelSet>(sum, times.count(), &buckets, None)
}
