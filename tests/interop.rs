//! One network of this library and of `libp2p-kad`, over loopback TCP with noise, yamux and identify.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "interop/addresses.rs"]
mod addresses;
#[path = "interop/corrections.rs"]
mod corrections;
#[path = "interop/dead.rs"]
mod dead;
#[path = "interop/exchange.rs"]
mod exchange;
#[path = "interop/far.rs"]
mod far;
#[path = "live/mod.rs"]
mod live;
#[path = "interop/mixed.rs"]
mod mixed;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "hostile/proxy.rs"]
mod proxy;
#[cfg(feature = "validators")]
#[path = "interop/serve.rs"]
mod serve;
#[path = "interop/table.rs"]
mod table;
#[path = "interop/theirs.rs"]
mod theirs;
#[path = "interop/zero_glue.rs"]
mod zero_glue;
