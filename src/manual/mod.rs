//! The manual: pages to read, versioned with the code. There is nothing to call here.
//!
//! | page | content |
//! | --- | --- |
//! | [`concepts`] | how a DHT works, in ten minutes |
//! | [`howto`] | a recipe for each task, compiled by the tests |
//! | [`defaults`] | every default, where it comes from, and when to change it |
//! | [`security`] | what adversaries can do, what is done about it, and what is left to you |
//! | [`deviations`] | differences from the specifications and other implementations, and why |

#[doc = include_str!("concepts.md")]
pub mod concepts {}

#[doc = include_str!("howto.md")]
pub mod howto {}

#[doc = include_str!("defaults.md")]
pub mod defaults {}

#[doc = include_str!("security.md")]
pub mod security {}

#[doc = include_str!("deviations.md")]
pub mod deviations {}
