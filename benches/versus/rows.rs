//! The rows of the comparison: the name of each, its workload, and the ratio that this crate promises.

/// A workload, run by each implementation in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Single steps, by one thread.
    Parts,
    /// Thousands of lookups that wait.
    Waiting,
    /// A server in memory.
    ServeMemory,
    /// A server over TCP and noise.
    ServeTcp,
    /// Two nodes over TCP and noise.
    Rpc,
    /// A network in memory.
    Network,
    /// A network in memory whose peers fall silent.
    Silent,
    /// A network over TCP and noise.
    NetworkTcp,
}

/// The implementation that a row compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// `libp2p-kad` ÷ ours.
    Theirs,
    /// The floor ÷ ours.
    Floor,
    /// go-libp2p-kad-dht ÷ ours.
    Go,
    /// None: the figure itself is the promise, and more is better.
    Nothing,
}

/// One row.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) workload: Workload,
    /// The name of the figure in the workload.
    pub(crate) figure: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) beside: Beside,
    pub(crate) bar: f64,
}

const fn row(name: &'static str, workload: Workload, figure: &'static str, unit: &'static str, bar: f64) -> Row {
    Row { name, workload, figure, unit, beside: Beside::Theirs, bar }
}

const fn against(beside: Beside, row: Row) -> Row {
    Row { beside, ..row }
}

use Workload::{Network, NetworkTcp, Parts, Rpc, ServeMemory, ServeTcp, Silent, Waiting};

pub(crate) const ROWS: [Row; 41] = [
    row("closest", Parts, "closest", "ns", 8.0),
    row("table_bytes", Parts, "table_bytes", "bytes", 15.0),
    row("decode", Parts, "decode", "ns", 6.0),
    row("decode_p2p", Parts, "decode_p2p", "ns", 6.0),
    row("encode", Parts, "encode", "ns", 15.0),
    row("start_connected", Waiting, "start_connected", "ms", 60.0),
    row("start_unconnected", Waiting, "start_unconnected", "ms", 40.0),
    row("poll_4000", Waiting, "poll_4000", "ns", 200.0),
    row("event_4000", Waiting, "event_4000", "ns", 500.0),
    row("lookup_bytes", Waiting, "lookup_bytes", "bytes", 4.0),
    row("serve_stream_each", ServeMemory, "each", "µs", 2.5),
    row("serve_reused", ServeMemory, "reused", "µs", 4.0),
    against(Beside::Floor, row("serve_tcp_each", ServeTcp, "each", "µs", 0.90)),
    against(Beside::Floor, row("serve_tcp_reused", ServeTcp, "reused", "µs", 0.80)),
    row("rpc_tcp", Rpc, "rpc_tcp", "µs", 6.0),
    row("net_join", Network, "join", "s", 8.0),
    row("net_rss_fresh", Network, "fresh", "KiB", 20.0),
    row("net_rss_settled", Network, "settled", "KiB", 1.6),
    row("net_cpu", Network, "cpu", "ms", 8.0),
    row("net_latency_p50", Network, "latency_p50", "ms", 6.0),
    row("net_latency_p95", Network, "latency_p95", "ms", 6.0),
    row("net_get_end", Network, "get_end", "ms", 30.0),
    row("net_get_first", Network, "get_first", "ms", 8.0),
    row("net_put", Network, "put", "ms", 4.0),
    row("net_provide", Network, "provide", "ms", 4.0),
    row("net_burst", Network, "burst", "ms", 8.0),
    against(Beside::Nothing, row("net_recall", Network, "recall", "share", 1.0)),
    against(Beside::Nothing, row("net_burst_recall", Network, "burst_recall", "share", 1.0)),
    row("net_dead_get_p95", Silent, "dead_get_p95", "ms", 100.0),
    row("net_dead_closest_p95", Silent, "dead_closest_p95", "ms", 20.0),
    against(Beside::Nothing, row("net_dead_put_reach", Silent, "dead_put_reach", "share", 0.99)),
    row("net_dead_put_p50", Silent, "dead_put_p50", "ms", 20.0),
    against(Beside::Go, row("go_lookup_p50", NetworkTcp, "latency_p50", "ms", 3.0)),
    against(Beside::Go, row("go_lookup_cpu", NetworkTcp, "cpu", "ms", 4.0)),
    against(Beside::Go, row("go_burst", NetworkTcp, "burst", "ms", 4.0)),
    against(Beside::Go, row("go_get_p50", NetworkTcp, "get_end", "ms", 4.0)),
    against(Beside::Go, row("go_put_p50", NetworkTcp, "put", "ms", 2.0)),
    against(Beside::Go, row("go_provide_p50", NetworkTcp, "provide", "ms", 2.0)),
    against(Beside::Go, row("go_join_cpu", NetworkTcp, "join", "s", 2.5)),
    against(Beside::Go, row("go_fresh", NetworkTcp, "fresh", "KiB", 6.0)),
    against(Beside::Nothing, row("go_burst_recall", NetworkTcp, "burst_recall", "share", 1.0)),
];
