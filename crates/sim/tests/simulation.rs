//! Small sizes of each scenario, with their conditions, and the invariant that one seed gives one report.

use std::time::Duration;

use libp2p_kad_dht_sim::{
    Churn, Latency, Measurement, Measurements, Observer, Outcome, Params, ProgressReport, Unobserved, scenarios,
};

fn run(name: &str, nodes: usize, samples: usize) -> Outcome {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let outcome = run_with(seed, name, nodes, samples);
    assert!(outcome.broken_invariants.is_empty(), "{}", describe(&outcome));
    outcome
}

fn run_with(seed: u64, name: &str, nodes: usize, samples: usize) -> Outcome {
    let mut params = Params::new(seed);
    (params.nodes, params.samples) = (Some(nodes), Some(samples));
    run_params(name, &params)
}

#[expect(clippy::expect_used, reason = "a test that names no scenario is wrong")]
fn run_params(name: &str, params: &Params) -> Outcome {
    let scenario = scenarios().iter().find(|scenario| scenario.name == name).expect("a scenario of this name");
    scenario.run(params, &mut Unobserved)
}

/// The text of a failed assertion: enough to run it again.
fn describe(outcome: &Outcome) -> String {
    let missed: Vec<_> = outcome.checks.iter().filter(|check| !check.pass).collect();
    format!("SEED={} {}\nmissed: {missed:?}\nbroken: {:?}", outcome.seed, outcome.to_json(), outcome.broken_invariants)
}

fn metric(metrics: &Measurements, path: &str) -> f64 {
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    match metrics.get(name) {
        Some(Measurement::Group(group)) => metric(group, rest),
        Some(Measurement::Number(value)) => *value,
        _ => f64::NAN,
    }
}

fn assert_pass(outcome: &Outcome) {
    assert!(outcome.pass() && !outcome.checks.is_empty(), "{}", describe(outcome));
}

#[test]
fn hops_land_on_the_published_number_and_ours_need_fewer() {
    let outcome = run("hops", 25_000, 500);
    let (stock, ours) = (metric(&outcome.stock, "hops"), metric(&outcome.ours, "hops"));
    // A twentieth of the lookups has 4.5 times the error.
    assert!((stock - 1.93).abs() < 0.06 && ours <= 1.72 && ours < stock - 0.1, "{}", describe(&outcome));
    assert!(metric(&outcome.ours, "entries") <= 650.0, "{}", describe(&outcome));
}

#[test]
fn exact_lookups_cost_what_is_published_and_ours_less() {
    let outcome = run("exact", 1_000, 300);
    assert_pass(&outcome);
}

#[test]
fn stale_tables_hold_up_the_others() {
    let outcome = run("stale", 1_000, 200);
    let best = metric(&outcome.stock, "go/p95_ms").min(metric(&outcome.stock, "libp2p_kad/p95_ms"));
    assert!(metric(&outcome.ours, "p95_ms") < best, "{}", describe(&outcome));
    assert!(metric(&outcome.ours, "recall") > 0.97, "{}", describe(&outcome));
}

#[test]
fn publications_reach_the_right_peers() {
    let outcome = run("amino-put", 1_540, 150);
    assert!((metric(&outcome.stock, "acks") - 17.4).abs() < 1.0, "{}", describe(&outcome));
    assert!(metric(&outcome.ours, "true20") >= 18.5, "{}", describe(&outcome));
    assert!(metric(&outcome.ours, "p90_s") < metric(&outcome.stock, "p90_s") / 2.0, "{}", describe(&outcome));
}

#[test]
fn more_disjoint_paths_pass_more_adversaries() {
    let outcome = run("skademlia", 500, 240);
    let at = |d: &str| metric(&outcome.stock, &format!("success/0.30/{d}"));
    assert!(at("1") < at("2") && at("2") < at("8") && at("8") > 0.95, "{}", describe(&outcome));
    let ours = |path: &str| metric(&outcome.ours, path);
    assert!(ours("success/silent/0.30/1") >= 0.97, "{}", describe(&outcome));
    // Of 40 lookups, all but two.
    assert!(ours("success/misrouting/0.30/8") >= 0.95, "{}", describe(&outcome));
    assert!(ours("success/misrouting/0.40/8") > ours("success/misrouting/0.40/1"), "{}", describe(&outcome));
    assert!(ours("rpcs/misrouting/0.30/8") <= 1.5 * ours("rpcs/misrouting/0.00/1"), "{}", describe(&outcome));
}

#[test]
fn churn_leaves_neighbours_known() {
    let outcome = run("churn", 60, 1);
    assert!(metric(&outcome.ours, "know20") >= 18.0, "{}", describe(&outcome));
    assert!(metric(&outcome.ours, "found_share") >= 0.95, "{}", describe(&outcome));
}

#[test]
fn everyone_who_joins_finds_its_place() {
    assert_pass(&run("join", 150, 1));
}

#[test]
fn a_flood_from_ten_networks_gets_few_places() {
    let (nodes, hours) = if cfg!(debug_assertions) { (80, 1) } else { (150, 3) };
    let outcome = run("flood", nodes, hours);
    // Ten entries are more than a twentieth of the table of a network of 80.
    if nodes >= 150 {
        assert_pass(&outcome);
    }
    assert!(metric(&outcome.ours, "success") >= 0.99, "{}", describe(&outcome));
    assert!(metric(&outcome.ours, "warm_nodes") > 5.0, "{}", describe(&outcome));
    assert!(metric(&outcome.ours, "warm/most_in_bucket") <= 5.0, "{}", describe(&outcome));
    assert!(metric(&outcome.ours, "warm/most_in_table") <= 10.0, "{}", describe(&outcome));
    assert!(metric(&outcome.ours, "cold/most_in_table") >= 1.0, "the attacker is there: {}", describe(&outcome));
}

#[test]
fn records_outlive_those_who_keep_them() {
    let mut params = Params::new(1);
    // As the harder of its two models. A build without optimisation has no time for more.
    params.churn = Some(Churn::Poisson(Duration::from_secs(5_194)));
    (params.nodes, params.samples) = if cfg!(debug_assertions) { (Some(40), Some(3)) } else { (Some(100), Some(6)) };
    let outcome = run_params("records", &params);
    assert!(outcome.broken_invariants.is_empty(), "{}", describe(&outcome));
    assert_pass(&outcome);
    for what in ["values", "providers"] {
        let holders =
            |setting: &str| metric(&outcome.ours, &format!("median_1h/{setting}/{what}/holders_true20_last_hour"));
        let (kept, left) = (holders("unread"), holders("off"));
        assert!(kept >= 10.0 && left < 6.0, "{what}: {kept} {left}\n{}", describe(&outcome));
    }
}

#[test]
fn a_node_that_was_cut_off_comes_back() {
    let outcome = run("outage", 60, 1);
    assert!(metric(&outcome.ours, "cut_off/heal_s") <= 600.0, "{}", describe(&outcome));
}

#[test]
fn a_thousand_nodes_scale() {
    let outcome = run("scale", 1_000, 200);
    assert!(metric(&outcome.ours, "1k/rpcs") <= 25.0, "{}", describe(&outcome));
}

/// The whole reports are compared, not only the verdicts: every metric, curve and note.
#[test]
fn the_same_seed_gives_the_same_report() {
    for (name, nodes, samples) in [("custom", 60, 1), ("stale", 300, 40), ("amino-put", 300, 20)] {
        let (one, two) = (run(name, nodes, samples), run(name, nodes, samples));
        assert_eq!(format!("{one:?}"), format!("{two:?}"), "{name}");
    }
    let (one, other) = (run_with(76, "stale", 300, 40), run_with(77, "stale", 300, 40));
    assert_ne!(one.stock, other.stock, "another seed, another network");
}

#[test]
fn an_observer_ends_a_run_with_what_is_known() {
    struct Impatient(u32);
    impl Observer for Impatient {
        fn on_progress(&mut self, _: ProgressReport) -> bool {
            self.0 += 1;
            self.0 < 2
        }
    }
    for scenario in scenarios() {
        let mut params = Params::new(1);
        params.nodes = Some(1_000);
        let outcome = scenario.run(&params, &mut Impatient(0));
        assert!(outcome.interrupted && !outcome.pass(), "{}", scenario.name);
        assert!(outcome.to_json().starts_with("{\"scenario\":"));
    }
}

/// If a setting had no effect, the test would show nothing about the size of a network.
#[test]
fn every_setting_of_custom_changes_what_comes_out() {
    let scenario = scenarios().iter().find(|scenario| scenario.name == "custom");
    let run = |change: &dyn Fn(&mut Params)| {
        let mut params = Params::new(1);
        (params.nodes, params.samples) = (Some(40), Some(1));
        change(&mut params);
        scenario.map(|scenario| scenario.run(&params, &mut Unobserved).ours)
    };
    let plain = run(&|_| {});
    assert!(plain.is_some());
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Params));
    let changes: [Change<'_>; 5] = [
        ("churn", &|params| params.churn = Some(Churn::Poisson(Duration::from_secs(1_800)))),
        ("loss", &|params| params.loss = Some(0.05)),
        ("latency", &|params| params.latency = Some(Latency::Constant(100_000))),
        ("k", &|params| params.k = Some(10)),
        ("alpha", &|params| params.alpha = Some(3)),
    ];
    for (name, change) in changes {
        assert_ne!(run(change), plain, "{name}");
    }
}
