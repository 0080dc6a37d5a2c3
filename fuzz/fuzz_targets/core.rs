//! The life of one node, whose every output is checked against the invariants of the core.
#![no_main]

#[path = "../../tests/properties/actions.rs"]
mod actions;
#[path = "../../tests/properties/lawful.rs"]
mod lawful;
#[path = "../../tests/properties/life.rs"]
mod life;
#[path = "../../tests/properties/places.rs"]
mod places;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| life::of_bytes(bytes));
