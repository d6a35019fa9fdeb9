//! One server: how it is started, asked, stopped and started again.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, RedisConnectionInfo, RedisResult, TlsCertificates,
};
use tokio::time::{sleep, timeout};

use super::ports::free_address;
use super::supervised::Supervised;
use super::{Certificates, DEADLINE, POLL, tools};

/// Who alone may do anything on a server.
pub const USER: &str = "oncegate";
pub const PASSWORD: &str = "known-to-tests";

/// The file in a server's folder that has the password.
pub const PASSWORD_FILE: &str = "password";

/// Who made a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Redis,
    Valkey,
}

/// A server to be. It takes nobody without the password and keeps nothing on disk.
#[derive(Debug)]
pub struct Launch {
    make: Make,
    lines: String,
    encryption: Encryption,
    is_sentinel: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    None,
    Tls,
    MutualTls,
}

/// A server, which ends when dropped. Its folder has the password, and under TLS `ca.crt`, `client.crt` and `client.key`.
#[derive(Debug)]
pub struct Server {
    make: Make,
    address: SocketAddr,
    encryption: Encryption,
    supervised: Supervised,
}

impl Make {
    /// Redis, and Valkey where there is one for this platform.
    pub fn here() -> Vec<Self> {
        tools();
        let mut here = vec![Self::Redis];
        if Self::Valkey.program().exists() {
            here.push(Self::Valkey);
        } else {
            eprintln!("skipped: no Valkey for this platform (tests/tools.sh)");
        }
        here
    }

    fn program(self) -> PathBuf {
        match self {
            Self::Redis => PathBuf::from("redis-server"),
            Self::Valkey => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/valkey-server"),
        }
    }
}

impl Launch {
    pub fn of(make: Make) -> Self {
        Self { make, lines: String::new(), encryption: Encryption::None, is_sentinel: false }
    }

    /// What was acknowledged is on disk, and is there after a restart.
    pub fn appendonly(self) -> Self {
        self.with("appendonly yes\nappendfsync always")
    }

    /// As `appendonly`, but that the system writes to disk when it likes, which is as good where servers are killed and the
    /// machine is not: for who cannot wait for a slow disk. An answer that waits behind others may go before its record.
    pub fn appendonly_unsynced(self) -> Self {
        self.with("appendonly yes\nappendfsync no")
    }

    /// Adds lines to the configuration.
    pub fn with(mut self, lines: &str) -> Self {
        writeln!(self.lines, "{lines}").expect("a String takes all");
        self
    }

    /// Takes only connections by TLS, as `127.0.0.1` and `localhost`. Valkey's package has none.
    pub fn tls(self) -> Self {
        Self { encryption: Encryption::Tls, ..self }
    }

    /// And only with the client's certificate.
    pub fn mutual_tls(self) -> Self {
        Self { encryption: Encryption::MutualTls, ..self }
    }

    /// Watches over others, as `lines` say.
    pub fn sentinel(self, lines: &str) -> Self {
        Self { is_sentinel: true, ..self }.with(lines)
    }

    /// Starts it, and waits until it answers.
    pub async fn start(self) -> Server {
        tools();
        let address = free_address();
        // Removed by who supervises: statics are never dropped.
        let folder = tempfile::tempdir().expect("a folder").keep();
        fs::write(folder.join(PASSWORD_FILE), PASSWORD).expect("a file");
        if self.encryption != Encryption::None {
            let authority = Certificates::in_folder(&folder);
            drop(authority.certify("server", &["127.0.0.1", "localhost"]));
            drop(authority.certify("client", &["client"]));
        }
        let file = folder.join("server.conf");
        fs::write(&file, self.file(address.port(), &folder)).expect("a file");
        let file = file.to_str().expect("a plain path");
        let arguments: &[&str] = if self.is_sentinel { &[file, "--sentinel"] } else { &[file] };
        let supervised = Supervised::new(&folder, &self.make.program(), arguments);
        let mut server = Server { make: self.make, address, encryption: self.encryption, supervised };
        server.restart().await;
        server
    }

    fn file(&self, port: u16, folder: &Path) -> String {
        let folder = folder.display();
        let by_tls = |clients: &str| {
            format!(
                "port 0\ntls-port {port}\ntls-auth-clients {clients}\ntls-ca-cert-file {folder}/ca.crt\n\
                 tls-cert-file {folder}/server.crt\ntls-key-file {folder}/server.key"
            )
        };
        let listens = match self.encryption {
            Encryption::None => format!("port {port}"),
            Encryption::Tls => by_tls("no"),
            Encryption::MutualTls => by_tls("yes"),
        };
        let keeps = if self.is_sentinel { "" } else { "save \"\"" };
        // The default user is off, and may do everything nevertheless: when a server reads its file again it does so as that
        // user, and drops what scripts have written if he may not (redis/redis#14541).
        format!(
            "bind 127.0.0.1\n{listens}\ndir {folder}\n{keeps}\n\
             user default off ~* &* +@all\nuser {USER} on >{PASSWORD} ~* &* +@all\n{}",
            self.lines
        )
    }
}

impl Server {
    /// Where it listens, be it up or down.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn make(&self) -> Make {
        self.make
    }

    /// Without user and password.
    pub fn url(&self) -> String {
        self.url_by(self.address)
    }

    /// The same by another way: a relay's address.
    pub fn url_by(&self, address: SocketAddr) -> String {
        let scheme = if self.encryption == Encryption::None { "redis" } else { "rediss" };
        format!("{scheme}://{address}/0")
    }

    /// The path of a file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.supervised.folder().join(name)
    }

    pub async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let client = self.client()?;
        let patience = Some(Duration::from_secs(10));
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Sends one command, on a connection of its own.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut connection = self.connect().await?;
        let (name, arguments) = words.split_first().expect("a command has a name");
        redis::cmd(name).arg(arguments).query_async(&mut connection).await
    }

    /// Stops it in the midst of whatever it does: its connections stay, and nobody answers.
    pub fn pause(&mut self) {
        self.supervised.signal("STOP");
    }

    /// Goes on after `pause`.
    pub fn resume(&mut self) {
        self.supervised.signal("CONT");
    }

    /// Ends it, without a chance to say or save anything.
    pub fn kill(&mut self) {
        self.supervised.signal("KILL");
    }

    /// Ends it if it runs, starts it where it was, with what it has on disk, and waits until it answers.
    pub async fn restart(&mut self) {
        self.kill();
        self.supervised.start();
        let answered = async {
            while self.command::<String>(&["PING"]).await.is_err() {
                sleep(POLL).await;
            }
        };
        if timeout(DEADLINE, answered).await.is_err() {
            panic!("{:?} does not answer at {}:\n{}", self.make, self.address, self.supervised.log());
        }
    }

    fn client(&self) -> RedisResult<Client> {
        let access = RedisConnectionInfo::default().set_username(USER).set_password(PASSWORD);
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        if self.encryption == Encryption::None {
            let info = ConnectionAddr::Tcp(host, port).into_connection_info()?;
            return Client::open(info.set_redis_settings(access));
        }
        let read = |name: &str| fs::read(self.path(name)).expect("a file");
        let own = || ClientTlsConfig { client_cert: read("client.crt"), client_key: read("client.key") };
        let certificates = TlsCertificates {
            client_tls: (self.encryption == Encryption::MutualTls).then(own),
            root_cert: Some(read("ca.crt")),
        };
        let info: ConnectionInfo = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            .into_connection_info()?;
        Client::build_with_tls(info.set_redis_settings(access), certificates)
    }
}
