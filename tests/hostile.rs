//! Real failures, over loopback TCP: peers that are dead, lie, flood or fall silent, and the results of a node's
//! operations among them.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "hostile/answers.rs"]
mod answers;
#[path = "hostile/attacks.rs"]
mod attacks;
#[path = "hostile/costs.rs"]
mod costs;
#[path = "hostile/dead.rs"]
mod dead;
#[path = "hostile/floods.rs"]
mod floods;
#[path = "hostile/liars.rs"]
mod liars;
#[path = "live/mod.rs"]
mod live;
#[path = "hostile/outage.rs"]
mod outage;
#[path = "hostile/process.rs"]
mod process;
#[path = "hostile/proxy.rs"]
mod proxy;
#[path = "hostile/roles.rs"]
mod roles;
#[path = "hostile/rules.rs"]
mod rules;
#[path = "hostile/together.rs"]
mod together;
