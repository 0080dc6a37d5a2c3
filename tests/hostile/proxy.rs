//! A connection to a peer that a test can cut: a TCP port that forwards everything to another one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Like a stopped process: connections stay open but carry no bytes, and new ones are accepted.
    Stopped,
    /// Open connections are closed; new ones are accepted and carry no bytes.
    Stale,
    /// Open and new connections are closed.
    Cut,
}

pub(crate) struct Proxy {
    pub(crate) addr: Multiaddr,
    way: Arc<watch::Sender<Way>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(target: &Multiaddr) -> Proxy {
        Proxy::delayed(target, Duration::ZERO).await
    }

    /// Delay of the bytes in each direction.
    pub(crate) async fn delayed(target: &Multiaddr, delay: Duration) -> Proxy {
        let target = socket(target);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = multiaddr(listener.local_addr().unwrap());
        let way = Arc::new(watch::Sender::new(Way::Open));
        let task = tokio::spawn(accept(listener, target, delay, Arc::clone(&way)));
        Proxy { addr, way, task }
    }

    /// A port that accepts connections and sends nothing.
    pub(crate) async fn to_silence() -> Proxy {
        let proxy = Proxy::to(&closed_port().await).await;
        proxy.go_stale();
        proxy
    }

    pub(crate) fn stop(&self) {
        self.way.send_replace(Way::Stopped);
    }

    pub(crate) fn go_stale(&self) {
        self.way.send_replace(Way::Stale);
    }

    /// Closes every connection, and every new one as soon as it is accepted.
    pub(crate) fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    pub(crate) fn open(&self) {
        self.way.send_replace(Way::Open);
    }

    /// Closes the port and every connection.
    pub(crate) async fn close(&mut self) {
        self.go_stale();
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.go_stale();
    }
}

/// A port without a listener.
pub(crate) async fn closed_port() -> Multiaddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    multiaddr(listener.local_addr().unwrap())
}

async fn accept(listener: TcpListener, target: SocketAddr, delay: Duration, way: Arc<watch::Sender<Way>>) {
    let mut held = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        let now = *way.borrow();
        match now {
            Way::Open | Way::Stopped => drop(tokio::spawn(pass(stream, target, delay, way.subscribe()))),
            Way::Stale => held.push(stream),
            Way::Cut => {}
        }
    }
}

async fn pass(one: TcpStream, target: SocketAddr, delay: Duration, way: watch::Receiver<Way>) {
    let Ok(other) = TcpStream::connect(target).await else { return };
    let (one_in, one_out) = one.into_split();
    let (other_in, other_out) = other.into_split();
    let mut closed = way.clone();
    tokio::select! {
        _ = closed.wait_for(|way| matches!(way, Way::Stale | Way::Cut)) => {}
        () = copy(one_in, other_out, delay, way.clone()) => {}
        () = copy(other_in, one_out, delay, way) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration, mut way: watch::Receiver<Way>) {
    let (send, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let read = async move {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            if send.send((Instant::now() + delay, chunk[..read].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, chunk)) = queue.recv().await {
            tokio::time::sleep_until(at).await;
            if way.wait_for(|way| *way == Way::Open).await.is_err() || to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

fn multiaddr(addr: SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Tcp(addr.port()))
}

pub(crate) fn socket(addr: &Multiaddr) -> SocketAddr {
    let mut parts = addr.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => (ip, port).into(),
        other => panic!("{other:?}"),
    }
}
