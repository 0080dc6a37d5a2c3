//! Values and provided keys that are to outlive those who keep them.
//!
//! A hundredth of the nodes stay and publish; all others churn, and come back with an empty store. What the publishers
//! themselves answer for is told apart from what the others keep: the stores of the closest are looked into.

mod seen;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use self::seen::{Kept, Seen};
use super::super::churn::Churn;
use super::super::directory::{Index, Ranking, place};
use super::super::life::serving;
use super::super::link::{Latency, Link};
use super::super::network::News;
use super::super::outcome::{Outcome, Put};
use super::super::progress::Progress;
use super::super::random::Random;
use super::lived::{HOUR, Lived, Setup, TICK};
use super::setup::config;
use super::{Params, Scenario};
use libp2p_kad_dht::core::config::Interval;
use libp2p_kad_dht::core::{DhtConfig, Operation, QueryEvent, QueryId, QueryOptions, RecordKey};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "records",
    paper: "Maymounkov & Mazières, Kademlia, 2002, 2.5: republication; sessions after RFM2, ProbeLab 2022",
    about: "as many values and provided keys as nodes, hour by hour for 48 h: what is found and what keeping it costs",
    nodes: 1_000,
    run,
};

const K: usize = 20;

/// Exponential of median 1 h: whoever is online is gone an hour later with probability one half, however long it has
/// been there. That is harder than IPFS with its median halved, where some stay for days.
const HARDER: Churn = Churn::Poisson(Duration::from_secs(5_194));

/// How often a publisher announces all that it published, in hours.
const ANNOUNCEMENT: f64 = 22.0;

/// One network, and how it is watched.
struct Watch {
    /// Its name in the report.
    name: &'static str,
    hours: u64,
    /// Whether records are kept alive.
    republishes: bool,
    /// Whether every record is looked for every hour, or once in all, so that reading does not keep it alive.
    reads_all: bool,
}

fn run(params: &Params, progress: &mut Progress<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    // `samples` is the number of hours here.
    let hours = params.samples.unwrap_or(48).max(1) as u64;
    let models = params.churn.map_or(vec![Churn::Ipfs2022, HARDER], |churn| vec![churn]);
    for churn in models {
        let (model, line) = match churn {
            Churn::Ipfs2022 => ("ipfs_2022", 1.0),
            HARDER => ("median_1h", 0.999),
            _ => ("given", 0.999),
        };
        let watches = [
            Watch { name: "ours", hours, republishes: true, reads_all: true },
            Watch { name: "off", hours, republishes: false, reads_all: false },
            Watch { name: "unread", hours: hours.min(12), republishes: true, reads_all: false },
        ];
        let mut all = Vec::new();
        for how in watches {
            progress.stage(how.name);
            let seen = watch(params, churn, &how, progress, &mut outcome);
            seen.put(outcome.ours.group(model).group(how.name));
            if how.republishes {
                judge(&mut outcome, &format!("{model}, {}", how.name), line, &seen);
            }
            all.push((how.name, seen));
            if progress.stopped() {
                break;
            }
        }
        draw(&mut outcome, model, &all);
        if progress.stopped() {
            break;
        }
    }
    note(&mut outcome);
    outcome
}

/// Lets a network live, and looks every hour.
fn watch(params: &Params, churn: Churn, how: &Watch, progress: &mut Progress<'_>, outcome: &mut Outcome) -> Seen {
    let setup =
        Setup { churn, link: Link::public(Latency::Geo6), config: settings(how), hours: how.hours, clients: 0.0 };
    let mut lived = Lived::new(params, &setup, progress);
    let published = publish(&mut lived, params.size(), params.seed);
    let mut seen = Seen::new(params.size());
    let mut lookups = Lookups::new();
    let mut random = Random::new(params.seed, "gets", 0);
    lived.network.mark(HOUR / 2, TICK);
    while let Some(news) = lived.next(progress) {
        match news {
            News::Mark(TICK) => {
                // No lookup takes an hour: whoever asked one that has not ended is gone.
                seen.close_hour(&lived, std::mem::take(&mut lookups).len());
                if !how.republishes && seen.nothing_left {
                    break;
                }
                let live = serving(&lived.network);
                seen.look(&mut lived, &published, &live);
                read(&mut lived, (&published, &live), how, &mut random, &mut lookups);
                lived.network.mark(lived.network.now() + HOUR, TICK);
            }
            News::Query { node, id, event: QueryEvent::Finished(result), .. } => {
                if let Some(which) = lookups.remove(&(node, id)) {
                    seen.on_end(&lived, &published[which], *result);
                }
            }
            _ => {}
        }
    }
    if lived.hour() > seen.hours {
        seen.close_hour(&lived, lookups.len());
    }
    seen.finish(&lived);
    outcome.laws_of(how.name, &lived.network.traffic());
    seen
}

fn settings(how: &Watch) -> DhtConfig {
    let mut config = config(K);
    if !how.republishes {
        let maintenance = &mut config.maintenance;
        (maintenance.announce_interval, maintenance.region_interval, maintenance.replicate_interval) =
            (Interval::Never, Interval::Never, Interval::Never);
    }
    config
}

/// What was published.
struct Entry {
    key: RecordKey,
    place: u64,
    publisher: Index,
    /// `None` for a provided key.
    value: Option<Bytes>,
}

/// As many values as `count`, then as many provided keys, shared out among those who stay.
fn publish(lived: &mut Lived, count: usize, seed: u64) -> Vec<Entry> {
    let mut random = Random::new(seed, "records", 0);
    let mut published = Vec::with_capacity(2 * count);
    for i in 0..2 * count {
        let key = RecordKey::new(random.bytes().to_vec());
        let value = (i < count).then(|| Bytes::copy_from_slice(&random.bytes()));
        let publisher = lived.boot[i % lived.boot.len()];
        let operation = match &value {
            Some(value) => Operation::Put { key: key.clone(), value: value.clone() },
            None => Operation::Provide { key: key.clone() },
        };
        lived.network.start(publisher, operation, QueryOptions::default());
        published.push(Entry { place: place(&key.key()), key, publisher, value });
    }
    published
}

/// The lookups under way: for which record.
type Lookups = BTreeMap<(Index, QueryId), usize>;

/// Looks for the records whose turn it is, each from a random node online that is not its publisher.
fn read(
    lived: &mut Lived,
    (published, live): (&[Entry], &Ranking),
    how: &Watch,
    random: &mut Random,
    lookups: &mut Lookups,
) {
    let hour = lived.network.now() / HOUR;
    for (which, entry) in published.iter().enumerate() {
        if live.len() < 2 || !how.reads_all && which as u64 % how.hours != hour {
            continue;
        }
        let from = loop {
            let from = live.at(random.below(live.len() as u32) as usize);
            if from != entry.publisher {
                break from;
            }
        };
        let key = entry.key.clone();
        let operation = if entry.value.is_some() { Operation::Get { key } } else { Operation::Providers { key } };
        if let Some(id) = lived.network.start(from, operation, QueryOptions::default()) {
            lookups.insert((from, id), which);
        }
    }
}

/// The pass lines of a network that keeps its records alive.
fn judge(outcome: &mut Outcome, who: &str, line: f64, seen: &Seen) {
    for (what, kept) in [("values", &seen.values), ("provided keys", &seen.providers)] {
        let (found, held) = (kept.found_share(), kept.held_share());
        outcome.check(format!("{who}: {what} found: ≥ {line}"), found, found >= line);
        let words = format!("{who}: {what} held by one of the {K} closest of those who churn: ≥ {line}");
        outcome.check(words, held, held >= line);
    }
    let replicated = seen.per_value_hour(seen.stores.replicated);
    let most = 1.1 * K as f64;
    outcome.check(format!("{who}: re-replication ≤ 1.1 k stores a value-hour"), replicated, replicated <= most);
    let arrivals = seen.arrivals();
    let (joined, most) = (seen.per_value_hour(seen.stores.joined), 2.0 * arrivals);
    outcome.check(format!("{who}: joins ≤ {most:.2} (2 arrivals) stores a value-hour"), joined, joined <= most);
    let (announced, most) = (seen.per_record_hour(seen.stores.announced), arrivals + K as f64 / ANNOUNCEMENT);
    let words = format!("{who}: announced again ≤ {most:.2} (arrivals + k / 22) stores a record-hour");
    outcome.check(words, announced, announced <= most);
}

fn draw(outcome: &mut Outcome, model: &str, all: &[(&str, Seen)]) {
    type Pick = fn(&Kept) -> &Vec<(f64, f64)>;
    let curves = |pick: Pick| {
        let of = |(name, seen): &(&str, Seen)| {
            let named = |what: &str, kept| (format!("{what}, {name}"), pick(kept).clone());
            [named("values", &seen.values), named("provided keys", &seen.providers)]
        };
        all.iter().flat_map(of).collect()
    };
    outcome.plot(&format!("Found, {model}"), ("hours", "share"), curves(|kept| &kept.found));
    let title = format!("Holders among the {K} closest, {model}");
    outcome.plot(&title, ("hours", "nodes"), curves(|kept| &kept.holders));
    for (name, seen) in all.iter().filter(|(name, _)| *name != "off") {
        let curves = seen.causes.iter().map(|(cause, points)| ((*cause).to_owned(), points.clone()));
        let title = format!("Stores by cause, {model}, {name}");
        outcome.plot(&title, ("hours", "for each value"), curves.collect());
    }
}

fn note(outcome: &mut Outcome) {
    outcome.note("A hundredth of the nodes (three at least) stay, and publish an equal share each of the values and of the provided keys. All others churn: three in ten come back under a new id, all with an empty store. ipfs_2022: as in churn; median_1h: exponential sessions and absences of median 1 h.");
    outcome.note("ours: every record is looked for every hour, from a random node online that is not its publisher. unread (12 h at most), and off (without republication; until only those who stay hold anything): each is looked for once in all, so that reads, which correct and cache, keep nothing alive.");
    outcome.note("holders: how many of the 20 nodes online closest to the key, the publisher left out, have it in their stores; looked at without a request. held: one of them at least has it that is not one of those who stay. fewest: the fewest holders that any record had at any hour.");
    outcome.note("arrivals: how many newcomers an hour are among the k closest to a key: joins an hour × k / nodes online, of whom some are gone before the hour is over. Each costs one store when the nearest holder meets it and one when the publisher looks: that bounds joined and announced.");
}
