//! Parses a line of input into a command or an error.

use kad::Mode;
use libp2p::{Multiaddr, PeerId};
use libp2p_kad_dht as kad;

use crate::fields;
use crate::input::{Line, MAX_LINE};

/// The commands with their arguments, for people.
pub(crate) const COMMANDS: [(&str, &str); 18] = [
    ("dial ADDR", "connect to a peer and add it to the DHT"),
    ("put KEY VALUE", "store a value at the peers closest to its key"),
    ("get KEY", "find the value under a key"),
    ("remove KEY", "delete the value on this node and stop announcing it; copies at other peers expire"),
    ("provide CID", "announce that this node provides the content"),
    ("stopproviding CID", "stop announcing it; the records at other peers expire"),
    ("findprovs CID", "find providers of the content"),
    ("findpeer PEERID", "find the addresses of a peer"),
    ("closest KEY", "find the peers closest to a key"),
    ("peers", "the peers in the routing table and the connected peers"),
    ("records", "the records on this node"),
    ("bootstrap", "join the network again"),
    ("table", "the routing table, bucket by bucket"),
    ("queries", "the running queries"),
    ("stats", "counters of this node"),
    ("mode", "whether this node is a server, and why; change it with `mode client`, `mode server` or `mode auto`"),
    ("help", "this list"),
    ("quit", "exit at once"),
];

/// The most characters of an unknown command that its answer repeats.
const MAX_NAME: usize = 64;

#[derive(Debug)]
pub(crate) enum Command {
    Dial(Multiaddr),
    Put { key: Vec<u8>, value: Vec<u8> },
    Get(Vec<u8>),
    Remove(Vec<u8>),
    Provide(Vec<u8>),
    StopProviding(Vec<u8>),
    FindProvs(Vec<u8>),
    FindPeer(PeerId),
    Closest(Vec<u8>),
    Peers,
    Records,
    Bootstrap,
    Table,
    Queries,
    Stats,
    Mode,
    SetMode(Option<Mode>),
    Help,
    Quit,
}

/// A command with the words of the line that its answer repeats.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    /// The key as it stands in the line, if the command takes one.
    pub(crate) key: Option<String>,
    pub(crate) command: Result<Command, String>,
}

/// Parses a line; `None` if it is blank.
pub(crate) fn parse(line: &Line) -> Option<Asked> {
    let text = String::from_utf8_lossy(&line.bytes);
    let text = text.trim_start();
    let (id, rest) = match text.strip_prefix('#') {
        Some(tagged) => {
            let (id, rest) = word(tagged);
            (Some(id.to_owned()), rest)
        }
        None => (None, text),
    };
    let (name, arguments) = word(rest);
    if name.is_empty() && id.is_none() {
        return None;
    }
    let fault = if line.cut {
        Some(format!("the line is longer than {MAX_LINE} bytes"))
    } else if std::str::from_utf8(&line.bytes).is_err() {
        Some("the line is not UTF-8: give bytes as hex:".to_owned())
    } else {
        None
    };
    let takes_key =
        matches!(name, "put" | "get" | "remove" | "provide" | "stopproviding" | "findprovs" | "findpeer" | "closest");
    let whole = !line.cut || arguments.contains([' ', '\t']);
    let key = (takes_key && whole && !arguments.is_empty()).then(|| word(arguments).0.to_owned());
    let command = fault.map_or_else(|| command(name, arguments), Err);
    Some(Asked { id, name: name.chars().take(MAX_NAME).collect(), key, command })
}

fn command(name: &str, arguments: &str) -> Result<Command, String> {
    Ok(match name {
        "dial" => Command::Dial(only(arguments, "ADDR")?.parse().map_err(|why| format!("not a multiaddress: {why}"))?),
        "put" => {
            let (key, value) = word(arguments);
            if key.is_empty() || (value.is_empty() && !arguments.ends_with(char::is_whitespace)) {
                return Err("KEY and VALUE are missing: put KEY VALUE (hex: alone is an empty value)".to_owned());
            }
            Command::Put { key: fields::key(key)?, value: fields::bytes(value)? }
        }
        "get" => Command::Get(fields::key(only(arguments, "KEY")?)?),
        "remove" => Command::Remove(fields::key(only(arguments, "KEY")?)?),
        "stopproviding" => Command::StopProviding(fields::content(only(arguments, "CID")?)?),
        "provide" => Command::Provide(fields::content(only(arguments, "CID")?)?),
        "findprovs" => Command::FindProvs(fields::content(only(arguments, "CID")?)?),
        "findpeer" => {
            Command::FindPeer(only(arguments, "PEERID")?.parse().map_err(|why| format!("not a peer id: {why}"))?)
        }
        "closest" => Command::Closest(fields::key(only(arguments, "KEY")?)?),
        "peers" => none(arguments, Command::Peers)?,
        "records" => none(arguments, Command::Records)?,
        "bootstrap" => none(arguments, Command::Bootstrap)?,
        "table" => none(arguments, Command::Table)?,
        "queries" => none(arguments, Command::Queries)?,
        "stats" => none(arguments, Command::Stats)?,
        "mode" => match arguments.trim() {
            "" => Command::Mode,
            "client" => Command::SetMode(Some(Mode::Client)),
            "server" => Command::SetMode(Some(Mode::Server)),
            "auto" => Command::SetMode(None),
            _ => return Err("the modes are client, server and auto".to_owned()),
        },
        "help" => none(arguments, Command::Help)?,
        "quit" => none(arguments, Command::Quit)?,
        "" => return Err("no command after the id".to_owned()),
        _ => return Err(format!("unknown command; the commands are: {}", names().collect::<Vec<_>>().join(" "))),
    })
}

fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(usage, _)| word(usage).0)
}

/// The first word, and what follows the space after it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    text.split_once([' ', '\t']).unwrap_or((text, ""))
}

fn only<'a>(arguments: &'a str, what: &str) -> Result<&'a str, String> {
    let (first, rest) = word(arguments);
    match (first.is_empty(), rest.trim().is_empty()) {
        (true, _) => Err(format!("{what} is missing")),
        (false, true) => Ok(first),
        (false, false) => {
            Err(format!("one {what} is enough: what is {:?}?", rest.trim().chars().take(MAX_NAME).collect::<String>()))
        }
    }
}

fn none(arguments: &str, command: Command) -> Result<Command, String> {
    if arguments.trim().is_empty() { Ok(command) } else { Err("this command takes no arguments".to_owned()) }
}
