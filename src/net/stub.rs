//! Stand-in for `crate::wire` until it lands.
use bytes::Bytes;

use crate::core::{Kind, Misbehaviour, Request, RequestError, Response};

pub(super) fn encode_request(_: &Request, _: usize) -> Result<Bytes, RequestError> {
    Err(RequestError::TooLarge)
}
pub(super) fn encode_response(_: &Response, _: usize) -> Result<Bytes, RequestError> {
    Err(RequestError::TooLarge)
}
pub(super) fn decode_request(_: Bytes) -> Result<Request, Misbehaviour> {
    Err(Misbehaviour::Undecodable)
}
pub(super) fn decode_response(_: Kind, _: Bytes) -> Result<Response, Misbehaviour> {
    Err(Misbehaviour::Undecodable)
}
pub(super) mod frame {
    use crate::core::Misbehaviour;
    pub(in super::super) fn prefix(bytes: &[u8], limit: usize) -> Result<Option<(usize, usize)>, Misbehaviour> {
        let mut length = 0_u64;
        for (index, byte) in bytes.iter().enumerate().take(5) {
            length |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return match usize::try_from(length) {
                    Ok(length) if length <= limit => Ok(Some((index + 1, length))),
                    _ => Err(Misbehaviour::TooLarge),
                };
            }
        }
        if bytes.len() >= 5 { Err(Misbehaviour::TooLarge) } else { Ok(None) }
    }
}
