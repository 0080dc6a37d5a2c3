//! A disk that takes half a second for a write: other requests are not delayed, and the number of waiting operations is
//! bounded.

use std::sync::Arc;

use libp2p_kad_dht::core::{Dht, DhtConfig, InboundId, Input, Mode, Output, Reply, Request, Response, Value};
use libp2p_kad_dht_disk::DiskFaults;

use super::*;

const SLOW: Duration = Duration::from_millis(500);

#[test]
#[expect(clippy::disallowed_methods, reason = "how long the loop takes is what is measured")]
fn other_requests_do_not_wait_for_the_disk() {
    let dir = Dir::new();
    let mut store = open(&dir.file());
    let write = store.put(NOW, value("/a/known", b"v"));
    stored(&mut store, write).unwrap();
    drop(store);
    let faults = DiskFaults::default();
    let store = Opened::at(dir.file(), config().with_faults(&faults)).unwrap();
    faults.set_sync_delay(SLOW);
    let local = Contact::new(peer(0), ["/ip4/127.0.0.1/tcp/1".parse().unwrap()]);
    let mut dht = Dht::new(NOW, local, Box::new(store.store), [2; 32], Arc::new(DhtConfig::default())).unwrap();
    dht.handle_input(NOW, Input::Mode(Mode::Server));
    let from = peer(1);
    let (mut ids, mut longest) = (0, Duration::ZERO);
    let started = std::time::Instant::now();
    let mut put_ended = None;
    let mut answered = 0;
    let put = Request::PutValue { value: Value::new("/a/new", "v") };
    dht.handle_input(NOW, Input::Request { from, id: InboundId::new(0), request: put });
    while put_ended.is_none() {
        assert!(started.elapsed() < Duration::from_secs(20), "the put ends");
        ids += 1;
        let request = match ids % 3 {
            0 => Request::GetValue { key: "/a/known".into() },
            1 => Request::GetProviders { key: "/a/known".into() },
            _ => Request::FindNode { key: vec![1].into() },
        };
        let asked = std::time::Instant::now();
        dht.handle_input(NOW, Input::Request { from, id: InboundId::new(ids), request });
        let mut open = true;
        while open && put_ended.is_none() {
            let step = std::time::Instant::now();
            dht.poll_store(NOW, Waker::noop());
            while let Some(output) = dht.poll_output() {
                let Output::Reply { id, reply, .. } = output else { continue };
                assert!(matches!(reply, Reply::Answer(_)), "{reply:?}");
                if id == InboundId::new(0) {
                    assert!(matches!(reply, Reply::Answer(Response::PutValue { .. })), "{reply:?}");
                    put_ended = Some(started.elapsed());
                } else {
                    answered += 1;
                    open = false;
                }
            }
            assert!(step.elapsed() < SLOW / 2, "the loop was held up for {:?}", step.elapsed());
            assert!(asked.elapsed() < SLOW / 2 || !open, "a request waits for {:?}", asked.elapsed());
            std::thread::sleep(Duration::from_micros(200));
        }
        longest = longest.max(asked.elapsed());
    }
    let put_ended = put_ended.unwrap();
    println!("put {put_ended:?}, {answered} other requests, the longest {longest:?}");
    assert!(put_ended >= SLOW, "acknowledged means kept");
    assert!(answered > 50, "{answered}");
}

/// The file has to grow several times as large, for which redb takes a lock that beginning a read needs.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long reads take is what is measured")]
fn reads_from_the_disk_do_not_wait_while_the_file_grows() {
    let dir = Dir::new();
    let faults = DiskFaults::default();
    let mut config = config().with_faults(&faults);
    config.cache_bytes = 0;
    let mut store = Opened::at(dir.file(), config).unwrap();
    let write = store.put(NOW, value("/a/known", b"v"));
    stored(&mut store, write).unwrap();
    let before = std::fs::metadata(dir.file()).unwrap().len();
    faults.set_sync_delay(SLOW);
    let mut writes: Vec<_> = (0..100).map(|n| store.put(NOW, value(&format!("/big/{n}"), &[n; 60_000]))).collect();
    let (mut reads, mut longest) = (0, Duration::ZERO);
    while !writes.is_empty() {
        let asked = std::time::Instant::now();
        let ticket = store.begin(NOW, Op::Get("/a/known".into()));
        let mut answered = false;
        while !answered {
            assert!(asked.elapsed() < Duration::from_secs(20), "the read ends");
            std::thread::sleep(Duration::from_micros(200));
            while let Some(done) = store.poll_done(Waker::noop()) {
                match done {
                    (t, Ok(OpOutput::Value(Some(_)))) if t == ticket => answered = true,
                    (ticket, Ok(OpOutput::Kept { .. })) => writes.retain(|t| *t != ticket),
                    other => panic!("{other:?}"),
                }
            }
        }
        reads += 1;
        longest = longest.max(asked.elapsed());
    }
    let after = std::fs::metadata(dir.file()).unwrap().len();
    println!("{reads} reads, the longest {longest:?}, while the file grew from {before} to {after} bytes");
    assert!(after > 2 * before, "the file grows");
    assert!(longest < SLOW / 2, "a read waited for {longest:?}");
}

#[test]
fn what_waits_for_the_disk_is_bounded_and_own_writes_have_room_of_their_own() {
    let dir = Dir::new();
    let faults = DiskFaults::default();
    let mut config = config().with_faults(&faults);
    config.max_pending_writes = 8;
    config.max_pending_bytes = 4_000;
    let mut store = Opened::at(dir.file(), config).unwrap();
    faults.set_sync_delay(Duration::from_millis(200));
    let mut taken: Vec<_> = (0..8).map(|n| store.put(NOW, value(&format!("/a/{n}"), b"v"))).collect();
    let refused = store.put(NOW, value("/a/8", b"v"));
    assert_eq!(stored(&mut store, refused), Err(StoreError::Busy));
    let mut own = value("/own", b"v");
    own.own = true;
    taken.push(store.put(NOW, own));
    for write in taken.drain(..) {
        stored(&mut store, write).unwrap();
    }
    taken.push(store.put(NOW, value("/big/1", &[0; 3_000])));
    let refused = store.put(NOW, value("/big/2", &[0; 3_000]));
    assert_eq!(stored(&mut store, refused), Err(StoreError::Busy), "bytes count too");
    for write in taken {
        stored(&mut store, write).unwrap();
    }
    assert_eq!((store.usage().values, store.usage().own), (9, 1));
}

/// 70 peers write one key without a pause: this node's own value does not wait behind them.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long the own write takes is what is measured")]
fn own_writes_go_before_those_of_peers() {
    let dir = Dir::new();
    let mut store = open(&dir.file());
    let by = |n: u64| {
        let put = Put::new(value("/a/flooded", &n.to_be_bytes()), Judge::of_the_last());
        Op::Put(Box::new(put.from(Sender::new(peer(n % 70)))))
    };
    let mut times = Vec::new();
    for round in 0..10_u64 {
        let flood: Vec<_> = (0..2_000).map(|n| store.begin(NOW, by(n))).collect();
        let mut own = value("/a/flooded", &[round as u8; 100]);
        own.own = true;
        // Results that are ready now are of writes that ended before the own value came.
        while let Some((ticket, done)) = store.poll_done(Waker::noop()) {
            store.done.insert(ticket, done);
        }
        let begun = std::time::Instant::now();
        let own = store.put(NOW, own);
        let mut before = 0;
        loop {
            match store.poll_done(Waker::noop()) {
                Some((ticket, done)) if ticket == own => {
                    done.unwrap();
                    break;
                }
                Some((ticket, done)) => {
                    before += 1;
                    store.done.insert(ticket, done);
                }
                None => std::thread::sleep(Duration::from_micros(100)),
            }
        }
        times.push(begun.elapsed());
        // The writes in the transaction that ran when it came, those of the one that just ended, and those that share
        // its own.
        assert!(before <= 2 * 256 + 16, "{before} of the flood went before it");
        let _ = store.wait(flood[flood.len() - 1]);
    }
    times.sort();
    println!("an own write under a flood: median {:?}, longest {:?}", times[5], times[9]);
    assert!(times[5] < Duration::from_secs(1), "{times:?}");
}

#[test]
fn a_store_that_is_dropped_writes_what_waits() {
    let dir = Dir::new();
    let faults = DiskFaults::default();
    let mut store = Opened::at(dir.file(), config().with_faults(&faults)).unwrap();
    faults.set_sync_delay(Duration::from_millis(50));
    for n in 0..600 {
        store.put(NOW, value(&format!("/a/{n}"), b"v"));
    }
    drop(store);
    assert_eq!(all(&mut open(&dir.file()), Scan::All).len(), 600);
}
