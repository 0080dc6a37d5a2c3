//! A client below the swarm: one connection, FIND_NODE requests on raw streams.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::FuturesUnordered;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::{Multiaddr, Transport};
use multistream_select::{Negotiated, Version, dialer_select_proto};

use crate::node::{PROTOCOL, keypair};
use crate::transport::Kind;

/// How requests use streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// One for each request. The client waits for the protocol's confirmation before it sends, as `libp2p-kad` does.
    Each,
    /// As many streams as requests in flight, each for one request after the other.
    Reused,
}

pub(crate) async fn connect(transport: Kind, addr: Multiaddr) -> StreamMuxerBox {
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dialled = transport.build(&keypair(9, 9)).dial(addr, options).expect("can be dialled");
    dialled.await.expect("connects").1
}

type Stream = Negotiated<SubstreamBox>;

async fn negotiate(stream: SubstreamBox) -> io::Result<Stream> {
    dialer_select_proto(stream, [PROTOCOL], Version::V1).await.map(|(_, stream)| stream).map_err(io::Error::other)
}

async fn read_message(stream: &mut Stream) -> io::Result<()> {
    let (mut read, mut chunk) = (Vec::with_capacity(8192), [0; 8192]);
    loop {
        if let Ok((len, rest)) = unsigned_varint::decode::usize(&read)
            && rest.len() >= len
        {
            return Ok(());
        }
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&chunk[..count]);
    }
}

/// The answer to one request. Returns the stream if it is to be used again.
async fn ask(stream: Opened, request: Vec<u8>, streams: Streams) -> io::Result<Option<Stream>> {
    let mut stream = match stream {
        Opened::New(stream) => negotiate(stream).await?,
        Opened::Used(stream) => stream,
    };
    stream.write_all(&request).await?;
    match streams {
        Streams::Each => stream.close().await?,
        Streams::Reused => stream.flush().await?,
    }
    read_message(&mut stream).await?;
    Ok((streams == Streams::Reused).then_some(stream))
}

enum Opened {
    New(SubstreamBox),
    Used(Stream),
}

/// Polls the connection, without which no stream moves, beside `poll`.
async fn beside<T>(
    connection: &mut StreamMuxerBox,
    mut poll: impl FnMut(&mut Context<'_>, &mut StreamMuxerBox) -> Poll<T>,
) -> T {
    poll_fn(|cx| {
        while let Poll::Ready(inbound) = connection.poll_inbound_unpin(cx) {
            drop(inbound.expect("the connection holds"));
        }
        if let Poll::Ready(event) = connection.poll_unpin(cx) {
            event.expect("the connection holds");
        }
        poll(cx, connection)
    })
    .await
}

type Asking = Pin<Box<dyn Future<Output = io::Result<Option<Stream>>> + Send>>;

/// Sends `total` requests, `width` at a time, and waits for all answers.
///
/// # Panics
///
/// If a request fails: a server that refuses would seem fast.
pub(crate) async fn ask_all(
    connection: &mut StreamMuxerBox,
    streams: Streams,
    width: usize,
    total: usize,
    requests: &[Vec<u8>],
) {
    let mut running: FuturesUnordered<Asking> = FuturesUnordered::new();
    let (mut started, mut answered) = (0, 0);
    let mut begin = |stream, running: &FuturesUnordered<Asking>| {
        running.push(Box::pin(ask(stream, requests[started % requests.len()].clone(), streams)));
        started += 1;
        started < total
    };
    let mut more = true;
    beside(connection, |cx, connection| {
        loop {
            while more && running.len() < width {
                let Poll::Ready(stream) = connection.poll_outbound_unpin(cx) else { break };
                more = begin(Opened::New(stream.expect("a stream")), &running);
            }
            let Poll::Ready(Some(result)) = running.poll_next_unpin(cx) else { return Poll::Pending };
            answered += 1;
            if let Some(stream) = result.expect("an answer")
                && more
            {
                more = begin(Opened::Used(stream), &running);
            }
            if answered == total {
                return Poll::Ready(());
            }
        }
    })
    .await;
}
