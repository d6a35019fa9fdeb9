//! The store's steps, each a script that the server runs as a whole.
//!
//! Owns their texts and how one is called: by its hash, and by its text where the server does not know it yet. Every script
//! that writes may be sent again: the owner's token in the record says that it was made already.

use std::sync::LazyLock;

use redis::aio::ConnectionLike;
use redis::{Arg, Cmd, ErrorKind, RedisResult, ServerErrorKind, ToRedisArgs, Value};

/// What a script that cannot read a record says, before the format's number.
pub(super) const UNKNOWN_FORMAT: &str = "ONCEGATE-FORMAT ";

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
pub(super) struct Call {
    text: &'static str,
    command: Cmd,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, script: redis::Script::new(text) }
    }

    /// A call with these keys, the first of which chooses the server.
    pub(super) fn on<const N: usize>(&'static self, keys: [&str; N]) -> Call {
        let mut by_hash = redis::cmd("EVALSHA");
        by_hash.arg(self.script.get_hash()).arg(N);
        for key in keys {
            by_hash.arg(key);
        }
        Call { text: self.text, command: by_hash }
    }
}

impl Call {
    /// A command of the server's own.
    pub(super) fn native(name: &'static str, key: &str) -> Self {
        let mut command = redis::cmd(name);
        command.arg(key);
        Self { text: "", command }
    }

    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.command.arg(argument);
        self
    }

    pub(super) async fn run(&self, connection: &mut impl ConnectionLike) -> RedisResult<Value> {
        match self.command.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.by_text().query_async(connection).await
            }
            answered => answered,
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
