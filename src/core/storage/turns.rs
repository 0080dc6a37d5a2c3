//! One writer a key: whoever would write where a write is pending waits behind it.
//!
//! Knows: who waits in which line. Must not know: what a write is for.
//!
//! A value must be compared with what the write before it left; what is forgotten must be gone though a write of it was
//! still on its way; a mark must find what it marks. Provider records of others are written without this: each replaces
//! nothing but itself.

use std::collections::VecDeque;

use super::*;

/// What lies under one key and is written by one at a time: its value, or this node's own provider record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    key: RecordKey,
    provider: bool,
}

impl Line {
    pub(super) fn value(key: &RecordKey) -> Line {
        Line { key: key.clone(), provider: false }
    }

    pub(super) fn provider(key: &RecordKey) -> Line {
        Line { key: key.clone(), provider: true }
    }

    pub(super) fn of(item: &Item) -> Line {
        Line { key: item.key().clone(), provider: matches!(item, Item::Provider(_)) }
    }
}

/// A write that waits.
#[derive(Debug)]
pub(super) enum Turn {
    Keep(Asker, Record),
    Forget(Asker, RecordKey),
    Provide(Asker, ProviderRecord),
    Withdraw(Asker, RecordKey, PeerId),
    Mark(Item, Timestamp),
}

/// The lines in which a write is pending, with those that wait behind it.
#[derive(Debug, Default)]
pub(super) struct Turns {
    lines: BTreeMap<Line, VecDeque<Turn>>,
    /// How many of all that wait are no marks.
    askers: usize,
}

impl Turns {
    /// How many wait whose asker wants to know.
    pub(super) fn askers(&self) -> usize {
        self.askers
    }

    /// Lets it wait if a write is pending there; else it is handed back.
    fn join(&mut self, line: &Line, turn: Turn) -> Option<Turn> {
        let Some(waiting) = self.lines.get_mut(line) else { return Some(turn) };
        match (&turn, waiting.back_mut()) {
            // Of marks in a row the last says it all: so there is one at most for each write that waits.
            (Turn::Mark(item, at), Some(Turn::Mark(last, noted))) if same(item, last) => *noted = (*noted).max(*at),
            (Turn::Mark(..), _) => waiting.push_back(turn),
            _ => {
                self.askers += 1;
                waiting.push_back(turn);
            }
        }
        None
    }

    fn leave(&mut self, line: &Line) -> Option<Turn> {
        let next = self.lines.get_mut(line).and_then(VecDeque::pop_front);
        match &next {
            Some(Turn::Mark(..)) => {}
            Some(_) => self.askers -= 1,
            None => drop(self.lines.remove(line)),
        }
        next
    }
}

/// Whether both are the same value, or the same announcement.
fn same(one: &Item, other: &Item) -> bool {
    match (one, other) {
        (Item::Value(one), Item::Value(other)) => one.own == other.own && one.value == other.value,
        (Item::Provider(one), Item::Provider(other)) => one.provider.peer() == other.provider.peer(),
        _ => false,
    }
}

/// What became of a turn.
pub(super) enum Took {
    /// The store is at work, and others wait.
    Pending,
    /// It is over, and this is to be told.
    Done(Option<(Asker, Outcome)>),
}

impl Storage {
    /// Writes now, or when all those are done that came before it.
    pub(super) fn enter(&mut self, now: Timestamp, line: Line, turn: Turn) -> Now {
        let turn = self.turns.join(&line, turn)?;
        match self.take(now, &line, turn) {
            Took::Pending => {
                self.turns.lines.insert(line, VecDeque::new());
                None
            }
            Took::Done(told) => told.map(|(_, outcome)| outcome),
        }
    }

    fn take(&mut self, now: Timestamp, line: &Line, turn: Turn) -> Took {
        let (asker, outcome) = match turn {
            Turn::Keep(asker, record) => (asker, self.compare(now, asker, record)),
            Turn::Forget(asker, key) => {
                let write = self.store.remove(&key);
                (asker, self.written_in_line(asker, line.clone(), write))
            }
            Turn::Provide(asker, record) => {
                let write = self.store.add_provider(now, record);
                (asker, self.written_in_line(asker, line.clone(), write))
            }
            Turn::Withdraw(asker, key, provider) => {
                let write = self.store.remove_provider(&key, &provider);
                (asker, self.written_in_line(asker, line.clone(), write))
            }
            Turn::Mark(item, at) => return self.begin_mark(now, item, at),
        };
        outcome.map_or(Took::Pending, |outcome| Took::Done(Some((asker, outcome))))
    }

    /// What is done lets the next in the line have its turn; what waits for the store does not.
    pub(super) fn after(&mut self, now: Timestamp, asker: Asker, line: &Line, outcome: Now) -> Vec<(Asker, Outcome)> {
        match outcome {
            Some(outcome) => self.next_in_line(now, line, (asker, outcome)),
            None => Vec::new(),
        }
    }

    /// Lets those that wait have their turn, now that one before them is done.
    pub(super) fn next_in_line(
        &mut self,
        now: Timestamp,
        line: &Line,
        done: (Asker, Outcome),
    ) -> Vec<(Asker, Outcome)> {
        let mut outcomes = vec![done];
        outcomes.append(&mut self.rest_of_line(now, line));
        outcomes
    }

    pub(super) fn rest_of_line(&mut self, now: Timestamp, line: &Line) -> Vec<(Asker, Outcome)> {
        let mut outcomes = Vec::new();
        while let Some(turn) = self.turns.leave(line) {
            match self.take(now, line, turn) {
                Took::Done(told) => outcomes.extend(told),
                Took::Pending => break,
            }
        }
        outcomes
    }
}
