//! Requests of this process that wait for entries to be settled, by whomever.
//!
//! Owns who waits for what, and that one of them asks the server for all. A place is taken before the server is asked, so that
//! no word is missed in between, and ends with the wait, however that ends: nothing is left of those who gave up. How many
//! may wait is the guard's matter. A word is a hint: whoever is woken looks for himself.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::idempotency::RequestId;
use crate::store::{Store, StoreError};

use super::RedisStore;
use super::lane::jittered;
use super::script::WAIT;

/// How often a key is asked for at the longest while settlements are heard of: in case that a word is lost.
const POLL_LISTENING: Duration = Duration::from_secs(2);

/// And while they are not.
const POLL_DEAF: Duration = Duration::from_millis(200);

/// Those who wait, by what they wait for.
#[derive(Debug)]
pub(super) struct Waiters {
    groups: Mutex<HashMap<RequestId, Seats>>,
    /// How many wait in all: who settles looks here before he takes the lock.
    count: AtomicUsize,
    /// Whether settlements by other processes are heard of.
    listening: watch::Sender<bool>,
}

/// A key's group, which ends with its last waiter or when it is woken.
#[derive(Debug)]
struct Seats {
    taken: usize,
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    /// Another process has said that the entry is settled: whoever's turn it is acts on it.
    settled: CancellationToken,
    /// Nobody waits any longer.
    woken: CancellationToken,
    /// One asks for all.
    turn: Semaphore,
    /// When the server is to be asked; `None` for at once.
    due: Mutex<Option<Instant>>,
}

/// A place among those who wait, given back on drop.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    id: RequestId,
    group: Arc<Group>,
}

/// The right to ask for all who wait for a key. Passes on when it is dropped.
pub(super) struct Turn<'a> {
    group: &'a Group,
    _permit: Option<SemaphorePermit<'a>>,
    listening: watch::Receiver<bool>,
}

/// What is to be done by whoever's turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The server is to be asked.
    Ask,
    /// Another process has said that the entry is settled.
    Settled,
}

impl RedisStore {
    /// Returns once the entry is no longer in flight, when it is this waiter's turn to ask for all who wait for it.
    pub(super) async fn ask_for_all(&self, id: &RequestId, waiter: &Waiter<'_>) -> Result<(), StoreError> {
        let mut turn = waiter.turn().await;
        while turn.next().await == Next::Ask {
            let poll = turn.asking();
            let call = WAIT.on([&self.keys.record(id)]);
            match self.call::<u64>(self.small(), &call, 0).await {
                Ok(0) => break,
                Ok(lease_ms) => turn.in_flight_for(Duration::from_millis(lease_ms), poll),
                // As patient as who waits: the next look may be answered.
                Err(StoreError::Unavailable(_)) => turn.in_flight_for(POLL_DEAF, poll),
                Err(error) => return Err(error),
            }
        }
        // Each of them will ask for the entry: it is fetched once.
        if self.near.is_on() && waiter.is_one_of_several() {
            // Who is not served by it asks for himself.
            drop(self.lookup(id).await);
        }
        Ok(())
    }
}

impl Waiters {
    pub(super) fn new() -> Self {
        Self { groups: Mutex::default(), count: AtomicUsize::new(0), listening: watch::Sender::new(false) }
    }

    /// A place among those who wait for `id`. To be taken before the server is asked.
    pub(super) fn enter(&self, id: RequestId) -> Waiter<'_> {
        let mut groups = self.lock();
        let seats = groups.entry(id).or_insert_with(|| Seats { taken: 0, group: Arc::new(Group::new()) });
        seats.taken += 1;
        self.count.fetch_add(1, Ordering::SeqCst);
        Waiter { waiters: self, id, group: Arc::clone(&seats.group) }
    }

    /// Whether settlements by other processes are heard of from now on. What happened while they were not is asked for.
    pub(super) fn set_listening(&self, listening: bool) {
        self.listening.send_replace(listening);
    }

    /// Another process has settled the entry: one of those who wait for it fetches it for all.
    pub(super) fn settled(&self, id: &RequestId) {
        if let Some(seats) = self.lock().get(id) {
            seats.group.settled.cancel();
        }
    }

    /// Wakes all who wait for the entry.
    pub(super) fn wake(&self, id: &RequestId) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(seats) = self.lock().remove(id) {
            seats.group.woken.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Seats>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn new() -> Self {
        Self {
            settled: CancellationToken::new(),
            woken: CancellationToken::new(),
            turn: Semaphore::new(1),
            due: Mutex::default(),
        }
    }

    fn due(&self) -> MutexGuard<'_, Option<Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// Returns once all are woken.
    pub(super) async fn woken(&self) {
        self.group.woken.cancelled().await;
    }

    /// Returns once nobody else asks.
    pub(super) async fn turn(&self) -> Turn<'_> {
        // It is never closed.
        let permit = self.group.turn.acquire().await.ok();
        Turn { group: &self.group, _permit: permit, listening: self.waiters.listening.subscribe() }
    }

    /// Whether others wait for the same entry.
    pub(super) fn is_one_of_several(&self) -> bool {
        self.waiters.lock().get(&self.id).is_some_and(|seats| self.is_in(seats) && seats.taken > 1)
    }

    /// Wakes all who wait with this one.
    pub(super) fn wake_all(&self) {
        if let Slot::Occupied(slot) = self.waiters.lock().entry(self.id)
            && self.is_in(slot.get())
        {
            slot.remove();
        }
        self.group.woken.cancel();
    }

    /// A group that was woken is no longer there, and another may have begun.
    fn is_in(&self, seats: &Seats) -> bool {
        Arc::ptr_eq(&self.group, &seats.group)
    }
}

impl Turn<'_> {
    /// Returns once there is something to do.
    pub(super) async fn next(&mut self) -> Next {
        let Some(due) = *self.group.due() else { return Next::Ask };
        let deaf_for_a_while = async {
            // What was said meanwhile is lost.
            if self.listening.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep(jittered(POLL_DEAF)).await;
        };
        tokio::select! {
            biased;
            () = self.group.settled.cancelled() => Next::Settled,
            () = sleep_until(due) => Next::Ask,
            () = deaf_for_a_while => Next::Ask,
        }
    }

    /// To be said right before the server is asked: what is settled from then on is heard of, if there is a subscription.
    pub(super) fn asking(&mut self) -> Duration {
        if *self.listening.borrow_and_update() { POLL_LISTENING } else { POLL_DEAF }
    }

    /// The entry is in flight, and stays so for no longer than `lease` without a sign of life. `poll` is what [`Turn::asking`]
    /// said.
    pub(super) fn in_flight_for(&self, lease: Duration, poll: Duration) {
        *self.group.due() = Some(Instant::now() + jittered(poll).min(lease));
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Slot::Occupied(mut slot) = self.waiters.lock().entry(self.id)
            && self.is_in(slot.get())
        {
            slot.get_mut().taken -= 1;
            if slot.get().taken == 0 {
                slot.remove();
            }
        }
        self.waiters.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn id(number: u8) -> RequestId {
        RequestId::from_bytes([number; 32])
    }

    #[tokio::test(start_paused = true)]
    async fn one_asks_for_all_and_hands_over_when_it_gives_up() {
        let waiters = Waiters::new();
        let (first, second) = (waiters.enter(id(1)), waiters.enter(id(1)));
        let mut turn = first.turn().await;
        assert_eq!(turn.next().await, Next::Ask, "the first to wait does not ask at once");
        let poll = turn.asking();
        turn.in_flight_for(LEASE, poll);
        assert!(
            tokio::time::timeout(LEASE, second.turn()).await.is_err(),
            "a second one asks beside the first"
        );
        drop(turn);
        drop(first);
        let asked_at = Instant::now();
        let mut turn = second.turn().await;
        turn.in_flight_for(LEASE, poll);
        assert_eq!(turn.next().await, Next::Ask);
        assert!(asked_at.elapsed() >= POLL_DEAF / 2, "the one that takes over does not keep to the schedule");
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_is_asked_rarely_while_settlements_are_heard_of_and_soon_once_they_are_not() {
        let waiters = Waiters::new();
        waiters.set_listening(true);
        let waiter = waiters.enter(id(1));
        let mut turn = waiter.turn().await;
        let poll = turn.asking();
        turn.in_flight_for(LEASE, poll);
        let since = Instant::now();
        assert_eq!(turn.next().await, Next::Ask);
        assert!(since.elapsed() >= POLL_LISTENING / 2, "asked after {:?}", since.elapsed());

        let poll = turn.asking();
        turn.in_flight_for(LEASE, poll);
        // Even if it is up again before anybody looks.
        waiters.set_listening(false);
        waiters.set_listening(true);
        let since = Instant::now();
        assert_eq!(turn.next().await, Next::Ask);
        assert!(since.elapsed() <= POLL_DEAF, "asked after {:?}", since.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_is_asked_when_the_lease_ends() {
        let waiters = Waiters::new();
        waiters.set_listening(true);
        let waiter = waiters.enter(id(1));
        let mut turn = waiter.turn().await;
        let poll = turn.asking();
        turn.in_flight_for(Duration::from_millis(50), poll);
        let since = Instant::now();
        assert_eq!(turn.next().await, Next::Ask);
        assert!(since.elapsed() <= Duration::from_millis(60), "asked after {:?}", since.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_settlement_is_the_matter_of_whoever_asks_and_then_wakes_all() {
        let waiters = Waiters::new();
        let (first, second) = (waiters.enter(id(1)), waiters.enter(id(1)));
        let mut turn = first.turn().await;
        turn.in_flight_for(LEASE, POLL_LISTENING);
        waiters.settled(&id(1));
        assert_eq!(turn.next().await, Next::Settled);
        assert!(first.is_one_of_several());
        assert!(tokio::time::timeout(LEASE, second.woken()).await.is_err(), "woken before it was fetched");
        first.wake_all();
        second.woken().await;

        let third = waiters.enter(id(1));
        assert!(!third.is_one_of_several(), "who comes later is taken for one of those who were woken");
        drop(turn);
        drop((first, second));
        assert_eq!(waiters.lock().len(), 1, "those who were woken took the later one's place with them");
    }

    #[tokio::test]
    async fn nothing_is_left_of_those_who_gave_up() {
        let waiters = Waiters::new();
        let (one, other) = (waiters.enter(id(1)), waiters.enter(id(2)));
        drop(one);
        waiters.wake(&id(2));
        other.woken().await;
        drop(other);
        assert_eq!((waiters.lock().len(), waiters.count.load(Ordering::SeqCst)), (0, 0));
    }
}
