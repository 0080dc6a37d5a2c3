//! The manual: pages to read, versioned with the code. There is nothing to call here.
//!
//! | page | for whom |
//! | --- | --- |
//! | [`concepts`] | who wants to know how it works, in ten minutes |
//! | [`howto`] | who wants something done: a recipe each, compiled by the tests |
//! | [`defaults`] | who wants to change a number: every default, where it comes from, when to change it |
//! | [`security`] | who has adversaries: what they can do, what is done about it, what is not |
//! | [`deviations`] | who knows the specification or another implementation: where this one differs, and why |

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
