//! The top-level fields of a protobuf message, one after the other, without allocation.
//!
//! Knows: field numbers and wire types. Must not know: what a field means. It exists because a message of 4 MiB can
//! hold two million empty peers, and a decoder that builds them all needs a hundred times that memory.

use super::frame::varint;
use crate::core::Misbehaviour;

/// One field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Its number in the schema.
    pub(super) number: u64,
    /// All of its bytes, tag included.
    pub(super) whole: &'a [u8],
    /// Its value, if that is text, bytes or a message.
    pub(super) body: Option<&'a [u8]>,
}

/// Takes the first field off `rest`; `None` at the end. Takes the fields that it reads, those of groups included, off
/// `left`.
///
/// # Errors
///
/// [`Misbehaviour::Undecodable`] if the bytes are no field or end in the middle of it, or if no field is left.
pub(super) fn next<'a>(rest: &mut &'a [u8], left: &mut usize) -> Result<Option<Field<'a>>, Misbehaviour> {
    let bytes: &'a [u8] = rest;
    if bytes.is_empty() {
        return Ok(None);
    }
    count(left)?;
    match bytes {
        // Nearly all fields: a tag of one byte, and text, bytes or a message of less than 128.
        [tag @ 8..0x80, len @ ..0x80, behind @ ..] if tag & 7 == 2 => {
            let (body, after) = behind.split_at_checked(usize::from(*len)).ok_or(Misbehaviour::Undecodable)?;
            *rest = after;
            let whole = bytes.get(..2 + body.len()).ok_or(Misbehaviour::Undecodable)?;
            return Ok(Some(Field { number: u64::from(tag >> 3), whole, body: Some(body) }));
        }
        _ => {}
    }
    let Token { number, body, mut end, group } = token(bytes, 0)?;
    // Groups, which newer schemas no longer have, are skipped as a whole, however deep they are.
    let mut depth = match group {
        GroupTag::Start => 1u32,
        GroupTag::End => return Err(Misbehaviour::Undecodable),
        GroupTag::No => 0,
    };
    while depth > 0 {
        count(left)?;
        let inner = token(bytes, end)?;
        end = inner.end;
        match inner.group {
            GroupTag::Start => depth += 1,
            GroupTag::End => depth -= 1,
            GroupTag::No => {}
        }
    }
    let (whole, after) = bytes.split_at_checked(end).ok_or(Misbehaviour::Undecodable)?;
    *rest = after;
    Ok(Some(Field { number, whole, body }))
}

/// Takes a field off those that may still be read.
fn count(left: &mut usize) -> Result<(), Misbehaviour> {
    *left = left.checked_sub(1).ok_or(Misbehaviour::Undecodable)?;
    Ok(())
}

enum GroupTag {
    No,
    Start,
    End,
}

struct Token<'a> {
    number: u64,
    body: Option<&'a [u8]>,
    end: usize,
    group: GroupTag,
}

/// The tag at `start` and, unless it opens or closes a group, the value behind it.
fn token(bytes: &[u8], start: usize) -> Result<Token<'_>, Misbehaviour> {
    let (tag, value) = number_at(bytes, start)?;
    let plain = |end: usize| Token { number: tag >> 3, body: None, end, group: GroupTag::No };
    let token = match tag & 7 {
        0 => plain(number_at(bytes, value)?.1),
        1 => plain(value + 8),
        2 => {
            let (len, from) = number_at(bytes, value)?;
            let end = usize::try_from(len).ok().and_then(|len| from.checked_add(len));
            let end = end.ok_or(Misbehaviour::Undecodable)?;
            Token { body: bytes.get(from..end), ..plain(end) }
        }
        3 => Token { group: GroupTag::Start, ..plain(value) },
        4 => Token { group: GroupTag::End, ..plain(value) },
        5 => plain(value + 4),
        _ => return Err(Misbehaviour::Undecodable),
    };
    if tag >> 3 == 0 || token.end > bytes.len() { Err(Misbehaviour::Undecodable) } else { Ok(token) }
}

/// The varint at `start` and where it ends.
fn number_at(bytes: &[u8], start: usize) -> Result<(u64, usize), Misbehaviour> {
    let rest = bytes.get(start..).ok_or(Misbehaviour::Undecodable)?;
    let (number, len) = varint(rest)?.ok_or(Misbehaviour::Undecodable)?;
    Ok((number, start + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, length with the tag, and body.
    type Summary<'a> = (u64, usize, Option<&'a [u8]>);

    fn all(mut bytes: &[u8]) -> Result<Vec<Summary<'_>>, Misbehaviour> {
        let mut fields = Vec::new();
        let mut left = 100;
        while let Some(field) = next(&mut bytes, &mut left)? {
            fields.push((field.number, field.whole.len(), field.body));
        }
        Ok(fields)
    }

    #[test]
    fn every_wire_type_is_skipped() {
        let bytes = b"\x08\x96\x01\x12\x02hi\x1d1234\x2112345678\x2b\x08\x01\x33\x34\x2c\x42\x00";
        let expected = [(1, 3, None), (2, 4, Some(&b"hi"[..])), (3, 5, None), (4, 9, None), (5, 6, None)];
        let mut fields = all(bytes).unwrap();
        assert_eq!(fields.pop(), Some((8, 2, Some(&b""[..]))));
        assert_eq!(fields, expected);
    }

    #[test]
    fn malformed_fields_are_refused() {
        let broken: [&[u8]; 10] = [
            b"\x08",                                             // no value
            b"\x12\x03hi",                                       // shorter than it says
            b"\x1d123",                                          // four bytes announced
            b"\x211234567",                                      // eight bytes announced
            b"\x2b\x08\x01",                                     // a group without end
            b"\x2c",                                             // an end without group
            b"\x0e",                                             // no such wire type
            b"\x00\x00",                                         // no such field
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",     // longer than memory
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", // more than 64 bits
        ];
        for bytes in broken {
            assert_eq!(all(bytes), Err(Misbehaviour::Undecodable), "{bytes:02x?}");
        }
    }
}
