//! The libp2p binding: connections, streams, dials and the clock.
//!
//! Knows: the swarm. Must not know: why anything is sent or answered; that is the core's.

mod asked;
mod behaviour;
mod clock;
mod config;
mod dialer;
mod dual;
mod elsewhere;
mod event;
mod exchange;
mod framed;
mod handler;
mod inbound;
mod mode;
mod operations;
mod outbound;
mod served;
mod stream_config;
mod stream_counts;
mod upgrade;

pub use behaviour::Behaviour;
pub use config::{
    AMINO_PROTOCOL, Config, DEFAULT_DIALS_AT_ONCE, DEFAULT_DIALS_WAITING, DEFAULT_SERVER_HOLD, DialConfig, LAN_PROTOCOL,
};
pub use dual::{Dual, DualEvent};
pub use event::{Event, ModeReason};
pub use handler::{FromHandler, Handler, ToHandler};
pub use stream_config::*;
