//! Models from the words of the command line.

use std::time::Duration;

use libp2p_kad_dht_sim::{Churn, Latency};

/// `none`, `ipfs-2022`, `kad`, or a mean session.
pub(crate) fn churn(text: &str) -> Result<Churn, String> {
    match text {
        "none" => Ok(Churn::None),
        "ipfs-2022" => Ok(Churn::Ipfs2022),
        "kad" => Ok(Churn::Kad),
        mean => duration(mean).map(Churn::Poisson),
    }
}

/// `king-ln`, `geo-6`, or a constant round trip.
pub(crate) fn latency(text: &str) -> Result<Latency, String> {
    match text {
        "king-ln" => Ok(Latency::KingLn),
        "geo-6" => Ok(Latency::Geo6),
        constant => duration(constant).map(|time| Latency::Constant(time.as_micros() as u64)),
    }
}

/// A share from 0 to below 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("a number from 0 to below 1 is needed".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no time such as 100ms, 90s, 30m or 1h"))?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{text:?} has no unit out of ms, s, m, h")),
    };
    match number.checked_mul(millis) {
        Some(total) if total > 0 && total <= 31_536_000_000 => Ok(Duration::from_millis(total)),
        _ => Err(format!("{text:?} is not between 1 ms and a year")),
    }
}
