//! What the store is asked for one request, told to whoever wants to know.
//!
//! Owns nothing where nobody does: then each operation costs a look. What goes on in other tasks, as a write that is tried
//! again, is not told.

use std::cell::RefCell;
use std::time::Duration;

use tokio::task_local;
use tokio::time::Instant;

/// How many operations are told of one piece of work: a request that waits for others may ask again and again.
const MAX_STEPS: usize = 32;

task_local! {
    static STEPS: RefCell<Vec<Step>>;
}

/// One operation of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it was asked, as the metrics name it.
    pub operation: &'static str,
    /// What came of it, as the metrics name it.
    pub result: &'static str,
    /// Whether that is an error.
    pub is_error: bool,
    /// When it was asked.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
}

/// Does `work`, and tells what the store was asked meanwhile: the first 32 operations.
pub async fn recorded<T>(work: impl Future<Output = T>) -> (T, Vec<Step>) {
    let work = async {
        let done = work.await;
        (done, STEPS.with(RefCell::take))
    };
    STEPS.scope(RefCell::default(), work).await
}

/// Tells of an operation that has ended.
pub(super) fn tell(step: impl FnOnce() -> Step) {
    let told = STEPS.try_with(|steps| {
        let mut steps = steps.borrow_mut();
        if steps.len() < MAX_STEPS {
            steps.push(step());
        }
    });
    // Nobody wants to know.
    told.unwrap_or(());
}
