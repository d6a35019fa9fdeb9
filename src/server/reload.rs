//! Asking for the settings to be read again, and what is said of it.
//!
//! Owns the way from whoever asks to the one who does it, which is not this layer: settings belong to no listener.

use tokio::sync::{mpsc, oneshot};

/// How many may ask at once; more wait.
const MAX_WAITING: usize = 16;

/// Asks for the settings to be read again. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reload(mpsc::Sender<oneshot::Sender<Reloaded>>);

/// What is asked, for the one who does it.
#[derive(Debug)]
pub struct ReloadRequests(mpsc::Receiver<oneshot::Sender<Reloaded>>);

/// What came of reading the settings again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// They say what they said before.
    Unchanged,
    /// They are in force: the settings that are new.
    Changed(Vec<String>),
    /// Nothing has changed, for these mistakes.
    Invalid(Vec<String>),
    /// Nothing has changed, since these settings take a restart.
    NeedsRestart(Vec<String>),
    /// There is nothing to read, or the process is about to end.
    Impossible,
}

impl Reload {
    /// Both ends.
    #[must_use]
    pub fn channel() -> (Self, ReloadRequests) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Self(sender), ReloadRequests(receiver))
    }

    /// Asks, and returns what came of it.
    pub async fn ask(&self) -> Reloaded {
        let (sender, answer) = oneshot::channel();
        match self.0.send(sender).await {
            Ok(()) => answer.await.unwrap_or(Reloaded::Impossible),
            Err(_) => Reloaded::Impossible,
        }
    }
}

impl ReloadRequests {
    /// The next request; what came of it is sent back by what this returns. Never comes once nobody can ask any more.
    pub async fn next(&mut self) -> oneshot::Sender<Reloaded> {
        match self.0.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}
