//! The store's steps, each a script that the server runs as a whole.
//!
//! Owns their texts and how one is called: by its hash, and by its text where the server does not know it yet. Every script
//! that writes may be sent again: the owner's token in the record says that it was made already.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Arg, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, ToRedisArgs, Value};

use super::connect::Connection;

/// What a script that cannot read a record says, before the format's number.
pub(super) const UNKNOWN_FORMAT: &str = "ONCEGATE-FORMAT ";

/// What a call takes that carries no answer, so that it need not grow while it is put together.
const ARGUMENTS: usize = 14;
const ARGUMENT_BYTES: usize = 640;

/// A text and its hash.
pub(super) struct Script {
    text: &'static str,
    script: redis::Script,
}

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("prelude.lua"), include_str!($file))));
    };
}

script!(EPOCH, "epoch.lua");
script!(INSERT, "insert.lua");
script!(LIST, "list.lua");
script!(LOOKUP, "lookup.lua");
script!(PRUNE, "prune.lua");
script!(REMOVE, "remove.lua");
script!(RENEW, "renew.lua");
script!(RESERVE, "reserve.lua");
script!(SHARE, "share.lua");
script!(UPDATE, "update.lua");
script!(WAIT, "wait.lua");

/// A script, or a command of the server's own, with its keys and arguments.
#[derive(Clone)]
pub(super) struct Call {
    text: &'static str,
    command: Cmd,
    way: Way,
}

/// Who carries a call out.
#[derive(Clone)]
enum Way {
    /// The server that has its key.
    Once,
    /// Every server that has keys; the answer lists theirs.
    EveryPrimary,
    /// The server that has `key`. The answer is a pair: the call's, and the number of replicas that have it.
    Awaiting { key: String, wait: Cmd },
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, script: redis::Script::new(text) }
    }

    /// A call with these keys, the first of which chooses the server.
    pub(super) fn on<const N: usize>(&'static self, keys: [&str; N]) -> Call {
        let mut by_hash = Cmd::with_capacity(ARGUMENTS, ARGUMENT_BYTES);
        by_hash.arg("EVALSHA").arg(self.script.get_hash()).arg(N);
        for key in keys {
            by_hash.arg(key);
        }
        Call { text: self.text, command: by_hash, way: Way::Once }
    }
}

impl Call {
    /// A command of the server's own.
    pub(super) fn native(name: &'static str, key: &str) -> Self {
        let mut command = redis::cmd(name);
        command.arg(key);
        Self { text: "", command, way: Way::Once }
    }

    /// A command that every server with keys is given.
    pub(super) fn on_every_primary(words: &[&'static str]) -> Self {
        let mut command = Cmd::new();
        command.arg(words);
        Self { text: "", command, way: Way::EveryPrimary }
    }

    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.command.arg(argument);
        self
    }

    /// The same, followed by the question how many `replicas` have it, for which `patience` is waited.
    pub(super) fn awaiting(self, key: &str, replicas: u32, patience: Duration) -> Self {
        let mut wait = redis::cmd("WAIT");
        // None at all would be for ever.
        wait.arg(replicas).arg(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1));
        Self { way: Way::Awaiting { key: key.to_owned(), wait }, ..self }
    }

    pub(super) async fn run(&self, connection: &mut Connection) -> RedisResult<Value> {
        match self.send(&self.command, connection).await {
            Err(error) if is_unknown(&error) => self.send(&self.by_text(), connection).await,
            answered => answered,
        }
    }

    async fn send(&self, command: &Cmd, connection: &mut Connection) -> RedisResult<Value> {
        match &self.way {
            Way::Once => command.query_async(connection).await,
            Way::EveryPrimary => connection.ask_every_primary(command).await,
            Way::Awaiting { key, wait } => connection.send_both(key, command, wait).await,
        }
    }

    fn by_text(&self) -> Cmd {
        let mut by_text = redis::cmd("EVAL");
        by_text.arg(self.text);
        for argument in self.command.args_iter().skip(2) {
            if let Arg::Simple(argument) = argument {
                by_text.arg(argument);
            }
        }
        by_text
    }
}

fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
