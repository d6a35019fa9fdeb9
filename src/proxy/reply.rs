//! Answers of our own: problems and replays.
//!
//! Owns every HTTP status that clients get from Oncegate itself, in one exhaustive table, and the form of a problem (RFC 9457).

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK, RETRY_AFTER,
};
use http::{Response, StatusCode, Version};
use serde::Serialize;

use super::body::{ReplyBody, WholeBody};
use super::finish::Ours;
use super::grpc::GrpcStatus;
use super::headers;
use super::held;
use super::outcome::RequestOutcome;
use super::policy::GuardPolicy;
use super::problem::{BadRequest, Problem};
use super::quota::Quota;
use crate::idempotency::{Answer, FieldName, NotSentCause, USUAL_NAMES, UnknownCause};

/// Marks a replay.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What `Retry-After` says where nothing was sent.
const NOTHING_SENT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// An answer and how the request ended.
#[derive(Debug)]
pub struct Reply {
    /// The answer. Boxed, as it passes many hands.
    pub response: Box<Response<ReplyBody>>,
    /// How the request ended.
    pub outcome: RequestOutcome,
}

/// Writes replies in this installation's words.
#[derive(Debug)]
pub struct Replies {
    problem_base: String,
    described_by: Option<HeaderValue>,
    buffered_bytes: Quota,
}

/// How a problem is answered.
struct Row {
    status: StatusCode,
    /// The error type of RFC 9209, where the fault lies behind the proxy.
    proxy_error: Option<&'static str>,
    retry_after: Option<Duration>,
    /// Whether what follows on the connection cannot be trusted.
    close: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_status: Option<u16>,
}

impl Replies {
    /// Problems whose types stand under `problem_base`, described at `documentation_url`, and replays that count as held in
    /// `buffered_bytes` until they are written.
    #[must_use]
    pub fn new(problem_base: &str, documentation_url: Option<&str>, buffered_bytes: Quota) -> Self {
        let link =
            documentation_url.map(|url| HeaderValue::try_from(format!("<{url}>; rel=\"describedby\"")));
        let separator = if problem_base.starts_with("urn:") { ':' } else { '/' };
        let problem_base = format!("{problem_base}{separator}");
        Self { problem_base, described_by: link.and_then(Result::ok), buffered_bytes }
    }

    /// The answer to a request with this problem.
    #[must_use]
    pub fn problem(&self, problem: &Problem) -> Reply {
        Reply { response: Box::new(self.document(problem)), outcome: problem.outcome() }
    }

    /// The answer of then, marked as a replay.
    #[must_use]
    pub fn replay(
        &self,
        answer: Answer,
        expires_at: Option<SystemTime>,
        waited: bool,
        policy: &GuardPolicy,
    ) -> Reply {
        let outcome = if waited { RequestOutcome::Waited } else { RequestOutcome::Replayed };
        let bytes = held::shared(answer.clone(), &self.buffered_bytes);
        let mut headers = HeaderMap::with_capacity(answer.fields().size_hint().0 + 12);
        append(&mut headers, answer.fields(), &bytes);
        headers::via(&mut headers, Version::HTTP_11);
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        expires(&mut headers, expires_at, policy);
        let mut trailers = HeaderMap::new();
        append(&mut trailers, answer.trailers(), &bytes);
        let status = StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        let response = whole(status, headers, bytes.slice(answer.body_range()), trailers);
        Reply { response: Box::new(response), outcome }
    }

    fn document(&self, problem: &Problem) -> Response<ReplyBody> {
        let row = row(problem);
        let original_status = if let Problem::NotRetained { original_status } = problem {
            Some(*original_status)
        } else {
            None
        };
        let document = Document {
            r#type: format!("{}{}", self.problem_base, problem.as_str()),
            title: problem.title(),
            status: row.status.as_u16(),
            detail: problem.to_string(),
            original_status,
        };
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(link) = &self.described_by {
            headers.insert(LINK, link.clone());
        }
        let proxy_status = row.proxy_error.map(|error| format!("{}; error={error}", headers::PSEUDONYM));
        if let Some(Ok(value)) = proxy_status.map(HeaderValue::try_from) {
            headers.insert(PROXY_STATUS, value);
        }
        if let Some(after) = row.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if row.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // Serialising strings and numbers cannot fail; an empty document would still carry status and fields.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = whole(row.status, headers, body.into(), HeaderMap::new());
        response.extensions_mut().insert(Ours { grpc: Some(GrpcStatus::of(problem)) });
        response
    }
}

/// The answer to a preflight.
#[must_use]
pub fn preflight(headers: HeaderMap) -> Response<ReplyBody> {
    let mut response = whole(StatusCode::NO_CONTENT, headers, Bytes::new(), HeaderMap::new());
    response.extensions_mut().insert(Ours { grpc: None });
    response
}

/// A reply that is in memory.
#[must_use]
pub fn whole(
    status: StatusCode,
    headers: HeaderMap,
    data: Bytes,
    trailers: HeaderMap,
) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Whole(WholeBody::new(data, trailers)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Whether the upstream switches protocols (RFC 9110 §15.2.2).
#[must_use]
pub fn is_switch(status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether an answer tells the length of a body that it does not have (RFC 9110 §8.6).
#[must_use]
pub fn is_bodyless_with_length(status: StatusCode) -> bool {
    status == StatusCode::NOT_MODIFIED
}

/// The answer to an HTTP/2 request with more fields than are taken. hyper answers the same to one of HTTP/1.1, as bare.
#[must_use]
pub fn too_many_fields() -> Response<ReplyBody> {
    whole(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, HeaderMap::new(), Bytes::new(), HeaderMap::new())
}

/// Says when the entry will be gone, if the route wants that said.
pub fn expires(headers: &mut HeaderMap, expires_at: Option<SystemTime>, policy: &GuardPolicy) {
    let Some((name, expires_at)) = policy.expires_header.as_ref().zip(expires_at) else { return };
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(expires_at)) {
        headers.insert(name.clone(), date);
    }
}

/// A field that cannot be written is left out: it came from an upstream through the same check.
fn append<'a>(
    headers: &mut HeaderMap,
    fields: impl Iterator<Item = (FieldName<'a>, Cow<'a, [u8]>)>,
    shared: &Bytes,
) {
    static USUAL: LazyLock<[HeaderName; USUAL_NAMES.len()]> =
        LazyLock::new(|| USUAL_NAMES.map(HeaderName::from_static));
    for (name, value) in fields {
        let name = match name {
            FieldName::Usual(index) => USUAL.get(index).cloned(),
            FieldName::Literal(name) => HeaderName::from_bytes(name.as_bytes()).ok(),
        };
        let value = HeaderValue::from_maybe_shared(match value {
            Cow::Borrowed(value) => shared.slice_ref(value),
            Cow::Owned(value) => value.into(),
        });
        if let (Some(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
}

fn row(problem: &Problem) -> Row {
    let ours = |status| Row { status, proxy_error: None, retry_after: None, close: false };
    let later = |status| Row { retry_after: Some(NOTHING_SENT_RETRY_AFTER), ..ours(status) };
    let closing = |status| Row { close: true, ..ours(status) };
    match problem {
        Problem::BadRequest(fault) => match fault {
            BadRequest::UnknownCoding => closing(StatusCode::NOT_IMPLEMENTED),
            BadRequest::Body
            | BadRequest::Form
            | BadRequest::Framing
            | BadRequest::Host(_)
            | BadRequest::LengthAndCoding
            | BadRequest::LineEnd
            | BadRequest::MethodCase(_)
            | BadRequest::Nominated(_)
            | BadRequest::PaddedValue(_)
            | BadRequest::TransferCoding
            | BadRequest::Underscore(..) => closing(StatusCode::BAD_REQUEST),
            BadRequest::AmbiguousPath(_) | BadRequest::SideDoor => ours(StatusCode::BAD_REQUEST),
        },
        Problem::BodyInvalid(_) | Problem::KeyInvalid(_) | Problem::KeyMissing { .. } => {
            ours(StatusCode::BAD_REQUEST)
        }
        Problem::CallerUnstable { .. } => ours(StatusCode::INTERNAL_SERVER_ERROR),
        // For the log alone: the status that proxies write there where nobody was left to read one.
        Problem::ClientGone => closing(StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)),
        Problem::InFlight { retry_after } => {
            Row { retry_after: Some(*retry_after), ..ours(StatusCode::CONFLICT) }
        }
        Problem::KeyReused { .. } => ours(StatusCode::UNPROCESSABLE_ENTITY),
        Problem::NoRoute => ours(StatusCode::NOT_FOUND),
        Problem::NotRetained { .. } => ours(StatusCode::GONE),
        Problem::OtherCaller => ours(StatusCode::CONFLICT),
        Problem::OutcomeUnknown { cause } => match cause {
            UnknownCause::Abandoned | UnknownCause::OwnerLost => ours(StatusCode::INTERNAL_SERVER_ERROR),
            UnknownCause::AttemptTimeout => {
                Row { proxy_error: Some("http_response_timeout"), ..ours(StatusCode::GATEWAY_TIMEOUT) }
            }
            UnknownCause::ConnectionLost => {
                Row { proxy_error: Some("connection_terminated"), ..ours(StatusCode::BAD_GATEWAY) }
            }
            UnknownCause::UploadBroken => ours(StatusCode::BAD_GATEWAY),
            UnknownCause::InvalidAnswer => {
                Row { proxy_error: Some("http_protocol_error"), ..ours(StatusCode::BAD_GATEWAY) }
            }
        },
        Problem::Overloaded | Problem::Released { .. } | Problem::StoreFull | Problem::StoreUnavailable => {
            later(StatusCode::SERVICE_UNAVAILABLE)
        }
        Problem::TooManyKeys { .. } => later(StatusCode::TOO_MANY_REQUESTS),
        Problem::ShuttingDown => Row { close: true, ..later(StatusCode::SERVICE_UNAVAILABLE) },
        Problem::RequestTimeout { .. } => closing(StatusCode::REQUEST_TIMEOUT),
        Problem::RequestTooLarge { .. } => closing(StatusCode::PAYLOAD_TOO_LARGE),
        Problem::StillRunning { retry_after } => Row {
            proxy_error: Some("http_response_timeout"),
            retry_after: Some(*retry_after),
            ..ours(StatusCode::GATEWAY_TIMEOUT)
        },
        Problem::Unreachable { cause } => match cause {
            NotSentCause::ConnectFailed => {
                Row { proxy_error: Some("connection_refused"), ..later(StatusCode::BAD_GATEWAY) }
            }
            NotSentCause::ConnectTimeout => {
                Row { proxy_error: Some("connection_timeout"), ..later(StatusCode::GATEWAY_TIMEOUT) }
            }
            NotSentCause::UploadBroken => closing(StatusCode::BAD_REQUEST),
            NotSentCause::LeaseLapsed => later(StatusCode::GATEWAY_TIMEOUT),
            NotSentCause::NameNotResolved => {
                Row { proxy_error: Some("dns_error"), ..later(StatusCode::BAD_GATEWAY) }
            }
            NotSentCause::Refused => {
                Row { proxy_error: Some("destination_unavailable"), ..later(StatusCode::BAD_GATEWAY) }
            }
            NotSentCause::Saturated => Row {
                proxy_error: Some("connection_limit_reached"),
                ..later(StatusCode::SERVICE_UNAVAILABLE)
            },
            NotSentCause::TlsFailed => {
                Row { proxy_error: Some("tls_protocol_error"), ..later(StatusCode::BAD_GATEWAY) }
            }
            NotSentCause::Unwritten => {
                Row { proxy_error: Some("connection_terminated"), ..later(StatusCode::BAD_GATEWAY) }
            }
        },
    }
}
