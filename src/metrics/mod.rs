//! What the node counts, for Prometheus.
//!
//! Knows: names, units and labels of metrics. Must not know: where the numbers come from, or how they are served.
