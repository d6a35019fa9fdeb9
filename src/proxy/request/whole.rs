//! A guarded request that is read whole before anything is claimed: half an upload takes no key.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::keyed::{Keyed, fields};
use crate::idempotency::{Fingerprint, Payload, Presented};
use crate::proxy::body::WholeBody;
use crate::proxy::client_body::ClientBody;
use crate::proxy::headers::Protected;
use crate::proxy::policy::GuardPolicy;
use crate::proxy::problem::Problem;
use crate::proxy::quota::{Quota, Share};

/// Bodies larger than this are hashed on a thread of their own: hashing must not hold up other requests.
const HASH_INLINE_BYTES: usize = 64 * 1024;

/// The body of a guarded request.
#[derive(Debug, Default)]
pub struct Buffered {
    /// The bytes.
    pub data: Bytes,
    /// More of them, where they came in pieces.
    rest: BytesMut,
    /// What came behind them.
    pub trailers: HeaderMap,
    /// Its share of the bytes that may be held at once.
    share: Option<Share>,
}

/// A guarded request that was read whole.
#[derive(Debug)]
pub struct Whole {
    /// All but the body.
    pub keyed: Keyed,
    /// The body.
    pub body: Buffered,
}

/// Why a body is not held.
#[derive(Debug)]
pub enum ReadError {
    /// What came is lost with it: the client's fault, or its end.
    Broken(Problem),
    /// It is more than may be held. What came so far is there.
    Unfit(Problem),
}

/// Whether `body` may be as large as it says.
///
/// # Errors
///
/// [`ReadError::Unfit`].
pub fn fits(body: &ClientBody, policy: &GuardPolicy) -> Result<(), ReadError> {
    let max_bytes = policy.max_request_body_bytes;
    if body.size_hint().lower() > max_bytes {
        return Err(ReadError::Unfit(Problem::RequestTooLarge { max_bytes }));
    }
    Ok(())
}

/// Reads the whole `body` into `held`, within the route's limits and `budget`, which counts bytes. Dropped before it is done,
/// it leaves what came there.
///
/// # Errors
///
/// [`ReadError`]: too large, too slow, broken off, or no room.
pub async fn read_body(
    body: &mut ClientBody,
    held: &mut Buffered,
    policy: &GuardPolicy,
    budget: &Quota,
    protected: &Protected,
) -> Result<(), ReadError> {
    let max_bytes = policy.max_request_body_bytes;
    fits(body, policy)?;
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| ReadError::Broken(error.problem()))?.into_data() {
            Ok(data) => {
                let length = data.len();
                held.gather(data);
                if held.len() as u64 > max_bytes {
                    return Err(ReadError::Unfit(Problem::RequestTooLarge { max_bytes }));
                }
                held.hold(budget, length).map_err(ReadError::Unfit)?;
            }
            Err(frame) => held.trailers = protected.without(frame.into_trailers().unwrap_or_default()),
        }
    }
    held.join();
    Ok(())
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Broken(problem) | ReadError::Unfit(problem) => problem,
        }
    }
}

impl Whole {
    /// The request as the guard sees it.
    ///
    /// # Errors
    ///
    /// [`Problem::BodyInvalid`] if the route compares JSON and the body is none.
    pub async fn present(&self, policy: &GuardPolicy) -> Result<Presented, Problem> {
        let fingerprint = self.fingerprint(policy).await?;
        Ok(self.keyed.present(policy, Some(fingerprint)))
    }

    async fn fingerprint(&self, policy: &GuardPolicy) -> Result<Fingerprint, Problem> {
        let (counted, trailers) = (self.keyed.counted_fields(policy), fields(&self.body.trailers));
        let query = self.keyed.parts.uri.query();
        if self.body.data.len() <= HASH_INLINE_BYTES {
            let counted: Vec<(&str, &[u8])> = counted.collect();
            let trailers: Vec<(&str, &[u8])> = trailers.collect();
            let payload = Payload { query, fields: &counted, body: &self.body.data, trailers: &trailers };
            return policy.fingerprint.fingerprint(&payload).map_err(Problem::BodyInvalid);
        }
        let owned = |(name, value): (&str, &[u8])| (name.to_owned(), value.to_vec());
        let counted: Vec<(String, Vec<u8>)> = counted.map(owned).collect();
        let trailers: Vec<(String, Vec<u8>)> = trailers.map(owned).collect();
        let (rule, query, data) =
            (policy.fingerprint.clone(), query.map(str::to_owned), self.body.data.clone());
        let hashing = tokio::task::spawn_blocking(move || {
            let (fields, trailers) = (borrowed(&counted), borrowed(&trailers));
            let payload =
                Payload { query: query.as_deref(), fields: &fields, body: &data, trailers: &trailers };
            rule.fingerprint(&payload)
        });
        // It fails only if the runtime is ending, and the process with it.
        hashing.await.map_err(|_| Problem::ShuttingDown)?.map_err(Problem::BodyInvalid)
    }
}

impl Buffered {
    /// The body to send, and the share to hold until it was sent.
    #[must_use]
    pub fn into_body(self) -> (WholeBody, Option<Share>) {
        (WholeBody::new(self.data, self.trailers), self.share)
    }

    /// Has `body` read again from its beginning.
    pub(in crate::proxy) fn put_back(mut self, body: &mut ClientBody) {
        self.join();
        body.put_back(self.data, self.trailers, self.share);
    }

    fn len(&self) -> usize {
        self.data.len() + self.rest.len()
    }

    /// One frame, as most bodies are, is taken as it is; several are gathered.
    fn gather(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.data = data;
        } else {
            self.rest.extend_from_slice(&std::mem::take(&mut self.data));
            self.rest.extend_from_slice(&data);
        }
    }

    fn join(&mut self) {
        if !self.rest.is_empty() {
            self.data = std::mem::take(&mut self.rest).freeze();
        }
    }

    fn hold(&mut self, budget: &Quota, bytes: usize) -> Result<(), Problem> {
        let bytes = bytes as u64;
        let is_held = match &mut self.share {
            Some(share) => share.grow(bytes),
            None => {
                self.share = budget.take(bytes);
                self.share.is_some()
            }
        };
        is_held.then_some(()).ok_or(Problem::Overloaded)
    }
}

fn borrowed(fields: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
}
