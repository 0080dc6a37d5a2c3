//! From the published numbers to the text of the registry.
//!
//! Knows: the encoder. Must not know: the meaning of any metric.

use std::fmt;
use std::sync::{Arc, Mutex};

use prometheus_client::collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::table::{METRICS, ReadMetric, Sample};
use super::{NodeNumbers, lock};
use crate::core::stats::{BOUNDS, Durations};

#[derive(Debug)]
pub(super) struct Collector {
    pub(super) shared: Arc<Mutex<Vec<NodeNumbers>>>,
}

impl collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A copy, so that no node waits for the encoding.
        let nodes = lock(&self.shared).clone();
        for metric in METRICS {
            let kind = metric.kind;
            let mut family = encoder.encode_descriptor(metric.name, metric.help, metric.unit.as_ref(), kind)?;
            for node in nodes.iter().filter(|node| node.local.is_some()) {
                let mut result = Ok(());
                let mut emit = |labels: &[(&str, &str)], sample: Sample<'_>| {
                    let network = node.network.iter().map(|network| ("network", network.as_str()));
                    let labels: Vec<_> = network.chain(labels.iter().copied()).collect();
                    result = result.and_then(|()| encode(&mut family, kind, &labels, sample));
                };
                match metric.read {
                    ReadMetric::One(read) => emit(&[], Sample::Number(read(node))),
                    ReadMetric::Labelled(read) => read(node, &mut emit),
                }
                result?;
            }
        }
        Ok(())
    }
}

fn encode(
    family: &mut MetricEncoder<'_>,
    kind: MetricType,
    labels: &[(&str, &str)],
    sample: Sample<'_>,
) -> fmt::Result {
    if matches!(sample, Sample::Info) {
        return family.encode_info(&labels);
    }
    if !labels.is_empty() {
        return encode(&mut family.encode_family(&labels)?, kind, &[], sample);
    }
    match sample {
        Sample::Number(count) if matches!(kind, MetricType::Counter) => {
            family.encode_counter::<NoLabelSet, u64, u64>(&count, None)
        }
        Sample::Number(level) => family.encode_gauge(&level),
        Sample::Times(times) => histogram(family, times),
        Sample::Info => Ok(()),
    }
}

/// The only place in which a time becomes a float: the text has floats.
fn histogram(metric: &mut MetricEncoder<'_>, times: &Durations) -> fmt::Result {
    let bounds = BOUNDS.iter().map(|bound| bound.as_secs_f64()).chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(times.counts).collect();
    let sum = times.sum_us as f64 / 1e6;
    metric.encode_histogram::<NoLabelSet>(sum, times.count(), &buckets, None)
}
