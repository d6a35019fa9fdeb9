//! Answers of the admin listener: their form, and every status, in one exhaustive table.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use serde::Serialize;

use super::problem::AdminProblem;
use crate::guard::ChangeError;
use crate::proxy::body::ReplyBody;
use crate::proxy::reply::whole;

/// What the types of problems begin with.
const PROBLEM_BASE: &str = "urn:oncegate:admin:";

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    errors: &'a [String],
}

/// The answer to a probe.
pub(super) fn health(is_healthy: bool, text: String) -> Response<ReplyBody> {
    let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    of_type(status, "text/plain; charset=utf-8", text)
}

/// A text.
pub(super) fn text(text: String) -> Response<ReplyBody> {
    of_type(StatusCode::OK, "text/plain; charset=utf-8", text)
}

/// A text of another type.
pub(super) fn page(content_type: &'static str, text: String) -> Response<ReplyBody> {
    of_type(StatusCode::OK, content_type, text)
}

/// A JSON document.
pub(super) fn json(document: &impl Serialize) -> Response<ReplyBody> {
    // Serialising strings, numbers and lists of them cannot fail.
    of_type(StatusCode::OK, "application/json", serde_json::to_vec(document).unwrap_or_default())
}

/// The page for people.
pub(super) fn html(document: &'static str, headers: HeaderMap) -> Response<ReplyBody> {
    whole(StatusCode::OK, headers, Bytes::from_static(document.as_bytes()), HeaderMap::new())
}

/// Why it is not done, as RFC 9457 has it.
pub(super) fn problem(problem: &AdminProblem) -> Response<ReplyBody> {
    let status = status(problem);
    let document = Document {
        r#type: format!("{PROBLEM_BASE}{}", problem.as_str()),
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail: problem.to_string(),
        errors: problem.errors(),
    };
    let mut response =
        of_type(status, "application/problem+json", serde_json::to_vec(&document).unwrap_or_default());
    if let Some((name, Ok(value))) = field(problem) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The field that goes with the status.
fn field(problem: &AdminProblem) -> Option<(HeaderName, Result<HeaderValue, InvalidHeaderValue>)> {
    if let AdminProblem::MethodNotAllowed { allow } = problem {
        return Some((ALLOW, HeaderValue::from_str(allow)));
    }
    let asks_for_token = matches!(problem, AdminProblem::Unauthenticated { by_token: true });
    asks_for_token.then(|| (WWW_AUTHENTICATE, Ok(HeaderValue::from_static("Bearer realm=\"oncegate\""))))
}

fn of_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<ReplyBody> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    whole(status, headers, body.into(), HeaderMap::new())
}

const fn status(problem: &AdminProblem) -> StatusCode {
    match problem {
        AdminProblem::Closed { .. } | AdminProblem::CrossSite => StatusCode::FORBIDDEN,
        AdminProblem::ContentType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        AdminProblem::Invalid(_) => StatusCode::BAD_REQUEST,
        AdminProblem::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
        AdminProblem::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        AdminProblem::NeedsRestart(_) | AdminProblem::NoSettings => StatusCode::CONFLICT,
        AdminProblem::Settings(_) => StatusCode::UNPROCESSABLE_ENTITY,
        AdminProblem::Change(error) => match error {
            ChangeError::Absent => StatusCode::NOT_FOUND,
            ChangeError::Completed
            | ChangeError::InFlight
            | ChangeError::NotUnknown
            | ChangeError::Raced
            | ChangeError::Unread => StatusCode::CONFLICT,
            ChangeError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        },
        AdminProblem::NoKey | AdminProblem::NotFound => StatusCode::NOT_FOUND,
        AdminProblem::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        AdminProblem::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        AdminProblem::TooSlow => StatusCode::GATEWAY_TIMEOUT,
        AdminProblem::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
    }
}
