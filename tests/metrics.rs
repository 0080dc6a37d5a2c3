//! Metrics: what two real nodes publish, whether names keep the conventions, and whether each is explained and shown.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use kad::metrics::Metrics;
use libp2p::swarm::SwarmEvent;
use libp2p::{StreamProtocol, Swarm};
use libp2p_kad_dht as kad;
use libp2p_swarm_test::SwarmExt as _;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/test/kad/1.0.0");

async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future.into_future()).await.expect("nothing came within 30 s")
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

/// The value of one sample.
fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
}

/// A node that publishes.
async fn node(metrics: Metrics) -> (Swarm<kad::Behaviour>, libp2p::Multiaddr) {
    let mut swarm = Swarm::new_ephemeral_tokio(|key| {
        let config = kad::Config::new(PROTOCOL).with_mode(Some(kad::Mode::Server));
        let mut node = kad::Behaviour::new(key.public().to_peer_id(), config).unwrap();
        node.publish_to(metrics);
        node
    });
    swarm.listen_on("/memory/0".parse().unwrap()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = soon(swarm.select_next_some()).await {
            return (swarm, address);
        }
    }
}

/// Two nodes in one registry, the second with the name `other`, after each did something: the first one's handle and
/// id.
async fn two_nodes(registry: &mut Registry) -> (kad::DhtHandle, libp2p::PeerId) {
    let metrics = Metrics::register(registry);
    assert!(!text(registry).contains(" 0\n"), "no samples before there is a node");
    let (mut first, _) = node(metrics.clone()).await;
    let (second, addr) = node(metrics.another("other")).await;
    let (local, remote) = (*first.local_peer_id(), *second.local_peer_id());
    let dht = first.behaviour().handle();
    first.behaviour_mut().add_peer(remote, [addr]);
    for swarm in [first, second] {
        tokio::spawn(swarm.for_each(|_| async {}));
    }
    soon(dht.put(b"/app/x", b"hello")).await.unwrap();
    soon(dht.get(b"/app/nothing")).await.unwrap_err();
    soon(dht.bootstrap()).await.unwrap();
    (dht, local)
}

/// The text of a scrape once it contains this. The end of a query is published in the poll that reports it, or in the
/// next.
async fn scrape(registry: &Registry, wanted: &str) -> String {
    soon(async {
        loop {
            let text = text(registry);
            if text.contains(wanted) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

const JOINED: &str = "kad_query_duration_seconds_count{operation=\"bootstrap\",outcome=\"succeeded\"} 1";

#[tokio::test]
async fn two_nodes_in_one_registry_say_what_they_did() {
    let mut registry = Registry::default();
    let (dht, local) = two_nodes(&mut registry).await;
    let text = scrape(&registry, JOINED).await;
    assert_eq!(
        sample(&text, &format!("kad_node_info{{peer=\"{local}\",version=\"{}\"}}", env!("CARGO_PKG_VERSION"))),
        1.0
    );
    let stats = soon(dht.stats()).await.unwrap();
    for (name, value) in [
        ("kad_mode{mode=\"server\"}", 1),
        ("kad_mode{mode=\"client\"}", 0),
        ("kad_queries_started_total", 3),
        ("kad_queries_succeeded_total", 2),
        ("kad_queries_failed_total", 1),
        ("kad_query_duration_seconds_count{operation=\"get\",outcome=\"not_found\"}", 1),
        ("kad_query_duration_seconds_bucket{le=\"+Inf\",operation=\"put\",outcome=\"succeeded\"}", 1),
        ("kad_requests_sent_total{kind=\"put_value\"}", 1),
        ("kad_requests_answered_total{kind=\"put_value\"}", 1),
        ("kad_requests_failed_total{kind=\"put_value\"}", 0),
        ("kad_request_failures_total{reason=\"timed_out\"}", 0),
        ("kad_request_duration_seconds_count{kind=\"put_value\"}", 1),
        ("kad_requests_received_total{network=\"other\",kind=\"put_value\"}", 1),
        ("kad_table_peers", 1),
        ("kad_table_admitted_total", 1),
        ("kad_table_bucket_peers{bucket=\"0\"}", 1),
        ("kad_network_nodes", 2),
        ("kad_store_records{what=\"own\"}", 1),
        ("kad_store_records{network=\"other\",what=\"values\"}", 1),
        ("kad_records_sent_total{cause=\"published\"}", 1),
        ("kad_records_sent_total{network=\"other\",cause=\"published\"}", 0),
        ("kad_connected_peers", 1),
        ("kad_connected_peers{network=\"other\"}", 1),
        ("kad_dials_started_total", 1),
        ("kad_dials_succeeded_total", 1),
        ("kad_dials_failed_total{reason=\"unreachable\"}", 0),
        ("kad_dials_started_total{network=\"other\"}", 0),
        ("kad_streams_refused_total", 0),
    ] {
        assert_eq!(sample(&text, name), f64::from(value), "{name}\n{text}");
    }
    let opened = sample(&text, "kad_streams_opened_total{direction=\"outbound\"}");
    assert!(opened >= 1.0 && sample(&text, "kad_streams_opened_total{network=\"other\",direction=\"inbound\"}") >= 1.0);
    let sent: u64 = stats.sent.iter().sum();
    assert_eq!(opened + sample(&text, "kad_streams_reused_total"), sent as f64, "each request is on some stream");
    let sum = sample(&text, "kad_request_duration_seconds_sum{kind=\"put_value\"}");
    assert!(sum > 0.0 && sum < 30.0, "in seconds: {sum}");
}

#[test]
fn a_node_in_the_place_of_another_goes_by_its_own_name() {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    for _ in 0..2 {
        let local = libp2p::PeerId::random();
        let mut node = kad::Behaviour::new(local, kad::Config::new(PROTOCOL)).unwrap();
        node.publish_to(metrics.clone());
        let text = text(&registry);
        assert!(text.contains(&format!("kad_node_info{{peer=\"{local}\",")), "{local}: {text}");
    }
}

/// Name and type of each metric, as a scrape shows them.
fn families() -> BTreeMap<String, String> {
    let mut registry = Registry::default();
    let _ = Metrics::register(&mut registry);
    let text = text(&registry);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut families = BTreeMap::new();
    for (name, kind) in types {
        assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
    }
    families
}

/// The name by which a query selects samples of a family.
fn sample_name(name: &str, kind: &str) -> String {
    match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    }
}

#[test]
fn names_keep_the_conventions() {
    let mut registry = Registry::default();
    let _ = Metrics::register(&mut registry);
    let text = text(&registry);
    assert!(text.ends_with("# EOF\n"));
    let families = families();
    assert!(families.len() > 30, "{families:?}");
    for (name, kind) in &families {
        assert!(name.starts_with("kad_") && !name.contains("__"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
        // The encoder adds what samples end in: a name that has it would have it twice.
        for suffix in ["_total", "_info", "_count", "_sum", "_bucket", "_created"] {
            assert!(!name.ends_with(suffix), "{name}");
        }
        assert!(["counter", "gauge", "histogram", "info"].contains(&kind.as_str()), "{name}: {kind}");
        let unit = text.lines().find_map(|line| line.strip_prefix(&format!("# UNIT {name} ")));
        assert_eq!(kind == "histogram", unit == Some("seconds"), "{name} has the unit {unit:?}");
        assert!(unit.is_none_or(|unit| name.ends_with(&format!("_{unit}"))), "{name} has the unit {unit:?}");
        let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} "))).expect("a HELP line");
        assert!(help.ends_with('.') && help.len() > 10, "{name}: {help:?}");
    }
}

#[test]
fn each_metric_is_explained() {
    let page = include_str!("../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let explained: BTreeMap<_, _> = rows.map(|(name, rest)| (name, rest.split(' ').next().unwrap())).collect();
    let families = families();
    let names: BTreeMap<_, _> = families.iter().map(|(name, kind)| (sample_name(name, kind), kind.as_str())).collect();
    let names: BTreeMap<_, _> = names.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    assert_eq!(explained, names, "docs/metrics.md explains each metric, with its type, and no other");
}

/// The names of the labels in `{…}`, be it of a sample or of a query.
fn label_names(braces: &str) -> BTreeSet<&str> {
    let names = braces.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
    names.map(|name| name.trim_end_matches(['!', '~'])).collect()
}

/// Which labels the samples of each metric carry, apart from `network` and those of a histogram's buckets.
fn labels(text: &str) -> BTreeMap<String, BTreeSet<&str>> {
    let mut labels: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(['{', ' ']).expect("a sample");
        let names = rest.split_once('}').map(|(braces, _)| label_names(braces)).unwrap_or_default();
        let names = names.into_iter().filter(|name| !["network", "le"].contains(name));
        labels.entry(without_histogram(name).to_owned()).or_default().extend(names);
    }
    labels
}

/// A histogram's samples go by the name of the metric.
fn without_histogram(name: &str) -> &str {
    let base = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
    base.filter(|base| base.ends_with("_seconds")).unwrap_or(name)
}

#[tokio::test]
async fn each_label_is_explained_and_the_dashboard_asks_for_no_others() {
    let mut registry = Registry::default();
    two_nodes(&mut registry).await;
    let text = scrape(&registry, JOINED).await;
    let labels = labels(&text);

    let page = include_str!("../docs/metrics.md");
    for row in page.lines().filter(|line| line.starts_with("| `kad_")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let (name, told) = (cells[1].trim_matches('`'), cells[4].split('`').skip(1).step_by(2));
        assert_eq!(told.collect::<BTreeSet<_>>(), labels[name], "the labels of {name}");
    }

    let dashboard: serde_json::Value = serde_json::from_str(include_str!("../docs/grafana/dashboard.json")).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array());
    for target in targets.flatten() {
        let query = target["expr"].as_str().unwrap();
        let by: BTreeSet<_> =
            query.split("sum by (").skip(1).flat_map(|rest| rest.split_once(')').unwrap().0.split(", ")).collect();
        let mut known: BTreeSet<&str> = ["instance", "network", "le"].into();
        for (at, _) in query.match_indices("kad_") {
            let (name, rest) = query[at..].split_once('{').expect("each metric is filtered");
            let asked = label_names(rest.split_once('}').unwrap().0);
            assert!(asked.is_superset(&["instance", "network"].into()), "all nodes at once: {query}");
            known.extend(&labels[without_histogram(name)]);
            assert!(asked.is_subset(&known), "{query} asks for labels that {name} has not");
        }
        assert!(by.is_subset(&known), "{query} groups by labels that are not there");
        assert!(!query.contains("sum") || by.contains("network"), "two networks become one: {query}");
        assert!(!query.contains("sum("), "a sum over everything: {query}");
        let legend = target["legendFormat"].as_str().unwrap();
        let shown: BTreeSet<_> = legend.split("{{").skip(1).map(|rest| rest.split_once("}}").unwrap().0).collect();
        let left = if by.is_empty() { &known } else { &by };
        assert!(shown.contains("network") && shown.is_subset(left), "{legend} of {query}");
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap());
    assert_eq!(variables.collect::<Vec<_>>(), ["datasource", "instance", "network"]);
}

/// Everything in the dashboard that looks like a metric's name, and the panels that use it.
fn shown(dashboard: &serde_json::Value) -> BTreeSet<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries = targets.map(|target| target["expr"].as_str().expect("an expression"));
    let words = queries.flat_map(|query| query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    words.filter(|word| word.starts_with("kad_")).map(str::to_owned).collect()
}

#[test]
fn the_dashboard_shows_all_metrics_and_no_others() {
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../docs/grafana/dashboard.json")).expect("the dashboard is JSON");
    let shown: BTreeSet<_> = shown(&dashboard).iter().map(|name| without_histogram(name).to_owned()).collect();
    let names: BTreeSet<_> = families().iter().map(|(name, kind)| sample_name(name, kind)).collect();
    assert_eq!(shown.difference(&names).collect::<Vec<_>>(), Vec::<&String>::new(), "not a metric");
    assert_eq!(names.difference(&shown).collect::<Vec<_>>(), Vec::<&String>::new(), "not shown");

    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<_> = panels.iter().filter(|panel| panel["type"] == "row").map(|row| &row["title"]).collect();
    assert_eq!(rows, ["Health", "Lookups", "Requests", "Table", "Records", "Dials"]);
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{}", panel["title"]);
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
    }
}
