//! The configuration of a proxy under test, section by section.

use std::fmt::Write;
use std::net::SocketAddr;

use super::Upstream;
use super::store::TestStore;

/// Two guarded routes and an unguarded catch-all before one upstream, and what a test adds to that. Proxies of one configuration
/// share their keys where `ONCEGATE_TEST_STORE` says so.
#[derive(Clone, Debug, Default)]
pub struct Config {
    endpoints: Vec<SocketAddr>,
    test_store: TestStore,
    server: String,
    admin: String,
    admin_address: Option<String>,
    store: String,
    upstream: String,
    idempotency: String,
    charges: String,
    rest: String,
    routes: String,
    tables: String,
    has_no_rest: bool,
    has_no_listen: bool,
}

impl Config {
    pub fn before(upstream: &Upstream) -> Self {
        Self::before_endpoints([upstream.address()])
    }

    pub fn before_endpoints(endpoints: impl IntoIterator<Item = SocketAddr>) -> Self {
        let endpoints = endpoints.into_iter().collect();
        Self { endpoints, test_store: TestStore::of_environment(), ..Self::default() }
    }

    /// The same over a store of its own, which is empty.
    pub fn anew(self) -> Self {
        Self { test_store: TestStore::of_environment(), ..self }
    }

    /// Keeps to the memory store: the test is about its bounds.
    pub fn memory(self) -> Self {
        Self { test_store: TestStore::Memory, ..self }
    }

    /// Adds lines to `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        add(&mut self.server, lines);
        self
    }

    /// Adds lines to `[admin]`.
    pub fn admin(mut self, lines: &str) -> Self {
        add(&mut self.admin, lines);
        self
    }

    /// Has the admin listener at another address than the loopback's.
    pub fn admin_at(self, address: &str) -> Self {
        Self { admin_address: Some(address.to_owned()), ..self }
    }

    /// Adds lines to `[store]`.
    pub fn store(mut self, lines: &str) -> Self {
        add(&mut self.store, lines);
        self
    }

    /// Adds lines to the upstream.
    pub fn upstream(mut self, lines: &str) -> Self {
        add(&mut self.upstream, lines);
        self
    }

    /// Adds lines to `[idempotency]`: they hold on every guarded route.
    pub fn idempotency(mut self, lines: &str) -> Self {
        add(&mut self.idempotency, lines);
        self
    }

    /// Adds lines to the guarded route `/v1/charges`.
    pub fn charges(mut self, lines: &str) -> Self {
        add(&mut self.charges, lines);
        self
    }

    /// Adds lines to the unguarded catch-all.
    pub fn rest(mut self, lines: &str) -> Self {
        add(&mut self.rest, lines);
        self
    }

    /// Adds a route of the test's own; its upstream is filled in.
    pub fn route(mut self, lines: &str) -> Self {
        write!(self.routes, "[[routes]]\nupstream = \"legacy\"\n{lines}\n").expect("a String takes all");
        self
    }

    /// Adds tables of the test's own.
    pub fn tables(mut self, lines: &str) -> Self {
        add(&mut self.tables, lines);
        self
    }

    /// Leaves the catch-all away.
    pub fn only_listed_routes(self) -> Self {
        Self { has_no_rest: true, ..self }
    }

    pub fn endpoint(mut self, address: SocketAddr) -> Self {
        self.endpoints.push(address);
        self
    }

    /// Leaves `listen` away: the test has a listener of its own.
    pub fn only_listener(self) -> Self {
        Self { has_no_listen: true, ..self }
    }

    /// The file.
    pub async fn toml(&self) -> String {
        let store = self.test_store.toml(&self.store).await;
        let addresses: Vec<String> =
            self.endpoints.iter().map(|address| format!("\"http://{address}\"")).collect();
        // Without an endpoint of a test's, the test writes its own.
        let endpoints = match addresses.as_slice() {
            [] => String::new(),
            addresses => format!("endpoints = [{}]", addresses.join(", ")),
        };
        let listen = if self.has_no_listen { "" } else { "listen = [\"127.0.0.1:0\"]" };
        let admin_address = self.admin_address.as_deref().unwrap_or("127.0.0.1:0");
        let mut toml = format!(
            "[server]\n{listen}\n{}\n[admin]\nlisten = \"{}\"\n{}\n[log]\naccess = false\n\
             {store}[upstreams.legacy]\n{}\n{}\n[idempotency]\n{}\n",
            self.server, admin_address, self.admin, endpoints, self.upstream, self.idempotency,
        );
        let rest = format!("guarded = false\n{}", self.rest);
        let routes = [
            ("charges", "/v1/charges", self.charges.as_str()),
            ("refunds", "/v1/refunds/{id}", ""),
            ("everything-else", "/{*rest}", &rest),
        ];
        for (name, path, lines) in routes.into_iter().take(if self.has_no_rest { 2 } else { 3 }) {
            let route = format!("name = \"{name}\"\npath = \"{path}\"\nupstream = \"legacy\"\n{lines}\n");
            write!(toml, "[[routes]]\n{route}").expect("a String takes all");
        }
        toml + &self.routes + &self.tables
    }
}

fn add(section: &mut String, lines: &str) {
    writeln!(section, "{lines}").expect("a String takes all");
}
