//! Stories of one node: inputs and outputs, in words. One file of `tests/scripts` is one story.
//!
//! A story is made of blocks: commands, a line `----`, and the resulting actions of the node, up to an empty line.
//! Lines that begin with `#` are for the reader. `scripts/README.md` explains the words. `UPDATE=1 cargo test --test
//! scripts` writes down what the nodes do now: read the difference before you commit it.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "scripts/names.rs"]
mod names;
#[path = "scripts/node.rs"]
mod node;
#[path = "scripts/show.rs"]
mod show;
#[path = "scripts/words.rs"]
mod words;

use std::path::{Path, PathBuf};

use node::Node;

/// Commands and their expected results.
#[derive(Default)]
struct Block {
    /// The commands, and the remarks among them.
    commands: Vec<String>,
    expected: Vec<String>,
}

fn parse(text: &str) -> Vec<Block> {
    let mut blocks = vec![Block::default()];
    let mut expecting = false;
    for line in text.lines() {
        match line.trim_end() {
            "" => {
                blocks.push(Block::default());
                expecting = false;
            }
            "----" => expecting = true,
            line => {
                let block = blocks.last_mut().unwrap();
                let lines = if expecting { &mut block.expected } else { &mut block.commands };
                lines.push(line.to_owned());
            }
        }
    }
    blocks.retain(|block| !block.commands.is_empty());
    blocks
}

fn print(blocks: &[Block]) -> String {
    let block = |block: &Block| {
        let only_remarks = block.commands.iter().all(|line| line.starts_with('#'));
        let mut lines = block.commands.clone();
        if !only_remarks {
            lines.push("----".to_owned());
            lines.extend(block.expected.iter().cloned());
        }
        lines.join("\n") + "\n"
    };
    blocks.iter().map(block).collect::<Vec<_>>().join("\n")
}

/// Runs a story. Returns it with the actual results.
fn play(blocks: &[Block]) -> Vec<Block> {
    let mut node = None;
    let told = blocks.iter().map(|block| {
        let mut expected = Vec::new();
        for command in block.commands.iter().filter(|line| !line.starts_with('#')) {
            if let Some(rest) = command.strip_prefix("node ") {
                node = Some(Node::new(rest));
            } else {
                expected.extend(node.as_mut().expect("a story begins with `node`").obey(command));
            }
        }
        Block { commands: block.commands.clone(), expected }
    });
    told.collect()
}

/// The lines of both, those only in one marked; the longest common part stays unmarked.
fn difference(told: &str, written: &str) -> String {
    let (new, old): (Vec<_>, Vec<_>) = (told.lines().collect(), written.lines().collect());
    let mut common = vec![vec![0usize; new.len() + 1]; old.len() + 1];
    for (i, before) in old.iter().enumerate().rev() {
        for (j, after) in new.iter().enumerate().rev() {
            let best = common[i + 1][j].max(common[i][j + 1]);
            common[i][j] = if before == after { common[i + 1][j + 1] + 1 } else { best };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(format!("  {}", old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("- {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    lines.join("\n")
}

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut stories: Vec<_> = all.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
    stories.sort();
    stories
}

#[test]
fn every_story_goes_as_it_is_written() {
    let update = std::env::var_os("UPDATE").is_some();
    let stories = stories();
    assert!(stories.len() >= 20, "only {} stories", stories.len());
    let mut wrong = Vec::new();
    for path in stories {
        let written = std::fs::read_to_string(&path).unwrap();
        println!("{}", path.display());
        let told = print(&play(&parse(&written)));
        if update {
            std::fs::write(&path, told).unwrap();
        } else if told != written {
            wrong.push(format!("{} (- as written, + as it went):\n{}", path.display(), difference(&told, &written)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_story_that_goes_otherwise_is_noticed() {
    let story = "node 0000 k=2 knows 0100\n\nget 0001\n----\nsend 1000 GetValue 0001\n";
    let told = print(&play(&parse(story)));
    assert!(told.contains("send 0100 GetValue 0001"), "{told}");
    let difference = difference(&told, story);
    assert!(difference.contains("- send 1000") && difference.contains("+ send 0100"), "{difference}");
}
