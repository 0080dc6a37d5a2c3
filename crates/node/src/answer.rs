//! The answer to one command, and its form for scripts: one JSON object on one line.

use std::time::Duration;

use serde_json::Value;

use crate::parse::Asked;

/// The fields that an answer adds to those of all answers, in the order of the output.
pub(crate) type Fields = Vec<(&'static str, Value)>;

/// A command that failed, with the fields that its answer still has.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: String,
    pub(crate) fields: Fields,
}

impl From<String> for Failure {
    fn from(error: String) -> Failure {
        Failure { error, fields: Fields::new() }
    }
}

#[derive(Debug)]
pub(crate) struct CommandAnswer {
    pub(crate) id: Option<String>,
    pub(crate) cmd: String,
    pub(crate) key: Option<String>,
    pub(crate) took: Duration,
    pub(crate) error: Option<String>,
    pub(crate) fields: Fields,
}

impl CommandAnswer {
    pub(crate) fn new(asked: Asked, took: Duration, result: Result<Fields, Failure>) -> CommandAnswer {
        let Asked { id, name, key, .. } = asked;
        let (error, fields) = match result {
            Ok(fields) => (None, fields),
            Err(Failure { error, fields }) => (Some(error), fields),
        };
        CommandAnswer { id, cmd: name, key, took, error, fields }
    }

    pub(crate) fn to_json(&self) -> String {
        let mut all: Fields = Vec::new();
        all.extend(self.id.as_ref().map(|id| ("id", id.as_str().into())));
        all.push(("cmd", self.cmd.as_str().into()));
        all.push(("ok", self.error.is_none().into()));
        all.push(("ms", u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX).into()));
        all.extend(self.key.as_ref().map(|key| ("key", key.as_str().into())));
        all.extend(self.error.as_ref().map(|error| ("error", error.as_str().into())));
        all.extend(self.fields.iter().cloned());
        object(&all)
    }
}

/// Reports an event that answers no command, on standard error: as an object for scripts, as a line for people.
pub(crate) fn report_event(json: bool, event: &str, fields: Fields, line: &str) {
    if json {
        let all = [("event", event.into())].into_iter().chain(fields).collect();
        eprint!("{}", object(&all));
    } else {
        eprintln!("{line}");
    }
}

/// A JSON object on one line, its fields in this order.
pub(crate) fn object(fields: &Fields) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
    format!("{{{}}}\n", fields.join(","))
}
