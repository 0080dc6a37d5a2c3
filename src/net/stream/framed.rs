//! One stream and its read buffer.
//!
//! Knows: bytes, and where a message ends. Must not know: what messages mean, or which request waits for them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures::{AsyncRead, AsyncWrite};
use libp2p_swarm::Stream;

use crate::core::Misbehaviour;
use crate::wire;

/// Bytes that are read at a time: the most that the buffer holds beyond the message that is being read.
const CHUNK: usize = 4 * 1024;

/// Why no message could be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The stream broke, or ended within a message.
    Broken(io::Error),
    /// The bytes cannot be a message that this node reads.
    Misbehaved(Misbehaviour),
}

/// A stream with its read buffer, which grows only as bytes arrive.
#[derive(Debug)]
pub(crate) struct Framed {
    stream: Stream,
    input: BytesMut,
    ended: bool,
}

impl Framed {
    /// Takes over a stream. The swarm no longer counts it as a reason to keep the connection: the handler decides that.
    pub(crate) fn new(mut stream: Stream) -> Framed {
        stream.ignore_for_keep_alive();
        Framed { stream, input: BytesMut::new(), ended: false }
    }

    /// Number of bytes that were read and not yet taken as a message.
    pub(crate) fn buffered(&self) -> usize {
        self.input.len()
    }

    /// Whether the peer has closed its side. On yamux a reset looks the same.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Reads the next message; `None` is a clean end between messages.
    pub(crate) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<Result<Option<Bytes>, ReadError>> {
        loop {
            if let Some(message) = self.take_message(limit).map_err(ReadError::Misbehaved)? {
                return Poll::Ready(Ok(Some(message)));
            }
            if ready!(self.poll_fill(cx)).map_err(ReadError::Broken)? == 0 {
                return Poll::Ready(match self.input.is_empty() {
                    true => Ok(None),
                    false => Err(ReadError::Broken(io::ErrorKind::UnexpectedEof.into())),
                });
            }
        }
    }

    /// Reads some bytes into the buffer; zero is the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let mut chunk = [0; CHUNK];
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
        self.ended = read == 0;
        self.input.extend_from_slice(chunk.get(..read).unwrap_or_default());
        Poll::Ready(Ok(read))
    }

    /// Writes all of `bytes`, removes from it what is written, and flushes.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        while !bytes.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes.advance(written.min(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Closes this node's side.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }

    /// Whether the end that was read was a reset. Works only before this node closes its own side: until then a stream
    /// that the peer closed still accepts an empty write, and one that it reset does not.
    pub(crate) fn was_reset(&mut self, cx: &mut Context<'_>) -> bool {
        matches!(Pin::new(&mut self.stream).poll_write(cx, &[]), Poll::Ready(Err(_)))
    }

    fn take_message(&mut self, limit: usize) -> Result<Option<Bytes>, Misbehaviour> {
        let message = wire::frame::take(&mut self.input, limit)?;
        if message.is_some() && self.input.is_empty() {
            self.input = BytesMut::new(); // so that the buffer does not keep the message's memory alive
        }
        Ok(message)
    }
}
