//! A driver: it owns the socket and the clock, and carries requests and answers between the core and the peers.
//!
//! The whole contract with the core is in [`Node::run`]: act on its outputs until there are none left, then sleep until
//! a datagram arrives, an application asks for something, or the time comes that the core named.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use kad::core::{
    Dht, DhtConfig, DialCause, InboundId, Input, MemoryStoreConfig, Output, Reply, Request, RequestError, RequestId,
    Response, Unreachable,
};
use kad::handle::{Commands, DriverRequest};
use kad::{Contact, DhtHandle, MemoryStore, Timestamp};
use libp2p_identity::PeerId;
use libp2p_kad_dht as kad;
use multiaddr::{Multiaddr, Protocol};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep};

use crate::datagram::{Body, Datagram, DatagramError, MAX_DATAGRAM};

/// A node on a UDP socket.
pub(crate) struct Node {
    dht: Dht,
    /// Serves the handles.
    commands: Commands,
    socket: UdpSocket,
    clock: Clock,
    /// The address from which the answer to each request of this node must come.
    sent: BTreeMap<RequestId, SocketAddr>,
    /// The address and the id to which the answer to each request of a peer goes.
    received: BTreeMap<InboundId, (SocketAddr, u64)>,
    next_inbound: u64,
}

/// The work that comes before the node may sleep.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is used at once")]
enum Work {
    /// A handle asks for something that only the driver can do.
    DriverRequest(DriverRequest),
    /// The core has an output.
    Output(Output),
}

impl Node {
    /// A node on a free port of loopback. `seed` is its randomness.
    pub(crate) async fn bind(
        peer: PeerId,
        seed: [u8; 32],
        config: DhtConfig,
    ) -> Result<Node, Box<dyn std::error::Error>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let clock = Clock::start();
        let local = Contact::new(peer, [to_multiaddr(socket.local_addr()?)]);
        let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), seed));
        Ok(Node {
            dht: Dht::new(clock.now(), local, store, seed, Arc::new(config))?,
            commands: Commands::new(),
            socket,
            clock,
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            next_inbound: 0,
        })
    }

    /// The node and where it is.
    pub(crate) fn contact(&self) -> Arc<Contact> {
        Arc::clone(self.dht.local())
    }

    /// The same handle as over libp2p.
    pub(crate) fn handle(&self) -> DhtHandle {
        self.commands.handle()
    }

    /// The run loop. Ends when it is dropped.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let mut buffer = [0; MAX_DATAGRAM + 1]; // one more, so that what is longer is seen to be
        loop {
            // The time for which the core needs no input, if nothing happens.
            let wake = self.dht.poll_timeout().map(|at| at - self.clock.now());
            tokio::select! {
                biased;
                work = poll_fn(|cx| next(cx, self.clock.now(), &mut self.commands, &mut self.dht)) => match work {
                    Work::DriverRequest(request) => self.on_driver_request(request),
                    Work::Output(output) => self.on_output(output).await,
                },
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((count, source)) => self.on_datagram(&buffer[..count], source),
                    // Some systems report here that no socket received an earlier datagram; its request times out.
                    Err(why) => tracing::debug!(%why, "socket"),
                },
                () = sleep(wake.unwrap_or(Duration::MAX)) => self.input(Input::Timeout),
            }
        }
    }

    fn input(&mut self, input: Input) {
        self.dht.handle_input(self.clock.now(), input);
    }

    fn on_driver_request(&mut self, request: DriverRequest) {
        match request {
            DriverRequest::AddPeer(contact) => self.input(Input::AddPeer(contact)),
            DriverRequest::SetMode(Some(mode)) => self.input(Input::Mode(mode)),
            _ => {} // the choice is left to this driver, which knows no reason to change
        }
    }

    async fn on_output(&mut self, output: Output) {
        match output {
            Output::Send { to, id, request } => {
                let sent = match self.send(&to, id, request).await {
                    Ok(()) => Input::Sent { id },
                    Err(why) => Input::Response { id, result: Err(why) },
                };
                self.input(sent);
            }
            Output::Cancel { id } => drop(self.sent.remove(&id)),
            Output::Reply { id, reply, .. } => self.reply(id, reply).await,
            Output::Event(event) => {
                if let Some(event) = self.commands.handle_event(event) {
                    tracing::debug!(?event, "of interest to the application");
                }
            }
            _ => {}
        }
    }

    async fn send(&mut self, to: &Contact, id: RequestId, request: Request) -> Result<(), RequestError> {
        let target = to.addrs().find_map(|addr| to_socket_addr(&addr)).ok_or(Unreachable::NoAddress)?;
        let bytes = self.encode(id.number(), Body::Request(request)).map_err(|_| RequestError::TooLarge)?;
        self.socket.send_to(&bytes, target).await.map_err(|_| Unreachable::DialFailed(DialCause::Unknown))?;
        self.sent.insert(id, target);
        Ok(())
    }

    async fn reply(&mut self, id: InboundId, reply: Reply) {
        let Some((target, id)) = self.received.remove(&id) else { return };
        let body = match reply {
            Reply::Answer(response) => Body::Answer(response),
            // On libp2p an announcement is acknowledged by closing its stream. Here a datagram says so.
            Reply::Nothing => Body::Answer(Response::AddProvider),
            _ => Body::Refused,
        };
        let bytes = self.encode(id, body).or_else(|_| self.encode(id, Body::Refused));
        if let Ok(bytes) = bytes {
            // A lost answer is like no answer: the request times out.
            let _ = self.socket.send_to(&bytes, target).await;
        }
    }

    fn encode(&self, id: u64, body: Body) -> Result<Vec<u8>, DatagramError> {
        Datagram { sender: *self.dht.local().peer(), id, body }.encode()
    }

    fn on_datagram(&mut self, bytes: &[u8], source: SocketAddr) {
        let Datagram { sender, id, body } = match Datagram::decode(bytes) {
            Ok(datagram) => datagram,
            Err(why) => return tracing::warn!(%source, %why, "dropped a datagram"),
        };
        match body {
            Body::Request(request) => self.on_request(sender, source, id, request),
            Body::Answer(response) => self.on_answer(source, id, Ok(response)),
            Body::Refused => self.on_answer(source, id, Err(RequestError::Refused)),
        }
    }

    /// The sender's id is not verified here; a driver for the open internet has to do that.
    fn on_request(&mut self, sender: PeerId, source: SocketAddr, id: u64, request: Request) {
        // A sender can be sent requests in return; the core tries that before it trusts it. UDP has no connections, so
        // this driver ends the "connection" at once, which keeps the number of open ones from growing with the number
        // of senders.
        self.input(Input::Discovered(Contact::new(sender, [to_multiaddr(source)])));
        self.input(Input::Serves { peer: sender, yes: true });
        self.input(Input::Disconnected { peer: sender });

        self.next_inbound += 1;
        let inbound = InboundId::new(self.next_inbound);
        self.received.insert(inbound, (source, id));
        self.input(Input::Request { from: sender, id: inbound, request });
    }

    fn on_answer(&mut self, source: SocketAddr, id: u64, result: Result<Response, RequestError>) {
        let id = RequestId::new(id);
        if self.sent.get(&id) == Some(&source) {
            self.sent.remove(&id);
            self.input(Input::Response { id, result });
        }
    }
}

/// The next work: first the commands of the handles go into the core, then the outputs of the core come out.
fn next(cx: &mut Context<'_>, now: Timestamp, commands: &mut Commands, dht: &mut Dht) -> Poll<Work> {
    if let Poll::Ready(request) = commands.poll(cx, now, dht) {
        return Poll::Ready(Work::DriverRequest(request));
    }
    dht.poll_output().map_or(Poll::Pending, |output| Poll::Ready(Work::Output(output)))
}

/// Unix time that never goes back: read once, then counted on.
struct Clock {
    start: Instant,
    unix: Duration,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a driver is where the clock is")]
    fn start() -> Clock {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Clock { start: Instant::now(), unix }
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.unix + self.start.elapsed()
    }
}

fn to_multiaddr(addr: SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Udp(addr.port()))
}

fn to_socket_addr(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    match (parts.next()?, parts.next()?, parts.next()) {
        (Protocol::Ip4(ip), Protocol::Udp(port), None) => Some((ip, port).into()),
        (Protocol::Ip6(ip), Protocol::Udp(port), None) => Some((ip, port).into()),
        _ => None,
    }
}
