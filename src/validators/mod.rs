//! Validators: those of the public network, and one for signed values of applications.
//!
//! Knows: the rules of the namespaces `/pk`, `/ipns` and `/signed`, and how such values are made and read. Must not
//! know: where a value came from, or any clock. Pure and total like every [`Validator`]: no input makes them panic.
//!
//! | namespace | value | validator |
//! | --- | --- | --- |
//! | `/pk/<name>` | the public key whose hash is the name | [`PublicKeys`] |
//! | `/ipns/<name>` | the path that the owner of the name publishes | [`Ipns`] |
//! | `/signed/<peer>/<salt>` | bytes that the peer signed; it may replace them | [`SignedValues`] |
//!
//! The names of `/pk` and `/ipns` are peer ids in binary form, as specified; the peer of `/signed` is text, since
//! applications print, compare and type such keys.
//!
//! The validators are a module beside the core because they need signatures, and `libp2p-identity` needs prost for
//! those. They are on by default because `Config::amino` without IPNS is no preset, and a feature must not change what
//! a preset does. All four kinds of keys are verified, although the specification demands Ed25519 alone: a valid record
//! of an RSA name would otherwise count against an honest peer.

pub mod ipns;
mod key;
mod pk;
pub mod signed;

pub use ipns::{Ipns, IpnsRecord};
pub use pk::PublicKeys;
pub use signed::{Signed, SignedValues};

#[cfg(doc)]
use crate::core::Validator;

impl crate::core::Namespaced {
    /// The rules of the public network: `/pk` and `/ipns`; other values are invalid (rule A52).
    pub fn public() -> crate::core::Namespaced {
        use std::sync::Arc;
        crate::core::Namespaced::new().with("pk", Arc::new(PublicKeys)).with("ipns", Arc::new(Ipns))
    }
}

/// The reason why a value was not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The signed value would be longer than the maximum that readers accept.
    #[error("the record would be longer than 10240 bytes")]
    TooLarge,
    /// The salt is too long for a key.
    #[error("the salt is longer than 64 bytes")]
    SaltTooLong,
    /// The sequence number is not higher than that of the value to replace.
    #[error("the sequence number is not higher than that of the value to replace")]
    NotAfter,
    /// The key could not sign.
    #[error("the key could not sign")]
    Key,
}
