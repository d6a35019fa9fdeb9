//! Who makes room when the admin listener is full: the connection that has been silent for longest.
//!
//! Connections cost nothing to open, without any token, and a probe that finds no place has a healthy process restarted. A
//! connection is silent while none of its requests is being worked on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The connections that are open.
#[derive(Debug)]
pub(super) struct Crowd {
    max: usize,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    taken: usize,
    /// Counts beginnings of silence.
    turn: u64,
    silent: BTreeMap<u64, CancellationToken>,
}

/// One connection's part of it, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    gone: CancellationToken,
    /// Since which turn it is silent.
    silent_since: AtomicU64,
}

/// A request that is worked on.
#[derive(Debug)]
pub(super) struct Asking<'a>(&'a Seat);

impl Crowd {
    pub(super) fn new(max: usize) -> Self {
        Self { max, seats: Mutex::default() }
    }

    /// A seat for one connection more. Beyond the bound the one that has been silent for longest is sent away, which may be
    /// none if all of them are asking.
    pub(super) fn enter(crowd: &Arc<Self>) -> Seat {
        let gone = CancellationToken::new();
        let mut seats = crowd.seats();
        seats.taken += 1;
        if seats.taken > crowd.max
            && let Some((_, longest)) = seats.silent.pop_first()
        {
            longest.cancel();
        }
        let silent_since = AtomicU64::new(seats.fall_silent(&gone));
        drop(seats);
        Seat { crowd: Arc::clone(crowd), gone, silent_since }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn fall_silent(&mut self, gone: &CancellationToken) -> u64 {
        self.turn += 1;
        self.silent.insert(self.turn, gone.clone());
        self.turn
    }
}

impl Seat {
    /// Returns when it has to make room.
    pub(super) async fn sent_away(&self) {
        self.gone.cancelled().await;
    }

    /// A request begins: until it is answered, its connection is not sent away.
    pub(super) fn asks(&self) -> Asking<'_> {
        self.crowd.seats().silent.remove(&self.silent_since.load(Ordering::Relaxed));
        Asking(self)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let Self(seat) = self;
        let since = seat.crowd.seats().fall_silent(&seat.gone);
        seat.silent_since.store(since, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.crowd.seats();
        seats.taken = seats.taken.saturating_sub(1);
        seats.silent.remove(&self.silent_since.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_that_was_silent_for_longest_makes_room() {
        let crowd = Arc::new(Crowd::new(3));
        let enter = || Crowd::enter(&crowd);
        let (first, second, third) = (enter(), enter(), enter());
        drop(first.asks());
        let asking = second.asks();
        let fourth = enter();
        let gone = || [&first, &second, &third, &fourth].map(|seat| seat.gone.is_cancelled());
        assert_eq!(gone(), [false, false, true, false]);
        drop(third);
        let gone = || [&first, &second, &fourth].map(|seat| seat.gone.is_cancelled());
        drop(enter());
        assert_eq!(gone(), [true, false, false], "one too many again");
        drop(asking);
        drop(first);
        let _within_the_bound = enter();
        assert_eq!([&second, &fourth].map(|seat| seat.gone.is_cancelled()), [false, false]);
    }

    #[test]
    fn nothing_is_left_of_those_who_have_gone() {
        let crowd = Arc::new(Crowd::new(2));
        for _ in 0..10 {
            let seats = [Crowd::enter(&crowd), Crowd::enter(&crowd), Crowd::enter(&crowd)];
            drop(seats[2].asks());
        }
        let seats = crowd.seats();
        assert_eq!((seats.taken, seats.silent.len()), (0, 0));
    }
}
