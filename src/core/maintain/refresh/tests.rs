use rand_core::SeedableRng;

use super::*;

const INTERVAL: Duration = Duration::from_secs(600);
const K: usize = 20;
/// Too few peers are known.
const FEW: Option<Duration> = Some(Duration::MAX);

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(1)
}

fn secs(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn found(buckets: u32) -> RefreshReport {
    RefreshReport { buckets: Some(buckets), ..RefreshReport::default() }
}

fn answered(bucket: u32) -> RefreshReport {
    RefreshReport { refreshed: vec![bucket], ..RefreshReport::default() }
}

/// Starts all lookups that are due.
fn start(refresh: &mut Refresh, now: Timestamp, next: &mut u64) -> Vec<(QueryId, RefreshTarget)> {
    let mut started = Vec::new();
    while let Some(target) = refresh.next(now) {
        let id = QueryId::new(*next);
        *next += 1;
        refresh.started(id, target);
        started.push((id, target));
    }
    started
}

/// A node that looked up its own key at time zero and has refreshed all of its buckets.
fn joined(buckets: u32, rng: &mut ChaCha8Rng) -> Refresh {
    let mut refresh = Refresh::new(secs(0), Some(INTERVAL), rng);
    refresh.join_started(QueryId::new(1_000));
    let report = RefreshReport { refreshed: (0..buckets).collect(), ..found(buckets) };
    // Twice, so that it is no longer young.
    (1_000..1_002).for_each(|id| refresh.on_ended(secs(0), QueryId::new(id), &report, None, rng));
    refresh
}

#[test]
fn a_node_that_nobody_has_join_looks_for_itself_and_then_into_all_parts_a_few_at_a_time() {
    let (mut rng, mut ids) = (rng(), 0);
    let mut refresh = Refresh::new(secs(0), Some(INTERVAL), &mut rng);
    refresh.on_growth(secs(1), 1, &mut rng);
    let due = refresh.due().unwrap();
    assert_eq!(due, secs(1), "as soon as it has its first peer");
    assert_eq!(start(&mut refresh, due, &mut ids), [(QueryId::new(0), RefreshTarget::Own)]);
    refresh.on_ended(due, QueryId::new(0), &found(5), None, &mut rng);
    let mut running = start(&mut refresh, due, &mut ids);
    assert_eq!(running.len(), AT_ONCE);
    assert_eq!(refresh.due(), None, "no wake while there is no room");
    let mut buckets = Vec::new();
    while let Some((id, target)) = running.pop() {
        let RefreshTarget::Bucket(bucket) = target else { panic!("{target:?}") };
        buckets.push(bucket);
        refresh.on_ended(due, id, &answered(bucket), None, &mut rng);
        running.extend(start(&mut refresh, due, &mut ids));
        assert!(running.len() <= AT_ONCE);
    }
    buckets.sort_unstable();
    assert_eq!(buckets, [0, 1, 2, 3, 4]);
    let second = refresh.due().unwrap();
    assert!(second >= due + INTERVAL / YOUNG, "and all is quiet for a third of an interval");
    let mut looks = 0;
    while let Some(now) = refresh.due().filter(|at| *at < due + INTERVAL / 2) {
        for (id, target) in start(&mut refresh, now, &mut ids) {
            let RefreshTarget::Bucket(bucket) = target else { panic!("{target:?}") };
            refresh.on_ended(now, id, &answered(bucket), None, &mut rng);
            looks += 1;
        }
    }
    assert_eq!(looks, 5, "in which the network may have grown");
    assert!(refresh.due().unwrap() >= due + INTERVAL, "then for a whole one");
}

#[test]
fn each_part_is_looked_into_once_in_an_interval_at_most_and_no_two_in_step() {
    let (mut rng, mut ids, mut last) = (rng(), 0, vec![secs(0); 9]);
    let mut refresh = joined(8, &mut rng);
    let (mut times, mut dues) = (0, Vec::new());
    while let Some(now) = refresh.due().filter(|at| *at < secs(36_000)) {
        dues.push(now);
        for (id, target) in start(&mut refresh, now, &mut ids) {
            let (bucket, report) = match target {
                RefreshTarget::Own => (8, found(8)),
                RefreshTarget::Bucket(bucket) => (bucket as usize, answered(bucket)),
            };
            let wait = now - last[bucket];
            assert!(wait >= INTERVAL && wait <= INTERVAL * 3 / 2, "{bucket}: {wait:?}");
            last[bucket] = now;
            times += 1;
            refresh.on_ended(now, id, &report, None, &mut rng);
        }
    }
    assert!((9 * 44..9 * 52).contains(&times), "{times} in ten hours");
    dues.dedup();
    assert_eq!(dues.len(), times, "each at a time of its own");
}

#[test]
fn what_a_lookup_of_any_query_passed_through_is_put_off() {
    let (mut rng, mut ids) = (rng(), 0);
    let mut refresh = joined(4, &mut rng);
    for now in (0..36_000).step_by(300).map(secs) {
        refresh.passed(now, 2, &mut rng);
        refresh.passed(now, 200, &mut rng);
        for (id, target) in start(&mut refresh, now, &mut ids) {
            let RefreshTarget::Bucket(bucket) = target else { panic!("the nearest bucket was passed through too") };
            assert_ne!(bucket, 2);
            refresh.on_ended(now, id, &answered(bucket), None, &mut rng);
        }
    }
    assert!(ids > 3 * 35, "the others were looked into: {ids}");
}

#[test]
fn what_found_nobody_comes_back_soon_and_then_ever_later() {
    for bucket in [RefreshTarget::Own, RefreshTarget::Bucket(1)] {
        let (mut rng, mut waits) = (rng(), Vec::new());
        let mut refresh = joined(3, &mut rng);
        let mut now = refresh.bucket(bucket).unwrap().due.unwrap();
        for id in 0..9 {
            refresh.started(QueryId::new(id), bucket);
            let good = if bucket == RefreshTarget::Own { found(3) } else { answered(1) };
            let report = if id == 8 { good } else { RefreshReport::default() };
            refresh.on_ended(now, QueryId::new(id), &report, None, &mut rng);
            let due = refresh.bucket(bucket).unwrap().due.unwrap();
            waits.push((due - now).as_secs());
            now = due;
        }
        assert!((5..=7).contains(&waits[0]) && (10..=15).contains(&waits[1]), "{waits:?}");
        assert!(waits[7..].iter().all(|wait| (600..=900).contains(wait)), "{waits:?}");
    }
}

#[test]
fn where_few_are_known_it_comes_back_soon_and_never_in_a_tight_loop() {
    let (mut rng, mut ids, mut times) = (rng(), 0, 0);
    let mut refresh = joined(0, &mut rng);
    let mut now = secs(0);
    while now < secs(3_600) {
        refresh.want_more(now, Duration::MAX, &mut rng);
        for (id, _) in start(&mut refresh, now, &mut ids) {
            times += 1;
            refresh.on_ended(now, id, &found(0), FEW, &mut rng);
        }
        now += Duration::from_secs(1);
    }
    assert!((8..=14).contains(&times), "{times} in an hour in which a boot node was missing");
    let at = refresh.due().unwrap();
    refresh.started(QueryId::new(99), RefreshTarget::Own);
    refresh.on_ended(at, QueryId::new(99), &found(0), None, &mut rng);
    refresh.want_more(at, Duration::MAX, &mut rng);
    assert!(refresh.due().unwrap() <= at + RETRY * 3 / 2, "after all were known it begins again");
}

/// A small network, in which a lookup for the node's own key finds these peers.
fn small(found: u64) -> RefreshReport {
    RefreshReport { buckets: Some(2), everyone: true, found, refreshed: vec![0, 1], ..RefreshReport::default() }
}

/// Looks up its own key until it is quiet for a minute; returns the pauses in seconds. `found` gives the result of each
/// lookup by its number.
fn look_until_quiet(refresh: &mut Refresh, mut now: Timestamp, found: impl Fn(usize) -> u64) -> Vec<u64> {
    let (mut rng, mut pauses) = (rng(), Vec::new());
    while pauses.last().is_none_or(|pause| *pause < 60) {
        refresh.started(QueryId::new(7), RefreshTarget::Own);
        refresh.on_ended(now, QueryId::new(7), &small(found(pauses.len())), None, &mut rng);
        let due = refresh.due().unwrap();
        pauses.push((due - now).as_secs());
        now = due;
    }
    pauses
}

#[test]
fn a_small_network_is_looked_at_until_the_same_are_found_again() {
    let start = || Refresh::new(secs(0), Some(INTERVAL), &mut rng());
    let mut refresh = start();
    let pauses = look_until_quiet(&mut refresh, secs(0), |_| 5);
    assert!(pauses.len() == 4 && pauses[0] == 1 && (2..4).contains(&pauses[1]) && (4..7).contains(&pauses[2]));
    assert!(pauses[3] >= 600, "{pauses:?}");
    let pauses = look_until_quiet(&mut refresh, secs(1_000), |_| 5);
    assert_eq!(pauses.len(), 1, "one lookup an interval while nothing changes");
    let pauses = look_until_quiet(&mut refresh, secs(2_000), |look| look.min(3) as u64);
    assert_eq!(pauses.len(), 5, "until nothing changes: {pauses:?}");
    let pauses = look_until_quiet(&mut start(), secs(0), |look| look as u64);
    assert!(pauses.len() <= 8 && pauses.is_sorted(), "ever longer pauses where it changes for ever: {pauses:?}");
}

#[test]
fn a_small_network_that_grows_is_looked_at_soon() {
    let mut refresh = Refresh::new(secs(0), Some(INTERVAL), &mut rng());
    look_until_quiet(&mut refresh, secs(0), |_| 5);
    refresh.on_growth(secs(20), 3, &mut rng());
    let due = refresh.due().unwrap();
    assert!(due >= secs(21) && due <= secs(22), "{due}");
    let pauses = look_until_quiet(&mut refresh, due, |_| 6);
    assert_eq!(pauses.len(), 4, "{pauses:?}");
}

#[test]
fn lookups_of_others_do_not_tell_what_a_forming_network_looks_like() {
    let mut refresh = Refresh::new(secs(0), Some(INTERVAL), &mut rng());
    refresh.started(QueryId::new(7), RefreshTarget::Own);
    refresh.on_ended(secs(0), QueryId::new(7), &small(5), None, &mut rng());
    refresh.passed(secs(0), 200, &mut rng());
    assert!(refresh.due().unwrap() < secs(2));
}

#[test]
fn a_change_of_addresses_is_told_soon_and_a_stream_of_them_once_a_minute() {
    let (mut rng, mut ids, mut times) = (rng(), 0, 0);
    let mut refresh = joined(0, &mut rng);
    refresh.on_moved(secs(0));
    refresh.on_moved(secs(4));
    assert_eq!(refresh.due(), Some(secs(5)), "a stream of changes does not put it off");
    for now in (0..600).map(secs) {
        refresh.on_moved(now);
        for (id, _) in start(&mut refresh, now, &mut ids) {
            times += 1;
            refresh.on_ended(now, id, &found(0), None, &mut rng);
        }
    }
    assert!((9..=11).contains(&times), "{times} in ten minutes");
}

#[test]
fn a_change_of_addresses_during_a_lookup_is_told_after_it() {
    let mut rng = rng();
    // While the application makes the node join, as when its addresses are found out.
    let mut refresh = joined(0, &mut rng);
    refresh.join_started(QueryId::new(5));
    refresh.on_moved(secs(1));
    refresh.on_ended(secs(3), QueryId::new(5), &found(0), None, &mut rng);
    assert_eq!(refresh.due(), Some(secs(6)));
    // While it looks up its own key.
    let started = start(&mut refresh, secs(6), &mut 10);
    assert_eq!(started.len(), 1);
    refresh.on_moved(secs(7));
    refresh.on_moved(secs(8));
    assert_eq!(refresh.due(), None);
    refresh.on_ended(secs(9), started[0].0, &found(0), None, &mut rng);
    assert_eq!(refresh.due(), Some(secs(66)), "a minute after the last");
    let (id, _) = start(&mut refresh, secs(66), &mut 20)[0];
    refresh.on_ended(secs(67), id, &found(0), None, &mut rng);
    assert!(refresh.due() >= Some(secs(600)), "and no more often");
}

#[test]
fn nothing_is_due_while_the_application_has_it_join() {
    let mut rng = rng();
    let mut refresh = joined(3, &mut rng);
    refresh.join_started(QueryId::new(5));
    assert_eq!((refresh.due(), refresh.next(secs(9_999))), (None, None));
    refresh.abandoned(QueryId::new(4));
    assert_eq!(refresh.due(), None, "another query");
    refresh.abandoned(QueryId::new(5));
    assert!(refresh.due().is_some());
}

#[test]
fn a_part_that_comes_and_goes_is_looked_into_no_more_often() {
    let (mut rng, mut ids) = (rng(), 0);
    let mut refresh = joined(4, &mut rng);
    for now in (1..600).map(secs) {
        let id = QueryId::new(10_000 + now.as_secs());
        refresh.on_ended(now, id, &found(3 + (now.as_secs() % 2) as u32), None, &mut rng);
        assert_eq!(start(&mut refresh, now, &mut ids), []);
    }
}

#[test]
fn without_an_interval_nothing_is_ever_due() {
    let mut rng = rng();
    let mut refresh = Refresh::new(secs(0), None, &mut rng);
    refresh.hasten(secs(1));
    refresh.on_growth(secs(1), 1, &mut rng);
    refresh.want_more(secs(1), Duration::MAX, &mut rng);
    refresh.on_moved(secs(1));
    refresh.join_started(QueryId::new(1));
    refresh.on_ended(secs(1), QueryId::new(1), &found(9), FEW, &mut rng);
    refresh.passed(secs(1), 3, &mut rng);
    assert_eq!((refresh.due(), refresh.next(secs(9_999))), (None, None));
}

#[test]
fn an_interval_without_end_never_comes_and_the_shortest_comes_later() {
    let mut rng = rng();
    let now = secs(1_000_000);
    assert_eq!(Refresh::new(now, Some(Duration::MAX), &mut rng).due(), Some(Timestamp::MAX));
    for _ in 0..10 {
        let mut refresh = Refresh::new(now, Some(Duration::from_micros(1)), &mut rng);
        assert!(refresh.due() > Some(now));
        refresh.postponed(now, RefreshTarget::Own, &mut rng);
        assert!(refresh.due() > Some(now), "or the node would spin");
    }
}

#[test]
fn parts_of_a_small_network_are_looked_into_once_it_has_grown() {
    let (mut rng, mut ids) = (rng(), 0);
    let mut refresh = Refresh::new(secs(0), Some(INTERVAL), &mut rng);
    look_until_quiet(&mut refresh, secs(0), |_| 5);
    assert!(refresh.due().unwrap() >= secs(600), "there is nothing more to find");
    refresh.on_growth(secs(60), K, &mut rng);
    let now = refresh.due().unwrap();
    assert!(now < secs(62), "now there is: {now}");
    assert_eq!(start(&mut refresh, now, &mut ids), [(QueryId::new(0), RefreshTarget::Own)]);
    refresh.on_ended(now, QueryId::new(0), &found(3), None, &mut rng);
    let buckets: Vec<_> = start(&mut refresh, now, &mut ids).into_iter().map(|(_, target)| target).collect();
    assert_eq!(buckets, [0, 1, 2].map(RefreshTarget::Bucket), "none of which a lookup has been in");
}

#[test]
fn whoever_is_alone_looks_around_within_the_longest_pause_and_half_of_it() {
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut refresh = joined(1, &mut rng);
        (0..6).for_each(|_| refresh.own.fail(secs(0), AGAIN, INTERVAL, &mut rng));
        assert!(refresh.own.due > Some(secs(31)), "{:?}", refresh.own.due);
        refresh.want_more(secs(0), Duration::from_secs(20), &mut rng);
        assert!(refresh.own.due <= Some(secs(30)), "{:?}", refresh.own.due);
    }
}
