//! New settings for a running process.
//!
//! Owns what is in force. The file is read whole and judged whole: one with a mistake, or with a setting that takes a restart,
//! changes nothing. What was begun goes on by the settings that it began with.

mod metrics;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(super) use self::metrics::Metrics;
use super::running::spawn_until;
use super::store_timeout;
use crate::config::{self, ConfigError, Contents, Loaded, Past, Settings};
use crate::guard::Guard;
use crate::proxy::Proxy;
use crate::server::admin::Effective;
use crate::server::{ReloadRequests, Reloaded, Server};
use crate::telemetry;

/// Takes new settings.
#[derive(Debug)]
pub(super) struct Reloader {
    in_force: Arc<Settings>,
    past: Past,
    file: Option<Followed>,
    server: Arc<Server>,
    guard: Guard,
    metrics: Metrics,
    requests: ReloadRequests,
    effective: Effective,
    /// What was said last of a file that cannot be taken: said once, however often the file is looked at.
    said: Option<Reloaded>,
}

/// The file that settings come from.
#[derive(Clone, Debug)]
struct Followed {
    path: PathBuf,
    /// What is in force.
    contents: Contents,
    /// What the last look found, if that is something else.
    found: Option<Contents>,
}

/// What is about to be in force.
struct Prepared {
    changes: Vec<String>,
    contents: Contents,
    loaded: Loaded,
    proxy: Proxy,
}

impl Reloader {
    /// For a process that goes by `settings`.
    pub(super) fn new(
        settings: Settings,
        (server, guard): (Arc<Server>, Guard),
        requests: ReloadRequests,
        effective: Effective,
        metrics: Metrics,
    ) -> Self {
        Self {
            in_force: Arc::new(settings),
            past: Past::default(),
            file: None,
            server,
            guard,
            metrics,
            requests,
            effective,
            said: None,
        }
    }

    /// The settings in force are these contents of that file.
    pub(super) fn follow(&mut self, path: PathBuf, contents: Contents) {
        self.metrics.in_force(&contents);
        self.file = Some(Followed { path, contents, found: None });
    }

    /// Takes new settings for as long as it is polled. What they begin ends with `ended`.
    pub(super) async fn reload_forever(mut self, ended: CancellationToken) {
        loop {
            let interval = self.in_force.reload_interval.filter(|_| self.file.is_some());
            let look = async {
                match interval {
                    Some(interval) => sleep(interval).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                asked = self.requests.next() => {
                    self.said = None;
                    let read = self.read().await;
                    let reloaded = self.reload(read, &ended).await;
                    if reloaded == Reloaded::Unchanged {
                        self.metrics.count(&reloaded);
                    }
                    // Whoever asked may be gone.
                    asked.send(reloaded).unwrap_or(());
                }
                () = look => {
                    let read = self.read().await;
                    if self.has_settled(&read) {
                        drop(self.reload(read, &ended).await);
                    }
                }
            }
        }
    }

    /// What the file holds now.
    async fn read(&self) -> Result<Contents, Reloaded> {
        let path = self.file.as_ref().ok_or(Reloaded::Impossible)?.path.clone();
        let read = spawn_blocking(move || Contents::read(&path).map_err(|error| invalid(&error))).await;
        // It fails only if the runtime is ending.
        read.unwrap_or(Err(Reloaded::Impossible))
    }

    /// Whether what was read may be taken: nobody seems to be writing it.
    fn has_settled(&mut self, read: &Result<Contents, Reloaded>) -> bool {
        // It is for the reload to say what is wrong.
        let (Some(file), Ok(contents)) = (&mut self.file, read) else { return true };
        file.has_settled(contents)
    }

    /// Takes what was read.
    async fn reload(&mut self, read: Result<Contents, Reloaded>, ended: &CancellationToken) -> Reloaded {
        let reloaded = match self.prepare(read).await {
            Ok(prepared) => return self.take(prepared, ended),
            Err(reloaded) => reloaded,
        };
        match &reloaded {
            Reloaded::Unchanged => {
                self.metrics.is_as_written();
                self.said = None;
            }
            refused if self.said.as_ref() == Some(refused) => {}
            Reloaded::Invalid(reasons) | Reloaded::NeedsRestart(reasons) => {
                for reason in reasons {
                    warn!("the settings are kept as they are: {reason}");
                }
                self.metrics.count(&reloaded);
                self.said = Some(reloaded.clone());
            }
            Reloaded::Changed(_) | Reloaded::Impossible => {}
        }
        reloaded
    }

    async fn prepare(&self, read: Result<Contents, Reloaded>) -> Result<Prepared, Reloaded> {
        let (contents, file) = (read?, self.file.clone().ok_or(Reloaded::Impossible)?);
        let (in_force, past, proxy) = (self.in_force.clone(), self.past.clone(), self.server.proxy());
        let prepared = spawn_blocking(move || judge(contents, &file, (&in_force, &past), &proxy)).await;
        // As in `read`.
        prepared.unwrap_or(Err(Reloaded::Impossible))
    }

    fn take(&mut self, prepared: Prepared, ended: &CancellationToken) -> Reloaded {
        let Prepared { mut changes, contents, loaded: Loaded { settings, warnings }, proxy } = prepared;
        let Some(file) = &mut self.file else { return Reloaded::Impossible };
        for warning in warnings {
            warn!("{}:{warning}", file.path.display());
        }
        for unguarded in config::left_unguarded(&self.in_force, &settings) {
            warn!("{unguarded}");
            changes.push(unguarded);
        }
        self.metrics.in_force(&contents);
        file.contents = contents;
        self.guard.raise_store_timeout(store_timeout(&settings));
        self.server.renew(settings.server.clone(), Arc::new(proxy));
        self.server.proxy().health_checks().for_each(|check| spawn_until(ended, check));
        if settings.log.level != self.in_force.log.level
            && let Err(error) = telemetry::follow(&settings.log.level)
        {
            warn!("the log level is kept as it is: {error}");
        }
        self.effective.set(config::describe(&settings));
        self.past.replaced(&self.in_force, &settings);
        self.in_force = Arc::new(settings);
        self.said = None;
        info!(?changes, "new settings are in force");
        let reloaded = Reloaded::Changed(changes);
        self.metrics.count(&reloaded);
        reloaded
    }
}

impl Followed {
    /// Whether a look that finds `now` finds what is in force, or what the look before has found: half of what somebody is
    /// about to write may well be settings.
    fn has_settled(&mut self, now: &Contents) -> bool {
        let found = Some(now).filter(|now| **now != self.contents);
        let has_settled = found.is_none() || found == self.found.as_ref();
        self.found = found.cloned();
        has_settled
    }
}

/// Judges what the file holds.
fn judge(
    contents: Contents,
    file: &Followed,
    (in_force, past): (&Settings, &Past),
    proxy: &Proxy,
) -> Result<Prepared, Reloaded> {
    let is_as_it_was = contents == file.contents;
    let mut changes = if is_as_it_was { Vec::new() } else { contents.changes_since(&file.contents) };
    changes.extend(proxy.outdated_upstreams().map(|name| format!("upstreams.{name}.tls (new certificates)")));
    if is_as_it_was && changes.is_empty() {
        return Err(Reloaded::Unchanged);
    }
    let loaded = contents.parse(&file.path).map_err(|error| invalid(&error))?;
    let fixed = past.fixed(in_force, &loaded.settings);
    if !fixed.is_empty() {
        return Err(Reloaded::NeedsRestart(fixed));
    }
    let proxy = proxy.renewed(&loaded.settings.proxy, loaded.settings.log.access);
    let proxy = proxy.map_err(|error| Reloaded::Invalid(vec![error.to_string()]))?;
    Ok(Prepared { changes, contents, loaded, proxy })
}

fn invalid(error: &ConfigError) -> Reloaded {
    Reloaded::Invalid(error.to_string().lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_half_written_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.toml");
        let contents = |text: &str| {
            fs::write(&path, text).unwrap();
            Contents::read(&path).unwrap()
        };
        let in_force = contents("in force");
        let mut file = Followed { path: path.clone(), contents: in_force, found: None };
        for (found, has_settled) in [
            ("in force", true),
            ("ha", false),
            ("half", false),
            ("ha", false),
            ("whole", false),
            ("whole", true),
            ("whole", true),
            ("in force", true),
            ("whole", false),
        ] {
            assert_eq!(file.has_settled(&contents(found)), has_settled, "{found}");
        }
    }
}
