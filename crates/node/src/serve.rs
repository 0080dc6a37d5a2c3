//! `--metrics`: answers `GET /metrics` with the metrics of the node for Prometheus.
//!
//! Knows: the paths, and the limit on clients. Must not know: HTTP, which hyper speaks, or the metrics. Each connection
//! has one request, bounded in size and in time: a slow or silent client delays no other, and the oldest connection is
//! closed for a new one when there are too many.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// Maximum number of connections; the oldest is closed for one more.
const AT_ONCE: usize = 64;
/// The most bytes of a request's head; hyper does not accept a lower limit.
const MAX_HEAD: usize = 8 * 1024;
/// The longest time of a connection.
const TIME: Duration = Duration::from_secs(5);
/// The pause after a connection that could not be accepted, for example for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The content type of OpenMetrics text.
const METRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Listens on `addr` and serves until the process ends. Returns the address.
pub(crate) async fn start(addr: SocketAddr, registry: Registry) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind(addr).await.map_err(|why| format!("cannot serve metrics at {addr}: {why}"))?;
    let addr = listener.local_addr().map_err(|why| why.to_string())?;
    tokio::spawn(serve(listener, Arc::new(registry)));
    Ok(addr)
}

async fn serve(listener: TcpListener, registry: Arc<Registry>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= AT_ONCE {
            open.pop_front().iter().for_each(AbortHandle::abort);
        }
        open.push_back(tokio::spawn(timeout(TIME, connection(stream, Arc::clone(&registry)))).abort_handle());
    }
}

async fn connection(stream: TcpStream, registry: Arc<Registry>) {
    let service = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(respond(&request, &registry))));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(TIME).max_buf_size(MAX_HEAD).keep_alive(false);
    let _ = http.serve_connection(TokioIo::new(stream), service).await; // how it ends does not matter
}

fn respond(request: &Request<Incoming>, registry: &Registry) -> Response<String> {
    let (status, content, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let mut body = String::new();
            match encode(&mut body, registry) {
                Ok(()) => (StatusCode::OK, METRICS, body),
                Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{why}\n")),
            }
        }
        (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, TEXT, "the metrics are at /metrics\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD /metrics\n".to_owned()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}
