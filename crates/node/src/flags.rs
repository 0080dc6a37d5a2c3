//! The errors of a configuration in the words of the command line.
//!
//! Knows: the flag of each field. Must not know: the limits of a field.

use kad::ConfigError;
use kad::core::config::Interval;
use libp2p_kad_dht as kad;

/// A field, the flag that sets it, and its value.
type Flag = (&'static str, &'static str, fn(&kad::Config) -> String);

const FLAGS: [Flag; 14] = [
    ("lookup.replication", "--k", |config| config.core().lookup.replication.to_string()),
    ("lookup.parallelism", "--alpha", |config| config.core().lookup.parallelism.to_string()),
    ("lookup.resiliency", "--beta", |config| config.core().lookup.resiliency.to_string()),
    ("lookup.query_timeout", "--query-timeout", |config| format!("{:?}", config.core().lookup.query_timeout)),
    // The program lowers the shortest time together with the longest.
    ("lookup.min_request_timeout", "--request-timeout", |config| format!("{:?}", config.core().lookup.request_timeout)),
    ("lookup.request_timeout", "--request-timeout", |config| format!("{:?}", config.core().lookup.request_timeout)),
    ("record.value_ttl", "--value-ttl", |config| format!("{:?}", config.core().record.value_ttl)),
    ("record.provider_ttl", "--provider-ttl", |config| format!("{:?}", config.core().record.provider_ttl)),
    ("record.provider_addr_ttl", "--provider-ttl", |config| format!("{:?}", config.core().record.provider_ttl)),
    ("maintenance.announce_interval", "--announce-interval", |config| {
        interval(config.core().maintenance.announce_interval)
    }),
    ("maintenance.replicate_interval", "--replicate-interval", |config| {
        interval(config.core().maintenance.replicate_interval)
    }),
    ("maintenance.refresh_interval", "--refresh-interval", |config| {
        format!("{:?}", config.core().maintenance.refresh_interval.unwrap_or_default())
    }),
    ("stream.protocols", "--protocol", |config| format!("{:?}", config.protocols())),
    ("limit.frontier", "the limit", |config| config.core().limit.frontier.to_string()),
];

/// The reason why a configuration made from flags cannot work.
pub(crate) fn explain(why: &ConfigError, config: &kad::Config) -> String {
    match why {
        ConfigError::Greater(one, other) => {
            format!("{} must not be greater than {}", valued(one, config), valued(other, config))
        }
        ConfigError::Unchecked("record.validator") => {
            "--network private takes unknown values, which the public network, whose --protocol this is, forbids: \
             say --network amino"
                .to_owned()
        }
        why => FLAGS.iter().fold(why.to_string(), |text, (field, flag, _)| text.replace(field, flag)),
    }
}

fn interval(every: Interval) -> String {
    if let Interval::Every(time) = every { format!("{time:?}") } else { format!("{every:?}") }
}

fn valued(field: &str, config: &kad::Config) -> String {
    match FLAGS.iter().find(|(known, ..)| *known == field) {
        Some((_, flag, value)) => format!("{flag} ({})", value(config)),
        None => field.to_owned(),
    }
}
