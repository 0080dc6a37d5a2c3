//! `kad-node` as a script drives it: lines in, JSON objects out, exit codes.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "node/moving.rs"]
mod moving;
#[path = "node/restart.rs"]
mod restart;
#[cfg(unix)]
#[path = "node/star.rs"]
mod star;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use libp2p::PeerId;
use serde_json::{Value, json};

/// Far longer than anything here takes; only a test that hangs reaches it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const CID: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
const MULTIHASH: &str = "hex:1220c3c4733ec8affd06cf9e9ff50ffc6bcd2ec85a6170004bb709669c31de94391a";

fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kad-node"));
    command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("RUST_LOG");
    command
}

/// A running node, killed at the end of the test.
struct Node {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    ready: Value,
}

impl Node {
    fn start(flags: &[&str]) -> Node {
        let mut child = command(&[&["--json"], flags].concat()).spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::sync_channel(1024);
        #[expect(clippy::disallowed_methods, reason = "reads of a pipe cannot be given a time")]
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut node = Node { child, input, lines, ready: Value::Null };
        node.ready = node.answer();
        node
    }

    fn peer(&self) -> &str {
        self.ready["peer"].as_str().unwrap()
    }

    fn addr(&self) -> &str {
        self.ready["addrs"][0].as_str().unwrap()
    }

    fn write(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().unwrap();
        input.write_all(bytes).unwrap();
        input.flush().unwrap();
    }

    /// The next line of output: always a JSON object.
    fn answer(&mut self) -> Value {
        let line = self.lines.recv_timeout(ANSWER_TIMEOUT).expect("an answer");
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|why| panic!("{line:?}: {why}"));
        assert!(value.is_object(), "{line}");
        value
    }

    fn ask(&mut self, line: &str) -> Value {
        self.write(format!("{line}\n").as_bytes());
        let answer = self.answer();
        assert!(answer["ms"].is_u64(), "{answer}");
        assert_eq!(answer["ok"], answer["error"].is_null(), "{answer}");
        answer
    }

    /// Runs a command that must succeed.
    fn done(&mut self, line: &str) -> Value {
        let answer = self.ask(line);
        assert_eq!(answer["ok"], true, "{line}: {answer}");
        assert_eq!(answer["cmd"], line.split(' ').next().unwrap());
        answer
    }

    /// Runs a command that must fail, with an error that names the fault.
    fn fault(&mut self, line: &str, names: &str) -> Value {
        let answer = self.ask(line);
        assert_eq!(answer["ok"], false, "{line}: {answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(names), "{line}: {error:?} does not name {names:?}");
        answer
    }

    /// Checks that there is no more output, and the exit code.
    fn ends_with(&mut self, code: i32) {
        assert_eq!(self.lines.recv_timeout(ANSWER_TIMEOUT), Err(mpsc::RecvTimeoutError::Disconnected), "more output");
        assert_eq!(self.child.wait().unwrap().code(), Some(code));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two nodes, the second connected to the first.
fn pair() -> (Node, Node) {
    let first = Node::start(&["--key-seed", "1"]);
    let mut second = Node::start(&["--key-seed", "2", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"]);
    let dialled = second.done(&format!("dial {}", first.addr()));
    assert_eq!(dialled["remote"], first.peer());
    (first, second)
}

/// The address of a peer that accepts connections and never sends anything, as long as its listener lives.
fn silent_peer() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", listener.local_addr().unwrap().port(), PeerId::random());
    (listener, addr)
}

#[test]
fn the_first_line_says_who_and_where() {
    let node = Node::start(&["--key-seed", "7", "--protocol", "/other/kad/1.0.0"]);
    assert_eq!(node.ready["event"], "ready");
    assert_eq!(node.ready["impl"], "libp2p-kad-dht");
    assert_eq!(node.ready["protocol"], "/other/kad/1.0.0");
    node.peer().parse::<PeerId>().unwrap();
    assert!(node.addr().starts_with("/ip4/127.0.0.1/tcp/"), "{}", node.addr());
    assert!(node.addr().ends_with(&format!("/p2p/{}", node.peer())));
    let again = Node::start(&["--key-seed", "7"]);
    assert_eq!(again.peer(), node.peer(), "a seed fixes the identity");
    assert_eq!(again.ready["protocol"], "/my-app/kad/1.0.0");
    assert_ne!(Node::start(&[]).peer(), node.peer());
}

#[test]
fn values_go_round_as_text_and_as_bytes() {
    let (mut first, mut second) = pair();
    let put = second.done("put /app/greeting hello  world");
    assert_eq!(put["key"], "/app/greeting");
    assert_eq!(put["stored"], serde_json::json!([first.peer()]));
    assert_eq!(put["failed"], serde_json::json!([]));
    assert_eq!(first.done("get /app/greeting")["value"], "hello  world");
    second.done("put hex:00ff hex:80ff00");
    let got = first.done("get hex:00ff");
    assert_eq!((&got["value"], &got["key"]), (&"hex:80ff00".into(), &"hex:00ff".into()));
    second.done("put /app/hex hex:6865783a3030");
    assert_eq!(first.done("get /app/hex")["value"], "hex:6865783a3030", "text that looks like hex: is no text");
    second.done("put /app/empty hex:");
    assert_eq!(first.done("get /app/empty")["value"], "");

    let mut third = Node::start(&[]);
    third.done(&format!("dial {}", first.addr()));
    let got = third.done("get /app/greeting");
    assert_eq!(got["value"], "hello  world");
    assert!([first.peer(), second.peer()].contains(&got["from"].as_str().unwrap()), "{got}");
    assert!(got["answers"].as_u64().unwrap() >= 1, "{got}");
    let table = third.done("table");
    let mut entries =
        table["buckets"].as_array().unwrap().iter().flat_map(|bucket| bucket["peers"].as_array().unwrap());
    let holder = entries.find(|entry| entry["id"] == got["from"]).expect("in the table, since it answered");
    assert!(
        holder["useful_s"].as_u64().is_some_and(|seconds| seconds < 60),
        "the peer that had the value was useful just now: {table}"
    );
    assert!(third.fault("get /app/nothing", "not found")["failed"].is_array());

    let records = second.done("records");
    let own = |record: &Value| record["own"] == true && record["expires_s"].is_null();
    assert_eq!(records["values"].as_array().unwrap().len(), 4);
    assert!(records["values"].as_array().unwrap().iter().all(own), "{records}");
    let records = first.done("records");
    let others = |record: &Value| record["own"] == false && record["expires_s"].as_u64() > Some(47 * 3600);
    assert!(records["values"].as_array().unwrap().iter().all(others), "{records}");
}

#[test]
fn providers_and_peers_are_found_with_addresses() {
    let (mut first, mut second) = pair();
    let told = second.done(&format!("provide {CID}"));
    assert_eq!((&told["key"], &told["announced"]), (&CID.into(), &serde_json::json!([first.peer()])));
    for key in [CID, MULTIHASH] {
        let found = first.done(&format!("findprovs {key}"));
        assert_eq!(found["providers"][0]["id"], second.peer(), "{found}");
        let addr = found["providers"][0]["addrs"][0].as_str().unwrap();
        assert!(second.addr().starts_with(addr), "{addr} is not where the provider listens");
    }
    assert_eq!(first.done("records")["providers"][0]["id"], second.peer());
    assert_eq!(first.done("records")["providers"][0]["key"], MULTIHASH);

    let mut third = Node::start(&[]);
    third.done(&format!("dial {}", first.addr()));
    let found = third.done(&format!("findpeer {}", second.peer()));
    assert_eq!(found["peer"]["id"], second.peer());
    assert!(second.addr().starts_with(found["peer"]["addrs"][0].as_str().unwrap()), "over QUIC: {found}");
    let closest = third.done("closest /app/greeting");
    let ids: Vec<_> = closest["peers"].as_array().unwrap().iter().map(|peer| peer["id"].as_str().unwrap()).collect();
    assert!(ids.len() == 2 && ids.contains(&first.peer()) && ids.contains(&second.peer()), "{closest}");
    assert_eq!(third.done("bootstrap")["peers"], 2);
    let peers = third.done("peers");
    assert_eq!(peers["routing_table"].as_array().unwrap().len(), 2, "{peers}");
    assert_eq!(peers["connected"].as_array().unwrap().len(), 2, "{peers}");
    let table = third.done("table");
    let entry = &table["buckets"][0]["peers"][0];
    assert!(entry["since_s"].is_u64() && entry["seen_s"].is_u64() && entry["connected"] == true, "{table}");
    assert!(entry.get("rtt_ms").is_some() && entry.get("useful_s").is_some(), "{table}");
    let stats = third.done("stats");
    assert_eq!(stats["stores"]["published"], 0, "{stats}");
    assert_eq!(second.done("stats")["stores"]["published"], 1);
    assert!(third.done("stats")["sent"]["FindNode"].as_u64() > Some(0));
}

/// The whole response of the node to a request for this path.
fn fetch(node: &Node, request: &str, patience: Duration) -> String {
    let url = node.ready["metrics"].as_str().unwrap();
    let mut stream =
        TcpStream::connect(url.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap()).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_are_served_whoever_asks_badly() {
    let (mut first, _second) = pair();
    let mut node = Node::start(&["--metrics", "0", "--bootstrap", first.addr()]);
    assert!(node.ready["metrics"].as_str().unwrap().starts_with("http://127.0.0.1:"), "on loopback: {}", node.ready);
    assert!(first.ready.get("metrics").is_none());
    node.done("put /app/x hello");
    first.done("stats");

    // More clients than are served at the same time send nothing or not enough, and one more never stops sending.
    let url = node.ready["metrics"].as_str().unwrap();
    let addr = url.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
    let mut held: Vec<_> = (0..200).map(|_| TcpStream::connect(addr).unwrap()).collect();
    held.iter_mut().step_by(2).for_each(|half| drop(half.write_all(b"GET /metrics HTTP/1.1\r\nHost:")));
    let mut talker = TcpStream::connect(addr).unwrap();
    let written = (0..64).map_while(|_| talker.write_all(&[b'x'; 1024]).ok()).count();
    assert!(written > 0);
    held.push(talker);

    // The server waits for no idle client; each has 5 s.
    let answer = fetch(&node, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Duration::from_secs(2));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    assert!(body.contains("\nkad_queries_started_total ") && body.contains("\nkad_table_peers "), "{body}");
    assert!(body.contains(&format!("kad_node_info{{peer=\"{}\"", node.peer())), "{body}");
    for (request, status) in [
        ("HEAD /metrics HTTP/1.1\r\n\r\n", "200"),
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("\x16\x03\x01 of TLS\r\n\r\n", "400"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
        ("GET /metrics SMTP\r\n\r\n", "400"),
    ] {
        let answer = fetch(&node, request, ANSWER_TIMEOUT);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer:?}");
        assert!(!request.starts_with("HEAD") || answer.ends_with("\r\n\r\n"), "no body: {answer:?}");
    }
    drop(held);
    node.done("stats");
}

#[test]
fn a_slow_lookup_holds_up_nobody_and_ends_in_its_time() {
    let (_silent, boot) = silent_peer();
    let mut node = Node::start(&["--bootstrap", &boot, "--query-timeout", "1500ms"]);
    node.write(b"#slow get /app/x\n#a b stats\n#fast stats\n");
    // Commands run side by side, so their answers may overtake one another.
    let mut quick = [node.answer(), node.answer()];
    quick.sort_by_key(|answer| answer["id"].to_string());
    let [wrong, fast] = &quick;
    assert_eq!((&wrong["id"], &wrong["cmd"], &wrong["ok"]), (&"a".into(), &"b".into(), &false.into()));
    assert_eq!((&fast["id"], &fast["cmd"], &fast["ok"]), (&"fast".into(), &"stats".into(), &true.into()));
    let slow = node.answer();
    assert_eq!((&slow["id"], &slow["ok"]), (&"slow".into(), &false.into()));
    assert!(slow["error"].as_str().unwrap().contains("timed out after 1.5s"), "{slow}");
    let ms = slow["ms"].as_u64().unwrap();
    assert!((1_500..10_000).contains(&ms), "{slow}");
    assert!(node.done("stats")["id"].is_null());
}

#[test]
fn what_is_wrong_with_a_line_is_said() {
    let mut node = Node::start(&[]);
    node.write(b"\n   \n"); // blank lines have no answer
    node.fault("nonsense", "unknown command");
    assert_eq!(node.fault("get", "KEY is missing")["key"], Value::Null);
    node.fault("get a b", "one KEY is enough");
    assert_eq!(node.fault("put key", "VALUE")["key"], "key");
    node.fault("put key hex:abc", "hex");
    node.fault("get hex:+1", "hex");
    node.fault("get hex:é", "hex");
    assert_eq!(node.fault("provide text", "not a CID")["key"], "text");
    node.fault("findprovs ", "CID is missing");
    node.fault("findpeer 12D3KooW", "not a peer id");
    node.fault("dial nonsense", "not a multiaddress");
    node.fault("dial /ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1");
    node.fault("dial /ip4/127.0.0.1/sctp/1", "/ip4/127.0.0.1/sctp/1");
    node.fault("peers all", "no arguments");
    node.fault("quit now", "no arguments");
    node.fault("get /app/x", "no peers known");
    assert_eq!(node.fault("#7", "no command")["id"], "7");
    assert_eq!(node.fault("#7  get", "KEY")["id"], "7");
    node.write(b"get \xff\xfe\n");
    assert!(node.answer()["error"].as_str().unwrap().contains("UTF-8"));
    node.write(&[&b"#long put key "[..], &vec![b'x'; 3 << 20], b"\n"].concat());
    let long = node.answer();
    assert_eq!((&long["id"], &long["cmd"], &long["key"]), (&"long".into(), &"put".into(), &"key".into()));
    assert!(long["error"].as_str().unwrap().contains("longer than 262144 bytes"), "{long}");
    node.done("stats");
}

#[test]
fn quit_ends_everything_that_runs() {
    let (_silent, boot) = silent_peer();
    let mut node = Node::start(&["--bootstrap", &boot]);
    node.write(b"#1 get /app/x\n#2 quit\n#3 stats\n");
    let ended = node.answer();
    assert_eq!((&ended["id"], &ended["error"]), (&"1".into(), &"the node is gone".into()));
    let quit = node.answer();
    assert_eq!((&quit["id"], &quit["cmd"], &quit["ok"]), (&"2".into(), &"quit".into(), &true.into()));
    node.ends_with(0);
}

#[test]
fn the_end_of_the_input_lets_commands_finish() {
    let first = Node::start(&[]);
    let mut node = Node::start(&["--bootstrap", first.addr()]);
    node.write(format!("#p put /app/x y\n#q provide {CID}\n#last stats").as_bytes());
    node.input = None;
    let mut answers: Vec<_> = (0..3).map(|_| node.answer()).collect();
    answers.sort_by_key(|answer| answer["id"].to_string());
    assert_eq!(answers.iter().map(|answer| &answer["id"]).collect::<Vec<_>>(), ["last", "p", "q"]);
    assert!(answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    node.ends_with(0);
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let taken = format!("/ip4/127.0.0.1/tcp/{port}");
    for (flags, code, names) in [
        (&["--network", "moon"][..], 2, "--network"),
        (&["--protocol", "/ipfs/kad/1.0.0"], 2, "--network amino"),
        (&["--no-bootstrap", "--bootstrap", "/ip4/127.0.0.1/tcp/4001"], 2, "/p2p/PEERID"),
        (&["--metrics", "nonsense"], 2, "--metrics"),
        (&["--metrics", &format!("127.0.0.1:{port}")], 1, "cannot serve metrics"),
        (&["--bootstrap", "/ip4/127.0.0.1/tcp/4001"], 2, "must end in /p2p/PEERID"),
        (&["--bootstrap", "nonsense"], 2, "not a multiaddress"),
        (&["--mode", "both"], 2, "--mode"),
        (&["--k", "0"], 2, "--k"),
        (&["--k", "1000"], 2, "--k (1000) must not be greater than the limit (512)"),
        (&["--beta", "30"], 2, "--beta (30) must not be greater than --k (20)"),
        (&["--query-timeout", "0s"], 2, "--query-timeout must not be zero"),
        (&["--request-timeout", "0"], 2, "--request-timeout must not be zero"),
        (&["--request-timeout", "99999h"], 2, "--request-timeout must not be longer than"),
        (&["--value-ttl", "0"], 2, "--value-ttl must not be zero"),
        (
            &["--provider-ttl", "1h", "--announce-interval", "22h"],
            2,
            "--announce-interval (79200s) must not be greater than --provider-ttl (3600s)",
        ),
        (&["--provider-ttl", "0"], 2, "--provider-ttl must not be zero"),
        (&["--query-timeout", "5parsecs"], 2, "parsecs"),
        (&["--protocol", "kad"], 2, "begins with '/'"),
        (&["--listen", "nonsense"], 2, "--listen"),
        (&["--listen", "/ip4/127.0.0.1/sctp/0"], 1, "/ip4/127.0.0.1/sctp/0"),
        (&["--listen", &taken], 1, &taken),
    ] {
        let mut child = command(&[&["--json"], flags].concat()).spawn().unwrap();
        child.stdin.take();
        let (mut out, mut error) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{flags:?}: {error}");
        assert!(error.contains(names), "{flags:?}: {error:?} does not name {names:?}");
        assert_eq!(out, "", "{flags:?}");
    }
}

/// The last line of a node's standard error, which says that it could not join.
fn join_error(flags: &[&str]) -> String {
    let mut child = command(flags).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.into_iter().find(|line| line.contains("could not join") || line.contains("\"bootstrap\""));
    child.kill().unwrap();
    child.wait().unwrap();
    line.expect("it ended without a word")
}

#[test]
fn who_cannot_join_is_told_why() {
    let dead = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    let object = |error: &str| -> Value { serde_json::from_str(error).unwrap() };
    let refused = object(&join_error(&["--json", "--bootstrap", dead]));
    assert_eq!((&refused["event"], &refused["ok"]), (&"bootstrap".into(), &false.into()));
    assert!(refused["error"].as_str().unwrap().contains("no peer answered"), "{refused}");
    assert!(refused["failed"][0]["why"].as_str().unwrap().contains("unreachable"), "{refused}");
    assert!(join_error(&["--bootstrap", dead]).contains("could not join: no peer answered"));

    // Under the rules of the public network no peer is dialled.
    let public = ["--addresses", "public", "--bootstrap", dead];
    let error = object(&join_error(&[&["--json"], &public[..]].concat()));
    let error = error["error"].as_str().unwrap();
    assert!(error.contains(dead) && error.contains("--addresses public"), "{error}");
    let node = Node::start(&["--key-seed", "1"]);
    let oneself = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", node.peer());
    let error = join_error(&["--key-seed", "1", "--bootstrap", &oneself]);
    assert!(error.contains("no peers known") && error.contains("is this node itself"), "{error}");
}

#[test]
fn help_tells_what_goes_in_and_out() {
    let output = command(&["--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    for told in
        ["When it ends", "in which they are done", "#ID", "hex:00ff", "500ms", "under /pk/", "stopproviding CID"]
    {
        assert!(help.contains(told), "{told:?} is missing in {help}");
    }
    for line in help.lines().skip_while(|line| !line.starts_with("Commands come")) {
        assert!(line.len() <= 125, "{line:?} is long");
    }
}

#[test]
fn what_was_published_can_be_taken_back() {
    let (mut first, mut second) = pair();
    second.done("put /app/x hello");
    second.done(&format!("provide {CID}"));
    assert_eq!(second.done("remove /app/x")["key"], "/app/x");
    assert_eq!(second.done(&format!("stopproviding {CID}"))["key"], CID);
    let records = second.done("records");
    assert_eq!((&records["values"], &records["providers"]), (&json!([]), &json!([])), "{records}");
    assert_eq!(first.done("get /app/x")["value"], "hello", "another node's record is found until it expires");
    first.done("remove /app/x");
    second.fault("get /app/x", "not found");
    second.fault("remove", "KEY is missing");
    second.fault("stopproviding text", "not a CID");
}

#[test]
fn the_mode_is_shown_and_chosen() {
    let mut first = Node::start(&[]);
    let mut second = Node::start(&["--mode", "auto", "--bootstrap", first.addr()]);
    let mode = |answer: &Value| [&answer["mode"], &answer["wanted"], &answer["why"]].map(|text| text.to_string());
    let is = |wanted: [&str; 3]| wanted.map(|text| format!("{text:?}"));
    assert_eq!(mode(&first.done("mode")), is(["server", "server", "chosen"]));
    let nowhere = "no external address is confirmed at which others may find it";
    assert_eq!(mode(&second.done("mode")), is(["client", "auto", nowhere]));
    assert_eq!(mode(&second.done("mode server")), is(["server", "server", "chosen"]));
    until_it_serves(&mut first, second.peer());
    assert_eq!(mode(&second.done("mode client")), is(["client", "client", "chosen"]));
    let peer = second.peer();
    restart::until(&mut first, "peers", |peers| peers["routing_table"].as_array().unwrap().iter().all(|id| id != peer));
    second.fault("mode both", "client, server and auto");
    let mut reachable = Node::start(&["--mode", "auto", "--external", "/ip4/127.0.0.1/tcp/4001"]);
    assert_eq!(mode(&reachable.done("mode")), is(["server", "auto", "an external address is confirmed"]));
}

#[test]
fn what_no_peer_took_is_kept_and_said_to_be() {
    let mut node = Node::start(&[]);
    let put = node.fault("put /app/alone value", "no peers known");
    assert_eq!((&put["kept"], &put["stored"]), (&true.into(), &serde_json::json!([])), "{put}");
    let provide = node.fault(&format!("provide {CID}"), "no peers known");
    assert_eq!((&provide["kept"], &provide["announced"]), (&true.into(), &serde_json::json!([])), "{provide}");
    let records = node.done("records");
    assert_eq!((&records["values"][0]["own"], &records["providers"][0]["own"]), (&true.into(), &true.into()));
    assert_eq!(node.done("get /app/alone")["value"], "value");
    let long = format!("put /app/long {}", "x".repeat(12 * 1024));
    assert_eq!(node.fault(&long, "invalid value: longer than 11264 bytes")["kept"], false);
    node.fault(&format!("get {}", "x".repeat(2049)), "the key has 2049 bytes, and may have 1 to 2048");
    let content = format!("provide hex:{}", "ab".repeat(81));
    assert_eq!(node.fault(&content, "the key has 81 bytes, and may have 1 to 80")["kept"], false);
    let other = Node::start(&["--bootstrap", node.addr()]);
    until_it_serves(&mut node, other.peer());
    assert_eq!(node.done("put /app/alone value")["kept"], true);
}

/// The networks differ in protocol and in the values that they accept. No node here joins the public network.
#[test]
fn each_network_has_its_own_protocol_and_values() {
    for (network, protocol, error) in [
        ("private", "/my-app/kad/1.0.0", None),
        ("amino", "/ipfs/kad/1.0.0", Some("under /pk/ and /ipns/ alone")),
        ("lan", "/ipfs/lan/kad/1.0.0", Some("under /pk/ and /ipns/ alone")),
    ] {
        let flags = ["--network", network, "--mode", "server", "--no-bootstrap", "--addresses", "any"];
        let first = Node::start(&flags);
        assert_eq!(first.ready["protocol"], protocol);
        let mut second = Node::start(&flags);
        second.done(&format!("dial {}", first.addr()));
        let put = second.ask("put /app/greeting hello");
        match error {
            None => assert_eq!(put["stored"][0], first.peer(), "{put}"),
            Some(error) => assert!(put["error"].as_str().unwrap().contains(error), "{put}"),
        }
        let told = second.done(&format!("provide {CID}"));
        assert_eq!(told["announced"][0], first.peer(), "{network}: {told}");
        let own = Node::start(&["--network", network, "--no-bootstrap", "--protocol", "/own/kad/1.0.0"]);
        assert_eq!(own.ready["protocol"], "/own/kad/1.0.0");
    }
    // With its own rules, a node of the public network has nothing to do with this machine.
    let local = Node::start(&["--network", "lan"]);
    let mut public = Node::start(&["--network", "amino", "--no-bootstrap", "--protocol", "/ipfs/lan/kad/1.0.0"]);
    public.done(&format!("dial {}", local.addr()));
    public.fault("get /pk/x", "no peers known");
    assert_eq!(public.fault(&format!("provide {CID}"), "no address of its own")["kept"], false);
    let mut beside = Node::start(&["--network", "lan", "--bootstrap", local.addr()]);
    assert_eq!(beside.done(&format!("provide {CID}"))["announced"][0], local.peer());
}

/// Waits until the peer is in the routing table.
fn until_it_serves(node: &mut Node, peer: &str) {
    restart::until(node, "peers", |peers| peers["routing_table"].as_array().unwrap().iter().any(|known| known == peer));
}

#[test]
fn people_get_tables() {
    let mut child = command(&[]).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"help\nstats\nget /app/x\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in ["/ip4/127.0.0.1/tcp/", "put KEY VALUE ", "queries_started", "get /app/x  FAILED: no peers known"] {
        assert!(text.contains(expected), "{expected:?} is missing in {text}");
    }
    assert!(!text.contains('{'), "{text}");
}

#[test]
fn people_see_how_a_slow_query_goes() {
    let (_silent, boot) = silent_peer();
    let mut child = command(&["--bootstrap", &boot, "--query-timeout", "1500ms"]).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"get /app/x\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(progress.contains("get: 1 asked, 0 answered"), "{progress}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("get /app/x  FAILED: timed out after 1.5s"));
}
