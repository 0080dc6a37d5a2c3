//! An encoding of our own: requests and answers as single datagrams.
//!
//! ```text
//! datagram = version:u8  sender:bytes  request id:u64  what:u8  body
//! bytes    = length:u16  that many bytes
//! list     = count:u8  that many items
//! peer     = id:bytes  addresses:list of bytes
//! value    = 0:u8 (there is none), or 1:u8  key:bytes  value:bytes
//! ```
//!
//! Any bytes are decoded to a message or to an error that names the reason. The optional fields of a value (its
//! publisher, its time to live) are left out for brevity.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use kad::core::message::Value;
use kad::core::{Kind, Request, Response};
use kad::{Contact, RecordKey};
use libp2p_identity::PeerId;
use libp2p_kad_dht as kad;

/// The longest datagram that is sent or read. Source: a UDP datagram over IPv4 carries about 1,400 bytes without
/// fragments; loopback takes more, and an answer of 20 peers needs it.
pub(crate) const MAX_DATAGRAM: usize = 8 * 1024;

const VERSION: u8 = 1;
const ANSWER: u8 = 0x40;
const REFUSED: u8 = 0x80;
const KINDS: [Kind; 6] =
    [Kind::PutValue, Kind::GetValue, Kind::AddProvider, Kind::GetProviders, Kind::FindNode, Kind::Ping];

/// One message between two nodes.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) sender: PeerId,
    /// Chosen by the peer that asks, repeated by the peer that answers.
    pub(crate) id: u64,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Request(Request),
    Answer(Response),
    /// The peer will not answer.
    Refused,
}

/// The reason why a message cannot be sent, or why bytes that arrived are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DatagramError {
    #[error("longer than {MAX_DATAGRAM} bytes")]
    TooLong,
    #[error("ends too early")]
    Truncated,
    #[error("goes on after its end")]
    Trailing,
    #[error("version {0} is unknown")]
    Version(u8),
    #[error("{0} names no message")]
    UnknownMessage(u8),
    #[error("a peer id is invalid")]
    PeerId,
    #[error("this message cannot be encoded")]
    Unsupported,
}

impl Datagram {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, DatagramError> {
        let mut out = vec![VERSION];
        put_bytes(&mut out, &self.sender.to_bytes())?;
        out.put_u64(self.id);
        match &self.body {
            Body::Request(request) => put_request(&mut out, request)?,
            Body::Answer(response) => put_answer(&mut out, response)?,
            Body::Refused => out.push(REFUSED),
        }
        if out.len() > MAX_DATAGRAM { Err(DatagramError::TooLong) } else { Ok(out) }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Datagram, DatagramError> {
        if bytes.len() > MAX_DATAGRAM {
            return Err(DatagramError::TooLong);
        }
        let mut rest = Reader(bytes);
        match rest.byte()? {
            VERSION => {}
            other => return Err(DatagramError::Version(other)),
        }
        let sender = rest.peer_id()?;
        let id = u64::from_be_bytes(rest.array()?);
        let body = match rest.byte()? {
            REFUSED => Body::Refused,
            what if what & ANSWER != 0 => Body::Answer(rest.answer(what & !ANSWER)?),
            what => Body::Request(rest.request(what)?),
        };
        if rest.0.is_empty() { Ok(Datagram { sender, id, body }) } else { Err(DatagramError::Trailing) }
    }
}

fn put_request(out: &mut Vec<u8>, request: &Request) -> Result<(), DatagramError> {
    out.push(request.kind() as u8);
    match request {
        Request::Ping => Ok(()),
        Request::FindNode { key } => put_bytes(out, key),
        Request::GetValue { key } | Request::GetProviders { key } => put_bytes(out, key.as_bytes()),
        Request::PutValue { value } => put_value(out, Some(value)),
        Request::AddProvider { key, providers } => {
            put_bytes(out, key.as_bytes())?;
            put_peers(out, providers)
        }
        _ => Err(DatagramError::Unsupported),
    }
}

fn put_answer(out: &mut Vec<u8>, response: &Response) -> Result<(), DatagramError> {
    out.push(response.kind() as u8 | ANSWER);
    match response {
        Response::Ping | Response::AddProvider => Ok(()),
        Response::FindNode { closer } => put_peers(out, closer),
        Response::GetValue { key, value, closer } => {
            put_bytes(out, key.as_bytes())?;
            put_value(out, value.as_ref())?;
            put_peers(out, closer)
        }
        Response::PutValue { value } => put_value(out, Some(value)),
        Response::GetProviders { key, providers, closer } => {
            put_bytes(out, key.as_bytes())?;
            put_peers(out, providers)?;
            put_peers(out, closer)
        }
        _ => Err(DatagramError::Unsupported),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), DatagramError> {
    out.put_u16(u16::try_from(bytes.len()).map_err(|_| DatagramError::TooLong)?);
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_value(out: &mut Vec<u8>, value: Option<&Value>) -> Result<(), DatagramError> {
    out.push(value.is_some().into());
    let Some(value) = value else { return Ok(()) };
    put_bytes(out, value.key.as_bytes())?;
    put_bytes(out, &value.value)
}

fn put_peers(out: &mut Vec<u8>, peers: &[Arc<Contact>]) -> Result<(), DatagramError> {
    out.push(u8::try_from(peers.len()).map_err(|_| DatagramError::TooLong)?);
    for peer in peers {
        put_bytes(out, &peer.peer().to_bytes())?;
        out.push(u8::try_from(peer.raw_addrs().count()).map_err(|_| DatagramError::TooLong)?);
        for addr in peer.raw_addrs() {
            put_bytes(out, addr)?;
        }
    }
    Ok(())
}

/// The rest of a datagram. Never reads beyond its end, and allocates no more than arrived.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DatagramError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DatagramError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DatagramError> {
        self.take(N)?.try_into().map_err(|_| DatagramError::Truncated)
    }

    fn byte(&mut self) -> Result<u8, DatagramError> {
        self.array().map(|[byte]| byte)
    }

    fn bytes(&mut self) -> Result<Bytes, DatagramError> {
        let count = u16::from_be_bytes(self.array()?);
        self.take(count.into()).map(Bytes::copy_from_slice)
    }

    fn key(&mut self) -> Result<RecordKey, DatagramError> {
        self.bytes().map(RecordKey::new)
    }

    fn peer_id(&mut self) -> Result<PeerId, DatagramError> {
        PeerId::from_bytes(&self.bytes()?).map_err(|_| DatagramError::PeerId)
    }

    fn value(&mut self) -> Result<Option<Value>, DatagramError> {
        match self.byte()? {
            0 => Ok(None),
            _ => Ok(Some(Value::new(self.key()?, self.bytes()?))),
        }
    }

    fn peers(&mut self) -> Result<Vec<Arc<Contact>>, DatagramError> {
        let count = self.byte()?;
        (0..count).map(|_| self.peer()).collect()
    }

    fn peer(&mut self) -> Result<Arc<Contact>, DatagramError> {
        let peer = self.peer_id()?;
        let count = self.byte()?;
        let addrs: Vec<Bytes> = (0..count).map(|_| self.bytes()).collect::<Result<_, _>>()?;
        // Leaves out bytes that are no address, and addresses beyond the maximum.
        Ok(Contact::from_raw(peer, addrs.iter().map(AsRef::as_ref)))
    }

    fn request(&mut self, what: u8) -> Result<Request, DatagramError> {
        Ok(match kind(what)? {
            Kind::Ping => Request::Ping,
            Kind::FindNode => Request::FindNode { key: self.bytes()? },
            Kind::GetValue => Request::GetValue { key: self.key()? },
            Kind::GetProviders => Request::GetProviders { key: self.key()? },
            Kind::PutValue => Request::PutValue { value: self.value()?.ok_or(DatagramError::Truncated)? },
            Kind::AddProvider => Request::AddProvider { key: self.key()?, providers: self.peers()? },
        })
    }

    fn answer(&mut self, what: u8) -> Result<Response, DatagramError> {
        Ok(match kind(what)? {
            Kind::Ping => Response::Ping,
            Kind::AddProvider => Response::AddProvider,
            Kind::FindNode => Response::FindNode { closer: self.peers()? },
            Kind::PutValue => Response::PutValue { value: self.value()?.ok_or(DatagramError::Truncated)? },
            Kind::GetValue => Response::GetValue { key: self.key()?, value: self.value()?, closer: self.peers()? },
            Kind::GetProviders => {
                Response::GetProviders { key: self.key()?, providers: self.peers()?, closer: self.peers()? }
            }
        })
    }
}

fn kind(what: u8) -> Result<Kind, DatagramError> {
    KINDS.into_iter().find(|kind| *kind as u8 == what).ok_or(DatagramError::UnknownMessage(what))
}
