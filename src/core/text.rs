//! Serialises peers, addresses, keys and times in snapshots, as readable text where possible.
//!
//! Knows: their usual text. Must not know: what they are part of.

/// A peer id in base58.
pub(crate) mod peer {
    use libp2p_identity::PeerId;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(peer: &PeerId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(peer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PeerId, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|why| de::Error::custom(format!("not a peer id: {why}")))
    }
}

/// Multiaddresses.
pub(crate) mod addrs {
    use multiaddr::Multiaddr;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(addrs: &[Multiaddr], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(addrs.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Multiaddr>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let parsed = texts.iter().map(|text| text.parse());
        parsed.collect::<Result<_, _>>().map_err(|why| de::Error::custom(format!("not a multiaddress: {why}")))
    }
}

/// A key as 64 hexadecimal digits.
mod key {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use crate::core::key::Key;

    impl Serialize for Key {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            let digits: String = self.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            to.serialize_str(&digits)
        }
    }

    impl<'de> Deserialize<'de> for Key {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
            let text = String::deserialize(from)?;
            let fault = || de::Error::custom("a key is 64 hexadecimal digits");
            let digits: Option<Vec<u8>> = text.chars().map(|digit| Some(digit.to_digit(16)? as u8)).collect();
            let digits = digits.filter(|digits| digits.len() == 64).ok_or_else(fault)?;
            let mut bytes = [0; 32];
            for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                *byte = pair[0] << 4 | pair[1];
            }
            Ok(Key::from_bytes(bytes))
        }
    }
}

/// The version of a serialised form: written first, and the only one that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version<const N: u32>;

impl<const N: u32> serde::Serialize for Version<N> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(N)
    }
}

impl<'de, const N: u32> serde::Deserialize<'de> for Version<N> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match <u32 as serde::Deserialize>::deserialize(from)? {
            found if found == N => Ok(Version),
            found => Err(serde::de::Error::custom(format!("version {found} is unknown: this crate reads version {N}"))),
        }
    }
}

/// An optional duration, in whole microseconds.
pub(crate) mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_micros))
    }
}
