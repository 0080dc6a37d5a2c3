//! `--metrics`: answers `GET /metrics` with the node's metrics, as Prometheus asks for them.
//!
//! Knows: as much of HTTP/1.1 as that takes. Must not know: what is in the metrics. One request a connection, each
//! bounded in size and in time, and so many at once: a client that is slow or talks nonsense costs a place for a moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Connections served at once; more wait to be accepted.
const AT_ONCE: usize = 8;
/// The most bytes of a request's head.
const MAX_HEAD: usize = 8 * 1024;
/// The time of a connection in all.
const TIME: Duration = Duration::from_secs(5);
/// The pause after a connection that could not be accepted, as when no file is left.
const PAUSE: Duration = Duration::from_millis(100);

/// What the content is: OpenMetrics text.
const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Listens here, and serves for as long as the process lives. Returns where it listens.
pub(crate) async fn start(addr: SocketAddr, registry: Registry) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind(addr).await.map_err(|why| format!("cannot serve metrics at {addr}: {why}"))?;
    let addr = listener.local_addr().map_err(|why| why.to_string())?;
    tokio::spawn(serve(listener, Arc::new(registry)));
    Ok(addr)
}

async fn serve(listener: TcpListener, registry: Arc<Registry>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let registry = Arc::clone(&registry);
                tokio::spawn(async move {
                    // How it ends is the client's business.
                    let _ = timeout(TIME, answer(stream, &registry)).await;
                    drop(place);
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn answer(mut stream: TcpStream, registry: &Registry) -> std::io::Result<()> {
    let head = read_head(&mut stream).await?;
    let (status, content, body) = respond(head.as_deref(), registry);
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Everything up to the first empty line; `None` if that does not come within the limit.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut limited = stream.take(MAX_HEAD as u64);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if limited.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

fn respond(head: Option<&[u8]>, registry: &Registry) -> (&'static str, &'static str, String) {
    const TEXT: &str = "text/plain; charset=utf-8";
    let line = head.and_then(|head| head.split(|byte| *byte == b'\r').next());
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return ("400 Bad Request", TEXT, "not a request of HTTP/1.1\n".to_owned());
    };
    let path = target.split('?').next().unwrap_or_default();
    match (method, path, version.starts_with("HTTP/1.")) {
        ("GET", "/metrics", true) => {
            let mut body = String::new();
            match encode(&mut body, registry) {
                Ok(()) => ("200 OK", CONTENT, body),
                Err(_) => ("500 Internal Server Error", TEXT, "the metrics cannot be encoded\n".to_owned()),
            }
        }
        (_, _, false) => ("400 Bad Request", TEXT, "not a request of HTTP/1.1\n".to_owned()),
        ("GET", _, _) => ("404 Not Found", TEXT, "there is /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", TEXT, "GET /metrics\n".to_owned()),
    }
}
