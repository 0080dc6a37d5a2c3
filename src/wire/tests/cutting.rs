//! Messages that are too long, and the parts that are kept.

use std::sync::Arc;

use multiaddr::Multiaddr;

use super::*;
use crate::core::{Contact, MAX_ADDR_LEN};

/// `count` addresses of about `len` bytes each.
fn addrs(count: usize, len: usize) -> impl Iterator<Item = Multiaddr> {
    (0..count).map(move |i| format!("/dns4/{:a<width$}/tcp/{i}", i, width = len - 5).parse().unwrap())
}

fn peers(from: u32, count: u32, addrs_each: usize, addr_len: usize) -> Vec<Arc<Contact>> {
    (from..from + count).map(|n| Contact::new(numbered(n), addrs(addrs_each, addr_len))).collect()
}

#[test]
fn addresses_go_before_peers() {
    let sent = peers(0, 20, 25, 60);
    let bytes = encode_response(&Response::FindNode { closer: sent.clone() }, MAX_OUT).unwrap();
    assert!(bytes.len() <= MAX_OUT && bytes.len() > MAX_OUT - 70, "{}", bytes.len());
    let read = closer(unframed(bytes));
    assert_eq!(read.len(), 20);
    assert!(is_cut_of(&read, &sent));
    let counts: Vec<usize> = read.iter().map(|contact| contact.raw_addrs().count()).collect();
    // The same number for all, and one more for the first ones while there is space.
    assert!(counts.is_sorted_by(|a, b| a >= b) && counts[0] - counts[19] <= 1 && counts[19] >= 10, "{counts:?}");
}

#[test]
fn a_peer_with_few_addresses_keeps_them_all() {
    let mut sent = peers(0, 19, 25, 60);
    sent.insert(7, Contact::new(numbered(99), addrs(5, 60)));
    let read = closer(unframed(encode_response(&Response::FindNode { closer: sent.clone() }, MAX_OUT).unwrap()));
    assert_eq!(read.len(), 20);
    assert_eq!(read[7], sent[7]);
}

fn providers_answer(providers: &[Arc<Contact>], closer: &[Arc<Contact>]) -> (Vec<Arc<Contact>>, Vec<Arc<Contact>>) {
    let response = Response::GetProviders { key: "k".into(), providers: providers.to_vec(), closer: closer.to_vec() };
    let bytes = encode_response(&response, MAX_OUT).unwrap();
    assert!(bytes.len() <= MAX_OUT);
    match decode_response(Kind::GetProviders, unframed(bytes)).unwrap() {
        Response::GetProviders { providers, closer, .. } => (providers, closer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn addresses_of_both_lists_go_before_peers_of_either() {
    let (providers, closer) = (peers(100, 150, 5, 20), peers(0, 20, 25, 60));
    let (read_providers, read_closer) = providers_answer(&providers, &closer);
    assert_eq!((read_providers.len(), read_closer.len()), (150, 20));
    assert!(is_cut_of(&read_providers, &providers) && is_cut_of(&read_closer, &closer));
}

#[test]
fn too_many_providers_leave_the_closer_peers_half_of_the_space() {
    let (providers, closer) = (peers(100, 1_000, 1, 20), peers(0, 20, 25, 60));
    let (read_providers, read_closer) = providers_answer(&providers, &closer);
    assert_eq!(read_closer.len(), 20);
    assert!(is_cut_of(&read_providers, &providers) && is_cut_of(&read_closer, &closer));
    assert!(read_closer.iter().all(|contact| contact.raw_addrs().count() >= 4));
    assert!(read_providers.len() > 120, "{}", read_providers.len());

    // Closer peers that need less than half leave the rest to the providers, and the other way round.
    let few = peers(0, 20, 1, 20);
    let (read_providers, read_closer) = providers_answer(&providers, &few);
    assert_eq!(read_closer, few);
    assert!(read_providers.len() > 220, "{}", read_providers.len());
    let (read_providers, read_closer) = providers_answer(&few, &providers);
    assert_eq!(read_providers, few);
    assert!(read_closer.len() > 220, "{}", read_closer.len());
}

#[test]
fn the_longest_addresses_cut_peers_from_the_end() {
    let sent = peers(0, 60, 32, MAX_ADDR_LEN - 5);
    let read = closer(unframed(encode_response(&Response::FindNode { closer: sent.clone() }, MAX_OUT).unwrap()));
    assert!(read.len() >= 28 && is_cut_of(&read, &sent), "{}", read.len());
}

#[test]
fn an_announcement_keeps_its_provider_or_is_not_made() {
    let providers = peers(0, 1, 32, MAX_ADDR_LEN - 5);
    let announce =
        |limit| encode_request(&Request::AddProvider { key: "k".into(), providers: providers.clone() }, limit);
    let Ok(Request::AddProvider { providers: read, .. }) = decode_request(None, unframed(announce(2_000).unwrap()))
    else {
        panic!("not read")
    };
    assert!(read.len() == 1 && read[0].raw_addrs().count() == 3 && is_cut_of(&read, &providers));
    assert_eq!(announce(500), Err(RequestError::TooLarge));
}
