//! Standard input and output: reads commands, runs them side by side, writes each answer when it is done.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::answer::{CommandAnswer, Failure, object};
use crate::args::Args;
use crate::commands::Runner;
use crate::input::Lines;
use crate::join::{Seeds, join};
use crate::parse::{Asked, Command, parse};
use crate::people::{self, Steps};
use crate::swarm::Node;

/// Maximum number of commands that run at the same time; the next line is read when one of them is done.
const MAX_RUNNING: usize = 1024;
/// The time that an exit waits for commands that still run.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves commands until the end of the input, `quit` or a signal.
pub(crate) async fn run(node: Node, args: &Args) -> io::Result<()> {
    let mut console = Console { node, json: args.json, running: JoinSet::new() };
    console.greet().await?;
    let seeds = Seeds::new(console.node.peer, console.node.policy, &args.seeds());
    tokio::spawn(join(console.node.dht.clone(), seeds, args.json));
    let mut lines = Lines::new(BufReader::new(tokio::io::stdin()));
    let mut signal = std::pin::pin!(terminated());
    let mut reading = true;
    while reading || !console.running.is_empty() {
        tokio::select! {
            line = lines.next(), if reading && console.running.len() < MAX_RUNNING => match line? {
                Some(line) => if let Some(asked) = parse(&line) {
                    if matches!(asked.command, Ok(Command::Quit)) {
                        return console.quit(asked).await;
                    }
                    console.start(asked);
                },
                None => reading = false,
            },
            Some(done) = console.running.join_next() => console.answer(&done?).await?,
            () = &mut signal => return console.stop().await,
        }
    }
    console.stop().await
}

struct Console {
    node: Node,
    json: bool,
    /// At most [`MAX_RUNNING`].
    running: JoinSet<CommandAnswer>,
}

impl Console {
    async fn greet(&self) -> io::Result<()> {
        let addrs: Vec<_> = self.node.addrs.iter().map(ToString::to_string).collect();
        let protocol = self.node.protocols.first().map(AsRef::as_ref).unwrap_or_default();
        let metrics = self.node.metrics.map(|addr| format!("http://{addr}/metrics"));
        if !self.json {
            let addrs = addrs.join("\n  ");
            let shown = metrics.map(|url| format!("Metrics: {url}\n")).unwrap_or_default();
            return write(&format!("A node of {protocol}, at\n  {addrs}\n{shown}Type `help` for what it can do.\n"))
                .await;
        }
        let mut ready = vec![
            ("event", "ready".into()),
            ("impl", "libp2p-kad-dht".into()),
            ("peer", self.node.peer.to_string().into()),
            ("addrs", addrs.into()),
            ("protocol", protocol.into()),
        ];
        ready.extend(metrics.map(|url| ("metrics", url.into())));
        write(&object(&ready)).await
    }

    fn start(&mut self, mut asked: Asked) {
        let begun = Instant::now();
        let command = std::mem::replace(&mut asked.command, Ok(Command::Help));
        let runner = Runner {
            dht: self.node.dht.clone(),
            control: self.node.control.clone(),
            steps: Steps::new((!self.json).then(|| asked.name.clone())),
        };
        self.running.spawn(async move {
            let result = match command {
                Ok(command) => runner.run(command).await,
                Err(fault) => Err(Failure::from(fault)),
            };
            CommandAnswer::new(asked, begun.elapsed(), result)
        });
    }

    async fn answer(&self, answer: &CommandAnswer) -> io::Result<()> {
        let text = if self.json { answer.to_json() } else { people::show(answer) };
        write(&text).await
    }

    async fn quit(&mut self, asked: Asked) -> io::Result<()> {
        let begun = Instant::now();
        self.stop().await?;
        self.answer(&CommandAnswer::new(asked, begun.elapsed(), Ok(Vec::new()))).await
    }

    /// Ends the node; commands that still run fail.
    async fn stop(&mut self) -> io::Result<()> {
        self.node.stop().await;
        while let Ok(Some(done)) = timeout(EXIT_TIMEOUT, self.running.join_next()).await {
            self.answer(&done?).await?;
        }
        Ok(())
    }
}

async fn write(text: &str) -> io::Result<()> {
    let mut out = tokio::io::stdout();
    out.write_all(text.as_bytes()).await?;
    out.flush().await
}

/// Ready once the process gets Ctrl-C or SIGTERM. If it cannot listen for them, they kill it.
async fn terminated() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = terminate.recv() => return,
            Ok(()) = tokio::signal::ctrl_c() => return,
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
