//! The libp2p binding: connections, streams, dials and the clock.
//!
//! Knows: the swarm. Must not know: why anything is sent or answered; that is the core's.

mod behaviour;
mod clock;
mod config;
mod dialer;
mod dual;
mod handler;
mod messages;
mod mode;
mod operations;
mod pending_inbound;
mod stream;
mod timer;

pub use crate::core::{Event, ModeReason};
pub use behaviour::Behaviour;
pub use config::{AMINO_PROTOCOL, Config, DialConfig, LAN_PROTOCOL};
pub use dual::{Dual, DualEvent};
pub use handler::Handler;
pub use messages::{FromHandler, ToHandler};
pub use stream::StreamConfig;
