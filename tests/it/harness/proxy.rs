//! The proxy under test: the whole of Oncegate in this process, on ports of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, Once};
use std::{fs, thread};

use oncegate::app::{App, Drained};
use oncegate::config::Contents;
use oncegate::server::{Reload, Reloaded};
use oncegate::store::Store;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Client, Config, Metrics, Request, Response, Upstream, aside, within};

/// A running proxy. Dropping it ends it at once, and fails the test if anything in it panicked.
#[derive(Debug)]
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    reload: Option<Reload>,
    shutdown: Option<oneshot::Sender<()>>,
    abort: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Drained>>,
}

/// Panics outside the tests' own code, with the thread they were seen on.
static PANICS: Mutex<Vec<(Option<String>, String)>> = Mutex::new(Vec::new());

impl Proxy {
    /// With the default routes and settings.
    pub async fn start(upstream: &Upstream) -> Self {
        Config::before(upstream).start().await
    }

    /// Where it listens first.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where it listens: `listen`, then `[[server.listeners]]`.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// Sends a request on a connection of its own.
    pub async fn request(&self, request: &Request) -> Response {
        self.client().await.request(request).await
    }

    /// Sends the charge that most tests send.
    pub async fn charge(&self, key: &str) -> Response {
        self.request(&Request::charge(key)).await
    }

    /// Sends a request, again and again while it is in flight.
    pub async fn settled(&self, request: &Request) -> Response {
        Client::settled(self.address(), request).await
    }

    /// Sends a request from a client of its own, beside the test.
    pub fn request_aside(&self, request: Request) -> JoinHandle<Response> {
        let address = self.address();
        aside(async move { Client::connect(address).await.request(&request).await })
    }

    /// Asks the admin listener, and returns the status.
    pub async fn admin(&self, path: &str) -> u16 {
        Client::connect(self.admin).await.request(&Request::get(path)).await.status
    }

    /// Asks the admin listener.
    pub async fn ask_admin(&self, request: &Request) -> Response {
        Client::connect(self.admin).await.request(request).await
    }

    /// Asks the admin listener as one on its machine does.
    pub async fn operate(&self, request: Request) -> Response {
        Client::connect(self.admin).await.request(&request.host("localhost")).await
    }

    /// What it says of its readiness.
    pub async fn readiness(&self) -> (u16, String) {
        let said = Client::connect(self.admin).await.request(&Request::get("/readyz")).await;
        (said.status, said.text())
    }

    /// The page of its metrics.
    pub async fn metrics(&self) -> Metrics {
        let page =
            Client::connect(self.admin).await.request(&Request::get("/metrics").host("localhost")).await;
        assert_eq!(page.status, 200);
        Metrics(page.text())
    }

    /// Has the file read again, as by SIGHUP.
    pub async fn reload(&self) -> Reloaded {
        within("the settings", self.reload.as_ref().expect("a file").ask()).await
    }

    /// Has the file read again, with new settings in it.
    pub async fn expect_reload(&self) -> Vec<String> {
        let reloaded = self.reload().await;
        let Reloaded::Changed(changes) = reloaded else {
            panic!("there should be new settings: {reloaded:?}")
        };
        changes
    }

    /// Sends the first signal: drain.
    pub fn begin_shutdown(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            shutdown.send(()).unwrap_or(());
        }
    }

    /// Sends the second signal: end at once.
    pub fn abort(&mut self) {
        if let Some(abort) = self.abort.take() {
            abort.send(()).unwrap_or(());
        }
    }

    /// Waits until it has ended, and says how.
    pub async fn ended(&mut self) -> Drained {
        let running = self.running.take().expect("a proxy ends once");
        within("the proxy's end", running).await.expect("the proxy does not panic")
    }

    pub async fn shutdown(mut self) {
        self.begin_shutdown();
        self.ended().await;
    }
}

impl Config {
    pub async fn start(&self) -> Proxy {
        self.launch(None).await
    }

    pub async fn start_with_store(&self, store: Arc<dyn Store>) -> Proxy {
        self.launch(Some(store)).await
    }

    /// Why it does not start over this store.
    pub async fn start_error(&self, store: Arc<dyn Store>) -> String {
        match self.build(Some(store)).await {
            Ok(_) => panic!("the proxy should not start"),
            Err(error) => error,
        }
    }

    async fn build(&self, store: Option<Arc<dyn Store>>) -> Result<App, String> {
        watch_for_panics();
        let config = self.clone();
        // A store that the test brings is as it made it.
        let toml = if store.is_some() { config.memory().toml().await } else { config.toml().await };
        let loaded = oncegate::config::parse(&toml, "proxy.toml");
        let settings = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}\n{toml}")).settings;
        let app = match store {
            None => App::build(settings).await,
            Some(store) => App::build_with_store(settings, store).await,
        };
        app.map_err(|error| with_causes(&error))
    }

    /// In a runtime of its own, as `main` runs it: what it leaves undone ends when it ends.
    pub async fn start_as_process(&self, store: Arc<dyn Store>) -> Proxy {
        let config = self.clone();
        let (started, starts) = oneshot::channel();
        let (shutdown, shutdown_signal) = oneshot::channel::<()>();
        let (abort, abort_signal) = oneshot::channel::<()>();
        let running = spawn_blocking(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let drained = runtime.block_on(async move {
                let app = config.build(Some(store)).await.unwrap_or_else(|error| panic!("{error}"));
                started
                    .send((app.addresses().to_owned(), app.admin_address().expect("an admin listener")))
                    .expect("a test");
                app.run(signal(shutdown_signal), signal(abort_signal)).await
            });
            runtime.shutdown_background();
            drained
        });
        let (addresses, admin) = within("the proxy's start", starts).await.expect("the proxy starts");
        Proxy {
            addresses,
            admin,
            reload: None,
            shutdown: Some(shutdown),
            abort: Some(abort),
            running: Some(running),
        }
    }

    /// From this file, which it follows, and which is written if it is not there.
    pub async fn start_from(&self, file: &Path) -> Proxy {
        watch_for_panics();
        if !file.exists() {
            self.write_to(file).await;
        }
        let contents = Contents::read(file).unwrap_or_else(|error| panic!("{error}"));
        let loaded = contents.parse(file).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let mut app = App::build(loaded.settings).await.unwrap_or_else(|error| panic!("{error}"));
        app.follow(file.to_owned(), contents);
        run(app)
    }

    /// Writes the file, all of it at once.
    pub async fn write_to(&self, file: &Path) {
        let new = file.with_extension("new");
        fs::write(&new, self.toml().await).expect("a file");
        fs::rename(new, file).expect("a file");
    }

    async fn launch(&self, store: Option<Arc<dyn Store>>) -> Proxy {
        run(self.build(store).await.unwrap_or_else(|error| panic!("{error}")))
    }
}

fn run(app: App) -> Proxy {
    let addresses = app.addresses().to_owned();
    let admin = app.admin_address().expect("an admin listener");
    let reload = Some(app.reload().clone());
    let (shutdown, shutdown_signal) = oneshot::channel::<()>();
    let (abort, abort_signal) = oneshot::channel::<()>();
    let running = aside(async move { app.run(signal(shutdown_signal), signal(abort_signal)).await });
    Proxy { addresses, admin, reload, shutdown: Some(shutdown), abort: Some(abort), running: Some(running) }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.begin_shutdown();
        self.abort();
        let panics = PANICS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mine =
            |name: &Option<String>| *name == thread_name() || name.as_deref() == Some("tokio-rt-worker");
        let panics: Vec<_> =
            panics.iter().filter(|(name, _)| mine(name)).map(|(_, what)| what.clone()).collect();
        if !panics.is_empty() && !thread::panicking() {
            panic!("the proxy panicked: {panics:#?}");
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Never comes if the test forgets to send it.
async fn signal(sent: oneshot::Receiver<()>) {
    if sent.await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn watch_for_panics() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let of_a_test = panic.location().is_some_and(|location| location.file().starts_with("tests/"));
            if !of_a_test {
                PANICS
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .push((thread_name(), panic.to_string()));
            }
            before(panic);
        }));
    });
}

fn thread_name() -> Option<String> {
    thread::current().name().map(str::to_owned)
}
