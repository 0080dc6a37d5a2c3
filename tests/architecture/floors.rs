//! Which module may import which: the floors of the house, as tables.

/// Modules of the crate, and which others each may name. `lib.rs` may name all; a module that is not in this table has
/// no floor. `disk` is a crate of its own: its manifest decides which items of this crate it can name.
pub(crate) const FLOORS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("wire", &["core"]),
    ("handle", &["core"]),
    ("disk", &[]),
    ("testing", &["core"]),
    ("metrics", &["core"]),
    ("validators", &["core"]),
    ("net", &["core", "wire", "handle", "metrics"]),
    ("manual", &[]),
];

/// Floor 0: modules that every other module of the core may name.
const VOCABULARY: &[&str] = &[
    "time",
    "key",
    "contact",
    "ip_group",
    "record",
    "message",
    "error",
    "config",
    "rtt",
    "window",
    "address_policy",
    "text",
    "shuffle",
    "quorum",
];
/// Floor 1: the parts from which the duties are made.
const PARTS: &[&str] = &["routing", "store", "validate", "lookup", "preimage"];
/// Between the floors: modules that the duties share, and the inputs and outputs, which are data.
const SHARED: &[&str] = &["io", "stats", "requests", "peers", "store_ops", "announcement", "spans"];
/// Floor 2: the duties, of which none knows another.
const DUTIES: &[&str] = &["query", "server", "maintain"];

/// Modules of the core, and which others each may name beside itself; `core/mod.rs` may name all. Where a module has
/// rows for its children, each child needs one, and names its parent and its siblings only where the row says so.
///
/// The vocabulary is ordered too. `InvalidValue` and `StoreError` are defined by the module whose failures they are.
const CORE: &[(&str, &[&[&str]])] = &[
    ("time", &[]),
    ("address_policy", &[]),
    ("key", &[]),
    ("shuffle", &[]),
    ("quorum", &[]),
    ("text", &[&["key"]]),
    ("contact", &[&["key"]]),
    ("ip_group", &[&["contact", "address_policy"]]),
    ("record", &[&["time", "key", "contact"]]),
    ("validate", &[&["time", "key", "contact", "record"]]),
    ("message", &[&["time", "key", "contact", "record", "validate"]]),
    ("store", &[&["time", "key", "contact", "record", "validate", "config"]]),
    ("error", &[&["time", "key", "contact", "record", "message", "validate", "store"]]),
    ("config", &[&["quorum", "time", "key", "contact", "ip_group", "record", "error", "validate", "address_policy"]]),
    ("rtt", &[&["time", "config"]]),
    ("window", &[&["time", "io"]]),
    ("routing", &[VOCABULARY]),
    ("lookup", &[VOCABULARY]),
    ("preimage", &[&["key"]]),
    ("io", &[VOCABULARY, &["store", "validate"]]),
    ("stats", &[VOCABULARY, &["io"]]),
    ("spans", &[VOCABULARY, &["io", "stats"]]),
    ("announcement", &[VOCABULARY, &["store"]]),
    ("requests", &[VOCABULARY, PARTS, &["io", "stats"]]),
    ("peers", &[VOCABULARY, PARTS, &["io", "stats"]]),
    ("peers::host", &[&["key", "ip_group"]]),
    ("peers::addresses", &[&["time", "key", "contact", "peers::host"]]),
    ("peers::dials", &[&["time", "key", "contact", "message", "peers::host"]]),
    ("peers::address_book", &[VOCABULARY, &["peers::host", "peers::addresses"]]),
    ("peers::back_off", &[VOCABULARY]),
    ("peers::access", &[VOCABULARY]),
    ("peers::addr_choice", &[VOCABULARY, &["peers", "peers::host", "peers::addresses", "peers::dials"]]),
    ("store_ops", &[VOCABULARY, PARTS, &["io", "stats"]]),
    ("query", &[VOCABULARY, PARTS, SHARED]),
    ("server", &[VOCABULARY, PARTS, SHARED]),
    ("maintain", &[VOCABULARY, PARTS, SHARED]),
    ("dht", &[VOCABULARY, PARTS, SHARED, DUTIES]),
];

/// The crates that the core may use.
pub(crate) const CORE_CRATES: &[&str] = &[
    "std",
    "bytes",
    "hashbrown",
    "libp2p_identity",
    "multiaddr",
    "rand_chacha",
    "rand_core",
    "serde",
    "sha2",
    "slab",
    "smallvec",
    "thiserror",
    "tracing",
];

const CLOCKS: &[&str] = &["std::time::Instant", "std::time::SystemTime"];
const OUTSIDE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::process",
    "std::thread",
];
const LOCKS: &[&str] = &["std::sync::Condvar", "std::sync::Mutex", "std::sync::RwLock"];
const DISORDER: &[&str] = &["std::collections::HashMap", "std::collections::HashSet", "std::hash::RandomState"];
const STREAMS: &[&str] = &["std::io"];
const RANDOM: &[&str] = &["getrandom"];
const SWARM: &[&str] = &["libp2p_core", "libp2p_swarm"];
const FUTURES: &[&str] = &["futures", "futures_timer"];

/// Paths that a floor must never name. Crates that no feature depends on are left to the compiler.
const NEVER: &[(&str, &[&[&str]])] = &[
    ("core", &[CLOCKS, OUTSIDE, STREAMS, LOCKS, DISORDER, RANDOM, SWARM, FUTURES, &["prost"]]),
    ("wire", &[CLOCKS, OUTSIDE, STREAMS, LOCKS, DISORDER, RANDOM, SWARM, FUTURES]),
    ("validators", &[CLOCKS, OUTSIDE, STREAMS, LOCKS, DISORDER, RANDOM, SWARM, FUTURES]),
    ("testing", &[CLOCKS, OUTSIDE, STREAMS, LOCKS, DISORDER, RANDOM, SWARM, FUTURES, &["prost"]]),
    ("handle", &[CLOCKS, OUTSIDE, STREAMS, DISORDER, RANDOM, SWARM, &["prost"]]),
    ("disk", &[CLOCKS, DISORDER]),
    ("net", &[OUTSIDE, DISORDER, &["prost"]]),
];

/// Whether statics that can change are forbidden on this floor: state belongs to a node and not to the process.
pub(crate) fn is_pure(floor: &str) -> bool {
    matches!(floor, "core" | "wire" | "validators")
}

/// The paths that this floor must never name.
pub(crate) fn never(floor: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let lists = NEVER.iter().filter(move |(name, _)| *name == floor).flat_map(|(_, lists)| lists.iter());
    lists.flat_map(|list| list.iter()).map(|path| path.split("::").collect())
}

/// Whether the children of this module of the core have rows of their own.
pub(crate) fn has_rows_for_children(module: &str) -> bool {
    CORE.iter().any(|(name, _)| name.strip_prefix(module).is_some_and(|rest| rest.starts_with("::")))
}

/// Whether this module of the core, or child of one such as `peers::host`, may name `target`; `None` if it has no
/// floor.
pub(crate) fn core_allows(module: &str, target: &str) -> Option<bool> {
    let (_, lists) = CORE.iter().find(|(name, _)| *name == module)?;
    Some(module == target || lists.iter().any(|list| list.contains(&target)))
}
