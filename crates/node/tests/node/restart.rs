//! A node with a directory of its own, killed and started again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libp2p::identity::Keypair;
use serde_json::{Value, json};

use super::{CID, MULTIHASH, Node, command};

/// A directory that is removed after the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("libp2p-kad-dht-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Directory(path)
    }

    fn flag(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(directory: &Directory, flags: &[&str]) -> Node {
    Node::start(&[&["--store", directory.flag()], flags].concat())
}

/// Ends a node as a power cut would.
fn kill(mut node: Node) {
    node.child.kill().unwrap();
    node.child.wait().unwrap();
}

fn own(records: &Value, kind: &str) -> Vec<String> {
    let own = records[kind].as_array().unwrap().iter().filter(|record| record["own"] == true);
    own.map(|record| record["key"].as_str().unwrap().to_owned()).collect()
}

/// Pause between two questions to a process, which can only be asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Repeats a command until its answer is as wanted, for at most half a minute.
pub(super) fn until(node: &mut Node, line: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let answer = node.ask(line);
        if wanted(&answer) {
            return answer;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("{line}: {}", node.ask(line))
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let directory = Directory::new("kept");
    let mut node = start(&directory, &[]);
    let peer = node.peer().to_owned();
    let mut other = Node::start(&["--bootstrap", node.addr()]);
    until(&mut other, "peers", |peers| peers["routing_table"] == json!([peer]));
    other.done("put /app/theirs kept for another");
    let provider = other.peer().to_owned();
    other.done(&format!("provide {CID}"));
    node.done("put /app/mine kept for itself");
    node.done("provide hex:1220aaaa");
    kill(node);

    let mut node = start(&directory, &[]);
    assert_eq!(node.peer(), peer, "the identity is kept with the records");
    let records = node.done("records");
    assert_eq!(own(&records, "values"), ["/app/mine"]);
    assert_eq!(own(&records, "providers"), ["hex:1220aaaa"]);
    let found = node.done(&format!("findprovs {CID}"));
    assert!(found["providers"].as_array().unwrap().iter().any(|found| found["id"] == provider.as_str()), "{found}");
    assert!(records["providers"].as_array().unwrap().iter().any(|record| record["key"] == MULTIHASH), "{records}");
    drop(other);
    assert_eq!(node.done("get /app/theirs")["value"], "kept for another");
    assert_eq!(node.done("get /app/mine")["value"], "kept for itself");
}

#[test]
fn it_is_in_the_network_again_although_its_boot_node_is_gone() {
    let directory = Directory::new("rejoin");
    let boot = Node::start(&[]);
    let mut others: Vec<_> = (0..4).map(|_| Node::start(&["--bootstrap", boot.addr()])).collect();
    let mut node = start(&directory, &["--bootstrap", boot.addr()]);
    until(&mut node, "peers", |peers| peers["routing_table"].as_array().unwrap().len() == 5);
    // The first peer is saved immediately, and those that come with it a second or two later.
    std::thread::sleep(Duration::from_secs(4));
    kill(node);
    kill(boot);

    let mut node = start(&directory, &[]);
    until(&mut node, "peers", |peers| peers["routing_table"].as_array().unwrap().len() == 4);
    others[0].done("put /app/after the restart");
    assert_eq!(node.done("get /app/after")["value"], "the restart");
}

#[test]
fn who_leaves_in_good_order_keeps_its_peers() {
    for quits in [true, false] {
        let directory = Directory::new(if quits { "quit" } else { "end" });
        let boot = Node::start(&[]);
        let other = Node::start(&["--bootstrap", boot.addr()]);
        let mut node = start(&directory, &["--bootstrap", boot.addr()]);
        until(&mut node, "peers", |peers| peers["routing_table"].as_array().unwrap().len() == 2);
        if quits {
            node.done("quit");
        } else {
            node.input.take();
        }
        node.ends_with(0);
        kill(boot);
        let mut node = start(&directory, &[]);
        until(&mut node, "peers", |peers| peers["routing_table"] == json!([other.peer()]));
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error_and_stays_as_it_is() {
    let directory = Directory::new("unusable");
    fs::create_dir_all(&directory.0).unwrap();
    let foreign = directory.0.join("foreign");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("records"), b"a letter to a friend").unwrap();
    let file = directory.0.join("file");
    fs::write(&file, b"no directory").unwrap();
    let identity = directory.0.join("identity-is-none");
    fs::create_dir_all(&identity).unwrap();
    fs::write(identity.join("identity"), b"nobody").unwrap();
    let empty = directory.0.join("identity-is-empty");
    fs::create_dir_all(&empty).unwrap();
    fs::write(empty.join("identity"), b"").unwrap();
    let (short, whole) = (directory.0.join("identity-is-short"), Keypair::generate_ed25519());
    fs::create_dir_all(&short).unwrap();
    fs::write(short.join("identity"), &whole.to_protobuf_encoding().unwrap()[..20]).unwrap();
    let no_database = directory.0.join("no-database");
    fs::create_dir_all(&no_database).unwrap();
    fs::write(no_database.join("identity"), whole.to_protobuf_encoding().unwrap()).unwrap();
    fs::write(no_database.join("records"), b"a letter to a friend").unwrap();
    for (path, names) in [
        (&foreign, "but not the identity"),
        (&file.join("in"), "in"),
        (&identity, "holds no identity"),
        (&empty, "is empty"),
        (&short, "cut short (20 bytes)"),
        (&no_database, "records"),
    ] {
        let error = refused(path, &[]);
        assert!(error.contains(names), "{path:?}: {error}");
    }
    for path in [&foreign, &no_database] {
        assert_eq!(fs::read(path.join("records")).unwrap(), b"a letter to a friend");
    }
    assert_eq!(fs::read(identity.join("identity")).unwrap(), b"nobody");

    let taken = Directory::new("taken");
    let _node = start(&taken, &[]);
    let error = refused(&taken.0, &[]);
    assert!(error.contains("records"), "one process at a time: {error}");
}

/// A node publishes in its own name: another node must not take over its records.
#[test]
fn a_directory_is_for_one_identity() {
    let directory = Directory::new("owned");
    let mut node = start(&directory, &["--key-seed", "1"]);
    let peer = node.peer().to_owned();
    node.fault("provide hex:1220aaaa", "no peers known");
    kill(node);
    let error = refused(&directory.0, &["--key-seed", "2"]);
    assert!(error.contains("belongs to the node") && error.contains(&peer), "{error}");
    for flags in [&["--key-seed", "1"][..], &[]] {
        let mut node = start(&directory, flags);
        assert_eq!(node.peer(), peer);
        let records = node.done("records");
        assert_eq!(own(&records, "providers"), ["hex:1220aaaa"]);
        assert_eq!(records["providers"][0]["id"], peer);
        kill(node);
    }
    fs::remove_file(directory.0.join("identity")).unwrap();
    assert!(refused(&directory.0, &[]).contains("but not the identity"));
}

/// Records of one network must not be published in another, nor in the name of another node.
#[test]
fn a_directory_is_for_one_network_and_its_identity_cannot_be_exchanged() {
    let directory = Directory::new("network");
    let network = |name| ["--network", name, "--no-bootstrap", "--addresses", "any"];
    let mut node = start(&directory, &network("private"));
    let peer = node.peer().to_owned();
    node.fault("provide hex:1220aaaa", "no peers known");
    kill(node);
    let before = contents(&directory.0);
    for (flags, other) in [
        (&network("amino")[..], "amino (/ipfs/kad/1.0.0)"),
        (&network("lan"), "lan (/ipfs/lan/kad/1.0.0)"),
        (&["--protocol", "/other/kad/1.0.0"], "private (/other/kad/1.0.0)"),
    ] {
        let error = refused_with(2, &directory.0, flags);
        assert!(error.contains("private (/my-app/kad/1.0.0)") && error.contains(other), "{error}");
        assert!(error.contains("--store") && error.contains(directory.flag()), "{error}");
        assert_eq!(contents(&directory.0), before, "{flags:?} changed something");
    }
    kill(start(&directory, &network("private")));

    let identity = directory.0.join("identity");
    let own = fs::read(&identity).unwrap();
    let other = Keypair::generate_ed25519();
    fs::write(&identity, other.to_protobuf_encoding().unwrap()).unwrap();
    let before = contents(&directory.0);
    let error = refused(&directory.0, &[]);
    assert!(error.contains(&peer) && error.contains(&other.public().to_peer_id().to_string()), "{error}");
    assert_eq!(contents(&directory.0), before);
    fs::write(&identity, own).unwrap();
    assert_eq!(own_providers(start(&directory, &[])), ["hex:1220aaaa"]);

    fs::write(directory.0.join("made-for"), b"nonsense").unwrap();
    assert!(refused_with(2, &directory.0, &[]).contains("made-for"));
}

fn own_providers(mut node: Node) -> Vec<String> {
    own(&node.done("records"), "providers")
}

/// All files of a directory with their content.
fn contents(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

/// The error of a node that cannot start with this directory.
fn refused(path: &Path, flags: &[&str]) -> String {
    refused_with(1, path, flags)
}

fn refused_with(code: i32, path: &Path, flags: &[&str]) -> String {
    let mut child = command(&[&["--json", "--store", path.to_str().unwrap()], flags].concat()).spawn().unwrap();
    child.stdin.take();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(output.stdout, b"");
    String::from_utf8(output.stderr).unwrap()
}
