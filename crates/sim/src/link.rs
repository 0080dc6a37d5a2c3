//! The links between peers: round trips, dials, loss.
//!
//! Knows: models of round trips and of the cost of a dial. Must not know: messages or their senders. The round trip of
//! a pair is drawn from a hash of the pair, so that it needs no memory and never changes. All times are whole
//! microseconds.

use super::directory::NodeIndex;
use super::random::{Random, log_normal, mix, unit};

/// A model of the round trip between two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Latency {
    /// The same for all pairs, in microseconds.
    Constant(u64),
    /// Synthetic King: 10 ms and a log-normal part of median 145 ms and sigma 0.55.
    KingLn,
    /// Six regions with cloud-like round trips between them, and a last mile on each side.
    Geo6,
}

/// Round trips between the regions of [`Latency::Geo6`] in milliseconds: Europe, US west, US east, South America,
/// South Africa, Asia-Pacific and Middle East. Orders of magnitude between cloud regions, 70 to 330 ms.
const REGIONS: [[u64; 6]; 6] = [
    [0, 145, 85, 195, 155, 175],
    [145, 0, 70, 175, 285, 150],
    [85, 70, 0, 120, 225, 210],
    [195, 175, 120, 0, 330, 310],
    [155, 285, 225, 330, 0, 265],
    [175, 150, 210, 310, 265, 0],
];

/// Cumulative shares of the peers in each region, in percent: most servers of the public IPFS network are in Europe
/// and North America.
const REGION_SHARES: [u32; 6] = [38, 56, 76, 80, 82, 100];

/// The links of a network. Start from [`Link::ideal`] or [`Link::public`] and change fields.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Link {
    /// The round trips.
    pub latency: Latency,
    /// The largest random delay of a message, as a share of half the round trip. With jitter, messages overtake each
    /// other.
    pub jitter: f64,
    /// The share of packets that are lost, from 0 to below 1.
    pub loss: f64,
    /// Whether the transport sends a lost packet again (TCP, QUIC), which takes time. Without that the message is lost.
    pub reliable: bool,
    /// The cost of dials.
    pub dialling: Dialling,
}

impl Link {
    /// Links with this latency, without loss or jitter; connections cost no time.
    pub fn ideal(latency: Latency) -> Link {
        Link { latency, jitter: 0.0, loss: 0.0, reliable: true, dialling: Dialling::FREE }
    }

    /// Links like those of the public IPFS network: dials as in [`Dialling::PUBLIC`], 5 % jitter, no loss.
    pub fn public(latency: Latency) -> Link {
        Link { latency, jitter: 0.05, loss: 0.0, reliable: true, dialling: Dialling::PUBLIC }
    }

    /// The round trip of this pair in microseconds.
    pub(crate) fn round_trip(&self, seed: u64, a: NodeIndex, b: NodeIndex) -> u64 {
        let pair = mix(seed ^ (u64::from(a.min(b)) << 32 | u64::from(a.max(b))));
        let millis = match self.latency {
            Latency::Constant(micros) => return micros,
            Latency::KingLn => 10.0 + log_normal(unit(pair), 145.0, 0.55),
            Latency::Geo6 => {
                let (from, to) = (region(seed, a), region(seed, b));
                let between = if from == to { log_normal(unit(pair), 25.0, 0.6) } else { REGIONS[from][to] as f64 };
                between + last_mile(seed, a) + last_mile(seed, b)
            }
        };
        (millis * 1000.0) as u64
    }

    /// The delay of one message in microseconds; `None` if it is lost for good.
    pub(crate) fn one_way(&self, round_trip: u64, random: &mut Random) -> Option<u64> {
        let mut delay = round_trip / 2;
        if self.jitter > 0.0 {
            delay += (random.unit() * self.jitter * delay as f64) as u64;
        }
        if self.loss > 0.0 {
            // A retransmission timeout of 200 ms and a round trip, doubled each time (RFC 6298, 200 ms as in Linux).
            let mut timeout = 200_000 + round_trip;
            while random.chance(self.loss) {
                if !self.reliable {
                    return None;
                }
                delay += timeout;
                timeout *= 2;
            }
        }
        Some(delay)
    }
}

/// The time that a dial takes, whether it succeeds or fails.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Dialling {
    /// Round trips until a request can be sent over TCP with Noise and Yamux; with 0 there are no dials at all.
    pub tcp_trips: u64,
    /// Round trips until a request can be sent over QUIC.
    pub quic_trips: u64,
    /// The share of pairs that use QUIC, in percent.
    pub quic_share: u32,
    /// When dials to absent peers fail: the share of peers in percent, and the time in microseconds, where 0 is one
    /// round trip.
    pub failures: [(u32, u64); 5],
    /// The time without traffic after which a connection is closed, in microseconds.
    pub idle: u64,
}

impl Dialling {
    /// No dials: every peer that is present can be asked at once.
    pub const FREE: Dialling = Dialling { tcp_trips: 0, quic_trips: 0, ..Dialling::PUBLIC };
    /// Dials in the public IPFS network.
    pub const PUBLIC: Dialling = Dialling {
        tcp_trips: 4,
        quic_trips: 2,
        quic_share: 50,
        // Fitted until publications by go-libp2p-kad-dht's rules take as long as RFM17 measured, starting from 40 / 45
        // / 12 / 3 % at 0, 5, 15 and 45 s; no other parameter was fitted. The step at 9 s makes the published median.
        failures: [(54, 0), (26, 5_000_000), (10, 9_000_000), (7, 15_000_000), (3, 45_000_000)],
        idle: 60_000_000,
    };

    /// The time until this pair is connected, in microseconds.
    pub(crate) fn connect(&self, seed: u64, a: NodeIndex, b: NodeIndex, round_trip: u64) -> u64 {
        let pair = mix(mix(seed) ^ (u64::from(a.min(b)) << 32 | u64::from(a.max(b))));
        let quic = pair % 100 < u64::from(self.quic_share);
        round_trip * if quic { self.quic_trips } else { self.tcp_trips }
    }

    /// The time until a dial to an absent peer fails, in microseconds. It is the same for every dialler: either the
    /// host is there and refuses, or it is gone.
    pub(crate) fn fail(&self, seed: u64, absent: NodeIndex, round_trip: u64) -> u64 {
        let mut draw = (mix(mix(seed ^ 0xdead) ^ u64::from(absent)) % 100) as u32;
        for (share, time) in self.failures {
            if draw < share {
                return if time == 0 { round_trip } else { time };
            }
            draw -= share;
        }
        round_trip
    }

    /// The time until a dial fails when no packet comes back.
    pub(crate) fn give_up(&self) -> u64 {
        5_000_000
    }
}

fn region(seed: u64, index: NodeIndex) -> usize {
    let draw = (mix(seed ^ 0x5e61 ^ u64::from(index)) % 100) as u32;
    REGION_SHARES.iter().position(|share| draw < *share).unwrap_or(0)
}

fn last_mile(seed: u64, index: NodeIndex) -> f64 {
    log_normal(unit(mix(seed ^ 0x1a57 ^ u64::from(index))), 8.0, 0.8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trips(latency: Latency) -> Vec<u64> {
        let link = Link::ideal(latency);
        let mut all: Vec<u64> = (0..20_000).map(|i| link.round_trip(9, i, i + 100_000)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn king_ln_has_the_published_quantiles() {
        let all = round_trips(Latency::KingLn);
        let at = |share: f64| all[(share * all.len() as f64) as usize] / 1000;
        assert!((78..=86).contains(&at(0.1)) && (152..=158).contains(&at(0.5)) && (295..=315).contains(&at(0.9)));
        let mean = all.iter().sum::<u64>() / all.len() as u64 / 1000;
        assert!((174..=184).contains(&mean), "{mean}");
    }

    #[test]
    fn geo_6_is_symmetric_stable_and_within_its_regions() {
        let link = Link::ideal(Latency::Geo6);
        assert_eq!(link.round_trip(1, 5, 9), link.round_trip(1, 9, 5));
        let all = round_trips(Latency::Geo6);
        assert!(all[0] > 5_000 && all[10_000] > 70_000 && all[10_000] < 200_000, "{} {}", all[0], all[10_000]);
    }

    #[test]
    fn dials_fail_in_the_ordered_mix() {
        let count = |wanted| (0..20_000).filter(|i| Dialling::PUBLIC.fail(4, *i, 7) == wanted).count();
        for (time, share) in [(7, 54), (5_000_000, 26), (9_000_000, 10), (15_000_000, 7), (45_000_000, 3)] {
            assert!(count(time).abs_diff(share * 200) < 250, "{time}: {}", count(time));
        }
    }

    #[test]
    fn loss_costs_time_on_reliable_links_and_messages_on_others() {
        let link = Link { loss: 0.1, ..Link::ideal(Latency::Constant(100_000)) };
        let mut random = Random::new(1, "test", 0);
        let delays: Vec<_> = (0..10_000).filter_map(|_| link.one_way(100_000, &mut random)).collect();
        assert_eq!(delays.len(), 10_000);
        assert!(delays.iter().filter(|d| **d > 300_000).count().abs_diff(1_000) < 120);
        let link = Link { reliable: false, ..link };
        let arrived = (0..10_000).filter(|_| link.one_way(100_000, &mut random).is_some()).count();
        assert!(arrived.abs_diff(9_000) < 120, "{arrived}");
    }
}
