//! Real swarms over loopback TCP, each in a task of its own: nodes of ours, and raw peers that send bytes.

mod node;
mod ours;
mod raw;

use std::time::Duration;

use libp2p::StreamProtocol;

pub(crate) use node::{Host, Node};
pub(crate) use ours::Ours;
pub(crate) use raw::{Raw, read, write};

pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/test/kad/1.0.0");

/// Fails a test that waits for too long.
pub(crate) async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future.into_future()).await.expect("nothing came within 60 s")
}

/// Polls until the condition holds.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), seen).await {
        Ok(seen) => seen,
        Err(_) => panic!("not within 60 s: {what}"),
    }
}
