//! The pure core: what a key, a request, an entry and a verdict are, and the rules between them.
//!
//! Owns the vocabulary of the promise. It decides and never acts: no I/O, no clock, no lock, no randomness, no tokio,
//! no hyper, no logging. Time enters as durations, randomness as finished tokens.
//!
//! ```text
//! (absent) --insert--> InFlight{owner, lease} --answer kept---------> Completed{status, headers, body}
//!    ^                    |        |        \--answer not keepable---> Completed{status} (answer not retained)
//!    |                    |        \--outcome unknown / lease over---> Unknown{cause} --late answer of its owner--> Completed
//!    |                    \--provably never sent, or release_status--> (absent)
//!    \-------------- ttl over (Completed and Unknown only) ------------/
//! ```
//!
//! The invariants, by the names that tests and comments use:
//!
//! - **I1** A live key has at most one owner.
//! - **I2** On a guarded route only the holder of a permit reaches the upstream (save `unprotected`, which an operator
//!   must ask for). A permit cannot be forged, copied, or forgotten: it is consumed by settling; dropping it unsettled
//!   settles it as `Unknown`.
//! - **I3** `Completed` is final until its ttl ends; so is `Unknown`, save that the owner whose token still stands may
//!   yet complete it, or release it if nothing was sent. Beside that only an operator's release and
//!   `on_unknown = "retry"` change either.
//! - **I4** The fingerprint of an entry is set once (with the claim; of a body that streams, by its settlement) and never
//!   changes. A mismatch outranks every other verdict in every state, but `other-caller`: a stranger must not learn whether
//!   he guessed the payload. Until a stream's fingerprint is set nothing is equal to it: a duplicate reads `InFlight`, and
//!   `Unknown` if the upload broke off.
//! - **I5** Record before respond: no client sees the end of a guarded answer before its record was written. If the
//!   write fails, the client is still served and the write is retried; meanwhile the entry reads `InFlight`, from the
//!   lease's end `Unknown`. Never absent.
//! - **I6** Only the owner changes an in-flight entry; a stale owner's write is refused (compare-and-set), not merged.
//! - **I7** Capacity never costs safety. No live entry is evicted: under pressure answers go first (the entry stays, its
//!   duplicates are refused), then new keys are refused. A duplicate is never run because memory was short.
//! - **I8** The work on a guarded request does not depend on its client: once the request has been read whole, it runs,
//!   is recorded and is settled even if the client hangs up; shutdown waits for it.
//!
//! An in-flight entry never expires by ttl: the ttl runs from settlement, or from the lease's end for a dead owner. A
//! lease is a sign of life, nothing more: its end turns an entry into `Unknown`, never into permission to run again.

mod answer;
mod caller;
mod canonical_json;
mod entry;
mod fingerprint;
mod key;
mod outcome;
mod request_id;
mod verdict;

pub use answer::{Answer, AnswerError, FieldName, USUAL_NAMES};
pub use caller::{CallerHash, CallerHasher, unstable_authorization};
pub use canonical_json::{JsonError, Selection};
pub use entry::{CallerShare, Claim, Entry, Owner, State, UnknownCause};
pub use fingerprint::{BodyRule, Fingerprint, FingerprintHasher, FingerprintRule, Payload};
pub use key::{Key, KeyError, KeyRules, KeySyntax};
pub use outcome::{Attempt, NotSentCause, Outcome, ReleaseReason, Settlement, settlement};
pub use request_id::{RequestId, Scope};
pub use verdict::{MismatchCause, OnUnknown, Presented, Verdict, judge};
