//! Nodes that start together, through one that is busy.

use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use super::Node;
use super::restart::until;

/// Maximum time until every node knows every other one. An idle machine takes a second; on one that builds at the same
/// time everything takes longer, but not the minutes to the next refresh.
const LIMIT: Duration = Duration::from_secs(20);

fn signal(node: &Node, name: &str) {
    assert!(Command::new("kill").args([name, &node.child.id().to_string()]).status().unwrap().success());
}

#[test]
fn six_nodes_that_start_while_their_boot_node_is_stopped_know_each_other_within_seconds() {
    let boot = Node::start(&[]);
    signal(&boot, "-STOP");
    let mut nodes: Vec<_> = (0..6).map(|_| Node::start(&["--bootstrap", boot.addr()])).collect();
    std::thread::sleep(Duration::from_millis(500));
    signal(&boot, "-CONT");
    let begun = Instant::now();
    nodes.push(boot);
    for node in &mut nodes {
        until(node, "peers", |peers| peers["routing_table"].as_array().unwrap().len() == 6);
    }
    let took = begun.elapsed();
    println!("everyone knows everyone after {took:?}");
    assert!(took < LIMIT, "{took:?}");
    // The node through which all joined dies, and the network remains.
    drop(nodes.pop());
    nodes[0].done("put /app/x survives");
    assert_eq!(nodes[5].done("get /app/x")["value"], "survives");
}
