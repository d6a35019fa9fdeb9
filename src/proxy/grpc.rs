//! Answers of our own to gRPC clients, who read no problem documents: a status among the fields, and no body (Trailers-Only).

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::body::{ReplyBody, WholeBody};
use super::problem::Problem;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How gRPC's media types begin: `application/grpc`, `application/grpc+proto`, `application/grpc-web`.
const MEDIA_TYPE: &[u8] = b"application/grpc";

/// What a gRPC client is told instead of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcStatus {
    code: Code,
    title: &'static str,
}

/// Those of gRPC's codes that problems have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

impl GrpcStatus {
    /// The status of a problem.
    #[must_use]
    pub const fn of(problem: &Problem) -> Self {
        let code = match problem {
            Problem::BadRequest(_)
            | Problem::BodyInvalid(_)
            | Problem::KeyInvalid(_)
            | Problem::KeyMissing { .. }
            | Problem::KeyReused { .. }
            | Problem::OtherCaller => Code::InvalidArgument,
            Problem::CallerUnstable { .. } => Code::Internal,
            Problem::ClientGone => Code::Cancelled,
            // Somebody runs it: to be asked for again with the same key.
            Problem::InFlight { .. } => Code::Aborted,
            Problem::NoRoute => Code::Unimplemented,
            Problem::NotRetained { .. } => Code::FailedPrecondition,
            Problem::OutcomeUnknown { .. } => Code::Unknown,
            Problem::RequestTimeout { .. } | Problem::StillRunning { .. } => Code::DeadlineExceeded,
            Problem::RequestTooLarge { .. } | Problem::TooManyKeys { .. } => Code::ResourceExhausted,
            // Nothing was sent: safe to try again, and gRPC clients do so by themselves.
            Problem::Overloaded
            | Problem::Released { .. }
            | Problem::ShuttingDown
            | Problem::StoreFull
            | Problem::StoreUnavailable
            | Problem::Unreachable { .. } => Code::Unavailable,
        };
        Self { code, title: problem.title() }
    }

    /// Makes `response` this status, for a client that reads `media_type`. Its other fields stay.
    pub fn write(self, response: &mut Response<ReplyBody>, media_type: HeaderValue) {
        let mut fields = std::mem::take(response.headers_mut());
        fields.remove(CONTENT_LENGTH);
        fields.insert(CONTENT_TYPE, media_type);
        fields.insert(GRPC_STATUS, HeaderValue::from(self.code as u16));
        fields.insert(GRPC_MESSAGE, HeaderValue::from_static(self.title));
        // 200, which is what a new response has: the status of HTTP says nothing to a gRPC client.
        *response = Response::new(ReplyBody::Whole(WholeBody::new(Bytes::new(), HeaderMap::new())));
        *response.headers_mut() = fields;
    }
}

/// The media type of a gRPC request; `None` if it is none.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(CONTENT_TYPE)?;
    let begins = value.as_bytes().get(..MEDIA_TYPE.len())?;
    begins.eq_ignore_ascii_case(MEDIA_TYPE).then(|| value.clone())
}
