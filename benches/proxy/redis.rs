//! Redis on loopback, which counts how often it is asked.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::ports::free_address;
use crate::process::Server;

/// A server that keeps nothing on disk.
#[derive(Debug)]
pub(crate) struct Redis(Server);

impl Redis {
    pub(crate) fn start(files: &Path) -> Result<Self> {
        let address = free_address();
        let file = files.join("redis.conf");
        let text = format!("bind 127.0.0.1\nport {}\ndir {}\nsave \"\"\n", address.port(), files.display());
        fs::write(&file, text)?;
        let mut command = Command::new("redis-server");
        command.arg(file).stdin(Stdio::null()).stdout(Stdio::null());
        Server::start(command, address, &files.join("redis.log")).map(Self)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// How many scripts it has run: each is a round trip, and what a script does itself is none.
    pub(crate) fn round_trips(&self) -> Result<u64> {
        let mut stream = BufReader::new(TcpStream::connect(self.0.address)?);
        stream.get_mut().write_all(b"INFO commandstats\r\n")?;
        let mut length = String::new();
        stream.read_line(&mut length)?;
        let length: usize = length.trim_start_matches('$').trim().parse()?;
        let mut said = vec![0; length];
        stream.read_exact(&mut said)?;
        let said = String::from_utf8(said)?;
        let mut calls = 0;
        for command in ["cmdstat_eval:calls=", "cmdstat_evalsha:calls="] {
            let line = said.lines().find_map(|line| line.strip_prefix(command)).unwrap_or("0");
            calls += line.split(',').next().unwrap_or("0").parse::<u64>()?;
        }
        Ok(calls)
    }
}
