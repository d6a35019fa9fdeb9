//! What only a memory store promises.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;
use crate::idempotency::{Answer, CallerHash, CallerShare, Fingerprint, UnknownCause};

const MINUTE: Duration = Duration::from_secs(60);

fn store(max_bytes: u64, max_entries: u64) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(MemoryParams { max_bytes, max_entries, prune_interval: MINUTE }))
}

fn id(number: u64) -> RequestId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[31] = number as u8;
    RequestId::from_bytes(bytes)
}

fn claim(number: u64) -> Claim {
    Claim {
        owner: Owner::new(number.into()),
        caller: None,
        fingerprint: Some(Fingerprint::from_parts(NonZeroU32::MIN, [7; 16])),
        lease: MINUTE,
        ttl: 10 * MINUTE,
        share: None,
        replaces: None,
    }
}

fn answer(bytes: usize) -> Answer {
    Answer::new(201, [].into_iter(), &vec![b'a'; bytes], [].into_iter()).unwrap()
}

async fn complete(store: &MemoryStore, number: u64, answer: &Answer) {
    assert_eq!(store.insert(&id(number), &claim(number)).await.unwrap(), Insert::Inserted, "entry {number}");
    let outcome = Outcome::Completed(answer.clone());
    let update =
        store.update(&id(number), Owner::new(number.into()), &outcome, None, 10 * MINUTE).await.unwrap();
    assert!(matches!(update, Update::Applied { .. }), "entry {number}: {update:?}");
}

async fn state(store: &MemoryStore, number: u64) -> Option<State> {
    store.lookup(&id(number)).await.unwrap().map(|entry| entry.state)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_replayed_until_its_entry_expires() {
    let store = store(1 << 20, 10);
    complete(&store, 1, &answer(100)).await;
    assert_eq!(state(&store, 1).await, Some(State::Completed { status: 201, answer: Some(answer(100)) }));
    tokio::time::advance(10 * MINUTE).await;
    assert_eq!(state(&store, 1).await, None);
    assert_eq!(store.prune().await.unwrap(), 1);
    assert_eq!(store.stats(), MemoryStats { entries: 0, answers_bytes: 0, answers_evicted: 0 });
}

/// The answers of a thousand entries need ten times the room that there is.
async fn crowded() -> Arc<MemoryStore> {
    let store = store(150_000, 1000);
    for number in 0..1000 {
        complete(&store, number, &answer(1024)).await;
    }
    store.prune().await.unwrap();
    store
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_room_reads_as_not_retained_and_never_as_absent() {
    let store = crowded().await;
    let mut retained = 0;
    for number in 0..1000 {
        let Some(State::Completed { status: 201, answer }) = state(&store, number).await else {
            panic!("entry {number} went with its answer");
        };
        retained += u64::from(answer.is_some());
    }
    let stats = store.stats();
    assert_eq!(stats.entries, 1000);
    assert_eq!(stats.answers_evicted + retained, 1000, "an answer was neither kept nor counted");
    assert!(
        (90..120).contains(&retained),
        "{retained} answers of about 1360 bytes are kept in 150,000 bytes"
    );
    assert!(stats.answers_bytes <= 150_000, "{} bytes of answers", stats.answers_bytes);
}

#[tokio::test(start_paused = true)]
async fn the_answers_that_are_kept_are_the_latest_ones() {
    let store = crowded().await;
    for number in 950..1000 {
        let expected = State::Completed { status: 201, answer: Some(answer(1024)) };
        assert_eq!(state(&store, number).await, Some(expected), "entry {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_heavier_than_all_that_may_be_kept_is_not_retained_and_pushes_nothing_out() {
    let store = store(10_000, 10);
    complete(&store, 1, &answer(1000)).await;
    complete(&store, 2, &answer(10_000)).await;
    assert_eq!(state(&store, 2).await, Some(State::Completed { status: 201, answer: None }));
    store.prune().await.unwrap();
    assert_eq!(store.stats().answers_evicted, 0, "nothing had to make room");
    assert_eq!(state(&store, 1).await, Some(State::Completed { status: 201, answer: Some(answer(1000)) }));
    assert_eq!(state(&store, 2).await, Some(State::Completed { status: 201, answer: None }));
}

#[tokio::test(start_paused = true)]
async fn a_store_for_no_answers_still_knows_its_entries() {
    let store = store(0, 10);
    complete(&store, 1, &answer(0)).await;
    assert_eq!(state(&store, 1).await, Some(State::Completed { status: 201, answer: None }));
}

#[tokio::test(start_paused = true)]
async fn an_owner_used_twice_does_not_mix_up_answers() {
    let store = store(1 << 20, 10);
    let one_owner = Claim { owner: Owner::new(7), ..claim(0) };
    for number in [1, 2] {
        assert_eq!(store.insert(&id(number), &one_owner).await.unwrap(), Insert::Inserted);
        let outcome = Outcome::Completed(answer(number as usize));
        let update = store.update(&id(number), one_owner.owner, &outcome, None, MINUTE).await.unwrap();
        assert!(matches!(update, Update::Applied { .. }));
    }
    for number in [1, 2] {
        let expected = State::Completed { status: 201, answer: Some(answer(number as usize)) };
        assert_eq!(state(&store, number).await, Some(expected), "entry {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_goes_with_its_entry() {
    let store = store(1 << 20, 10);
    for number in 0..4 {
        complete(&store, number, &answer(1000)).await;
    }
    assert_eq!(store.remove(&id(0), Owner::new(0)).await.unwrap(), Write::Applied);
    tokio::time::advance(10 * MINUTE).await;
    // One is found expired by its next claim, the others by prune.
    assert_eq!(store.insert(&id(1), &claim(1)).await.unwrap(), Insert::Inserted);
    assert_eq!(store.prune().await.unwrap(), 2);
    assert_eq!(store.stats(), MemoryStats { entries: 1, answers_bytes: 0, answers_evicted: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_caller_goes_with_his_entry() {
    let store = store(1 << 20, 10);
    let caller = Some(CallerHash::from_bytes([7; 32]));
    for number in 0..4 {
        assert_eq!(
            store.insert(&id(number), &Claim { caller, ..claim(number) }).await.unwrap(),
            Insert::Inserted,
            "entry {number}"
        );
        assert_eq!(store.lookup(&id(number)).await.unwrap().unwrap().caller, caller, "entry {number}");
    }
    assert_eq!(store.remove(&id(0), Owner::new(0)).await.unwrap(), Write::Applied);
    assert_eq!(store.shard(&id(0)).caller(&id(0)), None, "a removed entry has left its caller");
    tokio::time::advance(11 * MINUTE).await;
    for number in [0, 1] {
        assert_eq!(store.insert(&id(number), &claim(number)).await.unwrap(), Insert::Inserted);
        assert_eq!(store.lookup(&id(number)).await.unwrap().unwrap().caller, None, "the next entry {number}");
    }
    assert_eq!(store.prune().await.unwrap(), 2);
    for number in 0..4 {
        assert_eq!(store.shard(&id(number)).caller(&id(number)), None, "entry {number} has left its caller");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_is_refused_leaves_no_answer_behind() {
    let store = store(1 << 20, 10);
    complete(&store, 1, &answer(1000)).await;
    store.prune().await.unwrap();
    let before = store.stats();
    for (number, owner) in [(1, 1), (1, 2), (3, 3)] {
        let outcome = Outcome::Completed(answer(2000));
        let update = store.update(&id(number), Owner::new(owner), &outcome, None, MINUTE).await.unwrap();
        assert_eq!(update, Update::Lost, "entry {number}, owner {owner}");
    }
    store.prune().await.unwrap();
    assert_eq!(store.stats(), before);
}

#[tokio::test(start_paused = true)]
async fn the_same_answer_again_is_applied_even_if_it_had_to_make_room() {
    let store = crowded().await;
    assert_eq!(state(&store, 0).await, Some(State::Completed { status: 201, answer: None }));
    for (status, applied) in [(201, true), (500, false)] {
        let same = Answer::new(status, [].into_iter(), &[b'a'; 1024], [].into_iter()).unwrap();
        let update =
            store.update(&id(0), Owner::new(0), &Outcome::Completed(same), None, MINUTE).await.unwrap();
        assert_eq!(matches!(update, Update::Applied { .. }), applied, "status {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_judged_again_after_its_answer_was_kept() {
    let store = store(1 << 20, 10);
    assert_eq!(store.insert(&id(1), &claim(1)).await.unwrap(), Insert::Inserted);
    let (late, owner) = (answer(500), Owner::new(1));
    let kept = store.answers.keep(&late);
    // Meanwhile the same owner's other outcome comes to stand.
    let outcome = Outcome::Completed(answer(100));
    assert!(matches!(
        store.update(&id(1), owner, &outcome, None, MINUTE).await.unwrap(),
        Update::Applied { .. }
    ));
    assert_eq!(store.apply((&id(1), owner), (&Outcome::Completed(late), kept), None, MINUTE), None);
    assert_eq!(state(&store, 1).await, Some(State::Completed { status: 201, answer: Some(answer(100)) }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_outcomes_one_stands_and_no_other_leaves_its_answer() {
    const ENTRIES: u64 = 5000;
    let store = store(1 << 30, ENTRIES);
    for number in 0..ENTRIES {
        assert_eq!(store.insert(&id(number), &claim(number)).await.unwrap(), Insert::Inserted);
    }
    let mut tasks = JoinSet::new();
    for task in 1..=4 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut applied = 0;
            for number in 0..ENTRIES {
                let outcome = Outcome::Completed(answer(task));
                let update = store
                    .update(&id(number), Owner::new(number.into()), &outcome, None, MINUTE)
                    .await
                    .unwrap();
                applied += u64::from(update != Update::Lost);
            }
            applied
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<u64>(), ENTRIES);
    for number in 0..ENTRIES {
        assert_eq!(store.remove(&id(number), Owner::new(number.into())).await.unwrap(), Write::Applied);
    }
    store.prune().await.unwrap();
    assert_eq!(store.stats(), MemoryStats { entries: 0, answers_bytes: 0, answers_evicted: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_bound_is_exact_while_entries_come_and_go() {
    const BOUND: u64 = 50;
    let store = store(1 << 20, BOUND);
    let mut tasks = JoinSet::new();
    for task in 0..8u64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for round in 0..2000 {
                let number = task * 10_000 + round;
                let brief =
                    Claim { lease: Duration::ZERO, ttl: Duration::from_millis(round % 3), ..claim(number) };
                match store.insert(&id(number), &brief).await {
                    Ok(Insert::Inserted) if round % 2 == 0 => {
                        let _gone_already = store.remove(&id(number), brief.owner).await.unwrap();
                    }
                    Ok(Insert::Inserted) | Err(StoreError::Full { max_entries: BOUND }) => {}
                    other => panic!("insert {number}: {other:?}"),
                }
                let entries = store.stats().entries;
                assert!(entries <= BOUND, "{entries} entries");
            }
        });
    }
    tasks.join_all().await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    store.prune().await.unwrap();
    let stored: usize = store.shards.iter().map(|shard| lock(shard).iter().count()).sum();
    assert_eq!((store.stats().entries, stored), (0, 0), "the count and the entries have come apart");
}

#[tokio::test(start_paused = true)]
async fn what_expires_is_pruned_however_its_expiry_moved() {
    let store = store(1 << 20, 10);
    let settle = async |number, ttl| {
        let outcome = Outcome::Unknown(UnknownCause::Abandoned);
        store.update(&id(number), Owner::new(number.into()), &outcome, None, ttl).await.unwrap()
    };
    for number in 0..3 {
        assert_eq!(store.insert(&id(number), &claim(number)).await.unwrap(), Insert::Inserted);
    }
    // Earlier than its claim said; later; and renewed, and then left.
    assert!(matches!(settle(0, MINUTE).await, Update::Applied { .. }));
    assert!(matches!(settle(1, 60 * MINUTE).await, Update::Applied { .. }));
    assert_eq!(store.renew(&id(2), Owner::new(2), 20 * MINUTE).await.unwrap(), Write::Applied);
    for (minutes, pruned) in [(0, 0), (1, 1), (10, 0), (18, 0), (1, 1), (29, 0), (1, 1)] {
        tokio::time::advance(minutes * MINUTE).await;
        assert_eq!(store.prune().await.unwrap(), pruned, "after {minutes} minutes more");
    }
    assert_eq!(store.stats().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_expires_a_millisecond_too_early_or_too_late() {
    let store = store(1 << 20, 10);
    complete(&store, 1, &answer(100)).await;
    assert_eq!(
        store.insert(&id(2), &Claim { lease: 2 * MINUTE, ttl: 8 * MINUTE, ..claim(2) }).await.unwrap(),
        Insert::Inserted
    );
    // One that goes earlier, so that prune has a reason to look.
    let early = 10 * MINUTE - Duration::from_millis(1);
    let update = Outcome::Unknown(UnknownCause::Abandoned);
    assert_eq!(store.insert(&id(65), &claim(65)).await.unwrap(), Insert::Inserted);
    assert!(matches!(
        store.update(&id(65), Owner::new(65), &update, None, early).await.unwrap(),
        Update::Applied { .. }
    ));
    tokio::time::advance(early).await;
    assert_eq!(store.prune().await.unwrap(), 1);
    assert!(state(&store, 1).await.is_some() && state(&store, 2).await.is_some());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!((state(&store, 1).await, state(&store, 2).await), (None, None));
    assert_eq!(store.prune().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_woken_by_the_settlement_and_by_nothing_else() {
    let store = store(1 << 20, 10);
    for number in [1, 2] {
        assert_eq!(store.insert(&id(number), &claim(number)).await.unwrap(), Insert::Inserted);
    }
    let waiting = Arc::clone(&store);
    let mut waiters = JoinSet::new();
    let waiter = waiters.spawn(async move { waiting.settled(&id(1), 60 * MINUTE).await.unwrap() });
    for _ in 0..5 {
        tokio::time::sleep(MINUTE / 2).await;
        assert_eq!(store.renew(&id(1), Owner::new(1), MINUTE).await.unwrap(), Write::Applied);
        assert_eq!(store.insert(&id(1), &claim(1)).await.unwrap(), Insert::Inserted);
    }
    assert_eq!(store.remove(&id(2), Owner::new(2)).await.unwrap(), Write::Applied);
    assert!(!waiter.is_finished(), "nothing has happened to the entry that is waited for");
    let before = tokio::time::Instant::now();
    assert_eq!(store.remove(&id(1), Owner::new(1)).await.unwrap(), Write::Applied);
    waiters.join_all().await;
    assert_eq!(before.elapsed(), Duration::ZERO, "a waiter is pushed");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_waits_for_the_end_of_the_lease_to_the_millisecond() {
    let store = store(1 << 20, 10);
    let begin = tokio::time::Instant::now();
    assert_eq!(store.insert(&id(1), &claim(1)).await.unwrap(), Insert::Inserted);
    store.settled(&id(1), 60 * MINUTE).await.unwrap();
    assert_eq!(begin.elapsed(), MINUTE);
    assert_eq!(state(&store, 1).await, Some(State::Unknown(UnknownCause::OwnerLost)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_waiter_who_gave_up() {
    let store = store(1 << 20, 10);
    assert_eq!(store.insert(&id(1), &claim(1)).await.unwrap(), Insert::Inserted);
    let (patient, waiting) = (Arc::clone(&store), Arc::clone(&store));
    let mut waiters = JoinSet::new();
    let cancelled = waiters.spawn(async move { waiting.settled(&id(1), MINUTE).await.unwrap() });
    let patient = waiters.spawn(async move { patient.settled(&id(1), MINUTE / 2).await.unwrap() });
    store.settled(&id(1), MINUTE / 4).await.unwrap();
    assert!(!patient.is_finished(), "one who gave up took the others with him");
    cancelled.abort();
    assert!(waiters.join_next().await.unwrap().unwrap_err().is_cancelled());
    assert_eq!(store.shard(&id(1)).waited_for(), 1);
    waiters.join_all().await;
    assert_eq!(store.shard(&id(1)).waited_for(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_lease_ends_before_its_time() {
    let store = store(1 << 20, 10);
    // Not on a full millisecond, neither the claim nor its lease.
    tokio::time::advance(Duration::from_micros(900)).await;
    let begin = tokio::time::Instant::now();
    let lease = Duration::from_micros(10_500);
    assert_eq!(store.insert(&id(1), &Claim { lease, ..claim(1) }).await.unwrap(), Insert::Inserted);
    while state(&store, 1).await == Some(State::InFlight) {
        tokio::time::advance(Duration::from_micros(100)).await;
    }
    let ran = begin.elapsed();
    assert!(lease <= ran && ran <= lease + Duration::from_millis(2), "a lease of {lease:?} ran for {ran:?}");
}

#[tokio::test(start_paused = true)]
async fn durations_without_measure_break_nothing() {
    let store = store(1 << 20, 10);
    let forever = Claim { lease: Duration::MAX, ttl: Duration::MAX, ..claim(1) };
    assert_eq!(store.insert(&id(1), &forever).await.unwrap(), Insert::Inserted);
    assert_eq!(store.renew(&id(1), forever.owner, Duration::MAX).await.unwrap(), Write::Applied);
    let waiting = Arc::clone(&store);
    let mut waiters = JoinSet::new();
    let waiter = waiters.spawn(async move { waiting.settled(&id(1), Duration::MAX).await.unwrap() });
    tokio::time::sleep(60 * MINUTE).await;
    assert!(!waiter.is_finished());
    let outcome = Outcome::Unknown(UnknownCause::Abandoned);
    let update = store.update(&id(1), forever.owner, &outcome, None, Duration::MAX).await.unwrap();
    assert!(matches!(update, Update::Applied { .. }));
    waiters.join_all().await;
    tokio::time::advance(365 * 24 * 60 * MINUTE).await;
    assert_eq!(store.prune().await.unwrap(), 0);
    assert!(state(&store, 1).await.is_some());
}

/// What is logged while it lives, on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fills_up_warns_with_the_time_left() {
    let (log, store) = (Log::default(), store(1 << 20, 100));
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    for (entries, expected) in [(79, None), (80, Some("full_in=20m")), (80, Some("has not grown"))] {
        for number in store.stats().entries..entries {
            let insert = store.insert(&id(number), &claim(number)).await.unwrap();
            assert_eq!(insert, Insert::Inserted);
        }
        tokio::time::advance(MINUTE).await;
        lock(&log.0).clear();
        assert_eq!(store.prune().await.unwrap(), 0);
        let logged = String::from_utf8(lock(&log.0).clone()).unwrap();
        assert_eq!(logged.is_empty(), expected.is_none(), "at {entries} of 100: {logged}");
        assert!(logged.contains(expected.unwrap_or_default()), "at {entries} of 100: {logged}");
    }
}

#[tokio::test]
async fn a_caller_without_entries_leaves_nothing_behind() {
    let store = store(1 << 20, 100);
    let of = |number| CallerShare { caller: CallerHash::from_bytes([number; 32]), max_entries: 1 };
    for number in 0..10 {
        let claim = Claim { share: Some(of(number)), ..claim(number.into()) };
        assert_eq!(store.insert(&id(number.into()), &claim).await.unwrap(), Insert::Inserted);
        let refused = store.insert(&id(100), &claim).await;
        assert!(matches!(refused, Err(StoreError::CallerFull { max_entries: 1 })), "{refused:?}");
    }
    assert_eq!((store.callers.len(), store.stats().entries), (10, 10));
    for number in 0..10 {
        assert_eq!(store.remove(&id(number), Owner::new(number.into())).await.unwrap(), Write::Applied);
    }
    assert_eq!((store.callers.len(), store.stats().entries), (0, 0));
}
