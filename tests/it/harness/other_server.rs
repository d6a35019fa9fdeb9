//! Servers that others made, each a process that ends with the test: nginx and Node.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::process::Running;
use super::{eventually, tools};
use crate::servers::free_address;

/// A server that others made.
#[derive(Debug)]
pub struct OtherServer {
    _running: Running,
    address: SocketAddr,
    /// What it needs, or writes.
    folder: TempDir,
}

impl OtherServer {
    /// nginx with one `server`, made for the address that it is to listen on. It logs `asked` for each request.
    pub async fn nginx(asked: &str, server: impl FnOnce(SocketAddr) -> String) -> Self {
        tools();
        let folder = TempDir::new().expect("a folder");
        let address = free_address();
        let (path, server) = (folder.path().display(), server(address));
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\n\
             events {{}}\n\
             http {{\n\
             log_format asked '{asked}'; access_log {path}/access.log asked;\n\
             client_body_temp_path {path}; proxy_temp_path {path}; fastcgi_temp_path {path};\n\
             uwsgi_temp_path {path}; scgi_temp_path {path};\n\
             server {{ {server} }}\n\
             }}\n"
        );
        fs::write(folder.path().join("nginx.conf"), config).expect("a file");
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let child = Command::new(program)
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx");
        eventually("nginx listens", async || TcpStream::connect(address).await.is_ok()).await;
        Self { _running: Running(child), address, folder }
    }

    /// Node with a `script` that listens on a port of 127.0.0.1 and prints it.
    pub fn node(script: &str) -> Self {
        tools();
        let mut child =
            Command::new("node").args(["-e", script]).stdout(Stdio::piped()).spawn().expect("node");
        let mut port = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut port).expect("a line");
        let address = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().expect("a port")));
        Self { _running: Running(child), address, folder: TempDir::new().expect("a folder") }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What nginx has logged so far.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }
}
