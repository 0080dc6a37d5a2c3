//! What the core keeps in memory, counted by the allocator.

use std::alloc::System;
use std::error::Error;
use std::sync::Arc;

use cap::Cap;
use libp2p_identity::PeerId;
use libp2p_kad_dht::core::{Contact, Dht, DhtConfig, Input, MemoryStore, MemoryStoreConfig, Timestamp};

/// Counts every byte that this process asks for.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

fn peer(number: u32) -> Result<PeerId, Box<dyn Error>> {
    let digest = [&[0x12, 0x20][..], &[7; 28], &number.to_be_bytes()].concat();
    Ok(PeerId::from_bytes(&digest)?)
}

/// A peer of a network of its own, with an address by each of two transports.
fn contact(number: u32) -> Result<Arc<Contact>, Box<dyn Error>> {
    let host = format!("/ip4/{}.{}.8.8", 64 + number % 32, number / 32 % 256);
    let addrs = [format!("{host}/tcp/4001").parse()?, format!("{host}/udp/4001/quic-v1").parse()?];
    Ok(Contact::new(peer(number)?, addrs))
}

#[test]
fn the_address_book_takes_a_quarter_of_a_kilobyte_a_peer() -> Result<(), Box<dyn Error>> {
    let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), [1; 32]));
    let mut dht = Dht::new(Timestamp::ZERO, contact(0)?, store, [2; 32], Arc::new(DhtConfig::default()))?;
    let before = HEAP.allocated();
    for number in 1..=5_000 {
        dht.handle_input(Timestamp::ZERO, Input::AddPeer(contact(number)?));
        while dht.poll_output().is_some() {}
    }
    let used = HEAP.allocated() - before;
    let mut known = 0;
    for number in 1..=5_000 {
        known += usize::from(dht.contact(&peer(number)?).is_some());
    }
    assert_eq!(known, 4_096);
    assert!(used <= 1 << 20, "{used} bytes, {} a peer", used / known);
    Ok(())
}
