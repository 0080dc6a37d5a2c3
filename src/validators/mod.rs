//! Ready-made rules for values: the public network's, and signed ones for applications.
//!
//! Knows: what the namespaces `/pk`, `/ipns` and `/signed` demand, and how such values are made and read. Must not
//! know: where a value came from, or any clock. Pure and total like every [`Validator`]: no bytes make them panic.
//!
//! | namespace | what it holds | rules |
//! | --- | --- | --- |
//! | `/pk/<name>` | the public key that the name is the hash of | [`PublicKeys`] |
//! | `/ipns/<name>` | a path that the owner of the name points it to | [`Ipns`] |
//! | `/signed/<peer>/<salt>` | any bytes that the peer signed; they may change | [`SignedValues`] |
//!
//! The names of `/pk` and `/ipns` are peer ids in binary form, as the specification has it; the peer of `/signed` is
//! text, since applications print, compare and type such keys.

pub mod ipns;
mod key;
mod pk;
pub mod signed;

pub use ipns::{Entry, Ipns};
pub use pk::PublicKeys;
pub use signed::{Signed, SignedValues};

#[cfg(doc)]
use crate::core::Validator;

impl crate::core::Namespaced {
    /// The rules of the public network: `/pk` and `/ipns`, and no value else (rule A52).
    pub fn public() -> crate::core::Namespaced {
        use std::sync::Arc;
        crate::core::Namespaced::new().with("pk", Arc::new(PublicKeys)).with("ipns", Arc::new(Ipns))
    }
}

/// Why a value was not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The signed value would be longer than readers accept.
    #[error("the record would be longer than 10240 bytes")]
    TooLarge,
    /// The salt is longer than a key may have it.
    #[error("the salt is longer than 64 bytes")]
    SaltTooLong,
    /// The sequence number is not higher than that of the value to replace.
    #[error("the sequence number is not higher than that of the value to replace")]
    NotAfter,
    /// The key could not sign.
    #[error("the key could not sign")]
    Key,
}
