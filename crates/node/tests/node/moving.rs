//! A peer with a fixed identity that returns at another port each time.

use serde_json::Value;

use super::Node;
use super::restart::until;

#[test]
fn a_peer_that_moves_is_found_where_it_is_now() {
    let mut nodes = vec![Node::start(&[])];
    let boot = nodes[0].addr().to_owned();
    nodes.extend((1..5).map(|_| Node::start(&["--bootstrap", &boot])));
    let start = || Node::start(&["--key-seed", "99", "--bootstrap", &boot]);
    let mut mover = start();
    for _ in 0..20 {
        until(&mut mover, "peers", |peers| peers["routing_table"].as_array().is_some_and(|table| table.len() >= 4));
        drop(mover);
        mover = start();
    }
    let (peer, addr) = (mover.peer().to_owned(), mover.addr().to_owned());
    let live = addr.split("/p2p/").next().unwrap().to_owned();
    until(&mut mover, "peers", |peers| peers["routing_table"].as_array().is_some_and(|table| table.len() == 5));
    let first = |found: &Value| found["peer"]["addrs"][0].as_str().is_some_and(|addr| addr.starts_with(&live));
    for node in &mut nodes {
        until(node, &format!("findpeer {peer}"), first);
    }
    let mut newcomer = Node::start(&["--bootstrap", &boot]);
    let found = until(&mut newcomer, &format!("findpeer {peer}"), first);
    assert_eq!(found["evidence"], "reached", "{found}");
}
