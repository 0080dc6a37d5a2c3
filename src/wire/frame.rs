//! The length prefix of a message, an unsigned varint (rule L33), and the size limit.
//!
//! Knows: the bytes received so far. Must not know: the content of a message, or where the bytes come from. Pure and
//! incremental: a message whose announced length exceeds the limit costs no allocation.

use bytes::{BufMut, Bytes, BytesMut};

use crate::core::Misbehaviour;

/// Maximum length of a varint: 64 bits, seven in a byte.
const MAX_VARINT_LEN: usize = 10;

/// A length prefix that was read in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prefix {
    /// Length of the prefix in bytes, from 1 to 10.
    pub len: usize,
    /// Length of the message behind it: never more than the limit.
    pub body: usize,
}

/// Reads the length prefix at the start of `bytes`; `None` if it is incomplete.
///
/// Accepts varints that are longer than necessary, up to 10 bytes.
///
/// # Errors
///
/// [`Misbehaviour::TooLarge`] if more than `limit` bytes are announced, [`Misbehaviour::Undecodable`] if the varint
/// does not end within 10 bytes or does not fit 64 bits.
pub fn read_prefix(bytes: &[u8], limit: usize) -> Result<Option<Prefix>, Misbehaviour> {
    let Some((announced, len)) = varint(bytes)? else { return Ok(None) };
    match usize::try_from(announced) {
        Ok(body) if body <= limit => Ok(Some(Prefix { len, body })),
        _ => Err(Misbehaviour::TooLarge),
    }
}

/// Removes the first message from the received bytes, and returns it without its prefix; `None` while it is incomplete.
///
/// # Errors
///
/// As [`read_prefix`]. The bytes stay as they are then, and the stream is of no further use.
pub fn take(received: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, Misbehaviour> {
    let Some(prefix) = read_prefix(received, limit)? else { return Ok(None) };
    if received.len() - prefix.len < prefix.body {
        return Ok(None);
    }
    let mut frame = received.split_to(prefix.len + prefix.body).freeze();
    Ok(Some(frame.split_off(prefix.len)))
}

/// Length of the prefix of a message of `len` bytes.
pub const fn prefix_len(len: usize) -> usize {
    let bits = (usize::BITS - len.leading_zeros()) as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

/// Writes the prefix of a message of `len` bytes.
pub fn write_prefix(len: usize, out: &mut impl BufMut) {
    let mut rest = len;
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// The varint at the start of `bytes` and its length; `None` if it is incomplete.
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Misbehaviour> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(MAX_VARINT_LEN).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == MAX_VARINT_LEN - 1 && bits > 1 {
            return Err(Misbehaviour::Undecodable);
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((value, i + 1)));
        }
    }
    if bytes.len() < MAX_VARINT_LEN { Ok(None) } else { Err(Misbehaviour::Undecodable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_read_byte_by_byte() {
        assert_eq!(read_prefix(&[], 1 << 20), Ok(None));
        assert_eq!(read_prefix(&[0x80], 1 << 20), Ok(None));
        assert_eq!(read_prefix(&[0xac, 0x02, 0xff], 1 << 20), Ok(Some(Prefix { len: 2, body: 300 })));
        assert_eq!(read_prefix(&[0x83, 0x80, 0x00], 3), Ok(Some(Prefix { len: 3, body: 3 })));
    }

    #[test]
    fn the_limit_is_inclusive_and_absurd_lengths_are_refused() {
        assert_eq!(read_prefix(&[0x80, 0x01], 128), Ok(Some(Prefix { len: 2, body: 128 })));
        assert_eq!(read_prefix(&[0x81, 0x01], 128), Err(Misbehaviour::TooLarge));
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(read_prefix(&most, 4 << 20), Err(Misbehaviour::TooLarge));
        assert_eq!(read_prefix(&[0xff; 9], 4 << 20), Ok(None));
        assert_eq!(read_prefix(&[0x80; 10], 4 << 20), Err(Misbehaviour::Undecodable));
        let beyond = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(read_prefix(&beyond, usize::MAX), Err(Misbehaviour::Undecodable));
    }

    #[test]
    fn written_prefixes_are_read() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 4 << 20, usize::MAX] {
            let mut out = Vec::new();
            write_prefix(len, &mut out);
            assert_eq!(out.len(), prefix_len(len));
            assert_eq!(read_prefix(&out, usize::MAX), Ok(Some(Prefix { len: out.len(), body: len })));
        }
    }

    #[test]
    fn messages_are_taken_one_by_one_and_only_whole() {
        let mut received = BytesMut::from(&b"\x03abc\x00\x02d"[..]);
        assert_eq!(take(&mut received, 3), Ok(Some(Bytes::from_static(b"abc"))));
        assert_eq!(take(&mut received, 3), Ok(Some(Bytes::new())));
        assert_eq!(take(&mut received, 3), Ok(None));
        assert_eq!(&received[..], b"\x02d");
        received.extend_from_slice(b"e\x04");
        assert_eq!(take(&mut received, 3), Ok(Some(Bytes::from_static(b"de"))));
        assert_eq!(take(&mut received, 3), Err(Misbehaviour::TooLarge));
    }
}
